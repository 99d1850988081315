"""Decoder against decoder over the cases of a cohort: rows of paired.csv and strata.csv from the rows of cases.csv."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas

from rankseg_rma.datasets import patient_of
from rankseg_rma.metrics import find_metric
from rankseg_rma.metrics.metric import metric_of_unit
from rankseg_rma.statistics.differences import adjust_holm, compare_pairs, stratify
from rankseg_rma.tables.columns_of_evaluation import MACRO

NUM_RESAMPLES, SEED = 10_000, 0
# Stratum of the cases that the dividing number is not defined for.
WITHOUT = "none in the reference"
_UNCERTAINTY, EMPTY_MASK = "predicted uncertainty (1 - expected score)", "empty mask"
# A case has moved beyond 1, 5 or 10 points of a fraction, or as many units (mm, mL, lesions) of other metrics.
_MARGINS = (1.0, 5.0, 10.0)


def margins_of(unit: str) -> tuple[float, float, float]:
    """Margins of a metric in its own unit: points of a fraction are hundredths."""
    scale = 0.01 if unit == "1" else 1.0
    return (_MARGINS[0] * scale, _MARGINS[1] * scale, _MARGINS[2] * scale)


def optimised_metric(expected: pandas.DataFrame) -> str:
    """Metric that RMA was told to optimise, from the rows of inference.csv; empty when it is not known."""
    if expected.empty:
        return ""
    told = expected[["metric", "score_over"]].drop_duplicates()
    return metric_of_unit(str(told.iloc[0, 0]), str(told.iloc[0, 1])) if len(told) == 1 else ""


@dataclass(frozen=True)
class PairingRule:
    """How decoders are compared.

    Attributes:
        arms: names of the decoders; the others are compared with the first.
        cluster: patient of a case, as for `patient_of`; None: every case alone.
        averaged: labels whose mean is a case's overall score; empty for none.
        optimised: the metric that RMA was told to maximise; empty when it is not known.
        partial: some case is missing, failed or left out.
    """

    arms: Sequence[str]
    cluster: str | None
    averaged: Sequence[str]
    optimised: str
    partial: bool


def pair_rows(scores: pandas.DataFrame, rule: PairingRule) -> list[dict[str, Any]]:
    """Every later decoder against the first, per label and metric, and for the mean over labels.

    Only cases where both scores are defined are paired; see `_mean_over_labels` for the mean over labels. Holm's
    correction is over the labels of one metric and pair of decoders.
    """
    rows: list[dict[str, Any]] = []
    first = rule.arms[0]
    for second in rule.arms[1:]:
        for metric_name, part in scores.groupby("metric", sort=False):
            metric = find_metric(str(metric_name))
            if not metric.better:
                continue
            found = []
            for (label, label_name), table in _tables_of(part, first, second, rule.averaged).items():
                row = _compare(table, first, second, rule.cluster, metric.better, metric.unit)
                if row:
                    found.append({
                        "label": label, "label_name": label_name, "metric": metric.name, "unit": metric.unit,
                        "better": metric.better, "optimised": metric.name == rule.optimised, "first": first,
                        "second": second, **row, "empty_policy": part["empty_policy"].iloc[0],
                        "partial": rule.partial,
                    })  # fmt: skip
            _add_holm(found)
            rows += found
    return rows


def _tables_of(
    part: pandas.DataFrame, first: str, second: str, averaged: Sequence[str]
) -> dict[tuple[str, str], pandas.DataFrame]:
    """Per label a frame of case by decoder (NaN where undefined), and the mean over labels last."""
    wide = part.pivot(index=["label", "label_name", "case_id"], columns="decoder", values="value")
    # A decoder without any score has no column yet.
    wide = wide.reindex(columns=[first, second])
    order = part[["label", "label_name"]].drop_duplicates().itertuples(index=False, name=None)
    tables = {key: wide.loc[key] for key in order}
    entering = [label for label, _ in tables if label in set(averaged)]
    if len(entering) > 1:
        tables[MACRO, MACRO] = _mean_over_labels(part[part["label"].isin(entering)], first, second)
    return tables


def _mean_over_labels(part: pandas.DataFrame, first: str, second: str) -> pandas.DataFrame:
    """Mean of a case over its labels, for both decoders.

    A label that the reference lacks and that is defined for neither decoder does not count. Where a label is undefined
    for any other reason, such as a structure that one decoder missed, so is the mean: it must not improve for that.
    """
    wide = part.pivot(index=["case_id", "label"], columns="decoder", values="value").reindex(columns=[first, second])
    in_reference = part.groupby(["case_id", "label"])["n_reference"].max() > 0
    skipped = wide.isna().all(axis=1) & ~in_reference.reindex(wide.index)
    counted = wide[~skipped]
    spoilt = counted.isna().any(axis=1).groupby("case_id").any()
    means = counted.groupby("case_id").mean()
    means[spoilt.reindex(means.index)] = np.nan
    # With the cases that have no mean, so that they are counted as left out.
    return means.reindex(part["case_id"].drop_duplicates().sort_values())


def _compare(
    table: pandas.DataFrame, first: str, second: str, cluster: str | None, better: str, unit: str
) -> dict[str, Any] | None:
    if not table.notna().all(axis=1).any():
        return None
    # Resampling draws cases by their place, which must not depend on the order of the files.
    table = table.sort_index()
    patients = None if cluster is None else [patient_of(str(case_id), cluster) for case_id in table.index]
    margins = margins_of(unit)
    found = compare_pairs(
        table[first], table[second], clusters=patients, better=better, margins=margins, num_resamples=NUM_RESAMPLES,
        seed=SEED,
    )  # fmt: skip
    difference = (table[second] - table[first]).dropna()
    extremes = {"smallest_case": difference.idxmin(), "largest_case": difference.idxmax()}
    return {**vars(found), **extremes, "margin": margins[0]}


def _add_holm(rows: list[dict[str, Any]]) -> None:
    # The mean over labels is a question of its own, and none of the several that are corrected for.
    labels = [row for row in rows if row["label"] != MACRO]
    for name in ("p_permutation", "p_wilcoxon"):
        for row in rows:
            row[f"{name}_holm"] = row[name]
        for row, value in zip(labels, adjust_holm([row[name] for row in labels]), strict=True):
            row[f"{name}_holm"] = float(value)


def strata_rows(
    scores: pandas.DataFrame,
    lesions: pandas.DataFrame,
    expected: pandas.DataFrame,
    metric_name: str,
    rule: PairingRule,
) -> list[dict[str, Any]]:
    """The comparison within tertiles of reference volume, number of reference lesions and predicted uncertainty.

    Cases whose reference lacks the label are a stratum of their own. The predicted uncertainty is 1 minus the expected
    score of the second decoder's mask (inference.csv), whatever the reference; it is not defined for an empty mask.
    """
    part, metric, rows = scores[scores["metric"] == metric_name], find_metric(metric_name), []
    first = rule.arms[0]
    for second in rule.arms[1:]:
        for (label, label_name), table in _tables_of(part, first, second, ()).items():
            mine = part[(part["label"] == label) & (part["decoder"] == first)].set_index("case_id")
            for stratum_by, values in _strata_values(mine, lesions, expected, (first, second), label).items():
                values = values.reindex(table.index)
                names = np.array(stratify(values.to_numpy(np.float64)))
                without = EMPTY_MASK if stratum_by == _UNCERTAINTY else WITHOUT
                names = np.where(names == "undefined", without, names)
                for stratum in (without, "low", "middle", "high"):
                    inside = table[names == stratum]
                    row = _compare(inside, first, second, rule.cluster, metric.better, metric.unit)
                    if row:
                        limits = values[inside.index]
                        rows.append({
                            "stratum_by": stratum_by, "stratum": stratum, "from": float(limits.min()),
                            "to": float(limits.max()), "label": label, "label_name": label_name,
                            "metric": metric_name, "first": first, "second": second, **row,
                            "empty_policy": part["empty_policy"].iloc[0],
                        })  # fmt: skip
    return rows


def _strata_values(
    mine: pandas.DataFrame, lesions: pandas.DataFrame, expected: pandas.DataFrame, pair: tuple[str, str], label: str
) -> Mapping[str, pandas.Series]:
    """A number per case for each way of dividing the cohort; NaN where it is not defined."""
    present = mine["n_reference"] > 0
    found = {"reference volume (mL)": (mine["n_reference"] * mine["voxel_ml"]).where(present)}
    if not lesions.empty:
        inside = (lesions["label"] == label) & (lesions["side"] == "reference") & (lesions["decoder"] == pair[0])
        count = lesions[inside].groupby("case_id").size().reindex(mine.index)
        # One number in all cases divides nothing.
        if count.nunique() > 1:
            found["reference lesions"] = count.where(present)
    if not expected.empty:
        told = expected[(expected["label"] == label) & (expected["decoder"] == pair[1])].set_index("case_id")
        if len(told):
            found[_UNCERTAINTY] = 1 - told["expected_score"]
    return found
