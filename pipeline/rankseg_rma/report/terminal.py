"""Tables from tidy rows: MONAI's three files, and what a terminal shows."""

from collections.abc import Sequence

import pandas

from rankseg_rma.report.wording import score_of, write_interval
from rankseg_rma.tables.frames import Tables


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
