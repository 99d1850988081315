"""Tables from tidy rows: MONAI's three files, and what a terminal shows."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas

from rankseg_rma.report.content import Tables
from rankseg_rma.report.wording import score_of, write_interval


def write_monai_files(folder: Path, scores: pandas.DataFrame, predictions: Path) -> list[Path]:
    """Write metrics.csv, mean_dice_raw.csv and mean_dice_summary.csv as MONAI's MetricsSaver does.

    Classes are the foreground labels in order; file names are those of the predictions.
    """
    from monai.handlers.utils import write_metrics_reports

    dice = scores[scores["metric"] == "dice"]
    table = dice.pivot(index="case_id", columns="label", values="value")[list(dict.fromkeys(dice["label"]))]
    values = table.to_numpy(np.float64)
    folder.mkdir(parents=True, exist_ok=True)
    names = ("metrics.csv", "mean_dice_raw.csv", "mean_dice_summary.csv")
    with TemporaryDirectory(dir=folder, prefix=".partial") as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean over nothing is NaN, as MONAI writes it
        write_metrics_reports(
            temporary,
            images=[str(predictions / case_id) for case_id in table.index],
            metrics={"mean_dice": float(np.nanmean(values))},
            metric_details={"mean_dice": values},
            summary_ops="*",
        )
        for name in names:
            os.replace(Path(temporary) / name, folder / name)
    return [folder / name for name in names]


def format_paired(paired: pandas.DataFrame, metrics: Sequence[str]) -> list[dict[str, str]]:
    """Rows of the comparison that people read: fractions in points (0 to 100), interval, and cases that moved."""
    rows = []
    for row in paired[paired["metric"].isin(list(metrics))].to_dict("records"):
        score = score_of(str(row["metric"]))
        rows.append({
            "label": str(row["label_name"]),
            "score": f"{score.title}{score.suffix and ','}{score.suffix}",
            "decoder": f"{row['first']} -> {row['second']}",
            "first": score.text(row["mean_first"]),
            "second": score.text(row["mean_second"]),
            "difference": score.text(row["mean"], True),
            "interval": write_interval(row["low"], row["high"], score.unit),
            "moved": f"{row['improved']} / {row['unchanged']} / {row['worsened']}",
            "extremes": f"{score.text(row['smallest'], True)} to {score.text(row['largest'], True)}",
            "cases": str(row["num_pairs"]),
        })  # fmt: skip
    return rows


def describe_scores(tables: Tables) -> list[str]:
    """Lines for a terminal: the comparison of decoders, or the means of a single one; the files hold more scores."""
    if tables.scores.empty:
        return ["no case could be scored"]
    shown = (tables.metric, f"slice_{tables.metric}")
    if not tables.paired.empty:
        table = pandas.DataFrame(format_paired(tables.paired, shown))
        table = table.rename(columns={"moved": "better / same / worse", "extremes": "smallest to largest"})
        return table.to_string(index=False).splitlines()
    part = tables.scores[tables.scores["metric"].isin(shown)]
    means = part.groupby(["decoder", "label_name", "metric"], sort=False)["value"].mean()
    return means.round(4).reset_index().to_string(index=False).splitlines()
