"""Dataset cards: one YAML file of facts per data set, of volumes or of images, read into a frozen dataclass."""

import difflib
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeGuard

import yaml

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card, DatasetCard, ImageCard, Intensity, SliceRule, Splits
from rankseg_rma.datasets.image_layouts import IMAGE_LAYOUTS
from rankseg_rma.datasets.volume_layouts import VOLUME_LAYOUTS
from rankseg_rma.files.resources import resource_dir

GROUPS = ("case", "pair")
ORDERS = ("shuffled", "number")
KEEP = ("labelled", "all")
PARTS = ("training", "validation", "test")


def list_cards() -> dict[str, Path]:
    """Names and paths of all dataset cards."""
    return {path.stem: path for path in sorted(resource_dir("datasets").glob("*.yaml"))}


def load_card(name_or_path: str | Path) -> Card:
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


def _build(content: Any, path: Path) -> Card:
    if isinstance(content, dict) and "kind" in content:
        kind = content["kind"]
        _require_facts([("kind", kind in ("volume", "image"), "'volume' or 'image'", kind)], path)
        content = {key: value for key, value in content.items() if key != "kind"}
        return _build_image_card(content, path) if kind == "image" else _build_volume_card(content, path)
    return _build_volume_card(content, path)


def _build_volume_card(content: Any, path: Path) -> DatasetCard:
    _require_keys(content, DatasetCard, "card", path)
    _require_keys(content["intensity"], Intensity, "intensity", path)
    _require_keys(content["splits"], Splits, "splits", path, hidden=("case_ids",))
    intensity, splits = Intensity(**content["intensity"]), Splits(**content["splits"])
    labels, spacing, regions = content["labels"], content["spacing_mm"], content.get("regions")
    numbers, fold_slices = ("num_cases", "num_slices", "first_unlabelled"), content.get("fold_slices")
    facts = [
        ("name", content["name"] == path.stem, f"the file's name, {path.stem!r}", content["name"]),
        ("layout", content["layout"] in VOLUME_LAYOUTS, "one of " + ", ".join(VOLUME_LAYOUTS), content["layout"]),
        ("intensity.kind", intensity.kind in ("window", "zscore"), "'window' or 'zscore'", intensity.kind),
        (
            "intensity",
            intensity.kind != "window"
            or (_is_number(intensity.low) and _is_number(intensity.high) and intensity.low < intensity.high),
            "low < high", content["intensity"],
        ),
        ("labels", labels is None or _are_labels(labels), "a mapping from 1, 2, ... to names", labels),
        ("spacing_mm", spacing is None or _are_sizes(spacing, 3, _is_number), "null or three sizes in mm", spacing),
        ("roi_size", _are_sizes(content["roi_size"], 3), "a list of whole numbers", content["roi_size"]),
        ("splits.group", splits.group in GROUPS, "one of " + ", ".join(GROUPS), splits.group),
        ("splits.test_fraction", 0 <= splits.test_fraction < 1, "in [0, 1)", splits.test_fraction),
        ("splits.folds", isinstance(splits.folds, int) and splits.folds >= 2, "at least 2", splits.folds),
        ("splits.order", splits.order in ORDERS, "one of " + ", ".join(ORDERS), splits.order),
        (
            "splits", splits.order != "number" or (splits.group == "case" and splits.test_fraction == 0),
            "of group case and without a test_fraction where order is number", content["splits"],
        ),
        ("regions", regions is None or _are_regions(regions, labels), "names with lists of the card's labels", regions),
        *((n, content.get(n) is None or _is_size(content[n]), "a whole number", content.get(n)) for n in numbers),
        (
            "fold_slices", fold_slices is None or _are_sizes(fold_slices, splits.folds),
            "a whole number for each fold", fold_slices,
        ),
        (
            "foreground_crop", isinstance(content.get("foreground_crop", False), bool),
            "true or false", content.get("foreground_crop"),
        ),
    ]  # fmt: skip
    _require_facts(facts, path)
    return DatasetCard(
        **{
            **content,
            # Names go on without their values, so their order must be that of the values, not of the YAML.
            "labels": None if labels is None else dict(sorted(labels.items())),
            "intensity": intensity,
            "splits": splits,
            "spacing_mm": None if spacing is None else tuple(float(size) for size in spacing),
            "roi_size": tuple(content["roi_size"]),
            "slices": _build_slice_rule(content.get("slices"), labels, path),
            "fold_slices": None if fold_slices is None else tuple(fold_slices),
            "regions": None if regions is None else {name: tuple(values) for name, values in regions.items()},
        }
    )


def _build_slice_rule(content: Any, labels: Any, path: Path) -> SliceRule | None:
    if content is None:
        return None
    _require_keys(content, SliceRule, "slices", path)
    classes, names, size = content["labels"], content["names"], content["size"]
    stored = [value for values in classes.values() for value in values] if _are_regions(classes, labels) else []
    expected = "a mapping from 1, 2, ... to lists of the card's labels, each label once"
    facts = [
        (
            "slices.labels", stored and list(classes) == list(range(1, len(classes) + 1))
            and len(set(stored)) == len(stored), expected, classes,
        ),
        (
            "slices.names", isinstance(names, list) and len(names) == len(classes) and all(map(_is_name, names)),
            "one name for each class of slices.labels", names,
        ),
        ("slices.keep", content["keep"] in KEEP, "one of " + ", ".join(KEEP), content["keep"]),
        ("slices.size", size is None or _are_sizes(size, 2), "null or height and width", size),
        ("slices.crop_size", _are_sizes(content["crop_size"], 2), "height and width", content["crop_size"]),
    ]  # fmt: skip
    _require_facts(facts, path)
    return SliceRule(
        labels={value: tuple(stored) for value, stored in classes.items()},
        names=tuple(names),
        keep=content["keep"],
        size=None if size is None else (size[0], size[1]),
        crop_size=(content["crop_size"][0], content["crop_size"][1]),
    )


def _build_image_card(content: Any, path: Path) -> ImageCard:
    _require_keys(content, ImageCard, "card", path)
    classes, void, colours = content["classes"], content["void"], content["colours"]
    prepared = content.get("prepared_parts")
    values = [*classes, *void] if _are_classes(classes) and isinstance(void, list) else []
    facts = [
        ("name", content["name"] == path.stem, f"the file's name, {path.stem!r}", content["name"]),
        ("layout", content["layout"] in IMAGE_LAYOUTS, "one of " + ", ".join(IMAGE_LAYOUTS), content["layout"]),
        ("classes", _are_classes(classes), "1 to 255 stored values with names, each name once", classes),
        (
            "void", values and all(map(_is_stored, values)) and len(set(values)) == len(values),
            "a list of stored values that are no classes", void,
        ),
        ("colours", _are_colours(colours, values), "null or one own colour [r, g, b] for each class", colours),
        ("crop_size", _are_sizes(content["crop_size"], 2), "height and width", content["crop_size"]),
        ("mean", _are(content["mean"], 3, _is_number), "three numbers", content["mean"]),
        ("std", _are_sizes(content["std"], 3, _is_number), "three numbers above 0", content["std"]),
        ("parts", _are_parts(content["parts"]), "numbers of images in " + ", ".join(PARTS), content["parts"]),
        ("prepared_parts", prepared is None or _are_parts(prepared), "null or as parts", prepared),
    ]  # fmt: skip
    _require_facts(facts, path)
    painted = None if colours is None else {value: tuple(colour) for value, colour in sorted(colours.items())}
    return ImageCard(
        **{
            **content,
            # The class index is the position, so the order in the YAML must not matter.
            "classes": dict(sorted(classes.items())),
            "void": tuple(sorted(void)),
            "colours": painted,
            "crop_size": tuple(content["crop_size"]),
            "mean": tuple(map(float, content["mean"])),
            "std": tuple(map(float, content["std"])),
        }
    )


def _require_facts(facts: list[tuple[str, Any, str, Any]], path: Path) -> None:
    for argument, fine, expected, got in facts:
        if not fine:
            raise DatasetError(wrong("load_card", argument, expected, repr(got), path=path))


def _is_number(value: Any) -> TypeGuard[float]:
    # In Python True is 1.
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_stored(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**16


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_labels(labels: Any) -> bool:
    return (
        isinstance(labels, dict)
        and sorted(labels) == list(range(1, len(labels) + 1))
        and all(_is_name(name) for name in labels.values())
    )


def _are_regions(regions: Any, labels: Any) -> bool:
    """Lists of labels by name; which labels there are is not known where the data set's own files tell."""
    return isinstance(regions, dict) and all(
        isinstance(values, list) and values and all(_is_size(value) and value in (labels or values) for value in values)
        for values in regions.values()
    )


def _are_classes(classes: Any) -> bool:
    # VOID = 255 is no class index, so that there are 255 at most.
    return (
        isinstance(classes, dict)
        and 0 < len(classes) <= 255
        and all(_is_name(name) for name in classes.values())
        and len(set(classes.values())) == len(classes)
    )


def _are_colours(colours: Any, values: list[int]) -> bool:
    if colours is None:
        return True
    return (
        isinstance(colours, dict)
        and set(colours) <= set(values)
        and all(_are(colour, 3, _is_stored) and max(colour) < 256 for colour in colours.values())
        and len(set(map(tuple, colours.values()))) == len(colours)
    )


def _are_parts(parts: Any) -> bool:
    return isinstance(parts, dict) and set(parts) <= set(PARTS) and all(n == 0 or _is_size(n) for n in parts.values())


def _are(values: Any, number: int, is_kind: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and len(values) == number and all(map(is_kind, values))


def _are_sizes(sizes: Any, number: int, is_kind: Callable[[Any], bool] = _is_size) -> bool:
    return _are(sizes, number, is_kind) and all(size > 0 for size in sizes)


def _require_keys(content: Any, kind: Any, part: str, path: Path, hidden: tuple[str, ...] = ()) -> None:
    if not isinstance(content, dict):
        raise DatasetError(wrong("load_card", part, "a mapping", repr(content), path=path))
    names = {field.name: field.default is MISSING for field in fields(kind) if field.name not in hidden}
    missing = {name for name, needed in names.items() if needed} - set(content)
    unknown = set(content) - set(names)
    if missing or unknown:
        got = "; ".join(
            f"{word} {', '.join(sorted(map(str, keys)))}"
            for word, keys in (("missing", missing), ("unknown", unknown))
            if keys
        )
        raise DatasetError(
            wrong("load_card", part, "a mapping with exactly " + ", ".join(sorted(names)), got, path=path)
        )
