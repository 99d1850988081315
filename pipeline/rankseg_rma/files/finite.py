"""Numbers that are none: NaN and infinite voxels of an image, counted before anything is computed from them."""

from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.files.names import NIFTI_SUFFIXES
from rankseg_rma.files.volumes import read_volume


def count_non_finite(array: Any) -> int:
    """NaN and infinite values in an array of any shape; of whole numbers there are none."""
    array = np.asarray(array)
    return int(array.size - np.count_nonzero(np.isfinite(array))) if array.dtype.kind in "fc" else 0


def require_finite(function: str, array: Any, path: str | Path | None = None) -> None:
    """Refuse an image with NaN or infinite voxels.

    Args:
        function: who asks, for the message.
        array: of any shape.
        path: its file.
    Raises:
        ValueError: there are some; the message has their number.
    """
    bad = count_non_finite(array)
    if bad:
        got = f"{bad} NaN or infinite of {np.asarray(array).size} voxels"
        advice = "Mend the file: what a network makes of it means nothing."
        raise ValueError(wrong(function, "image", "of finite numbers", got, path=path, advice=advice))


def require_finite_volume(function: str, path: str | Path) -> None:
    """As `require_finite`, of a file; the voxels of one that stores whole numbers are not read.

    Raises:
        FileNotFoundError, ValueError: as `read_volume` and `require_finite`.
    """
    path = Path(path)
    if not (path.is_file() and path.name.lower().endswith(NIFTI_SUFFIXES) and _stores_whole_numbers(path)):
        require_finite(function, read_volume(path).array, path)


def _stores_whole_numbers(path: Path) -> bool:
    import nibabel

    try:
        image = nibabel.load(path)
        scaling = (image.dataobj.slope, image.dataobj.inter)
    except Exception:  # damaged: `read_volume` says how
        return False
    # Scaled whole numbers are finite as long as slope and intercept are, so the voxels need not be read.
    return image.get_data_dtype().kind in "iu" and bool(np.isfinite(scaling).all())
