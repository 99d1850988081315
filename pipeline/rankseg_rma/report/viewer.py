"""The interactive viewer of the page: NiiVue, which `make viewer` puts into the folder beside this file."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.grid import spacing_of
from rankseg_rma.report.examples import Choice, Example, box_around, shift_affine
from rankseg_rma.report.page import ViewerCase

FOLDER = Path(__file__).with_name("viewer")


def load_viewer() -> str | None:
    """NiiVue's script with the licences of everything in it as a comment; None where it was not built."""
    script, licences = FOLDER / "niivue.umd.js", FOLDER / "niivue.LICENSES.txt"
    if not script.is_file() or not licences.is_file():
        return None
    # The end of a comment within the licences would end this one.
    comment = licences.read_text(encoding="utf-8").replace("*/", "* /")
    return f"/*!\n{comment}\n*/\n{script.read_text(encoding='utf-8')}"


_VIEWER_MARGIN_MM = 12.0
# The page stays below ten megabytes with four such cases: 64 grey levels compress to about half a byte per voxel.
_VIEWER_VOXELS = 1_500_000
_VIEWER_LEVELS = 64


def pack_for_viewer(choice: Choice, title: str, example: Example, place: tuple[int, int, int]) -> ViewerCase:
    """NIfTI files of the masks' box; every second (third ...) voxel along the finest axes where it is too large."""
    box = box_around(np.any(list(example.masks.values()), axis=0), spacing_of(example.affine), _VIEWER_MARGIN_MM, False)
    steps = _choose_steps([part.stop - part.start for part in box], spacing_of(example.affine))
    part = tuple(slice(one.start, one.stop, step) for one, step in zip(box, steps, strict=True))
    affine = shift_affine(example.affine, box, steps)
    image = None
    if example.image is not None:
        scale = 255 // (_VIEWER_LEVELS - 1)
        image = _nifti_bytes(np.rint(example.image[part] * (_VIEWER_LEVELS - 1)).astype(np.uint8) * scale, affine)
    masks = {name: _nifti_bytes(mask[part].astype(np.uint8), affine) for name, mask in example.masks.items()}
    size = " x ".join(f"{size:.3g}" for size in spacing_of(affine))
    note = "" if max(steps) == 1 else f"; thinned to voxels of {size} mm"
    x, y, z = ((p - one.start + 0.5) / (one.stop - one.start) for p, one in zip(place, box, strict=True))
    return ViewerCase(choice.case_id, title + note, image, masks, choice.label, (x, y, z))


def _choose_steps(shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[int, int, int]:
    """Take fewer voxels along the axis that is finest, until they are few enough."""
    steps = [1, 1, 1]
    while np.prod([-(-size // step) for size, step in zip(shape, steps, strict=True)]) > _VIEWER_VOXELS:
        finest = int(np.argmin([step * size for step, size in zip(steps, spacing_mm, strict=True)]))
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def _nifti_bytes(array: Any, affine: Any) -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    # Without a time in the header, the same case gives the same bytes.
    return gzip.compress(image.to_bytes(), 6, mtime=0)
