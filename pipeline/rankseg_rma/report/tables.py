"""Tables from tidy rows: MONAI's three files, nnU-Net's summary, and what a page shows."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from rankseg_rma.evaluation import METRIC_TABLE


def write_monai_files(folder: Path, rows: Sequence[Mapping[str, Any]], predictions: Path) -> list[Path]:
    """Write metrics.csv, mean_dice_raw.csv and mean_dice_summary.csv as MONAI's MetricsSaver does.

    Classes are the foreground labels in order; file names are those of the predictions.
    """
    from monai.handlers.utils import write_metrics_reports

    table = (
        pandas.DataFrame(list(rows)).query("metric == 'dice'").pivot(index="case_id", columns="label", values="value")
    )
    values = table.to_numpy(np.float64)
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean over nothing is NaN, as MONAI writes it
        write_metrics_reports(
            folder,
            images=[str(predictions / case_id) for case_id in table.index],
            metrics={"mean_dice": float(np.nanmean(values))},
            metric_details={"mean_dice": values},
            summary_ops="*",
        )
    return [folder / name for name in ("metrics.csv", "mean_dice_raw.csv", "mean_dice_summary.csv")]


def summarise(
    rows: Sequence[Mapping[str, Any]], predictions: Mapping[str, Path], references: Mapping[str, Path]
) -> dict[str, Any]:
    """nnU-Net's summary.json: metric_per_case, mean per label, foreground_mean; the empty policy is named beside."""
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        if row["metric"] not in ("dice", "iou"):
            continue
        entry = cases.setdefault(row["case_id"], {}).setdefault(str(row["label"]), {})
        entry["Dice" if row["metric"] == "dice" else "IoU"] = row["value"]
        entry.update(TP=row["tp"], FP=row["fp"], FN=row["fn"], n_pred=row["n_prediction"], n_ref=row["n_reference"])
    labels = sorted({label for entry in cases.values() for label in entry}, key=int)
    names = ("Dice", "IoU", "TP", "FP", "FN", "n_pred", "n_ref")

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    means = {
        label: {name: mean([entry[label][name] for entry in cases.values() if label in entry]) for name in names}
        for label in labels
    }
    return {
        "empty_policy": rows[0]["empty_policy"],
        "metric_per_case": [
            {"reference_file": str(references[c]), "prediction_file": str(predictions[c]), "metrics": entry}
            for c, entry in cases.items()
        ],
        "mean": means,
        "foreground_mean": {name: mean([means[label][name] for label in labels]) for name in names},
    }


def format_interval(low: float, high: float) -> str:
    """Interval in points, or why there is none."""
    return "too few cases" if np.isnan(low) else f"{100 * low:+z.2f} to {100 * high:+z.2f}"


def format_paired(paired: pandas.DataFrame, metrics: Sequence[str]) -> list[dict[str, str]]:
    """Rows of the comparison that people read: scores in points (0 to 100), interval, and cases that moved."""
    rows = []
    for row in paired[paired["metric"].isin(list(metrics))].to_dict("records"):
        rows.append({
            "label": str(row["label_name"]),
            "score": str(row["metric"]).replace("_", " "),
            "decoder": f"{row['first']} -> {row['second']}",
            "first": f"{100 * row['mean_first']:.2f}",
            "second": f"{100 * row['mean_second']:.2f}",
            "difference": f"{100 * row['mean']:+z.2f}",
            "interval": format_interval(row["low"], row["high"]),
            "moved": f"{row['improved']} / {row['unchanged']} / {row['worsened']}",
            "extremes": f"{100 * row['smallest']:+z.1f} to {100 * row['largest']:+z.1f}",
            "cases": str(row["num_pairs"]),
        })  # fmt: skip
    return rows


def describe_scores(rows: Sequence[Mapping[str, Any]], paired: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for a terminal: the comparison of decoders, or the means of a single one."""
    if paired:
        table = pandas.DataFrame(format_paired(pandas.DataFrame(list(paired)), list(METRIC_TABLE)))
        table = table.rename(columns={"moved": "better / same / worse", "extremes": "worst to best case"})
        return table.to_string(index=False).splitlines()
    if not rows:
        return ["no case could be scored"]
    means = pandas.DataFrame(list(rows)).groupby(["decoder", "label_name", "metric"], sort=False)["value"].mean()
    return means.round(4).reset_index().to_string(index=False).splitlines()
