"""Data sets: cards with the facts, readers for the layouts on disk, and a synthetic cohort."""

from rankseg_rma.datasets.cards import DatasetCard, list_cards, load_card
from rankseg_rma.datasets.readers import Case, list_cases, patient_of, read_part, split_cases

__all__ = ["Case", "DatasetCard", "list_cards", "list_cases", "load_card", "patient_of", "read_part", "split_cases"]
