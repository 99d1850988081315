"""Which cases train, validate and test: by the data set's own parts, or split by patient."""

import random
import re
from collections.abc import Sequence

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card, DatasetCard
from rankseg_rma.datasets.cards import PARTS
from rankseg_rma.datasets.case import Case


def part_cases(card: Card, cases: Sequence[Case], fold: int) -> dict[str, list[Case]]:
    """Divide cases into training, validation and test.

    Args:
        card: of images: the parts are the official ones; of volumes: `split_cases` by case id, so that the slices of
            one case stay together.
        cases: as `list_cases` gives them.
        fold: the fold that is validation; 0 for images.
    Raises:
        ValueError: no such fold, or too few cases.
    """
    if isinstance(card, DatasetCard):
        parts = split_cases(card, sorted({case.case_id for case in cases}), fold)
        part_of = {case_id: part for part, case_ids in parts.items() for case_id in case_ids}
        return {part: [case for case in cases if part_of[case.case_id] == part] for part in PARTS}
    if fold != 0:
        raise ValueError(wrong("part_cases", "fold", f"0: the parts of {card.name} are the official ones", fold))
    return {part: [case for case in cases if case.part == part] for part in PARTS}


def split_cases(card: DatasetCard, case_ids: Sequence[str], fold: int) -> dict[str, list[str]]:
    """Divide case ids into training, validation and test, by group and as the card's ``splits`` say.

    Args:
        card: names the grouping, the order, the share of test groups and the number of folds.
        case_ids: all ids; their order does not matter.
        fold: the fold that is validation, 0 to folds - 1.
    Returns:
        "training", "validation" and "test" to sorted ids. The test cases do not depend on the fold.
    Raises:
        ValueError: no such fold, or too few groups for one case in each part.
    """
    splits = card.splits
    if not 0 <= fold < splits.folds:
        raise ValueError(wrong("split_cases", "fold", f"0 to {splits.folds - 1}", fold))
    groups: dict[str, list[str]] = {}
    # With cases that have no kept slice: slices and volumes share their folds. Sorted, so that the shuffle repeats.
    for case_id in sorted({*case_ids, *(splits.case_ids or ())}):
        groups.setdefault(patient_of(case_id, splits.group), []).append(case_id)
    by_number = splits.order == "number"
    order = sorted(groups, key=_number_of) if by_number else sorted(groups)
    if not by_number:
        random.Random(splits.seed).shuffle(order)
    num_test = round(len(order) * splits.test_fraction)
    rest = order[num_test:]
    if len(rest) < splits.folds:
        got = f"{len(order)} groups of cases, {num_test} of them for the test"
        raise ValueError(wrong("split_cases", "data set", f"large enough for {splits.folds} folds", got))
    start, size = fold * (len(rest) // splits.folds), len(rest) // splits.folds
    stop = len(rest) if fold == splits.folds - 1 else start + size
    # Shuffled groups are dealt out in turn, so that folds differ by one at most.
    validation = rest[start:stop] if by_number else rest[fold :: splits.folds]
    chosen = set(validation)
    parts = {
        "training": [group for group in rest if group not in chosen],
        "validation": validation,
        "test": order[:num_test],
    }
    listed = set(case_ids)
    return {
        part: sorted(case_id for group in names for case_id in groups[group] if case_id in listed)
        for part, names in parts.items()
    }


def _number_of(case_id: str) -> int:
    """The number at the end of a case id.

    Raises:
        DatasetError: there is none.
    """
    found = re.search(r"(\d+)$", case_id)
    if found is None:
        expected = "an id that ends in its number, for splits by number"
        raise DatasetError(wrong("split_cases", "case id", expected, repr(case_id)))
    return int(found[1])


def patient_of(case_id: str, rule: str | None) -> str:
    """The patient of a case: whole patients are split, and resampled, together.

    Args:
        case_id: for example "hippocampus_007".
        rule: None or "case" (every case alone), "pair" (ids 2k - 1 and 2k belong together) or a regular expression
            whose first group is the patient.
    Raises:
        DatasetError: the rule does not fit the id.
    Example:
        >>> patient_of("hippocampus_007", "pair"), patient_of("hippocampus_008", "pair")
        ('4', '4')
        >>> patient_of("p12_left", r"^(p[0-9]+)_")
        'p12'
    """
    if rule is None or rule == "case":
        return case_id
    expected = "'case', 'pair' or a regular expression with one group that fits every case id"
    try:
        found = re.search(r"(\d+)$" if rule == "pair" else rule, case_id)
    except re.error as error:
        raise DatasetError(
            wrong("patient_of", "rule (--cluster, or group on a card)", expected, f"{rule!r} ({error})")
        ) from error
    if found is None or not found.groups():
        raise DatasetError(
            wrong("patient_of", "rule (--cluster, or group on a card)", expected, repr(rule), case_id=case_id)
        )
    return str((int(found[1]) + 1) // 2) if rule == "pair" else found[1]
