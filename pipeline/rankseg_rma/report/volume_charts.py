"""Charts of quantiles, volumes, distances, lesions and probabilities; they enter `rankseg_rma.report.charts.CHARTS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rankseg_rma.evaluation.quality import risk_coverage
from rankseg_rma.report import charts
from rankseg_rma.report.charts import Arm, Panel, chart, describe_cut, make_panels, rows_of, shorten
from rankseg_rma.report.content import Tables
from rankseg_rma.report.wording import NONE, score_of

MAX_ARMS, MAX_PANELS, MAX_ROWS = 5, 9, 4
TEMPERATURES = {
    "none": ("without temperature", {"color": "#D55E00", "marker": "s", "linestyle": "--"}),
    "stored": ("with the stored temperature", {"color": "#0072B2", "marker": "o", "linestyle": "-"}),
}


@dataclass(frozen=True)
class LogRange:
    """A logarithmic axis from low to high; zeros, when there are any, stand at ``zero`` behind a dotted line."""

    low: float
    high: float
    zero: float | None

    def place(self, values: Any) -> Any:
        """Positions of non-negative values."""
        return np.where(np.asarray(values) > 0, values, self.zero or self.low)

    def apply(self, axes: Axes, axis: Axis) -> None:
        """Set scale, limits and ticks of the x or y axis."""
        ratio, side = self.high / self.low, axis.axis_name
        steps = (1,) if ratio > 200 else (1, 3) if ratio > 25 else (1, 2, 5)
        powers = np.arange(np.floor(np.log10(self.low)), np.ceil(np.log10(self.high)) + 1)
        ticks = [tick for tick in np.outer(10.0**powers, steps).ravel() if self.low <= tick <= self.high]
        ticks = ticks[:: -(-len(ticks) // 6)]
        zeros = [] if self.zero is None else [self.zero]
        axes.set(**{f"{side}scale": "log", f"{side}lim": ((self.zero or self.low) / ratio**0.04, self.high)})
        axis.set_ticks([*zeros, *ticks], ["0"] * len(zeros) + [f"{tick:.10g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())
        if zeros:
            (axes.axvline if side == "x" else axes.axhline)(self.low, color="0.6", linewidth=0.8, linestyle=":")


def log_range(values: Any) -> LogRange:
    """The range of some non-negative values; at least a factor of 5 wide, so that it holds two ticks."""
    positive = values[values > 0] if (values > 0).any() else np.ones(1)
    low, high = float(positive.min()), float(positive.max())
    widen = 1.15 * max(1.0, np.sqrt(5 * low / high))
    low, high = low / widen, high * widen
    return LogRange(low, high, low / (high / low) ** 0.08 if (values == 0).any() else None)


def read_panels(
    tables: Tables, frame: pandas.DataFrame, x: str, y: str, most: tuple[int, int]
) -> tuple[list[Panel], str]:
    """Two columns of a table for the first labels and decoders (at most ``most``), and a note on what is left out."""
    if frame.empty:
        return [], ""
    arms, panels = charts.arms_of(tables, frame), []
    shown = arms[: most[1]]
    for label, name in charts.labels_of(frame).items():
        rows = rows_of(frame, label=label)
        pairs = {arm: rows_of(rows, decoder=arm.name)[[x, y]].to_numpy(np.float64).T for arm in shown}
        series = {arm: both[:, np.isfinite(both).all(axis=0)] for arm, both in pairs.items()}
        panels.append(Panel(label, name, {arm: both for arm, both in series.items() if both.size}))
    panels = [panel for panel in panels if panel.series]
    note = describe_cut(panels[: most[0]], len(panels), "labels")
    return panels[: most[0]], note + describe_cut(shown, len(arms), "decoders")


def write_number(value: float, style: str) -> str:
    """A number as text with a real minus; a dash where it is not defined."""
    return format(value, style).replace("-", "−") if np.isfinite(value) else NONE


def make_legend_panels(drawn: list[Panel]) -> tuple[Figure, list[Axes]]:
    """Square panels with room for the longest legend above them."""
    return make_panels(len(drawn), 3, (3.0, 2.8 + 0.17 * max(len(panel.series) for panel in drawn)), 0.3)


def _scatter(axes: Axes, panel: Panel, place: Callable[[Any], Any], describe: Callable[[str, str], str]) -> None:
    """Marks of every decoder, and the legend with what is to be said of each label and decoder."""
    for arm, both in panel.series.items():
        look = {"marker": arm.marker, "color": arm.colour, "alpha": 0.7, "linewidth": 0}
        text = f"{arm.text}: {describe(panel.label, arm.name)}"
        axes.scatter(*place(both), s=charts.mark_size(both.shape[1]), label=text, **look)
    charts.put_legend(axes, panel.title)


def _draw_quantiles(tables: Tables, metric: str) -> Figure | None:
    """Rows of quantiles over the dots of cases, one per decoder, grouped by label; distances on a logarithmic axis."""
    part = rows_of(tables.scores, metric=metric) if len(tables.scores) else tables.scores
    drawn, note = read_panels(tables, part, "value", "value", (20, MAX_ARMS))
    if not drawn:
        return None
    score, count = score_of(metric), sum(len(panel.series) for panel in drawn)
    figure = Figure(figsize=(6.4, 0.3 * count + 0.2 * len(drawn) + 1.3), layout="constrained")
    axes, y, ticks, arms = figure.subplots(), 0.0, [], {}
    everything = charts.scale_of(score) * np.concatenate([panel.values[0] for panel in drawn])
    scale = log_range(everything) if score.unit == "mm" else None
    for panel in drawn:
        ticks.append(y + (len(panel.series) - 1) / 2)
        for arm, (values, _) in panel.series.items():
            arms[arm] = _draw_strip(axes, y, arm, charts.scale_of(score) * values, scale)
            y += 1
        y += 0.7
    charts.put_count(axes, -0.8, "n")
    axes.set_yticks(ticks, [shorten(panel.name, 22) for panel in drawn])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(y - 1, -0.6), xlabel=charts.name_axis(score) + note)
    axes.set_xlim(charts.score_limits(everything, score))
    if scale:
        scale.apply(axes, axes.xaxis)
    figure.legend(arms.values(), [arm.text for arm in arms], loc="outside upper center", ncols=min(3, len(arms)))
    return figure


def _draw_strip(axes: Axes, y: float, arm: Arm, values: Any, scale: LogRange | None) -> Any:
    """One row: dots of the cases, lines from 5 to 95 and from 25 to 75 %, how many; returns the median's mark."""
    place = scale.place if scale else np.asarray
    look = {"s": charts.mark_size(len(values)) / 2, "alpha": 0.45, "rasterized": len(values) > 200}
    jitter = 0.5 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)  # even, and the same every time
    axes.scatter(place(values), y + jitter, color=arm.colour, linewidth=0, **look)
    low, left, middle, right, high = place(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    axes.plot([low, high], [y, y], color="0.15", linewidth=1)
    axes.plot([left, right], [y, y], color="0.15", linewidth=3.5, solid_capstyle="butt")
    charts.put_count(axes, y, len(values))
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
        return "CCC " + write_number(charts.find_number(tables.agreement, "ccc", label=label, decoder=decoder), ".3f")

    figure, panels = make_legend_panels(drawn)
    for axes, panel in zip(panels, drawn, strict=True):
        scale = log_range(panel.values)
        _scatter(axes, panel, scale.place, describe)
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
        frame = frame[frame["reference_ml"] + frame["prediction_ml"] > 0]
    drawn, note = read_panels(tables, frame, "reference_ml", "prediction_ml", (MAX_ROWS, 3))
    if not drawn:
        return None
    arms = [arm for arm in charts.arms_of(tables, frame) if any(arm in panel.series for panel in drawn)]
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
    look = {"s": charts.mark_size(len(mean)), "color": arm.colour, "marker": arm.marker, "linewidth": 0}
    axes.scatter(mean, difference, alpha=0.7, **look)
    axes.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    lines = {f"bias_{unit}": "-", f"loa_low_{unit}": "--", f"loa_high_{unit}": "--"}
    values = [charts.find_number(agreement, column, label=panel.label, decoder=arm.name) for column in lines]
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
    arms = charts.arms_of(tables, tables.detection)
    part = tables.detection.astype({"iou_threshold": np.float64, "recall": np.float64})
    part = part[part["iou_threshold"].isin([0.0, 0.1]) & part["decoder"].isin([arm.name for arm in arms[:MAX_ARMS]])]
    labels = charts.labels_of(part[np.isfinite(part["recall"])])
    shown = [*labels][:MAX_ROWS]
    cells = [(label, *cell) for label in shown for cell in rows_of(part, label=label).groupby("iou_threshold")]
    if not cells:
        return None
    figure, panels = make_panels(len(cells), 2, (4.5, 2.9), 0.3)
    for axes, (label, threshold, rows) in zip(panels, cells, strict=True):
        _draw_recall(axes, [arm for arm in arms if arm.name in set(rows["decoder"])], rows)
        charts.put_legend(axes, f"{shorten(labels[label], 22)}, found at IoU > {threshold:g}")
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
        false = write_number(charts.find_number(mine, "false_positives_per_case", volume_bin="all"), ".2f")
        look = {"color": arm.colour, "hatch": arm.hatch, "edgecolor": "0.2", "linewidth": 0.6}
        text = f"{arm.text}: {false} false positives per case"
        bars = axes.bar(at + (place + 0.5) * width - 0.4, recall[at], width=0.92 * width, label=text, **look)
        axes.bar_label(bars, ["" if value else "0" for value in recall[at]], fontsize=8)  # a bar of 0 cannot be seen
    counts = rows.groupby("volume_bin")["n_reference"].max().reindex(bins).fillna(0).astype(int)
    axes.set_xticks(range(len(bins)), [f"{key}\nn = {counts[key]}" for key in bins])
    axes.set(ylim=(0, 103), xlim=(-0.6, len(bins) - 0.4), yticks=range(0, 101, 25))


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
    labels, column = charts.labels_of(part), "temperature_name" if "temperature_name" in part else "temperature"
    if not labels:
        return None
    shown, handles = [*labels.items()][:6], {}
    columns, rows = min(3, len(shown)), -(-len(shown) // 3)
    figure = Figure(figsize=(max(4.6, 3.0 * columns), 3.7 * rows + 0.6), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
    for axes in (*grid[::2].flat[len(shown) :], *grid[1::2].flat[len(shown) :]):
        axes.remove()
    for upper, lower, (label, name) in zip(grid[::2].flat, grid[1::2].flat, shown, strict=False):
        part_of_label = rows_of(part, label=label).sort_values("low")
        for key, mine in part_of_label.groupby(column):
            text, look = TEMPERATURES.get(key, (shorten(key), {"color": "black", "marker": "D", "linestyle": ":"}))
            (handle,) = upper.plot(100 * mine["confidence"], 100 * mine["frequency"], markersize=4, **look)
            handles.setdefault(text + _calibration_text(tables.calibration, key), handle)
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
    found = {
        text: charts.find_number(calibration, "value", measure=measure, **wanted) for text, measure in errors.items()
    }
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
        mae, rank = (
            charts.find_number(tables.quality, key, label=label, decoder=decoder) for key in ("mae", "spearman")
        )
        return f"MAE {write_number(100 * mae, '.1f')}, Spearman {write_number(rank, 'z.2f')}"

    figure, panels = make_legend_panels(drawn)
    for axes, panel in zip(panels, drawn, strict=True):
        _scatter(axes, panel, lambda values: 100 * values, describe)
        charts.put_square(axes, 100 * panel.values, score_of(metric))
    figure.supxlabel(f"Real {charts.name_axis(score_of(metric))}{note}")
    figure.supylabel(f"Expected {charts.name_axis(score_of(metric))}")
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
            aurc = charts.find_number(tables.quality, "aurc", label=panel.label, decoder=arm.name)
            look = {"color": arm.colour, "linestyle": arm.line, "marker": arm.marker if len(real) <= 30 else ""}
            text = f"{arm.text}: AURC {write_number(100 * aurc, '.1f')}"
            axes.plot(100 * coverage, 100 * risk, markersize=4, label=text, **look)
            axes.axhline(100 * (1 - real.mean()), color=arm.colour, linestyle=":", linewidth=1, zorder=0)
        axes.set(xlim=(0, 103), ylim=(0, None))
        charts.put_legend(axes, panel.title)
    figure.supxlabel("Cases kept, %" + note)
    figure.supylabel("Mean loss of the kept, points")
    return figure
