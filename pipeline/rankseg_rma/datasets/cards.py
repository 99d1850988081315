"""Dataset cards: one YAML file of facts per data set, read into a frozen dataclass."""

import difflib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from rankseg_rma.checks import DatasetError, wrong

LAYOUTS = ("msd",)
GROUPS = ("case", "pair")


@dataclass(frozen=True)
class Intensity:
    """How intensities are brought to the network: a fixed window (CT, in HU) or standardised per image (MRI)."""

    kind: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Splits:
    """How cases are divided; always by group, so that one patient is never on both sides.

    Attributes:
        group: "case" (every case alone) or "pair" (ids 2k - 1 and 2k are one subject).
        test_fraction: share of the groups kept aside for the final table.
        folds: number of folds of the rest; fold K is validation, the others are training.
        seed: seed of the shuffle of groups.
    """

    group: str
    test_fraction: float
    folds: int
    seed: int


@dataclass(frozen=True)
class DatasetCard:
    """Facts of a data set.

    Attributes:
        labels: name of each foreground label, by its value; None when the data set's own files tell (msd).
        spacing_mm: voxel size to resample to; None keeps the native grid.
        roi_size: patch for training and sliding window, in voxels.
    """

    name: str
    title: str
    task: str
    modality: str | None
    labels: dict[int, str] | None
    spacing_mm: tuple[float, ...] | None
    intensity: Intensity
    roi_size: tuple[int, ...]
    licence: str
    source: str
    layout: str
    splits: Splits


def resource_dir(kind: str) -> Path:
    """Folder of shipped files, "configs" or "datasets": inside the package when installed, else in the repository."""
    package = Path(__file__).parents[1]
    marker = "*.yaml"
    for folder in (package / kind, package.parents[1] / kind):
        if folder.is_dir() and any(folder.glob(marker)):
            return folder
    raise FileNotFoundError(wrong("resource_dir", "kind", "a folder shipped with the package", kind))


def list_cards() -> dict[str, Path]:
    """Names and paths of all dataset cards."""
    return {path.stem: path for path in sorted(resource_dir("datasets").glob("*.yaml"))}


def load_card(name_or_path: str | Path) -> DatasetCard:
    """Read a card by the name of a shipped data set or the path of a YAML file.

    Raises:
        DatasetError: unknown name, or the card has missing, unknown or wrong entries.
    """
    cards = list_cards()
    path = cards.get(str(name_or_path), Path(name_or_path))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        close = difflib.get_close_matches(str(name_or_path), cards, n=1)
        advice = f"Did you mean {close[0]!r}?" if close else "Or give the path of a card, NAME.yaml."
        raise DatasetError(
            wrong("load_card", "dataset", "one of " + ", ".join(cards), repr(str(name_or_path)), advice=advice)
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(
            wrong("load_card", "card", "a YAML file", " ".join(str(error).split()), path=path)
        ) from error
    return _build(content, path)


def _build(content: Any, path: Path) -> DatasetCard:
    _require_keys(content, DatasetCard, "card", path)
    _require_keys(content["intensity"], Intensity, "intensity", path, optional=("low", "high"))
    _require_keys(content["splits"], Splits, "splits", path)
    intensity, splits = Intensity(**content["intensity"]), Splits(**content["splits"])
    labels, spacing = content["labels"], content["spacing_mm"]
    window_given = isinstance(intensity.low, int | float) and isinstance(intensity.high, int | float)
    facts = [
        ("name", content["name"] == path.stem, f"the file's name, {path.stem!r}", content["name"]),
        ("layout", content["layout"] in LAYOUTS, "one of " + ", ".join(LAYOUTS), content["layout"]),
        ("intensity.kind", intensity.kind in ("window", "zscore"), "'window' or 'zscore'", intensity.kind),
        (
            "intensity", intensity.kind != "window" or (window_given and intensity.low < intensity.high),
            "low < high", content["intensity"],
        ),
        ("labels", labels is None or _are_labels(labels), "a mapping from 1, 2, ... to names", labels),
        ("spacing_mm", spacing is None or _are_positive(spacing, float | int), "null or three sizes in mm", spacing),
        ("roi_size", _are_positive(content["roi_size"], int), "a list of whole numbers", content["roi_size"]),
        ("splits.group", splits.group in GROUPS, "one of " + ", ".join(GROUPS), splits.group),
        ("splits.test_fraction", 0 <= splits.test_fraction < 1, "in [0, 1)", splits.test_fraction),
        ("splits.folds", isinstance(splits.folds, int) and splits.folds >= 2, "at least 2", splits.folds),
    ]  # fmt: skip
    for argument, fine, expected, got in facts:
        if not fine:
            raise DatasetError(wrong("load_card", argument, expected, repr(got), path=path))
    return DatasetCard(
        **{
            **content,
            "labels": None if labels is None else dict(sorted(labels.items())),
            "intensity": intensity,
            "splits": splits,
            "spacing_mm": None if spacing is None else tuple(float(size) for size in spacing),
            "roi_size": tuple(content["roi_size"]),
        }
    )


def _are_labels(labels: Any) -> bool:
    return (
        isinstance(labels, dict)
        and sorted(labels) == list(range(1, len(labels) + 1))
        and all(isinstance(name, str) and name for name in labels.values())
    )


def _are_positive(sizes: Any, kind: Any) -> bool:
    return isinstance(sizes, list) and len(sizes) == 3 and all(isinstance(n, kind) and n > 0 for n in sizes)


def _require_keys(content: Any, kind: Any, part: str, path: Path, optional: tuple[str, ...] = ()) -> None:
    names = {field.name for field in fields(kind)}
    if not isinstance(content, dict):
        raise DatasetError(wrong("load_card", part, "a mapping", repr(content), path=path))
    missing, unknown = names - set(content) - set(optional), set(content) - names
    if missing or unknown:
        got = "; ".join(
            f"{word} {', '.join(sorted(map(str, keys)))}"
            for word, keys in (("missing", missing), ("unknown", unknown))
            if keys
        )
        raise DatasetError(
            wrong("load_card", part, "a mapping with exactly " + ", ".join(sorted(names)), got, path=path)
        )
