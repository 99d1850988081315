"""Files as other programs write them: KiTS23, LiTS, nnU-Net and MONAI."""

import csv
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas

from rankseg_rma.evaluation.protocols import KITS23_REGIONS
from rankseg_rma.files.writing import replacing, write_text
from rankseg_rma.metrics.lits import LitsCase, summarise_lits


def write_monai_files(folder: Path, scores: pandas.DataFrame, predictions: Path) -> list[Path]:
    """Write metrics.csv, mean_dice_raw.csv and mean_dice_summary.csv as MONAI's MetricsSaver does.

    Classes are the foreground labels in order; file names are those of the predictions.
    """
    from monai.handlers.utils import write_metrics_reports

    dice = scores[scores["metric"] == "dice"]
    # `pivot` sorts labels as text, 10 before 2.
    table = dice.pivot(index="case_id", columns="label", values="value")[list(dict.fromkeys(dice["label"]))]
    values = table.to_numpy(np.float64)
    means: dict[str, Any] = {"mean_dice": float(np.nanmean(values))}
    folder.mkdir(parents=True, exist_ok=True)
    names = ("metrics.csv", "mean_dice_raw.csv", "mean_dice_summary.csv")
    # Inside the folder, because files are renamed within one file system only.
    with TemporaryDirectory(dir=folder, prefix=".partial") as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean over nothing is NaN, as MONAI writes it
        write_metrics_reports(
            temporary,
            images=[str(predictions / case_id) for case_id in table.index],
            metrics=means,
            metric_details={"mean_dice": values},
            summary_ops="*",
        )
        for name in names:
            os.replace(Path(temporary) / name, folder / name)
    return [folder / name for name in names]


def write_kits23(path: Path, scores: pandas.DataFrame) -> Path:
    """Write the challenge's evaluation.csv: Dice and surface Dice of the three regions, 8 decimals, averages last."""
    columns = {f"Dice_{region.name}": (region.key, "dice") for region in KITS23_REGIONS}
    columns |= {f"SD_{region.name}": (region.key, f"nsd_{region.tolerances_mm[0]:.12g}mm") for region in KITS23_REGIONS}
    wide = scores.pivot(index="case_id", columns=["label", "metric"], values="value").sort_index()
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        # csv's own line ends are those of Windows.
        writer.writerow(["caseID", *columns])
        for case_id, row in wide.iterrows():
            writer.writerow([case_id, *(f"{row[key]:.8f}" for key in columns.values())])
        writer.writerow(["average", *(f"{wide[key].mean():.8f}" for key in columns.values())])
    return path


def write_lits(folder: Path, cases: Sequence[LitsCase]) -> list[Path]:
    """Write the challenge's figures: lits.json, and lits.csv with one line; corrected figures are named so."""
    summary = summarise_lits(cases)
    # JSON knows no NaN.
    text = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in summary.items()}
    write_text(folder / "lits.json", json.dumps(text, indent=1))
    with replacing(folder / "lits.csv") as temporary:
        pandas.DataFrame([summary]).to_csv(temporary, index=False, encoding="utf-8")
    return [folder / "lits.json", folder / "lits.csv"]


def write_nnunet(
    path: Path,
    scores: pandas.DataFrame,
    averaged: Sequence[str],
    predictions: Mapping[str, Path],
    references: Mapping[str, Path],
) -> Path:
    """Write nnU-Net's summary.json: metric_per_case, mean per label or region, foreground_mean.

    The foreground mean is over ``averaged``, or over all where that is empty. Keys are "1" and "(1, 2)" as nnU-Net's
    loader expects them; means over cases leave out NaN, as nnU-Net's do. The empty policy is named beside.
    """
    names = {"dice": "Dice", "iou": "IoU"}
    per_case: dict[str, dict[str, dict[str, Any]]] = {}
    for row in scores[scores["metric"].isin(list(names))].to_dict("records"):
        key = _nnunet_key(row["label"])
        entry = per_case.setdefault(str(row["case_id"]), {}).setdefault(key, {})
        entry[names[row["metric"]]] = row["value"]
        counts = {"FN": row["fn"], "FP": row["fp"], "TN": row["n_voxels"] - row["tp"] - row["fp"] - row["fn"]}
        counts |= {"TP": row["tp"], "n_pred": row["n_prediction"], "n_ref": row["n_reference"]}
        entry.update({name: int(value) for name, value in counts.items()})
    keys = list(dict.fromkeys(key for entry in per_case.values() for key in entry))
    columns = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")
    mean = {
        key: {name: _nanmean([entry[key][name] for entry in per_case.values() if key in entry]) for name in columns}
        for key in keys
    }
    foreground = [_nnunet_key(label) for label in averaged] or keys
    summary = {
        # Not `_nanmean`: as in nnU-Net, a label without any value leaves no mean.
        "foreground_mean": {name: float(np.mean([mean[key][name] for key in foreground])) for name in columns},
        "mean": mean,
        "metric_per_case": [
            {"metrics": entry, "prediction_file": str(predictions[c]), "reference_file": str(references[c])}
            for c, entry in per_case.items()
        ],
        "empty_policy": str(scores["empty_policy"].iloc[0]),
    }
    write_text(path, json.dumps(summary, indent=1))
    return path


def _nnunet_key(label: str) -> str:
    return label if "+" not in label else f"({', '.join(label.split('+'))})"


def _nanmean(values: Sequence[float]) -> float:
    array = np.asarray(values, np.float64)
    # NumPy warns of a mean over nothing.
    return float(np.nanmean(array)) if np.isfinite(array).any() else float("nan")
