"""Time the scoring of one case against MONAI's metrics, in one run: a CT-sized case of three classes.

    python benchmarks/evaluate.py

The same scores on both sides, from label maps in memory: Dice, IoU, HD95, ASSD, and with the last row surface Dice at
2 mm with subvoxels. MONAI gets one-hot tensors that were made before the clock started. Exits 1 when a case takes
longer than TARGET_SECONDS or a score differs.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)

from rankseg_rma.evaluation import case as scoring
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.plan import make_plan

SHAPE, SPACING_MM = (512, 512, 128), (0.75, 0.75, 2.5)
TARGET_SECONDS = 2.0
NAMES = {1: "liver", 2: "tumour"}


def make_case(shift: float) -> Any:
    """A liver of 1.4 million voxels with eight tumours; the prediction is shifted a little."""
    grid, rng = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]], np.random.default_rng(1)

    def ellipsoid(centre: Any, radii: Any) -> Any:
        return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) < 1

    labels = np.zeros(SHAPE, np.uint8, order="F")
    labels[ellipsoid((250 + shift, 260, 64), (90, 75, 50))] = 1
    for _ in range(8):
        centre, radius = rng.uniform((200, 210, 40), (300, 300, 90)), rng.uniform(3, 14)
        labels[ellipsoid(centre + 0.7 * shift, (radius, radius, radius / 2.5 + 1))] = 2
    return labels


def clock(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Smallest of several times, and the result."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), result


def score_ours(tolerances_mm: tuple[float, ...]) -> Callable[[], dict[tuple[str, str], float]]:
    affine = np.diag([*SPACING_MM, 1.0])
    maps = [scoring.LabelMap(make_case(shift), affine, Path("in memory")) for shift in (2, 0)]
    options = EvaluationOptions(label_names=NAMES, lesions=[], tolerances_mm=tolerances_mm)
    plan = make_plan(options, [SPACING_MM])

    def work() -> dict[tuple[str, str], float]:
        arm = scoring.score_mask(*maps, plan)
        return {(row["label"], row["metric"]): row["value"] for row in arm.rows}

    return work


def score_monai(with_surface_dice: bool) -> Callable[[], dict[tuple[str, str], float]]:
    prediction, reference = (
        torch.from_numpy(np.stack([make_case(shift) == label for label in (0, *NAMES)])[None]) for shift in (2, 0)
    )

    def work() -> dict[tuple[str, str], float]:
        pair, spacing = (prediction, reference), {"spacing": SPACING_MM}
        found = {
            "dice": compute_dice(*pair, include_background=False),
            "iou": compute_iou(*pair, include_background=False),
            "hd95_mm": compute_hausdorff_distance(*pair, percentile=95, **spacing),
            "assd_mm": compute_average_surface_distance(*pair, symmetric=True, **spacing),
        }
        if with_surface_dice:
            found["nsd_2mm"] = compute_surface_dice(*pair, [2.0, 2.0], use_subvoxels=True, **spacing)
        return {(str(label), name): float(found[name][0, label - 1]) for label in NAMES for name in found}

    return work


def main() -> int:
    faults = 0
    print("| scores | ours, s | MONAI, s | ratio |\n|---|---|---|---|")
    for with_surface_dice in (False, True):
        ours = score_ours((2.0,) if with_surface_dice else ())
        ours()  # compiles
        mine, scores = clock(ours, 5)
        theirs, judged = clock(score_monai(with_surface_dice), 1)
        for key, value in judged.items():
            if not np.isclose(scores[key], value, rtol=1e-4):
                print(f"{key}: ours {scores[key]}, MONAI {value}", file=sys.stderr)
                faults += 1
        what = "Dice, IoU, HD95, ASSD" + (", surface Dice" if with_surface_dice else "")
        print(f"| {what} | {mine:.2f} | {theirs:.1f} | {theirs / mine:.0f} |", flush=True)
        if mine > TARGET_SECONDS:
            print(f"slower than {TARGET_SECONDS} s", file=sys.stderr)
            faults += 1
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
