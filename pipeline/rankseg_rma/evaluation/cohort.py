"""Tables over a cohort, from the rows of its cases: volumes, detection, calibration and expected scores."""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.decoder.arms import DECODERS
from rankseg_rma.evaluation import paired
from rankseg_rma.evaluation.case import CaseScores
from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.protocols import averaged_keys
from rankseg_rma.evaluation.structures import ScorePlan, Structure
from rankseg_rma.files.names import match_cases
from rankseg_rma.metrics import IOU_THRESHOLDS, Overlap, recist_sum_mm
from rankseg_rma.metrics.calibration import CalibrationCounts
from rankseg_rma.metrics.lesions import count_detection, recall_by_volume
from rankseg_rma.metrics.metric import metric_of_unit
from rankseg_rma.metrics.overlap import dice_of, iou_of
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.statistics.agreement import agree_volumes, compare_burden
from rankseg_rma.statistics.quality import judge_quality
from rankseg_rma.tables.frames import Tables
from rankseg_rma.tables.store import frame_of, read_rows

KEYS = ["label", "label_name"]
_WIDE_KEYS = ["case_id", "label", "label_name", "decoder", "status", "empty_policy", "tp", "fp", "fn", "n_reference",
              "n_prediction"]  # fmt: skip
# Derived from the cases, in this order: agreement needs volumes, quality needs expected.
COHORT_TABLES = ("summary", "paired", "strata", "volumes", "agreement", "detection", "recist", "calibration",
                 "reliability", "expected", "quality")  # fmt: skip
# Dice below this counts as a failed segmentation when expected scores are judged.
FAILURE_BELOW = 0.7


def read_expected(arms: Mapping[str, Path], known: Collection[str] = ()) -> pandas.DataFrame:
    """What `infer` or `decode` expected of each mask, from the inference.csv beside each decoder's folder.

    Columns: case_id, label, decoder, expected_score, expected_volume_ml, metric, score_over, temperature. Empty where
    no folder has one. Ids of cases are those that are ``known``, see `match_cases`.
    """
    found = []
    for name, folder in arms.items():
        file = folder.resolve().parent / "inference.csv"
        column, volume = (f"{kind}_{folder.resolve().name}" for kind in ("expected_score", "volume"))
        if folder.resolve().name not in DECODERS or not file.is_file():
            continue
        table = read_rows(file)
        if column in table:
            ids = match_cases({case_id: case_id for case_id in table["case_id"]}, known)
            table["case_id"] = table["case_id"].map({told: case_id for case_id, told in ids.items()})
            # The expected score of an empty mask says nothing: both empty counts 1, one empty 0.
            score = table[column].where(table[f"{volume}_ml"] > 0)
            table = table.assign(decoder=name, expected_score=score, label=table["label"].astype(str))
            found.append(table[["case_id", "label", "decoder", "expected_score", "expected_volume_ml", "metric",
                                "score_over", "temperature"]])  # fmt: skip
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
            # A single case has no spread; 0 would claim that there is none.
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


def volume_rows(
    scores: pandas.DataFrame, told: pandas.DataFrame, arms: Sequence[str], notes: list[str]
) -> pandas.DataFrame:
    """Volumes of each mask in mL; the rows of decoder "expected" hold the sum of probabilities.

    That sum is of the run of the first of ``arms`` that has one; a note says when another run's differs.
    """
    # The row of every metric repeats the counts: one row a mask is enough.
    one = scores.drop_duplicates(["case_id", "label", "decoder"])
    table = one[["case_id", *KEYS, "decoder"]].assign(
        reference_ml=one["n_reference"] * one["voxel_ml"], prediction_ml=one["n_prediction"] * one["voxel_ml"]
    )
    sums = {} if told.empty else dict(list(told.groupby("decoder", sort=False)))
    order = [name for name in dict.fromkeys(arms) if name in sums]
    if order:
        chosen = sums[order[0]].set_index(["case_id", "label"])["expected_volume_ml"]
        others = [name for name in order[1:] if not _same_sums(chosen, sums[name])]
        if others:
            notes.append(f"the sum of probabilities shown is of {order[0]}'s run; others differ: {', '.join(others)}")
        model = table.drop_duplicates(["case_id", "label"]).merge(chosen.reset_index(), on=["case_id", "label"])
        model = model.assign(decoder="expected", prediction_ml=model.pop("expected_volume_ml"))
        table = pandas.concat([table, model], ignore_index=True)
    difference = table["prediction_ml"] - table["reference_ml"]
    # Undefined and not infinite where the reference is empty.
    percent = 100 * difference / table["reference_ml"].where(table["reference_ml"] > 0)
    return table.assign(difference_ml=difference, difference_percent=percent)


def _same_sums(chosen: pandas.Series, other: pandas.DataFrame) -> bool:
    mine = other.set_index(["case_id", "label"])["expected_volume_ml"]
    # Two runs of one network differ by rounding only.
    return bool(np.allclose(mine, chosen.reindex(mine.index), rtol=1e-6, equal_nan=True))


def recist_rows(lesions: pandas.DataFrame, structures: Sequence[Structure]) -> list[dict[str, Any]]:
    """Sum of the largest axial diameters per case and decoder, of the named single labels that are lesions.

    Every label counts as an organ of its own; regions would count a lesion twice, and labels without a name may be
    organs.
    """
    wanted = [one.key for one in structures if one.is_lesion and len(one.members) == 1 and one.name != one.key]
    lesions = lesions[lesions["label"].isin(wanted)] if len(lesions) else lesions
    rows = []
    for (case_id, decoder), part in lesions.groupby(["case_id", "decoder"], sort=False) if len(lesions) else ():
        sums = [
            recist_sum_mm(mine["diameter_mm"].tolist(), mine["label"].tolist())
            for mine in (part[part["side"] == "reference"], part[part["side"] == "prediction"])
        ]
        percent = 100 * (sums[1] - sums[0]) / sums[0] if sums[0] else float("nan")
        rows.append({"case_id": case_id, "decoder": decoder, "reference_mm": sums[0], "prediction_mm": sums[1],
                     "difference_mm": sums[1] - sums[0], "difference_percent": percent})  # fmt: skip
    return rows


def agreement_rows(volumes: pandas.DataFrame, burden: pandas.DataFrame) -> list[dict[str, Any]]:
    """Agreement of volumes with the reference per label and decoder, and of the tumour burden where there is one."""
    rows = []
    for (label, label_name, decoder), part in volumes.groupby([*KEYS, "decoder"], sort=False) if len(volumes) else ():
        row = {"label": label, "label_name": label_name, "decoder": decoder}
        row |= vars(agree_volumes(part["reference_ml"].to_numpy(), part["prediction_ml"].to_numpy()))
        mine = burden[(burden["label"] == label) & (burden["decoder"] == decoder)] if not burden.empty else burden
        if not mine.empty:
            error = compare_burden(mine["burden_reference"].to_numpy(), mine["burden_prediction"].to_numpy())
            row |= {f"burden_{name}": value for name, value in vars(error).items() if name != "num_left_out"}
        rows.append(row)
    return rows


def detection_rows(cases: Sequence[CaseScores], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Detection pooled over cases, per decoder, label and IoU threshold; recall also by volume of the lesion."""
    grouped: dict[tuple[str, str], list[Any]] = {}
    for case in cases:
        for decoder, arm in case.arms.items():
            for label, match in arm.matches.items():
                grouped.setdefault((decoder, label), []).append(match)
    rows = []
    for (decoder, label), matches in grouped.items():
        # A case without any lesion has no match of its own but counts as a case.
        num_cases = len([case for case in cases if decoder in case.arms])
        for place, threshold in enumerate(IOU_THRESHOLDS):
            shared = {"label": label, "label_name": names[label], "decoder": decoder, "iou_threshold": threshold}
            pooled = vars(count_detection(matches, place)) | {"num_cases": num_cases}
            pooled["false_positives_per_case"] = pooled["fp"] / num_cases
            rows.append({**shared, "volume_bin": "all", **pooled})
            for part in recall_by_volume(matches, place):
                rows.append({**shared, "num_cases": num_cases, **vars(part)})
    return rows


def pool_calibration(cases: Sequence[CaseScores], failed: dict[str, str]) -> dict[str, CalibrationCounts]:
    """Counts of all cases by temperature; a case with another number of classes is left out and named."""
    pooled: dict[str, CalibrationCounts] = {}
    for case in cases:
        for temperature, counts in case.calibration.items():
            held = pooled.get(temperature)
            if held is not None and len(held.classes) != len(counts.classes):
                failed[f"probabilities/{case.case_id}"] = (
                    f"{len(counts.classes)} classes where the cases before have {len(held.classes)}"
                )
                continue
            pooled[temperature] = counts if held is None else held + counts
    return pooled


def calibration_rows(cases: Sequence[CaseScores], pooled: Mapping[str, CalibrationCounts]) -> list[dict[str, Any]]:
    """Calibration of all voxels pooled, and per case."""
    rows = []
    for temperature, counts in pooled.items():
        rows += _measures("pooled", "", temperature, counts)
    for case in cases:
        for temperature, counts in case.calibration.items():
            rows += _measures("case", case.case_id, temperature, counts)
    return rows


def reliability_rows(pooled: Mapping[str, CalibrationCounts], structures: Sequence[Structure]) -> list[dict[str, Any]]:
    """Frequency by probability of every foreground class, pooled over cases."""
    names = {one.members[0]: one.name for one in structures if len(one.members) == 1}
    return [
        {"label": str(label), "label_name": names.get(label, str(label)), "temperature": temperature, **vars(part)}
        for temperature, counts in pooled.items()
        for label in range(1, len(counts.classes))
        for part in counts.reliability(label)
    ]


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
    metric = [metric_of_unit(*told) for told in zip(expected["metric"], expected["score_over"], strict=True)]
    real = scores[["case_id", *KEYS, "decoder", "metric", "value"]].rename(columns={"value": "real_score"})
    table = expected.assign(metric=metric).merge(real, on=["case_id", "label", "decoder", "metric"])
    shown = ["metric", "expected_score", "real_score", "expected_volume_ml", "temperature"]
    return table[["case_id", *KEYS, "decoder", *shown]]


def quality_rows(expected: pandas.DataFrame) -> list[dict[str, Any]]:
    """How well expected scores foretell real ones, per label and decoder."""
    rows: list[dict[str, Any]] = []
    if expected.empty:
        return rows
    for (label, label_name, decoder), part in expected.groupby([*KEYS, "decoder"], sort=False):
        judged = judge_quality(
            part["expected_score"].to_numpy(), part["real_score"].to_numpy(), failure_below=FAILURE_BELOW
        )
        rows.append({"label": label, "label_name": label_name, "decoder": decoder, **vars(judged)})
    return rows


@dataclass(frozen=True)
class ScoredCohort:
    """Cases that were scored, and what was asked of them.

    Attributes:
        results: per case.
        structures: labels and regions, in the order of the tables.
        arms: folder of each decoder.
        files: masks by decoder and case id.
        references: references by case id.
        missing: by decoder the case ids without a prediction; under "reference" those without a reference.
        options, plan: as for `evaluate_masks` and `score_case`.
    """

    results: Sequence[CaseScores]
    structures: Sequence[Structure]
    arms: Mapping[str, Path]
    files: Mapping[str, Mapping[str, Path]]
    references: Mapping[str, Path]
    missing: Mapping[str, Sequence[str]]
    options: EvaluationOptions
    plan: ScorePlan


def tables_of_cases(scored: ScoredCohort) -> Tables:
    """Everything that single cases hold; rows in the order of cases, decoders and labels."""
    names = list(scored.arms)
    second = names[1] if len(names) > 1 else names[0]
    place = {structure.key: number for number, structure in enumerate(scored.structures)}

    def gather(name: str, rows_of: Callable[[Any], Iterable[Mapping[str, Any]]]) -> pandas.DataFrame:
        return frame_of(name, [
            {"case_id": case.case_id, "decoder": decoder, **row}
            for case in scored.results for decoder in names if decoder in case.arms
            for row in sorted(rows_of(case.arms[decoder]), key=lambda row: place[row["label"]])
        ])  # fmt: skip

    return Tables(
        first=names[0], second=second, metric=scored.options.metric,
        scores=gather("cases.csv", lambda arm: arm.rows), slices=gather("slices.csv", lambda arm: arm.slices),
        lesions=gather("lesions.csv", lambda arm: arm.lesions), burden=gather("burden.csv", lambda arm: arm.burden),
        empty_references=gather("empty_references.csv", lambda arm: arm.empty_references),
    )  # fmt: skip


def widen_scores(scores: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of cases.csv with one row per case, label and decoder, and one column per metric."""
    if scores.empty:
        return pandas.DataFrame()
    metrics, place = list(dict.fromkeys(scores["metric"])), ["case_id", "decoder", "label"]
    wide = scores.pivot(index=_WIDE_KEYS, columns="metric", values="value")[metrics].reset_index()
    # `pivot` has sorted the rows; this brings back the order of cases and labels.
    return scores.drop_duplicates(place)[place].merge(wide, on=place)[[*_WIDE_KEYS, *metrics]]


def add_cohort_tables(tables: Tables, scored: ScoredCohort, partial: bool, outcome: Outcome) -> Tables:
    """Derive the tables of the whole cohort, in the order of `COHORT_TABLES`; a fault costs its own table only.

    Args:
        tables: what `tables_of_cases` gave.
        scored: the cases behind them.
        partial: some case is missing, failed or left out.
        outcome: gets faults and notes.
    """
    options, scores, names = scored.options, tables.scores, list(scored.arms)
    labels = {structure.key: structure.name for structure in scored.structures}
    told = outcome.attempt("inference.csv", lambda: read_expected(scored.arms, scored.references))
    told = pandas.DataFrame() if told is None else told
    averaged = averaged_keys(scored.structures, options.protocol)
    rule = paired.PairingRule(names, options.cluster, averaged, paired.optimised_metric(told), partial)
    pooled = outcome.attempt("calibration", lambda: pool_calibration(scored.results, outcome.failed)) or {}
    found: dict[str, Any] = {}
    derive: dict[str, Callable[[], Any]] = {
        "summary": lambda: summary_rows(scores),
        "paired": lambda: paired.pair_rows(scores, rule),
        "strata": lambda: paired.strata_rows(scores, tables.lesions, told, options.metric, rule),
        "volumes": lambda: volume_rows(scores, told, [tables.second, *names], outcome.notes),
        "agreement": lambda: agreement_rows(found["volumes"], tables.burden),
        "detection": lambda: detection_rows(scored.results, labels),
        "recist": lambda: recist_rows(tables.lesions, scored.structures),
        "calibration": lambda: calibration_rows(scored.results, pooled),
        "reliability": lambda: reliability_rows(pooled, scored.structures),
        "expected": lambda: expected_rows(scores, told),
        "quality": lambda: quality_rows(found["expected"]),
    }

    def make(name: str) -> pandas.DataFrame:
        return frame_of(f"{name}.csv", derive[name]())

    for name in COHORT_TABLES:
        frame = outcome.attempt(f"{name}.csv", functools.partial(make, name))
        found[name] = pandas.DataFrame() if frame is None else frame
    return replace(tables, **found)
