"""Tables of a test: rows of images and classes, and the scores of the data set with their bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import nan
from typing import Any

import numpy as np
import pandas

from rankseg_rma.metrics.overlap import Overlap, dice_of, iou_of
from rankseg_rma.metrics.semantic import METRICS, SemanticCounts, class_values, image_means, stack_counts
from rankseg_rma.paper.items import ItemScores
from rankseg_rma.report.wording import write_interval, write_quantity
from rankseg_rma.statistics.calibration import CalibrationSums, score_calibration, stack_calibration
from rankseg_rma.statistics.differences import mean_difference
from rankseg_rma.statistics.forms import CaseTable, gather_cases, left_out, score_cases
from rankseg_rma.statistics.resampling import number_clusters, percentile_interval, resample

NUM_RESAMPLES = 2000
SEED = 0
# How people write the scores; in this order in the terminal.
TITLES = {
    "miou_i": "mIoU^I", "miou_c": "mIoU^C", "miou_d": "mIoU^D", "mdice_i": "mDice^I", "mdice_c": "mDice^C",
    "mdice_d": "mDice^D", "miou_worst5": "mIoU^I, worst 5 %", "mdice_worst5": "mDice^I, worst 5 %",
    "pixel_accuracy": "pixel accuracy",
}  # fmt: skip
# Means over cases: their difference is a mean too, and has the better interval.
_MEANS = {"miou_i": "iou", "mdice_i": "dice"}


@dataclass(frozen=True)
class UnitScores:
    """All images of a test as one unit sees them: every image or slice by itself, or the slices of a case as one.

    Attributes:
        unit: "image", "slice" or "volume".
        counts: by decoder, (image, class).
        owner: (image,) number of the image's case.
        case_ids: of the cases.
        slice_index: per image, None where it is no slice.
        seconds: by decoder, per image; NaN where only the whole case was timed.
        rule: which classes count; see `rankseg_rma.evaluation.semantic`.
    """

    unit: str
    counts: Mapping[str, SemanticCounts]
    owner: Any
    case_ids: Sequence[str]
    slice_index: Sequence[int | None]
    seconds: Mapping[str, Sequence[float]]
    rule: str


def rule_of(kind: str, num_classes: int) -> str:
    """Which classes count: all of a natural image; of slices and volumes the foreground."""
    return "present" if kind == "image" else "binary" if num_classes == 2 else "foreground"


def view_units(results: Sequence[ItemScores], kind: str, rule: str) -> list[UnitScores]:
    """The results per image or slice and, where there are slices, per case."""
    names = list(results[0].counts)
    counts = {name: stack_counts([result.counts[name] for result in results]) for name in names}
    owner = np.repeat(np.arange(len(results)), [len(result.slice_index) for result in results])
    case_ids = [result.case_id for result in results]
    seconds = {name: [result.seconds[name] for result in results] for name in names}
    of_cases = [None] * len(results)
    if kind != "slices":
        return [UnitScores(kind, counts, owner, case_ids, of_cases, seconds, rule)]
    numbers = [number for result in results for number in result.slice_index]
    untimed = {name: [nan] * len(owner) for name in names}
    pooled = {name: part.pool(owner) for name, part in counts.items()}
    return [
        UnitScores("slice", counts, owner, case_ids, numbers, untimed, rule),
        UnitScores("volume", pooled, np.arange(len(results)), case_ids, of_cases, seconds, rule),
    ]


def item_rows(view: UnitScores) -> list[dict[str, Any]]:
    """One row per image (slice, case) and decoder."""
    rows = []
    for name, counts in view.counts.items():
        values = {metric: class_values(counts, metric, view.rule) for metric in METRICS}
        columns = {
            "pixel_accuracy": counts.pixel_accuracy(), "num_classes": np.isfinite(values["iou"]).sum(axis=1),
            **{f"m{metric}": image_means(found) for metric, found in values.items()},
            "num_voxels": counts.num_voxels, "num_void": counts.num_void, "seconds": view.seconds[name],
        }  # fmt: skip
        rows += [
            {**_place(view, k), "decoder": name, **{key: column[k] for key, column in columns.items()}}
            for k in range(len(view.owner))
        ]
    return rows


def class_rows(view: UnitScores, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per image, decoder and class that is in either map."""
    rows = []
    for name, counts in view.counts.items():
        counted = np.isfinite(class_values(counts, "iou", view.rule))
        either = counts.tp + counts.fp + counts.fn
        for image, label in np.argwhere(either > 0).tolist():
            found = Overlap(*(int(part[image, label]) for part in (counts.tp, counts.fp, counts.fn)))
            rows.append({
                **_place(view, image), "decoder": name, "label": label, "label_name": class_names[label],
                "counted": bool(counted[image, label]), **vars(found), "iou": iou_of(found), "dice": dice_of(found),
            })  # fmt: skip
    return rows


def probability_rows(results: Sequence[ItemScores], unit: str) -> list[dict[str, Any]]:
    """Calibration of every image or slice, at each temperature."""
    return [
        {"case_id": result.case_id, "slice_index": number, "score_over": unit, "temperature": name, **row}
        for result in results
        for name, rows in result.measures.items()
        for number, row in zip(result.slice_index, rows, strict=True)
    ]


def score_rows(view: UnitScores, patients: Sequence[str], temperatures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every score of every decoder with its interval, and the difference to argmax where that is among them.

    Whole patients are resampled, the same for all decoders. A decoder's own interval is a percentile interval. So is
    that of a difference, except for the two means over cases, mIoU^I and mDice^I: there it is BCa, as long as both
    decoders have a value in the same cases.

    Args:
        view: what is scored.
        patients: patient of each case.
        temperatures: by decoder, name of the temperature it decoded at.
    """
    tables = {
        name: [gather_cases(counts, view.owner, metric, view.rule) for metric in METRICS]
        for name, counts in view.counts.items()
    }
    owner, rows = number_clusters(patients), []
    # One seed for all: every decoder is scored on the same resamples, so that differences are paired.
    resampled = {
        name: resample(partial(score_cases, table), owner, NUM_RESAMPLES, SEED) for name, table in tables.items()
    }
    for name, table in tables.items():
        numbers = vars(left_out(view.counts[name], view.owner, view.rule))
        for score, found in resampled[name].items():
            row: dict[str, Any] = {
                "score_over": view.unit,
                "decoder": name,
                "temperature": temperatures[name],
                "score": score,
            }
            row |= {"value": found.value, **_ends("", percentile_interval(found.distribution))}
            if name != "argmax" and "argmax" in tables:
                row |= _difference(score, tables["argmax"], table, patients)
                first = resampled["argmax"][score]
                row.setdefault("difference", found.value - first.value)
                if "interval" not in row:
                    ends = percentile_interval(found.distribution - first.distribution)
                    row |= {**_ends("difference_", ends), "interval": "percentile"}
            rows.append({**row, **_numbers_behind(score, numbers), "num_patients": len(set(patients))})
    return rows


def calibration_rows(results: Sequence[ItemScores], unit: str, patients: Sequence[str]) -> list[dict[str, Any]]:
    """Calibration of the data set with intervals, at each temperature; the decoders share it."""
    sums = {
        name: stack_calibration([result.calibration[name] for result in results]) for name in results[0].calibration
    }
    owner = number_clusters(patients)
    return [
        {
            "score_over": unit, "temperature": name, "score": score, "value": found.value,
            **_ends("", percentile_interval(found.distribution)), **_cases_behind(part),
            "num_patients": len(set(patients)),
        }
        for name, part in sums.items()
        for score, found in resample(partial(score_calibration, part), owner, NUM_RESAMPLES, SEED).items()
    ]  # fmt: skip


def describe_test(summary: pandas.DataFrame) -> list[str]:
    """Lines for a terminal: the decoders in points, and the calibration."""
    lines = []
    decoded = summary[summary["decoder"].notna() & summary["score"].isin(list(TITLES))]
    for unit, part in decoded.groupby("score_over", sort=False):
        wide = part.pivot(index="score", columns="decoder", values="value")
        table = pandas.DataFrame({"": [TITLES[score] for score in TITLES]}, index=list(TITLES))
        for name, mine in part.groupby("decoder", sort=False):
            mine = mine.set_index("score")
            table[str(name)] = [write_quantity(wide.loc[score, str(name)], "1") for score in TITLES]
            if "difference" in mine and mine["difference"].notna().any():
                table[f"{name} - argmax"] = [_write_difference(mine.loc[score]) for score in TITLES]
        lines += [f"per {unit}, in points (95 % interval)", *table.to_string(index=False).splitlines()]
    for temperature, mine in summary[summary["decoder"].isna()].groupby("temperature", sort=False):
        found = ", ".join(f"{row['score']} {row['value']:.4f}" for row in mine.to_dict("records"))
        lines.append(f"calibration at temperature {temperature}: {found}")
    return lines


def _difference(
    score: str, first: Sequence[CaseTable], second: Sequence[CaseTable], patients: Sequence[str]
) -> dict[str, Any]:
    """Mean difference and BCa interval of a mean over cases; nothing where the score is none, or cases differ."""
    if score not in _MEANS:
        return {}
    means = [table[METRICS.index(_MEANS[score])].mean for table in (first, second)]
    defined = [np.isfinite(mean) for mean in means]
    if not np.array_equal(*defined) or not defined[0].any():
        return {}
    mean, low, high = mean_difference(*means, clusters=patients, num_resamples=NUM_RESAMPLES, seed=SEED)
    return {"difference": mean, **_ends("difference_", (low, high)), "interval": "bca"}


def _ends(prefix: str, ends: tuple[float, float]) -> dict[str, float]:
    return {f"{prefix}low": ends[0], f"{prefix}high": ends[1]}


def _numbers_behind(score: str, numbers: Mapping[str, int]) -> dict[str, int]:
    """What a score is the mean of; pooled voxels are of all images."""
    behind = {"num_images": numbers["num_images"], "num_images_left_out": numbers["images"]}
    if score.endswith(("_c", "_d")):
        form = score[-1]
        behind |= {"num_classes": numbers[f"num_classes_{form}"], "num_classes_left_out": numbers[f"classes_{form}"]}
    return {**behind, "num_cases": numbers["num_cases"], "num_cases_left_out": numbers["cases"]}


def _cases_behind(sums: CalibrationSums) -> dict[str, int]:
    defined = int(np.isfinite(sums.image_ece).sum())
    return {"num_cases": defined, "num_cases_left_out": len(sums.image_ece) - defined}


def _place(view: UnitScores, image: int) -> dict[str, Any]:
    return {
        "case_id": view.case_ids[view.owner[image]], "slice_index": view.slice_index[image],
        "score_over": view.unit,
    }  # fmt: skip


def _write_difference(row: Any) -> str:
    ends = write_interval(row["difference_low"], row["difference_high"], "1")
    return f"{write_quantity(row['difference'], '1', True)} ({ends})"
