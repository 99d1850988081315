"""Masks against references: cases, cohort, comparison, and what is written of them."""

from rankseg_rma.old_names import resolve


def __getattr__(name: str) -> object:
    return resolve("evaluation", name)
