"""Cases for the pictures: which ones, and their image, reference and masks around the structure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.names import match_cases
from rankseg_rma.files.volumes import Volume, read_volume
from rankseg_rma.grid import require_same_grid, spacing_of
from rankseg_rma.report.wording import describe_score
from rankseg_rma.runs.outcome import describe_failure
from rankseg_rma.tables.frames import Tables

# Soft tissue in Hounsfield units; a CT is known by its air, and no MRI goes so far below 0.
CT_WINDOW = (-160.0, 240.0)
_CT_LOWEST = (-5000.0, -400.0)
_CONTEXT_MM = 40.0


@dataclass(frozen=True)
class Choice:
    """A case worth a look: kind ("worst", "best" or "changed"), case id and label ("2", or "1+2+3" for a region)."""

    kind: str
    case_id: str
    label: str


@dataclass(frozen=True)
class CohortFiles:
    """Where the volumes of a cohort are, by case id: references, masks of each decoder, and images if there are any."""

    references: Mapping[str, Path]
    predictions: Mapping[str, Mapping[str, Path]]
    images: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A case in RAS+ order, cropped around its masks; image (x, y, z) from 0 to 1, or None."""

    image: Any | None
    masks: Mapping[str, Any]
    affine: Any
    grey: str


def choose_cases(tables: Tables, count: int) -> list[Choice]:
    """The cases to look at: in turns the largest loss, the worst score, the largest gain and the best score.

    Args:
        tables: scores of ``tables.metric``; "worst" and "best" are about the second decoder.
        count: how many at most. No case is shown twice. Cases where both masks are empty show nothing and are left out.
    """
    part = tables.scores
    if part.empty:
        return []
    part = part[(part["metric"] == tables.metric) & (part["label"].astype(str) != "mean")]
    wide = part.pivot(index=["case_id", "label"], columns="decoder", values="value")
    status = part.pivot(index=["case_id", "label"], columns="decoder", values="status")
    if tables.second not in wide.columns:
        return []
    sign = -1.0 if describe_score(tables).better == "lower" else 1.0
    score = sign * wide[tables.second].where(status[tables.second] != "both_empty").dropna()
    # Stable, so that of equal scores the same cases are shown on every machine.
    worst = list(score.sort_values(kind="stable").index)
    orders = [("worst", worst), ("best", worst[::-1])]
    if tables.is_pair and tables.first in wide.columns:
        change = (sign * (wide[tables.second] - wide[tables.first])).dropna().sort_values(kind="stable")
        losses, gains = list(change[change < 0].index), list(change[change > 0].index[::-1])
        orders = [("changed", losses), orders[0], ("changed", gains), orders[1]]
    chosen: dict[str, Choice] = {}
    waiting = [(kind, iter(order)) for kind, order in orders]
    while waiting and len(chosen) < count:
        kind, order = waiting.pop(0)
        found = next(((case_id, label) for case_id, label in order if str(case_id) not in chosen), None)
        if found:
            chosen[str(found[0])] = Choice(kind, str(found[0]), str(found[1]))
            waiting.append((kind, order))
    return list(chosen.values())


def find_image(images: Mapping[str, Path], case_id: str) -> Path | None:
    """Image of a case, or its first channel, see `match_cases`."""
    return match_cases(images, [case_id]).get(case_id)


def decoders_of(tables: Tables) -> list[str]:
    return list(dict.fromkeys([tables.first, tables.second]))


def read_example(
    choice: Choice, tables: Tables, files: CohortFiles, window: tuple[float, float] | None, notes: list[str]
) -> Example:
    """Read the masks and the image of a case, bring them into RAS+ order and crop them."""
    case_id, members = choice.case_id, [int(label) for label in choice.label.split("+")]
    paths = {"reference": files.references, **{name: files.predictions[name] for name in decoders_of(tables)}}
    masks: dict[str, Any] = {}
    first: Volume | None = None
    for name, found in paths.items():
        if case_id not in found:
            raise FileNotFoundError(wrong("find_pictures", "masks", f"there for {name}", "none", case_id=case_id))
        labels = read_labels(found[case_id], name)
        volume = Volume(labels.array, labels.affine)
        first = first or volume
        require_same_grid("find_pictures", "volume", volume.array.shape, volume.affine, first, found[case_id])
        masks[name] = np.isin(volume.array, members)
    assert first is not None
    image = _read_image(files, case_id, first, notes)
    limits, grey = ((0.0, 1.0), "") if image is None else _choose_window(image, window)
    box = box_around(np.any(list(masks.values()), axis=0), spacing_of(first.affine), _CONTEXT_MM, True)
    affine = shift_affine(first.affine, box)
    return Example(
        # Cropped before it becomes float32, which may take four times the memory.
        None if image is None else _to_ras(_apply_window(image[box], limits), affine)[0],
        {name: _to_ras(mask[box], affine)[0] for name, mask in masks.items()},
        _to_ras(next(iter(masks.values()))[box], affine)[1],
        grey,
    )


def _one_channel(volume: Volume) -> Volume:
    """The first channel where there are several."""
    return Volume(volume.array[0], volume.affine) if volume.array.ndim == 4 else volume


def _read_image(files: CohortFiles, case_id: str, mask: Volume, notes: list[str]) -> Any | None:
    """Image array of a case, or None with a note."""
    path = find_image(files.images, case_id)
    if path is None:
        notes += [f"{case_id} is shown without its image: none was found"] if files.images else []
        return None
    try:
        volume = _one_channel(read_volume(path))
        require_same_grid("find_pictures", "volume", volume.array.shape, volume.affine, mask, path)
    except (ValueError, OSError) as error:
        notes.append(f"{case_id} is shown without its image: {describe_failure(error, path)}")
        return None
    return volume.array


def _choose_window(image: Any, window: tuple[float, float] | None) -> tuple[tuple[float, float], str]:
    """Values that are shown as black and white, and what they are."""
    words = "window {} to {}"
    if window is None:
        finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image.ravel()
        if finite.size and _CT_LOWEST[0] <= finite.min() <= _CT_LOWEST[1]:
            window, words = CT_WINDOW, "soft-tissue window {} to {} HU"
        else:
            # A million values are enough for two percentiles, and sorting all of them is slow.
            low, high = np.percentile(finite[:: max(finite.size // 1_000_000, 1)], [1, 99]) if finite.size else (0, 1)
            window, words = (float(low), float(high)), "window {} to {}, 1st to 99th percentile"
    return window, words.format(*(f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" for value in window))


def _apply_window(image: Any, window: tuple[float, float]) -> Any:
    """Grey values from 0 to 1, as float32."""
    low, high = window
    image = np.nan_to_num(image.astype(np.float32), nan=low, posinf=high, neginf=low)
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)


def box_around(mask: Any, spacing_mm: tuple[float, float, float], margin_mm: float, is_cube: bool) -> tuple[slice, ...]:
    """Box around a mask with a margin, within the array; as a cube, every side is as long in mm as the longest."""
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not found[0].size:
        return tuple(slice(0, size) for size in mask.shape)
    sides = [(int(at[-1]) - int(at[0]) + 1) * size for at, size in zip(found, spacing_mm, strict=True)]
    box = []
    for at, side, spacing, size in zip(found, sides, spacing_mm, mask.shape, strict=True):
        margin = round((margin_mm + ((max(sides) - side) / 2 if is_cube else 0)) / spacing)
        box.append(slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, size)))
    return tuple(box)


def shift_affine(affine: Any, box: Sequence[slice], steps: Sequence[int] = (1, 1, 1)) -> Any:
    """Affine of a part of an array: ``array[box]``, every ``steps``-th voxel of it."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ [part.start or 0 for part in box]
    moved[:3, :3] *= np.asarray(steps)
    return moved


def _to_ras(array: Any, affine: Any) -> tuple[Any, Any]:
    """Turn the axes so that they run to the patient's right, front and head as nearly as they can."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    turn = io_orientation(affine)
    return apply_orientation(array, turn), affine @ inv_ornt_aff(turn, array.shape)
