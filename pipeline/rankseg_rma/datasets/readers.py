"""Layouts on disk: from a folder to cases, labels and splits. A new layout is one function here."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.cards import DatasetCard
from rankseg_rma.volumes import case_id_of


@dataclass(frozen=True)
class Case:
    """One case: its id, image and, where there is one, reference label map."""

    case_id: str
    image: Path
    label: Path | None


def list_cases(card: DatasetCard, root: str | Path) -> tuple[DatasetCard, list[Case]]:
    """Cases of a data set, sorted by id, and the card completed by what the folder itself tells.

    Raises:
        FileNotFoundError: the folder, or a file of its layout, is missing.
        DatasetError: the folder is not as the layout says.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(wrong("list_cases", "root", f"the folder of {card.name}", root, advice="See DATA.md."))
    card, cases = {"msd": _read_msd}[card.layout](card, root)
    if not cases:
        raise DatasetError(wrong("list_cases", "data set", "at least one case", "none", path=root))
    ids = [case.case_id for case in cases]
    if len(set(ids)) < len(ids):
        twice = sorted({case_id for case_id in ids if ids.count(case_id) > 1})
        raise DatasetError(wrong("list_cases", "case ids", "unique", ", ".join(twice), path=root))
    return card, sorted(cases, key=lambda case: case.case_id)


def _read_msd(card: DatasetCard, root: Path) -> tuple[DatasetCard, list[Case]]:
    """Medical Segmentation Decathlon: dataset.json names the labels, modalities and training pairs."""
    path = root / "dataset.json"
    if not path.is_file():
        advice = "Give the folder that holds dataset.json, imagesTr and labelsTr."
        raise FileNotFoundError(wrong("list_cases", "root", "a folder with dataset.json", root, advice=advice))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in content["labels"].items() if int(value) > 0}
        entries = [
            (entry, None) if isinstance(entry, str) else (entry["image"], entry["label"])
            for entry in content["training"]
        ]
        modality = ", ".join(str(name) for _, name in sorted(content["modality"].items()))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        got = f"{type(error).__name__}: {error}"
        expected = "JSON with labels, modality and training, as in the Medical Segmentation Decathlon"
        raise DatasetError(wrong("list_cases", "dataset.json", expected, got, path=path)) from error
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DatasetError(wrong("list_cases", "labels", "0, 1, 2, ... without a gap", sorted(names), path=path))
    names = dict(sorted(names.items()))
    known = {value: name.lower() for value, name in (card.labels or names).items()}
    if known != {value: name.lower() for value, name in names.items()}:
        raise DatasetError(wrong("list_cases", "labels", f"{card.labels} as on the card", names, path=path))
    cases = [Case(case_id_of(image), _inside(root, image), _inside(root, label)) for image, label in entries]
    return replace(card, labels=card.labels or names, modality=card.modality or modality), cases


def _inside(root: Path, name: Any) -> Any:
    """Path of a file that dataset.json names; it must lie in the folder."""
    if name is None:
        return None
    path = root / str(name)
    if not path.resolve().is_relative_to(root.resolve()):
        raise DatasetError(wrong("list_cases", "dataset.json", "paths inside its folder", name, path=root))
    return path


def split_cases(card: DatasetCard, case_ids: Sequence[str], fold: int) -> dict[str, list[str]]:
    """Divide case ids into training, validation and test, by group and with the card's seed.

    Args:
        card: names the grouping, the share of test groups and the number of folds.
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
    for case_id in sorted(case_ids):
        groups.setdefault(patient_of(case_id, splits.group), []).append(case_id)
    order = sorted(groups)
    random.Random(splits.seed).shuffle(order)
    num_test = round(len(order) * splits.test_fraction)
    rest = order[num_test:]
    if len(rest) < splits.folds:
        got = f"{len(order)} groups of cases, {num_test} of them for the test"
        raise ValueError(wrong("split_cases", "data set", f"large enough for {splits.folds} folds", got))
    parts = {
        "training": [group for place, group in enumerate(rest) if place % splits.folds != fold],
        "validation": rest[fold :: splits.folds],
        "test": order[:num_test],
    }
    return {part: sorted(case_id for group in names for case_id in groups[group]) for part, names in parts.items()}


def read_part(datalist: str | Path, part: str) -> list[dict[str, str]]:
    """Entries {image, label} of one part of a data list, as training writes it into ``configs/datalist.json``.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: no such part, or the file is no data list.
    """
    path = Path(datalist)
    if not path.is_file():
        raise FileNotFoundError(wrong("read_part", "datalist", "an existing datalist.json", path))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parts = {name: entries for name, entries in content.items() if isinstance(entries, list)}
    except (json.JSONDecodeError, AttributeError) as error:
        raise DatasetError(wrong("read_part", "datalist", "a JSON mapping of lists", str(error), path=path)) from error
    if part not in parts:
        raise DatasetError(wrong("read_part", "part", "one of " + ", ".join(parts), repr(part), path=path))
    return parts[part]


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
