"""The words of `advise`."""

from collections.abc import Sequence

import numpy as np
import pandas

from rankseg_rma.report.wording import describe_doubt, write_interval
from rankseg_rma.tables.columns_of_evaluation import MACRO


def word_advice(
    advice: pandas.DataFrame, scores: pandas.DataFrame, temperatures: Sequence[float], metric: str, num_patients: int
) -> list[str]:
    """The answer in plain lines: per unit the mean over labels, then the labels, then the cases that lose."""
    low, high = min(temperatures), max(temperatures)
    lines = [
        f"{scores['case_id'].nunique()} cases of {num_patients} patients; temperature {low:.3f} to {high:.3f} over the "
        "folds (below 1: the network is too unsure, above 1: too sure); points of "
        f"{metric}, difference to argmax, 95 % interval"
    ]
    for unit in dict.fromkeys(advice["score_over"]):
        mine = advice[advice["score_over"] == unit]
        labels = list(dict.fromkeys(mine["label"]))
        overall = mine[mine["label"] == (MACRO if MACRO in labels else labels[0])].set_index("arm")
        lines += ["", f"{unit}: {_verdict(overall, unit)}"]
        for row in mine.to_dict("records"):
            interval = write_interval(row["low"], row["high"], "1")
            lines.append(
                f"  {row['label_name']:<12.12} {row['arm']:<15} {100 * row['mean_first']:6.2f} -> "
                f"{100 * row['mean_second']:6.2f}  {100 * row['mean']:+z6.2f} ({interval})  "
                f"better / same / worse {row['improved']} / {row['unchanged']} / {row['worsened']}"
            )
        lines += _losers(scores[scores["score_over"] == unit], metric)
    return lines


def _verdict(overall: pandas.DataFrame, unit: str) -> str:
    rows = overall.to_dict("index")
    best, plain, threshold = (rows[name] for name in ("rma", "rma_untempered", "threshold"))
    size = f"{100 * best['mean']:+z.2f} points, {write_interval(best['low'], best['high'], '1')}"
    if np.isnan(best["low"]):
        return f"too few patients for an answer ({size})"
    doubt = describe_doubt(best)
    if best["high"] < 0 and not doubt:
        text = f"keep argmax: RMA loses ({size})"
    elif best["low"] <= 0 or doubt:
        size += doubt if best["low"] > 0 or best["high"] < 0 else ""
        text = f"keep argmax unless you have other reasons: no clear difference ({size})"
    else:
        text = f"use RMA with the temperature ({size})"
        if threshold["mean"] > best["mean"]:
            interval = write_interval(threshold["low"], threshold["high"], "1")
            text += f"; one tuned threshold per label is ahead of it ({100 * threshold['mean']:+z.2f}, {interval})"
    if plain["high"] < 0:
        text += f"; without a temperature RMA would lose ({100 * plain['mean']:+z.2f})"
    return text


def _losers(scores: pandas.DataFrame, metric: str) -> list[str]:
    """The five cases and labels that lose most, beyond a point."""
    wide = scores.pivot(index=["case_id", "label_name"], columns="decoder", values="value")
    # Stable: of equal losses in the order of the case ids.
    loss = (wide["rma"] - wide["argmax"]).dropna().sort_values(kind="stable")
    loss = loss[loss < -0.01]
    if loss.empty:
        return ["  no case loses more than a point"]
    worst = loss.head(5).rename("loss").reset_index().to_dict("records")
    shown = ", ".join(f"{row['case_id']} {row['label_name']} {100 * row['loss']:+.1f}" for row in worst)
    return [f"  {len(loss)} lose more than a point, most: {shown}"]
