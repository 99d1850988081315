"""Charts of scores, distances, volumes and lesions."""

from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankseg_rma.report.charts.base import (
    MAX_ARMS,
    MAX_PANELS,
    MAX_ROWS,
    Arm,
    LogRange,
    Panel,
    arms_of,
    chart,
    describe_cut,
    find_number,
    labels_of,
    log_range,
    make_legend_panels,
    make_panels,
    mark_size,
    name_axis,
    put_count,
    put_legend,
    read_panels,
    rows_of,
    scale_of,
    scatter_panel,
    score_limits,
    shorten,
    write_number,
)
from rankseg_rma.report.wording import NONE, score_of
from rankseg_rma.tables.frames import Tables


def _draw_quantiles(tables: Tables, metric: str) -> Figure | None:
    """Rows of quantiles over the dots of cases, one per decoder, grouped by label; distances on a logarithmic axis."""
    part = rows_of(tables.scores, metric=metric) if len(tables.scores) else tables.scores
    drawn, note = read_panels(tables, part, "value", "value", (20, MAX_ARMS))
    if not drawn:
        return None
    score, count = score_of(metric), sum(len(panel.series) for panel in drawn)
    figure = Figure(figsize=(6.4, 0.3 * count + 0.2 * len(drawn) + 1.3), layout="constrained")
    axes, y, ticks, arms = figure.subplots(), 0.0, [], {}
    everything = scale_of(score) * np.concatenate([panel.values[0] for panel in drawn])
    scale = log_range(everything) if score.unit == "mm" else None
    for panel in drawn:
        ticks.append(y + (len(panel.series) - 1) / 2)
        for arm, (values, _) in panel.series.items():
            arms[arm] = _draw_strip(axes, y, arm, scale_of(score) * values, scale)
            y += 1
        y += 0.7
    put_count(axes, -0.8, "n")
    axes.set_yticks(ticks, [shorten(panel.name, 22) for panel in drawn])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(y - 1, -0.6), xlabel=name_axis(score) + note)
    axes.set_xlim(score_limits(everything, score))
    if scale:
        scale.apply(axes, axes.xaxis)
    figure.legend(arms.values(), [arm.text for arm in arms], loc="outside upper center", ncols=min(3, len(arms)))
    return figure


def _draw_strip(axes: Axes, y: float, arm: Arm, values: Any, scale: LogRange | None) -> Any:
    """One row: dots of the cases, lines from 5 to 95 and from 25 to 75 %, how many; returns the median's mark."""
    place = scale.place if scale else np.asarray
    # As a bitmap where there are many: each mark of an SVG takes some bytes.
    look: dict[str, Any] = {"s": mark_size(len(values)) / 2, "alpha": 0.45, "rasterized": len(values) > 200}
    jitter = 0.5 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)  # even, and the same every time
    axes.scatter(place(values), y + jitter, color=arm.colour, linewidth=0, **look)
    low, left, middle, right, high = place(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    axes.plot([low, high], [y, y], color="0.15", linewidth=1)
    axes.plot([left, right], [y, y], color="0.15", linewidth=3.5, solid_capstyle="butt")
    put_count(axes, y, len(values))
    return axes.plot(middle, y, arm.marker, color=arm.colour, markersize=7, markeredgecolor="black")[0]


chart(
    "score_quantiles",
    "Spread of the score over cases",
    "Dots are cases. The thin line holds the middle 90 % of them, the thick one the middle half, the large mark is the "
    "median; n is the number of cases with a score.",
)(lambda tables: _draw_quantiles(tables, tables.metric))


chart(
    "surface",
    "Distance between the surfaces (HD95)",
    "Dots are cases: 95 % of the surfaces lie within this distance of each other, so less is better. The thick line "
    "holds the middle half of the cases, the large mark is the median. Cases with an empty mask have no distance.",
)(lambda tables: _draw_quantiles(tables, "hd95_mm"))


@chart(
    "volumes",
    "Predicted and reference volume",
    "Each mark is one case; on the line both volumes are equal. CCC is 1 for perfect agreement. Volumes of 0 mL cannot "
    "stand on such an axis and are drawn at its edge, behind the dotted line.",
)
def draw_volumes(tables: Tables) -> Figure | None:
    """Predicted over reference volume on logarithmic axes, a panel per label, decoders and "expected" as marks."""
    drawn, note = read_panels(tables, tables.volumes, "reference_ml", "prediction_ml", (MAX_PANELS, MAX_ARMS))
    if not drawn:
        return None

    def describe(label: str, decoder: str) -> str:
        return "CCC " + write_number(find_number(tables.agreement, "ccc", label=label, decoder=decoder), ".3f")

    figure, panels = make_legend_panels(drawn)
    for axes, panel in zip(panels, drawn, strict=True):
        scale = log_range(panel.values)
        scatter_panel(axes, panel, scale.place, describe)
        axes.plot([scale.low, scale.high], [scale.low, scale.high], color="0.6", linewidth=1, zorder=0)
        scale.apply(axes, axes.xaxis)
        scale.apply(axes, axes.yaxis)
        axes.set_box_aspect(1)
    figure.supxlabel("Reference volume, mL" + note)
    figure.supylabel("Predicted volume, mL")
    return figure


def _draw_bland_altman(tables: Tables, unit: str) -> Figure | None:
    """Difference over mean of the volumes, in mL or in percent of the mean: rows are labels, columns decoders."""
    frame = tables.volumes
    if unit == "percent" and len(frame):
        # Of a mean of 0 mL there are no percent.
        frame = frame[frame["reference_ml"] + frame["prediction_ml"] > 0]
    drawn, note = read_panels(tables, frame, "reference_ml", "prediction_ml", (MAX_ROWS, 3))
    if not drawn:
        return None
    arms = [arm for arm in arms_of(tables, frame) if any(arm in panel.series for panel in drawn)]
    figure = Figure(figsize=(max(4.6, 3.0 * len(arms)), 2.4 * len(drawn) + 0.5), layout="constrained")
    grid = figure.subplots(len(drawn), len(arms), squeeze=False, sharex="row", sharey="row")
    for line, panel in zip(grid, drawn, strict=True):
        for axes, arm in zip(line, arms, strict=True):
            if arm in panel.series:
                _draw_limits(axes, panel, arm, unit, tables.agreement)
            else:
                axes.remove()
        if unit == "percent":  # last, because removing a panel resets the ticks of those that share them
            axes = line[arms.index(next(iter(panel.series)))]
            log_range(panel.values.mean(axis=0)).apply(axes, axes.xaxis)
    figure.supxlabel("Mean of predicted and reference volume, mL" + note)
    figure.supylabel("Predicted − reference, " + ("mL" if unit == "ml" else "% of their mean"))
    return figure


def _draw_limits(axes: Axes, panel: Panel, arm: Arm, unit: str, agreement: pandas.DataFrame) -> None:
    """Differences over means, with bias and limits of agreement as lines and in words."""
    difference, mean = np.diff(panel.series[arm], axis=0)[0], panel.series[arm].mean(axis=0)
    if unit == "percent":
        difference = 100 * difference / mean
    look: dict[str, Any] = {"s": mark_size(len(mean)), "color": arm.colour, "marker": arm.marker, "linewidth": 0}
    axes.scatter(mean, difference, alpha=0.7, **look)
    axes.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    lines = {f"bias_{unit}": "-", f"loa_low_{unit}": "--", f"loa_high_{unit}": "--"}
    values = [find_number(agreement, column, label=panel.label, decoder=arm.name) for column in lines]
    for value, line in zip(values, lines.values(), strict=True):
        if np.isfinite(value):
            axes.axhline(value, color="black", linewidth=1, linestyle=line)
    largest = max((abs(value) for value in values if np.isfinite(value)), default=0)
    style = f"+z.{0 if largest >= 100 else 1 if largest >= 10 else 2}f"
    bias, low, high = (write_number(value, style) for value in values)
    limits = f"{low} to {high} {'mL' if unit == 'ml' else '%'}" if np.isfinite(values[1]) else NONE
    axes.set_title(f"{shorten(panel.name, 16)} · {arm.text}\nbias {bias}, limits {limits}")


chart(
    "bland_altman",
    "Error of the volume in mL",
    "Each mark is one case: how far the predicted volume lies above or below the reference. The solid line is the mean "
    "error (bias); 95 % of cases are expected between the dashed limits of agreement.",
)(lambda tables: _draw_bland_altman(tables, "ml"))


chart(
    "bland_altman_percent",
    "Error of the volume in percent",
    "The same in percent of the mean of both volumes, so that small structures count as much as large ones: "
    "−200 % means that nothing was predicted, +200 % that the reference is empty.",
)(lambda tables: _draw_bland_altman(tables, "percent"))


@chart(
    "lesion_recall",
    "Lesions found, by their size",
    "Bars are the share of the reference's lesions that were found, by volume; n is the number of lesions. Read it "
    "with the false positives in the legend: finding more lesions is no gain when more are invented.",
)
def draw_lesion_recall(tables: Tables) -> Figure | None:
    """Recall by volume bin and decoder at IoU > 0 and > 0.1; a row per label."""
    if tables.detection.empty:
        return None
    arms = arms_of(tables, tables.detection)
    part = tables.detection.astype({"iou_threshold": np.float64, "recall": np.float64})
    part = part[part["iou_threshold"].isin([0.0, 0.1]) & part["decoder"].isin([arm.name for arm in arms[:MAX_ARMS]])]
    labels = labels_of(part[np.isfinite(part["recall"])])
    shown = [*labels][:MAX_ROWS]
    cells = [(label, *cell) for label in shown for cell in rows_of(part, label=label).groupby("iou_threshold")]
    if not cells:
        return None
    figure, panels = make_panels(len(cells), 2, (4.5, 2.9), 0.3)
    for axes, (label, threshold, rows) in zip(panels, cells, strict=True):
        _draw_recall(axes, [arm for arm in arms if arm.name in set(rows["decoder"])], rows)
        put_legend(axes, f"{shorten(labels[label], 22)}, found at IoU > {threshold:g}")
    note = describe_cut(shown, len(labels), "labels") + describe_cut(arms[:MAX_ARMS], len(arms), "decoders")
    figure.supxlabel("Volume of the lesion" + note)
    figure.supylabel("Lesions found, %")
    return figure


def _draw_recall(axes: Axes, arms: list[Arm], rows: pandas.DataFrame) -> None:
    """Grouped bars: a group per volume bin and one for all lesions, a bar per decoder."""
    bins = [*(key for key in dict.fromkeys(rows["volume_bin"]) if key != "all"), "all"]
    width = 0.8 / len(arms)
    for place, arm in enumerate(arms):
        mine = rows_of(rows, decoder=arm.name)
        recall = 100 * mine.set_index("volume_bin")["recall"].reindex(bins).to_numpy()
        at = np.flatnonzero(np.isfinite(recall))
        false = write_number(find_number(mine, "false_positives_per_case", volume_bin="all"), ".2f")
        look: dict[str, Any] = {"color": arm.colour, "hatch": arm.hatch, "edgecolor": "0.2", "linewidth": 0.6}
        text = f"{arm.text}: {false} false positives per case"
        bars = axes.bar(at + (place + 0.5) * width - 0.4, recall[at], width=0.92 * width, label=text, **look)
        axes.bar_label(bars, ["" if value else "0" for value in recall[at]], fontsize=8)  # a bar of 0 cannot be seen
    counts = rows.groupby("volume_bin")["n_reference"].max().reindex(bins).fillna(0).astype(int)
    axes.set_xticks(range(len(bins)), [f"{key}\nn = {counts[key]}" for key in bins])
    axes.set(ylim=(0, 103), xlim=(-0.6, len(bins) - 0.4), yticks=range(0, 101, 25))
