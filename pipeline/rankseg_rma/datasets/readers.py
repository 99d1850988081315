"""From a folder to its cases, by the layout that the card names, or by the slice store that lies there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.datasets.card_kinds import Card, DatasetCard
from rankseg_rma.datasets.case import Case, inside
from rankseg_rma.datasets.image_layouts import IMAGE_LAYOUTS
from rankseg_rma.datasets.slices import is_store, read_store
from rankseg_rma.datasets.volume_layouts import VOLUME_LAYOUTS

LAYOUTS: dict[str, Callable[[Any, Path], tuple[Any, list[Case]]]] = {**VOLUME_LAYOUTS, **IMAGE_LAYOUTS}


def list_cases(card: Card, root: str | Path) -> tuple[Any, list[Case]]:
    """Cases of a data set, sorted by id, and the card completed by what the folder itself tells.

    A folder that `data prepare` made is recognised by its own file; a slice store gives one case per slice. An image or
    label that is missing in a training or validation part is listed all the same, for `data check` to name.

    Raises:
        FileNotFoundError: the folder, or a file of its layout, is missing.
        DatasetError: the folder is not as the layout says.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(wrong("list_cases", "root", f"the folder of {card.name}", root, advice="See DATA.md."))
    layout = _read_slices if is_store(root) else LAYOUTS[card.layout]
    card, cases = layout(card, root)
    if not cases:
        raise DatasetError(wrong("list_cases", "data set", "at least one case", "none", path=root))
    ids = [case.id for case in cases]
    if len(set(ids)) < len(ids):
        twice = sorted({case_id for case_id in ids if ids.count(case_id) > 1})
        raise DatasetError(wrong("list_cases", "case ids", "unique", ", ".join(twice), path=root))
    # Training draws its samples by place in this list, which must not depend on the file system.
    return card, sorted(cases, key=lambda case: case.id)


def _read_slices(card: Card, root: Path) -> tuple[Card, list[Case]]:
    """A slice store, one case for each slice; it is split as all cases are, with slices in it or not."""
    store = read_store(root)
    if not isinstance(card, DatasetCard) or store["dataset"] != card.name:
        expected, got = f"made of {card.name}", f"a slice store of {store['dataset']}"
        raise DatasetError(wrong("list_cases", "root", expected, got, path=root))
    names = card.slices.names if card.slices else ()
    if store["classes"][1:] != [*names]:
        expected, got = f"of the card's classes, {', '.join(names) or 'none'}", ", ".join(store["classes"][1:])
        advice = "The card has changed: run `data prepare` again."
        raise DatasetError(wrong("list_cases", "slice store", expected, got, path=root, advice=advice))
    cases = []
    for entry in store["slices"]:
        path = inside(root, entry["file"])
        cases.append(Case(entry["case_id"], path, path, slice_index=entry["slice_index"]))
    splits = replace(card.splits, case_ids=tuple(store["case_ids"]))
    return replace(card, splits=splits), cases
