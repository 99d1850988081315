"""Tables over a cohort, from the rows of its cases: volumes, detection, calibration and expected scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.evaluation import IOU_THRESHOLDS, Overlap
from rankseg_rma.evaluation.calibration import CalibrationCounts
from rankseg_rma.evaluation.lesions import count_detection, recall_by_volume
from rankseg_rma.evaluation.metric import dice_of, iou_of
from rankseg_rma.evaluation.quality import judge_quality
from rankseg_rma.evaluation.volumetry import agree_volumes, compare_burden
from rankseg_rma.workflows.outcome import DECODERS, read_rows
from rankseg_rma.workflows.scoring import CaseScores

KEYS = ["label", "label_name"]
# Dice below this counts as a failed segmentation when expected scores are judged.
FAILURE_BELOW = 0.7


def read_expected(arms: Mapping[str, Path]) -> pandas.DataFrame:
    """What `infer` or `decode` expected of each mask, from the inference.csv beside each decoder's folder.

    Columns: case_id, label, decoder, expected_score, expected_volume_ml, metric, unit, temperature. Empty where no
    folder has one.
    """
    found = []
    for name, folder in arms.items():
        file = folder.resolve().parent / "inference.csv"
        column = f"expected_score_{folder.resolve().name}"
        if folder.resolve().name not in DECODERS or not file.is_file():
            continue
        table = read_rows(file)
        if column in table:
            table = table.assign(decoder=name, expected_score=table[column], label=table["label"].astype(str))
            found.append(table[["case_id", "label", "decoder", "expected_score", "expected_volume_ml", "metric", "unit",
                                "temperature"]])  # fmt: skip
    return pandas.concat(found, ignore_index=True) if found else pandas.DataFrame()


def summary_rows(scores: pandas.DataFrame) -> list[dict[str, Any]]:
    """Mean and spread of every score over the cases where it is defined, and the scores of all voxels pooled."""
    rows = []
    for keys, part in scores.groupby([*KEYS, "decoder", "metric", "unit"], sort=False):
        place = dict(zip([*KEYS, "decoder", "metric", "unit"], keys, strict=True))
        values = part["value"].to_numpy(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            quantiles = np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
            names = ("smallest", "q05", "q25", "median", "q75", "q95", "largest")
            sd = float(values.std(ddof=1)) if values.size > 1 else float("nan")
            place |= {"mean": float(values.mean()), "sd": sd, **dict(zip(names, quantiles, strict=True))}
        policy = part["empty_policy"].iloc[0]
        rows.append({**place, "num_cases": values.size, "num_undefined": len(part) - values.size,
                     "empty_policy": policy})  # fmt: skip
        if place["metric"] in ("dice", "iou"):
            tp, fp, fn = (int(part[name].sum()) for name in ("tp", "fp", "fn"))
            pooled = dice_of(Overlap(tp, fp, fn)) if place["metric"] == "dice" else iou_of(Overlap(tp, fp, fn))
            same = {name: place[name] for name in (*KEYS, "decoder", "unit")}
            rows.append({**same, "metric": f"{place['metric']}_global", "num_cases": len(part), "num_undefined": 0,
                         "mean": pooled, "empty_policy": policy})  # fmt: skip
    return rows


def volume_rows(scores: pandas.DataFrame, expected: pandas.DataFrame) -> pandas.DataFrame:
    """Volumes of each mask in mL; the rows of decoder "expected" hold the sum of probabilities."""
    one = scores.drop_duplicates(["case_id", "label", "decoder"])
    table = one[["case_id", *KEYS, "decoder"]].assign(
        reference_ml=one["n_reference"] * one["voxel_ml"], prediction_ml=one["n_prediction"] * one["voxel_ml"]
    )
    if not expected.empty:
        sums = expected.drop_duplicates(["case_id", "label"])[["case_id", "label", "expected_volume_ml"]]
        model = table.drop_duplicates(["case_id", "label"]).merge(sums, on=["case_id", "label"])
        model = model.assign(decoder="expected", prediction_ml=model.pop("expected_volume_ml"))
        table = pandas.concat([table, model], ignore_index=True)
    difference = table["prediction_ml"] - table["reference_ml"]
    percent = 100 * difference / table["reference_ml"].where(table["reference_ml"] > 0)
    return table.assign(difference_ml=difference, difference_percent=percent)


def agreement_rows(volumes: pandas.DataFrame, burden: pandas.DataFrame) -> list[dict[str, Any]]:
    """Agreement of volumes with the reference per label and decoder, and of the tumour burden where there is one."""
    rows = []
    for (label, label_name, decoder), part in volumes.groupby([*KEYS, "decoder"], sort=False):
        row = {"label": label, "label_name": label_name, "decoder": decoder}
        row |= vars(agree_volumes(part["reference_ml"].to_numpy(), part["prediction_ml"].to_numpy()))
        mine = burden[(burden["label"] == label) & (burden["decoder"] == decoder)] if not burden.empty else burden
        if not mine.empty:
            error = compare_burden(mine["burden_reference"].to_numpy(), mine["burden_prediction"].to_numpy())
            row |= {f"burden_{name}": value for name, value in vars(error).items()}
        rows.append(row)
    return rows


def detection_rows(cases: Sequence[CaseScores], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Detection pooled over cases, per decoder, label and IoU threshold; recall also by volume of the lesion."""
    grouped: dict[tuple[str, str], list[Any]] = {}
    for case in cases:
        for key, match in case.matches.items():
            grouped.setdefault(key, []).append(match)
    rows = []
    for (decoder, label), matches in grouped.items():
        # A case without any lesion has no match of its own but counts as a case.
        num_cases = len({case.case_id for case in cases if decoder in case.sha256})
        for place, threshold in enumerate(IOU_THRESHOLDS):
            shared = {"label": label, "label_name": names[label], "decoder": decoder, "iou_threshold": threshold}
            pooled = vars(count_detection(matches, place)) | {"num_cases": num_cases}
            pooled["false_positives_per_case"] = pooled["fp"] / num_cases
            rows.append({**shared, "volume_bin": "all", **pooled})
            for part in recall_by_volume(matches, place):
                rows.append({**shared, "num_cases": num_cases, **vars(part)})
    return rows


def calibration_rows(
    cases: Sequence[CaseScores], names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of calibration.csv (pooled, and per case) and of reliability.csv (pooled)."""
    pooled: dict[str, CalibrationCounts] = {}
    rows, bins = [], []
    for case in cases:
        for temperature, counts in case.calibration.items():
            rows += _measures("case", case.case_id, temperature, counts)
            pooled[temperature] = pooled[temperature] + counts if temperature in pooled else counts
    for temperature, counts in pooled.items():
        rows = _measures("pooled", "", temperature, counts) + rows
        for index, name in enumerate(names, start=1):
            for part in counts.reliability(index):
                bins.append({"label": str(index), "label_name": name, "temperature": temperature, **vars(part)})
    return rows, bins


def _measures(scope: str, case_id: str, temperature: str, counts: CalibrationCounts) -> list[dict[str, Any]]:
    values = {
        "ece": counts.ece(), "foreground_ece": counts.foreground_ece(), "class_ece": counts.class_ece(),
        "brier": counts.brier(), "nll": counts.nll(),
    }  # fmt: skip
    place = {"scope": scope, "case_id": case_id, "temperature": temperature}
    return [{**place, "measure": name, "value": value} for name, value in values.items()]


def expected_rows(scores: pandas.DataFrame, expected: pandas.DataFrame) -> pandas.DataFrame:
    """Expected beside real score, of the metric that the decoder was told."""
    if expected.empty or scores.empty:
        return pandas.DataFrame()
    metric = np.where(expected["unit"] == "slice", "slice_" + expected["metric"], expected["metric"])
    real = scores[["case_id", *KEYS, "decoder", "metric", "value"]].rename(columns={"value": "real_score"})
    table = expected.assign(metric=metric).merge(real, on=["case_id", "label", "decoder", "metric"])
    shown = ["metric", "expected_score", "real_score", "expected_volume_ml", "temperature"]
    return table[["case_id", *KEYS, "decoder", *shown]]


def quality_rows(expected: pandas.DataFrame) -> list[dict[str, Any]]:
    """How well expected scores foretell real ones, per label and decoder."""
    rows = []
    for (label, label_name, decoder), part in expected.groupby([*KEYS, "decoder"], sort=False):
        judged = judge_quality(
            part["expected_score"].to_numpy(), part["real_score"].to_numpy(), failure_below=FAILURE_BELOW
        )
        rows.append({"label": label, "label_name": label_name, "decoder": decoder, **vars(judged),
                     "failure_below": FAILURE_BELOW})  # fmt: skip
    return rows
