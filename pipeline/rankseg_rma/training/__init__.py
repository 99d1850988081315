"""Training a network: samples, losses, engine, recipes, and the temperature at its end."""

from rankseg_rma.old_names import resolve


def __getattr__(name: str) -> object:
    return resolve("training", name)
