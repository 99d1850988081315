"""MONAI bundles: written from a dataset card, and opened for inference."""

from rankseg_rma.old_names import resolve


def __getattr__(name: str) -> object:
    return resolve("bundles", name)
