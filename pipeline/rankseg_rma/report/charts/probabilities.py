"""Charts of calibration and of the score foretold without a reference."""

from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure

from rankseg_rma.report.charts.base import (
    MAX_PANELS,
    Panel,
    chart,
    describe_cut,
    find_number,
    labels_of,
    log_range,
    make_legend_panels,
    name_axis,
    put_legend,
    put_square,
    read_panels,
    rows_of,
    scatter_panel,
    shorten,
    write_number,
)
from rankseg_rma.report.wording import score_of
from rankseg_rma.statistics.quality import risk_coverage
from rankseg_rma.tables.frames import Tables

TEMPERATURES = {
    "none": ("without temperature", {"color": "#D55E00", "marker": "s", "linestyle": "--"}),
    "stored": ("with the stored temperature", {"color": "#0072B2", "marker": "o", "linestyle": "-"}),
}


@chart(
    "reliability",
    "Do the probabilities keep their promise?",
    "Of the voxels given a probability of 70 %, about 70 % should belong to the structure: marks on the line. Below it "
    "the network is too sure, above it not sure enough. The small panels count the voxels behind each mark.",
)
def draw_reliability(tables: Tables) -> Figure | None:
    """Frequency over confidence per label, with and without temperature, above the voxels of each bin."""
    if tables.reliability.empty:
        return None
    part = tables.reliability[(tables.reliability["count"] > 0) & np.isfinite(tables.reliability["frequency"])]
    labels, column = labels_of(part), "temperature_name" if "temperature_name" in part else "temperature"
    if not labels:
        return None
    shown = [*labels.items()][:6]
    handles: dict[str, Any] = {}
    columns, rows = min(3, len(shown)), -(-len(shown) // 3)
    figure = Figure(figsize=(max(4.6, 3.0 * columns), 3.7 * rows + 0.6), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
    for axes in (*grid[::2].flat[len(shown) :], *grid[1::2].flat[len(shown) :]):
        axes.remove()
    for upper, lower, (label, name) in zip(grid[::2].flat, grid[1::2].flat, shown, strict=False):
        part_of_label = rows_of(part, label=label).sort_values("low")
        for key, mine in part_of_label.groupby(column):
            text, look = TEMPERATURES.get(
                str(key), (shorten(str(key)), {"color": "black", "marker": "D", "linestyle": ":"})
            )
            (handle,) = upper.plot(100 * mine["confidence"], 100 * mine["frequency"], markersize=4, **look)
            handles.setdefault(text + _calibration_text(tables.calibration, str(key)), handle)
            lower.plot(50 * (mine["low"] + mine["high"]), mine["count"], drawstyle="steps-mid", **look | {"marker": ""})
        upper.plot([0, 100], [0, 100], color="0.6", linewidth=1, zorder=0)
        upper.set(xlim=(-3, 103), ylim=(-3, 103), title=shorten(name, 24), xticklabels=[])
        lower.set(xlim=(-3, 103))
        log_range(part_of_label["count"].to_numpy(np.float64)).apply(lower, lower.yaxis)
    for axes, text in zip(grid[:, 0], ["Observed frequency, %", "Voxels"] * rows, strict=True):
        axes.set_ylabel(text)
    figure.legend(handles.values(), handles, loc="outside upper center")
    figure.supxlabel("Predicted probability, %" + describe_cut(shown, len(labels), "labels"))
    return figure


def _calibration_text(calibration: pandas.DataFrame, key: str) -> str:
    """Pooled calibration errors with a temperature, where the table has them."""
    errors, wanted = {"ECE": "ece", "foreground ECE": "foreground_ece"}, {"scope": "pooled", "temperature": key}
    found = {text: find_number(calibration, "value", measure=measure, **wanted) for text, measure in errors.items()}
    return "".join(f", {text} {100 * value:.2f} %" for text, value in found.items() if np.isfinite(value))


def _expected_of(tables: Tables) -> tuple[list[Panel], str, str]:
    """Real and expected score of both decoders, a note on what is cut, and the metric that was foretold."""
    frame, metric = tables.expected, tables.metric
    if "metric" in frame and len(frame):
        metric = metric if metric in set(frame["metric"]) else frame["metric"].iloc[0]
        frame = rows_of(frame, metric=metric)
    if len(frame):
        frame = frame[frame["decoder"].isin([tables.first, tables.second])]
    return *read_panels(tables, frame, "real_score", "expected_score", (MAX_PANELS, 2)), metric


@chart(
    "expected",
    "Score foretold without a reference",
    "Each mark is one case: the score that the probabilities promise, over the score against the reference. Above the "
    "line the promise was too high. MAE is the mean error in points; Spearman is 1 when cases are ranked perfectly.",
)
def draw_expected(tables: Tables) -> Figure | None:
    """Expected over real score per label for both decoders."""
    drawn, note, metric = _expected_of(tables)
    if not drawn:
        return None

    def describe(label: str, decoder: str) -> str:
        mae, rank = (find_number(tables.quality, key, label=label, decoder=decoder) for key in ("mae", "spearman"))
        return f"MAE {write_number(100 * mae, '.1f')}, Spearman {write_number(rank, 'z.2f')}"

    figure, panels = make_legend_panels(drawn)
    for axes, panel in zip(panels, drawn, strict=True):
        scatter_panel(axes, panel, lambda values: 100 * values, describe)
        put_square(axes, 100 * panel.values, score_of(metric))
    figure.supxlabel(f"Real {name_axis(score_of(metric))}{note}")
    figure.supylabel(f"Expected {name_axis(score_of(metric))}")
    return figure


@chart(
    "risk_coverage",
    "What sorting by the expected score is worth",
    "Cases with the highest expected score are kept, the others go to a reader: the line is the mean loss (100 minus "
    "the score) of those kept, dotted that of all cases. A useful forecast stays well below; AURC is the line's mean.",
)
def draw_risk_coverage(tables: Tables) -> Figure | None:
    """Mean loss of the cases kept over the share kept, per label for both decoders."""
    drawn, note, _ = _expected_of(tables)
    if not drawn:
        return None
    figure, panels = make_legend_panels(drawn)
    for axes, panel in zip(panels, drawn, strict=True):
        for arm, (real, expected) in panel.series.items():
            coverage, risk = risk_coverage(expected, real)
            aurc = find_number(tables.quality, "aurc", label=panel.label, decoder=arm.name)
            look = {"color": arm.colour, "linestyle": arm.line, "marker": arm.marker if len(real) <= 30 else ""}
            text = f"{arm.text}: AURC {write_number(100 * aurc, '.1f')}"
            axes.plot(100 * coverage, 100 * risk, markersize=4, label=text, **look)
            axes.axhline(100 * (1 - real.mean()), color=arm.colour, linestyle=":", linewidth=1, zorder=0)
        axes.set(xlim=(0, 103), ylim=(0, None))
        put_legend(axes, panel.title)
    figure.supxlabel("Cases kept, %" + note)
    figure.supylabel("Mean loss of the kept, points")
    return figure
