"""One self-contained HTML page: what changed, by how much, and what it looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from jinja2 import Environment, PackageLoader

from rankseg_rma import __version__
from rankseg_rma.report.figures import COLOURS, SlicePicture, draw_paired, draw_slices, to_data_url
from rankseg_rma.report.tables import format_interval, format_paired


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        title: heading.
        first: name of the decoder that the other is compared with.
        second: name of the other decoder.
        scores: rows of cases.csv.
        paired: rows of paired.csv.
        expected: rows of inference.csv, for the expected scores and volumes.
        pictures: slices of the cases that changed most.
        window: grey values shown as black and white.
        failed: cases that failed, with the reason.
    """

    title: str
    first: str
    second: str
    scores: pandas.DataFrame
    paired: pandas.DataFrame
    expected: pandas.DataFrame
    pictures: Sequence[SlicePicture]
    window: tuple[float, float]
    failed: Mapping[str, str]


def render_page(content: PageContent) -> str:
    """The page as HTML; all text from files is escaped, pictures are inside."""
    environment = Environment(loader=PackageLoader("rankseg_rma.report"), autoescape=True)
    first, second = content.first, content.second
    return environment.get_template("page.html").render(
        title=content.title,
        version=__version__,
        first=first,
        second=second,
        verdict=_verdict(content.paired, first, second),
        comparison=format_paired(content.paired, ["dice", "iou"]),
        scatter=to_data_url(draw_paired(content.scores, first, second, "dice")),
        pictures=[
            {"title": picture.title, "url": to_data_url(draw_slices([picture], content.window, columns=1))}
            for picture in content.pictures
        ],
        cases=_case_rows(content.scores, content.expected, first, second),
        failed=content.failed,
        colours=COLOURS,
        temperature=_temperature(content.expected),
    )


def _verdict(paired: pandas.DataFrame, first: str, second: str) -> str:
    row = paired[(paired["metric"] == "dice") & (paired["label"] == 0) & (paired["second"] == second)].iloc[0]
    means = f"{100 * row['mean_first']:.1f} with {first}, {100 * row['mean_second']:.1f} with {second}"
    interval = f"95 % interval {format_interval(row['low'], row['high'])}"
    if row["low"] <= 0 <= row["high"]:
        interval += ", which includes no difference"
    moved = f"{row['improved']} improved, {row['unchanged']} unchanged, {row['worsened']} worsened"
    return (
        f"Mean Dice over labels: {means}; difference {100 * row['mean']:+.2f} points ({interval}). "
        f"Of {row['num_pairs']} cases {moved} by more than a point."
    )


def _temperature(expected: pandas.DataFrame) -> str:
    if expected.empty or (expected["temperature_source"] == "none").all():
        return "Probabilities were taken as they are: no temperature is known."
    row = expected.iloc[0]
    source = row["temperature_source"]
    return f"RMA decoded at temperature {row['temperature']:.3f} ({source}); argmax does not depend on it."


def _case_rows(scores: pandas.DataFrame, expected: pandas.DataFrame, first: str, second: str) -> list[dict[str, str]]:
    """One row per case and label, as text: Dice of both decoders, expected Dice, volumes."""
    dice = scores[scores["metric"] == "dice"]
    table = dice.pivot(index=["case_id", "label", "label_name"], columns="decoder", values="value").reset_index()
    status = dice[dice["decoder"] == second].set_index(["case_id", "label"])["status"]
    table = table.merge(expected.drop(columns="label_name"), on=["case_id", "label"], how="left")
    rows = []
    for row in table.to_dict("records"):
        difference = 100 * (row.get(second, np.nan) - row.get(first, np.nan))
        rows.append({
            "case_id": row["case_id"], "label": row["label_name"],
            "first": _number(row.get(first), "z.3f"), "second": _number(row.get(second), "z.3f"),
            "difference": _number(difference, "+z.1f"),
            "kind": "better" if difference > 1 else "worse" if difference < -1 else "",
            "expected": _number(row.get(f"expected_score_{second}"), "z.3f"),
            "volume_first": _number(row.get(f"volume_{first}_ml"), "z.1f"),
            "volume_second": _number(row.get(f"volume_{second}_ml"), "z.1f"),
            "volume_expected": _number(row.get("expected_volume_ml"), "z.1f"),
            "status": str(status.get((row["case_id"], row["label"]), "missing")).replace("_", " "),
        })  # fmt: skip
    return rows


def _number(value: Any, style: str) -> str:
    """A number as text; a dash where there is none."""
    return "-" if value is None or not np.isfinite(value) else format(value, style)
