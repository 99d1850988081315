"""Label maps on disk: the one way in which a label of a volume is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankseg_rma.checks import wrong
from rankseg_rma.files.volumes import read_volume
from rankseg_rma.metrics.masks import round_labels


@dataclass(frozen=True)
class LabelMap:
    """Labels of one file.

    Attributes:
        array: (*spatial) uint8 or uint16.
        affine: (4, 4) from array indices to RAS+ millimetres.
        path: the file.
        was_rounded: values were not quite whole numbers; whoever reads for a user says so once.
    """

    array: Any
    affine: Any
    path: Path
    was_rounded: bool = False


def read_labels(path: str | Path, argument: str = "label") -> LabelMap:
    """Read a label map: whole numbers, or what a scaling factor made of them, within 0.01.

    Args:
        path: as for `read_volume`.
        argument: what the file is, for the messages.
    Raises:
        FileNotFoundError, ValueError: as `read_volume`; there are several channels, or values are no labels.
    """
    volume = read_volume(path)
    if volume.array.ndim != 3:
        got = f"{len(volume.array)} channels of {volume.array.shape[1:]}"
        advice = "Masks of overlapping classes, (x, y, z, class), are not scored: write one label map for each class."
        raise ValueError(wrong("read_labels", argument, "a label map of 3 axes", got, path=path, advice=advice))
    array, was_rounded = round_labels(argument, volume.array, str(path))
    return LabelMap(array, volume.affine, Path(path), was_rounded)
