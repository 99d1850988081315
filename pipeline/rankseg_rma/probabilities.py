"""Probability volumes on disk: 4D NIfTI with classes last."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.volumes import NIFTI_SUFFIXES, read_volume, write_volume


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of one case on the image's own grid, before any temperature.

    Attributes:
        probs: (class, *spatial) float32 tensor in [0, 1].
        affine: (4, 4) of the image, to RAS+ mm.
        header: nibabel header of the image, for masks on the same grid; None where there is none.
    """

    probs: Any
    affine: Any
    header: Any = None


def write_probabilities(path: str | Path, probabilities: Probabilities) -> None:
    """Write (x, y, z, class) float32 NIfTI."""
    array = np.asarray(probabilities.probs, np.float32)
    write_volume(path, array, probabilities.affine, probabilities.header)


def read_probabilities(path: str | Path) -> Probabilities:
    """Read a 4D NIfTI (x, y, z, class); a 3D one is a single class.

    Raises:
        FileNotFoundError, ValueError: missing or damaged file, another format, or not floating point.
    """
    import torch

    if not str(path).lower().endswith(NIFTI_SUFFIXES):
        raise ValueError(wrong("read_probabilities", "path", "a 4D NIfTI, .nii or .nii.gz", Path(path).name, path=path))
    volume = read_volume(path)
    array = volume.array[None] if volume.array.ndim == 3 else volume.array
    if array.dtype.kind != "f":
        advice = "This looks like a label map: give the network's probabilities."
        expected = "floating-point probabilities"
        raise ValueError(wrong("read_probabilities", "volume", expected, str(array.dtype), path=path, advice=advice))
    # NIfTI files of some tools are big-endian and read-only; torch wants neither.
    native = np.array(array, dtype=np.float32)
    return Probabilities(torch.from_numpy(native), volume.affine, volume.header)
