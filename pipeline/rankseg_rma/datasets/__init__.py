"""Data sets: cards with the facts, readers for the layouts on disk, and a synthetic cohort."""

from rankseg_rma.datasets.card_kinds import Card, DatasetCard, ImageCard, SliceRule
from rankseg_rma.datasets.cards import list_cards, load_card
from rankseg_rma.datasets.case import Case
from rankseg_rma.datasets.datalist import read_part
from rankseg_rma.datasets.readers import list_cases
from rankseg_rma.datasets.splits import part_cases, patient_of, split_cases

__all__ = [
    "Card", "Case", "DatasetCard", "ImageCard", "SliceRule", "list_cards", "list_cases", "load_card", "part_cases",
    "patient_of", "read_part", "split_cases",
]  # fmt: skip
