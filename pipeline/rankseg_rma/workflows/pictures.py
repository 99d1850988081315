"""Slices to look at: where two decoders differ most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.report.figures import SlicePicture
from rankseg_rma.volumes import find_slice_axis, list_volumes, read_volume

_MAX_PICTURES = 6


def find_pictures(
    scores: pandas.DataFrame, images: Path, references: Path, arms: Mapping[str, Path]
) -> list[SlicePicture]:
    """The cases and labels that changed most between the first two decoders: gains first, then losses."""
    first, second = list(arms)[:2]
    table = scores[scores["metric"] == "dice"].pivot(
        index=["case_id", "label", "label_name"], columns="decoder", values="value"
    )
    difference = (table[second] - table[first]).dropna().sort_values()
    difference = difference[difference.abs() >= 0.001]
    half = _MAX_PICTURES // 2
    chosen = list(dict.fromkeys([*difference.index[::-1][:half], *difference.index[:half]]))
    folders = {"reference": list_volumes(references), **{name: list_volumes(folder) for name, folder in arms.items()}}
    files = list_volumes(images)
    pictures = []
    for case_id, label, label_name in chosen:
        volume = read_volume(files[case_id])
        axis = find_slice_axis(volume.affine, "axial")
        masks = {
            name: read_volume(found[case_id]).array == label for name, found in folders.items() if case_id in found
        }
        place = _most_different(masks, first, second, axis)
        spacing = [size for other, size in enumerate(volume.spacing_mm) if other != axis]
        row = table.loc[(case_id, label, label_name)]
        title = f"{case_id}, slice {place}, {label_name}: {first} {row[first]:.3f}, {second} {row[second]:.3f}"
        cut = {name: np.take(mask, place, axis).T for name, mask in masks.items()}
        window = _around(np.any(list(cut.values()), axis=0))
        cut = {name: mask[window] for name, mask in cut.items()}
        image = np.take(volume.array, place, axis).T[window]
        pictures.append(SlicePicture(image, cut, spacing[1] / spacing[0], title))
    return pictures


def _around(mask: Any) -> tuple[slice, ...]:
    """The part of a slice around a mask, with a margin; at least a third of the slice."""
    part = []
    for axis, size in enumerate(mask.shape):
        found = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = (found[0], found[-1]) if found.size else (size // 2, size // 2)
        half = max((high - low) / 2 + 8, size / 6)
        middle = min(max((low + high) / 2, half), size - half)
        part.append(slice(max(int(middle - half), 0), int(middle + half) + 1))
    return tuple(part)


def _most_different(masks: Mapping[str, Any], first: str, second: str, axis: int) -> int:
    """Slice where the two decoders differ most; where they agree, the slice with most of the reference."""
    other = tuple(place for place in range(3) if place != axis)
    difference = (masks[first] != masks[second]).sum(axis=other)
    return int(np.argmax(difference if difference.any() else masks["reference"].sum(axis=other)))
