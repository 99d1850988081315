"""Whether all of a data set is there: counts of cases, slices, folds and parts against its card."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rankseg_rma.datasets import Card, Case, DatasetCard, ImageCard, list_cases, part_cases
from rankseg_rma.datasets.cards import PARTS
from rankseg_rma.datasets.voc import SBD_PARTS, Downloads


def count_notes(card: Card, cases: Sequence[Case]) -> Iterator[str]:
    """Numbers found beside those of the complete data set; a part of the data is usual and no fault."""
    if not isinstance(card, DatasetCard):
        found = Counter(case.part for case in cases)
        for part in PARTS:
            expected = card.parts.get(part)
            if expected or found[part]:
                yield _word_found(f"{part} images", found[part], expected)
        return
    if cases[0].slice_index is None:
        if card.num_cases:
            yield _word_found("cases", len(cases), card.num_cases)
        return
    yield _word_found("slices", len(cases), card.num_slices)
    # Folds of a part of the data are not those of the release, and would be called wrong.
    if card.fold_slices and len(card.splits.case_ids or ()) == card.num_cases:
        for fold, number in enumerate(card.fold_slices):
            validation = part_cases(card, cases, fold)["validation"]
            yield _word_found(f"slices of fold {fold}", len(validation), number)


def _word_found(what: str, number: int, expected: int | None) -> str:
    if not expected:
        return f"{what}: {number}"
    return f"{what}: {number} of {expected}" + ("" if number <= expected else ", more than there should be")


def count_cases(card: DatasetCard, cases: Sequence[Case]) -> list[str]:
    """The number of cases beside that of the complete data set, and numbers that are skipped."""
    if card.num_cases in (None, len(cases)):
        return [f"cases: {len(cases)}"]
    numbers = [int(found[1]) for case in cases if (found := re.search(r"(\d+)$", case.case_id))]
    missing = _word_ranges(sorted({*range(min(numbers), max(numbers))} - {*numbers})) if numbers else ""
    where = f"; numbers from {min(numbers)} to {max(numbers)}" if numbers else ""
    where += f", without {missing}" if missing else ""
    return [f"warning: cases: {len(cases)} of {card.num_cases}{where}"]


def _word_ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges, ten at most.

    Example:
        >>> _word_ranges([3, 5, 6, 7])
        '3, 5-7'
    """
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    words = ["-".join(map(str, bounds)) for bounds in ranges]
    return ", ".join(words[:10]) + (", ..." if len(words) > 10 else "")


def count_slices(card: DatasetCard, store: dict[str, Any]) -> list[str]:
    num_slices, is_complete = len(store["slices"]), store["num_cases"] == card.num_cases
    notes = [f"slices: {num_slices}" + (f" of {card.num_slices}" if card.num_slices else "")]
    if is_complete and card.num_slices not in (None, num_slices):
        advice = "all cases are there, so labels differ from the release: download them again"
        notes = [f"warning: {notes[0]}; {advice}"]
    if store["size"] is not None:
        resized = [entry["file"] for entry in store["slices"] if entry["shape"] != store["size"]]
        height, width = store["size"]
        notes += [f"{len(resized)} slices were resized to {height} x {width}"] if resized else []
    return notes


def count_folds(card: DatasetCard, out: Path) -> list[str]:
    """Slices in each fold's validation, where folds follow the case numbers."""
    if card.splits.order != "number":
        return []
    card, cases = list_cases(card, out)
    if len(card.splits.case_ids or ()) < card.splits.folds:
        return [f"warning: too few cases for {card.splits.folds} folds"]
    sizes = tuple(len(part_cases(card, cases, fold)["validation"]) for fold in range(card.splits.folds))
    note = f"slices in validation, by fold: {', '.join(map(str, sizes))}"
    is_complete = len(card.splits.case_ids or ()) == card.num_cases
    if is_complete and card.fold_slices not in (None, sizes):
        return [f"warning: {note}; expected {', '.join(map(str, card.fold_slices or ()))}"]
    return [note]


def count_parts(card: Card, cases: Sequence[Case]) -> list[str]:
    assert isinstance(card, ImageCard)
    found = {part: sum(case.part == part for case in cases) for part in card.parts}
    return [_word_count(f"{part} images", found[part], number) for part, number in card.parts.items() if number]


def _word_count(what: str, number: int, expected: int) -> str:
    return f"{'' if number == expected else 'warning: '}{what}: {number} of {expected}"


def count_lists(card: ImageCard, downloads: Downloads, num_masks: int) -> list[str]:
    """Lengths of the lists beside those of the complete downloads."""
    expected = {
        "train": card.parts["training"], "val": card.parts["validation"],
        **{f"sbd_{part}": number for part, number in SBD_PARTS.items()},
    }  # fmt: skip
    words = {"train": "VOC train", "val": "VOC val", "sbd_train": "SBD train", "sbd_val": "SBD val"}
    notes = [_word_count(words[part], len(downloads.lists[part]), number) for part, number in expected.items()]
    return [*notes, _word_count("trainaug", num_masks, (card.prepared_parts or card.parts)["training"])]


def word_counts(counts: Sequence[tuple[str, int, int | None]]) -> list[str]:
    return [f"{what}: {found} of {expected}" for what, found, expected in counts if expected not in (None, found)]
