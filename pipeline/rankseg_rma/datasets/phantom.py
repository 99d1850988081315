"""A seeded synthetic abdominal CT cohort: liver, vessels and tumours of 3 to 40 mm, in the MSD layout.

Cases are rendered on a finer grid and averaged, so that borders have partial volume. Tumours are faint, some lie beside
look-alikes that are no tumours, and noise is correlated: a network has reason to be unsure.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from rankseg_rma.checks import wrong
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.files.writing import write_text
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.runs.progress import progress_bar

# Fine voxels in a voxel; three along the axis of the slices, where voxels are mostly thickest.
_FINE = np.array([2, 2, 3])
_LABELS = {0: "background", 1: "liver", 2: "tumour"}


@dataclass(frozen=True)
class _Lesion:
    centre_mm: Any
    diameter_mm: float
    contrast_hu: float
    is_tumour: bool


def make_phantom(
    out: str | Path, num_cases: int, seed: int, on_case: Callable[[str], None] = lambda case_id: None
) -> None:
    """Write a cohort as NIfTI: imagesTr, labelsTr and dataset.json.

    Args:
        out: folder to fill.
        num_cases: number of cases; the fourth of every eight has no tumour.
        seed: the same seed gives the same cohort on every machine.
        on_case: called with the id of each finished case.
    """
    out = Path(out)
    entries = []
    for index in range(num_cases):
        case_id = f"phantom_{index:03d}"
        # Seeded by case, so that it is the same in a cohort of any size.
        image, label, affine = render_case(np.random.default_rng([seed, index]), index)
        entry = {"image": f"./imagesTr/{case_id}.nii.gz", "label": f"./labelsTr/{case_id}.nii.gz"}
        write_volume(out / entry["image"], image, affine)
        write_volume(out / entry["label"], label, affine)
        entries.append(entry)
        on_case(case_id)
    content = {
        "name": "phantom", "description": f"synthetic abdominal CT, seed {seed}", "licence": "Apache-2.0",
        "modality": {"0": "CT"}, "labels": {str(value): name for value, name in _LABELS.items()},
        "numTraining": num_cases, "numTest": 0, "training": entries, "test": [],
    }  # fmt: skip
    write_text(out / "dataset.json", json.dumps(content, indent=1))


def render_case(rng: np.random.Generator, index: int) -> tuple[Any, Any, Any]:
    """One case: int16 image in HU, uint8 label map, both (x, y, z), and the affine to RAS+.

    The index decides what is special: every fourth case is oblique, the fourth of every eight has no tumour.
    """
    spacing = np.array([rng.uniform(2.4, 3.2)] * 2 + [rng.choice([3.0, 4.0, 5.0])])
    shape = np.round(np.array([260.0, 200.0, 150.0]) / spacing).astype(int)
    fine_shape = shape * _FINE
    x, y, z = (
        ((np.arange(n) + 0.5) * step - 0.5 * n * step)[tuple(slice(None) if a == axis else None for a in range(3))]
        for axis, (n, step) in enumerate(zip(fine_shape, spacing / _FINE, strict=True))
    )
    # `0 * z`, like `z == z` below, only gives the mask its third axis.
    body = (x / 118) ** 2 + (y / 86) ** 2 + 0 * z < 1
    liver = _liver(rng, (x, y, z), fine_shape) & ((x / 108) ** 2 + (y / 76) ** 2 < 1)
    hu = np.where(body, -95.0, -1000.0) + _organs(rng, (x, y, z), body)
    hu = np.where(liver, rng.uniform(95, 125) + 6 * _smooth_noise(rng, fine_shape, 12), hu)
    hu = np.where(liver & _vessels(rng, (x, y, z), fine_shape), hu + rng.uniform(35, 60), hu)
    tumour = np.zeros(fine_shape, bool)
    for lesion in _lesions(rng, liver, spacing / _FINE, with_tumours=index % 8 != 3):
        inside, weight = _lesion_shape(rng, lesion, (x, y, z), fine_shape)
        hu += np.where(liver, lesion.contrast_hu * weight, 0)
        if lesion.is_tumour:
            tumour |= inside & liver
    hu, liver_part, tumour_part = (_average(part) for part in (hu, liver, tumour))
    noise = gaussian_filter(rng.normal(size=shape), 0.6)
    # Set after the smoothing, which lowers the deviation.
    hu += rng.uniform(11, 17) * noise / noise.std()
    # The tumour first: it lies in the liver, which fills such voxels too.
    label = np.where(tumour_part >= 0.5, 2, np.where(liver_part >= 0.5, 1, 0)).astype(np.uint8)
    return np.clip(np.round(hu), -1024, 1500).astype(np.int16), label, _affine(rng, spacing, shape, index % 4 == 1)


def _average(fine: Any) -> Any:
    """Mean over the fine voxels of each voxel: partial volume."""
    a, b, c = _FINE
    n, m, k = np.array(fine.shape) // _FINE
    return fine.reshape(n, a, m, b, k, c).mean(axis=(1, 3, 5))


def _smooth_noise(rng: np.random.Generator, shape: Any, sigma: float) -> Any:
    """Smooth noise of unit variance, made coarsely and enlarged."""
    step = max(int(sigma // 2), 1)
    # Two more: the last voxel is mixed with the place beyond it.
    coarse = gaussian_filter(rng.normal(size=np.array(shape) // step + 2), sigma / step)
    coarse /= coarse.std()
    for axis, size in enumerate(shape):
        place = np.arange(size) / step
        low = place.astype(int)
        part = (place - low)[tuple(slice(None) if a == axis else None for a in range(3))]
        coarse = coarse.take(low, axis) * (1 - part) + coarse.take(low + 1, axis) * part
    return coarse


def _liver(rng: np.random.Generator, grid: Any, shape: Any) -> Any:
    x, y, z = grid
    centre = np.array([-38, 8, 5]) + rng.normal(0, 5, 3)
    size = np.array([66, 56, 52]) * rng.uniform(0.85, 1.12, 3)
    lobe = ((x - centre[0]) / size[0]) ** 2 + ((y - centre[1]) / size[1]) ** 2 + ((z - centre[2]) / size[2]) ** 2
    left = ((x - centre[0] - 55) / 50) ** 2 + ((y - centre[1] - 18) / 30) ** 2 + ((z - centre[2] - 12) / 26) ** 2
    return np.minimum(lobe, left) + 0.12 * _smooth_noise(rng, shape, 14) < 1


def _organs(rng: np.random.Generator, grid: Any, body: Any) -> Any:
    """Muscle, spine, spleen, stomach and kidneys, as HU to add to fat."""
    x, y, z = grid
    hu = np.where(body & ((x / 110) ** 2 + (y / 78) ** 2 + 0 * z > 0.86), 150.0, 0.0)
    hu = np.where((x**2 + (y + 52) ** 2 < 20**2) & (z == z), 420.0, hu)
    organs = {  # centre, half axes, HU above fat
        "spleen": ((72, -18, 15), (26, 34, 38), 205), "stomach": ((48, 30, 10), (34, 26, 30), 125),
        "kidney left": ((48, -40, -35), (22, 20, 42), 250), "kidney right": ((-48, -42, -45), (22, 20, 42), 250),
        "bowel": ((5, 30, -55), (70, 30, 25), 130),
    }  # fmt: skip
    for centre, half, value in organs.values():
        cx, cy, cz = np.array(centre) + rng.normal(0, 4, 3)
        inside = ((x - cx) / half[0]) ** 2 + ((y - cy) / half[1]) ** 2 + ((z - cz) / half[2]) ** 2 < 1
        hu = np.where(inside, value + rng.normal(0, 8), hu)
    return np.where(body, hu, 0)


def _vessels(rng: np.random.Generator, grid: Any, shape: Any) -> Any:
    """Branches through the liver: where two smooth random fields are both near zero."""
    first, second = _smooth_noise(rng, shape, 10), _smooth_noise(rng, shape, 10)
    return first**2 + second**2 < 0.03


def _lesions(rng: np.random.Generator, liver: Any, step_mm: Any, with_tumours: bool) -> list[_Lesion]:
    """Tumours of 3 to 40 mm, log-uniform, and one or two faint look-alikes that are no tumours."""
    places = np.argwhere(liver)
    origin = -0.5 * np.array(liver.shape) * step_mm
    kinds = [True] * int(rng.integers(1, 6) if with_tumours else 0) + [False] * int(rng.integers(1, 3))
    lesions: list[_Lesion] = []
    for is_tumour in kinds:
        centre = origin + (places[rng.integers(len(places))] + 0.5) * step_mm
        # The first tumour of a case is one that a reader would not miss.
        low, high = (3 if lesions else 10, 40) if is_tumour else (3, 14)
        # Log-uniform, as small lesions are the common ones.
        diameter = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        contrast = -rng.uniform(28, 65) if is_tumour else -rng.uniform(12, 26)
        lesions.append(_Lesion(centre, diameter, contrast, is_tumour))
    return lesions


def _lesion_shape(rng: np.random.Generator, lesion: _Lesion, grid: Any, shape: Any) -> tuple[Any, Any]:
    """Mask of a lobulated lesion and its weight, which fades over about 2 mm at the border."""
    x, y, z = grid
    cx, cy, cz = lesion.centre_mm
    stretch = rng.uniform(0.85, 1.2, 3)
    distance = np.sqrt(((x - cx) / stretch[0]) ** 2 + ((y - cy) / stretch[1]) ** 2 + ((z - cz) / stretch[2]) ** 2)
    radius = lesion.diameter_mm / 2 * (1 + 0.12 * _smooth_noise(rng, shape, 8))
    return distance < radius, 1 / (1 + np.exp(np.clip((distance - radius) / 0.8, -30, 30)))


def _affine(rng: np.random.Generator, spacing: Any, shape: Any, oblique: bool) -> Any:
    """RAS or LPS axes; tilted about two axes when oblique."""
    direction = np.diag([-1.0, -1.0, 1.0]) if rng.random() < 0.5 else np.eye(3)
    if oblique:
        a, b = np.deg2rad(rng.uniform(6, 18, 2)) * rng.choice([-1, 1], 2)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        direction = about_x @ about_z @ direction
    affine = np.eye(4)
    affine[:3, :3] = direction @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2) + rng.uniform(-20, 20, 3)
    return affine


def make_phantom_cohort(out: Path, num_cases: int, seed: int) -> Outcome:
    """Write the synthetic cohort."""

    if num_cases < 1:
        raise ValueError(wrong("make_phantom_cohort", "cases", "at least 1", num_cases))
    with progress_bar() as progress:
        task = progress.add_task("making phantom", total=num_cases)
        make_phantom(out, num_cases, seed, lambda case_id: progress.advance(task))
    return Outcome(out, [f"{num_cases} cases in {out}"])
