"""The charts of an evaluation, drawn from its tables; matplotlib only, safe for colour-blind readers and grey print.

`CHARTS` lists them: the page, the folder of figures and the command that draws them go through it. Colour never stands
alone: decoders also differ by mark, line or hatching, labels by mark.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import pandas
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from rankseg_rma.checks import require_one_of
from rankseg_rma.report.content import Tables
from rankseg_rma.report.figures import COLOURS
from rankseg_rma.report.wording import MEAN, Score, describe_score

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "figure.labelsize": 9, "legend.fontsize": 8,
    "legend.title_fontsize": 9, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "hatch.linewidth": 0.7, "axes.formatter.useoffset": False, "svg.hashsalt": "rankseg-rma",
}  # fmt: skip
TICK_SIZE = 8
PNG_DPI = 110
_OTHER_COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#F0E442")
_OTHER_LINES = ("-.", (0, (5, 1)), (0, (1, 1)))
_LABEL_LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "D"))
_BETTER, _SAME, _WORSE = "#0072B2", "#B5B5B5", "#D55E00"


@dataclass(frozen=True)
class Chart:
    """A chart that can be drawn from an evaluation's tables.

    Attributes:
        name: key in `CHARTS` and stem of its file.
        title: heading.
        caption: how to read it, for a clinician.
        draw: from the tables to the figure; None where the tables hold nothing to draw.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Tables], Figure | None]


CHARTS: dict[str, Chart] = {}
_Draw = Callable[[Tables], Figure | None]


def chart(name: str, title: str, caption: str) -> Callable[[_Draw], _Draw]:
    """Enter a drawing function in `CHARTS`; it draws in the style of the report, whatever the reader's own settings."""

    def enter(draw: _Draw) -> _Draw:
        @wraps(draw)
        def styled(tables: Tables) -> Figure | None:
            with style.context(["default", STYLE]):
                figure = draw(tables)
            if figure is None:
                return None
            for text in figure.findobj(Text):
                text.set_parse_math(False)  # names come from data and may hold a "$"
            for axes in figure.axes:
                axes.tick_params(labelsize=TICK_SIZE)  # ticks are made late, outside the style
            return figure

        CHARTS[name] = Chart(name, title, caption, styled)
        return styled

    return enter


def figure_bytes(figure: Figure, format: str) -> bytes:
    """The file of a figure: the same bytes for the same figure, whenever and wherever it is drawn.

    Args:
        figure: from `Chart.draw`.
        format: "png" or "svg".
    Raises:
        ValueError: another format.
    """
    require_one_of("figure_bytes", "format", format, ("png", "svg"))
    metadata = {"Software": None} if format == "png" else {"Date": None, "Creator": None}
    buffer = io.BytesIO()
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+")  # a name in a script that the font lacks
        figure.savefig(buffer, format=format, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def shorten(name: Any, width: int = 18) -> str:
    """A name on one line of at most ``width`` characters; the middle goes, because ends tell names apart.

    Example:
        >>> shorten("nnunet_3d_fullres_fold0_rma"), shorten("liver")
        ('nnunet_3d…old0_rma', 'liver')
    """
    text = re.sub(r"\s+", " ", "".join(letter if letter.isprintable() else " " for letter in str(name))).strip()
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


@dataclass(frozen=True)
class Arm:
    """How a decoder looks, in every chart."""

    name: str
    colour: str
    marker: str
    line: Any
    hatch: str

    @property
    def text(self) -> str:
        return shorten(self.name, 14)


_FIXED_ARMS = {
    "argmax": Arm("argmax", COLOURS["argmax"], "o", "-", ""),
    "rma": Arm("rma", COLOURS["rma"], "s", "--", "///"),
    "expected": Arm("expected", "#CC79A7", "^", ":", "..."),
}


def arms_of(tables: Tables, frame: pandas.DataFrame) -> list[Arm]:
    """Decoders of a table: the two that are compared, then "expected", then others."""
    names = [tables.first, tables.second, "expected", *tables.scores.get("decoder", ()), *frame["decoder"]]
    others = [name for name in dict.fromkeys(names) if name not in _FIXED_ARMS]
    looks = _FIXED_ARMS | {
        name: Arm(name, _OTHER_COLOURS[k % 6], "DvPX<>*"[k % 7], _OTHER_LINES[k % 3], ("xx", "\\\\\\", "--")[k % 3])
        for k, name in enumerate(others)
    }
    return [looks[name] for name in dict.fromkeys(names) if name in set(frame["decoder"])]


def labels_of(frame: pandas.DataFrame) -> dict[str, str]:
    """Names of a table's labels by label, in their order, without the mean over labels."""
    rows = frame[["label", "label_name"]].astype(str).drop_duplicates("label").to_dict("records")
    return {row["label"]: row["label_name"] for row in rows if MEAN not in (row["label"], row["label_name"])}


def mean_rows(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Rows of the mean over labels."""
    return frame[frame["label"].astype(str).eq(MEAN) | frame["label_name"].eq(MEAN)]


def rows_of(frame: pandas.DataFrame, **wanted: Any) -> pandas.DataFrame:
    """Rows whose columns hold these values, compared as text."""
    keep = np.ones(len(frame), bool)
    for column, value in wanted.items():
        keep &= (frame[column].astype(str) == str(value)).to_numpy()
    return frame[keep]


@dataclass(frozen=True)
class Panel:
    """Two numbers of every case of a label by decoder, (2, case) each, where both are defined."""

    label: str
    name: str
    series: dict[Arm, Any]

    @property
    def title(self) -> str:
        sizes = sorted(both.shape[1] for both in self.series.values())
        return f"{shorten(self.name, 22)} (n = {' to '.join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))})"

    @property
    def values(self) -> Any:
        return np.concatenate(list(self.series.values()), axis=1)


def find_number(frame: pandas.DataFrame, column: str, **wanted: Any) -> float:
    """A number of the first row that fits; NaN without one."""
    rows = rows_of(frame, **wanted) if {column, *wanted} <= set(frame) else frame.iloc[:0]
    return float(rows[column].iloc[0]) if len(rows) else float("nan")


def make_panels(count: int, columns: int, size: tuple[float, float], extra_height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels of about ``size`` inches, row by row."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(4.6, size[0] * columns), size[1] * rows + extra_height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def put_legend(axes: Axes, title: str) -> None:
    """A panel's title and, below it, its legend; above the panel, where it covers no mark."""
    options = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "borderaxespad": 0.2, "handletextpad": 0.5}
    legend = axes.legend(title=title, labelspacing=0.25, **options)
    for mark in legend.legend_handles:
        if isinstance(mark, PathCollection):
            mark.set_sizes([30])


def put_count(axes: Axes, y: float, text: Any) -> None:
    """A number of cases beside a row of a panel."""
    axes.text(1.02, y, str(text), transform=axes.get_yaxis_transform(), va="center", fontsize=8)


def put_square(axes: Axes, values: Any, score: Score) -> None:
    """Make both axes the same, with the line of equality: fractions from a multiple of 10 points to 100."""
    limits = score_limits(values, score)
    axes.plot(limits, limits, color="0.6", linewidth=1, zorder=0)
    axes.set(xlim=limits, ylim=limits, box_aspect=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def score_limits(values: Any, score: Score) -> tuple[float, float]:
    """Ends of an axis that holds these values: fractions end at 100 points, other units include 0."""
    low, high = float(np.min(values)), float(np.max(values))
    if score.unit == "1" and low >= 0 and high <= 100:
        low, high = max(10 * np.floor((min(low, 91) - 1) / 10), 0.0), 100.0
    else:
        low, high = min(low, 0.0), max(high, low + 1e-6, 1e-6)
    return low - 0.03 * (high - low), high + 0.03 * (high - low)


def name_axis(score: Score) -> str:
    """A score with its unit."""
    return f"{shorten(score.title, 34)}, {score.unit_text}"


def describe_cut(shown: Sequence[Any], total: int, what: str) -> str:
    """Says on a line of its own that not everything is drawn; empty when all is."""
    return f"\n(the first {len(shown)} of {total} {what})" if len(shown) < total else ""


def scale_of(score: Score) -> float:
    """Fractions are drawn in points."""
    return 100.0 if score.unit == "1" else 1.0


def mark_size(count: int) -> float:
    """Area of a mark: smaller when there are many."""
    return 30 if count <= 60 else 16 if count <= 200 else 9


class Pairs(NamedTuple):
    """Scores of one label under both decoders, (case,) each, where both are defined."""

    title: str
    first: Any
    second: Any


def pairs_of(tables: Tables) -> dict[str, Pairs]:
    """Pairs by label; "mean" comes last: of the table, or else over the labels that both decoders have in a case."""
    if tables.scores.empty or not tables.is_pair:
        return {}
    part, arms = rows_of(tables.scores, metric=tables.metric), [tables.first, tables.second]
    labels = {label: (name, rows_of(part, label=label)) for label, name in labels_of(part).items()}
    pairs, wides = {}, []
    for label, (name, rows) in (labels | ({MEAN: (MEAN, mean_rows(part))} if len(labels) > 1 else {})).items():
        wide = rows.pivot(index="case_id", columns="decoder", values="value").reindex(columns=arms).astype(np.float64)
        wide = scale_of(describe_score(tables)) * wide[np.isfinite(wide).all(axis=1)]
        if label == MEAN and wide.empty and wides:
            wide = pandas.concat(wides).groupby(level=0).mean()
        if len(wide):
            wides.append(wide)
            pairs[label] = Pairs(f"{shorten(name, 22)} (n = {len(wide)})", *wide.to_numpy().T)
    return pairs


@chart(
    "paired",
    "Both decoders, case by case",
    "Each mark is one case: its score with the first decoder to the right, with the second upwards. "
    "A mark on the line scored the same with both. Axes start below the lowest score, not at 0.",
)
def draw_paired(tables: Tables) -> Figure | None:
    """Scatter of the second decoder's score over the first's: one panel, or one per label above three labels."""
    pairs = [pair for label, pair in pairs_of(tables).items() if label != MEAN]
    if not pairs:
        return None
    shown, score = pairs[:16], describe_score(tables)
    groups = [shown] if len(shown) <= 3 else [[pair] for pair in shown]
    size = (4.6, 4.7) if len(groups) == 1 else (2.3, 2.4)
    figure, panels = make_panels(len(groups), 3 if len(groups) <= 9 else 4, size, 0.5)
    for axes, group in zip(panels, groups, strict=True):
        for pair, (colour, marker) in zip(group, _LABEL_LOOKS, strict=False):
            options = {"s": mark_size(len(pair.first)), "color": colour, "marker": marker, "linewidth": 0}
            axes.scatter(pair.first, pair.second, alpha=0.7, label=pair.title, **options)
        put_square(axes, np.concatenate([[*pair.first, *pair.second] for pair in group]), score)
        put_legend(axes, "") if len(group) > 1 else axes.set_title(group[0].title)
    second = shorten(tables.second)
    side = {"higher": f"\nabove the line: {second} is better", "lower": f"\nbelow the line: {second} is better"}
    note = side.get(score.better, "") + describe_cut(shown, len(pairs), "labels")
    figure.supxlabel(f"{name_axis(score)}, with {shorten(tables.first)}{note}")
    figure.supylabel(f"{name_axis(score)}, with {second}")
    return figure


@chart(
    "differences",
    "Difference in every case, in order",
    "Each bar is one case: up when its score is larger with the second decoder, down when it is smaller. "
    "Between the dashed lines a case counts as the same.",
)
def draw_differences(tables: Tables) -> Figure | None:
    """Sorted differences per label (at most six) and for the mean over labels, with the cases counted."""
    pairs = pairs_of(tables)
    labels = [pair for label, pair in pairs.items() if label != MEAN]
    shown = labels[:6] + [pair for label, pair in pairs.items() if label == MEAN]
    if not shown:
        return None
    score = describe_score(tables)
    figure, panels = make_panels(len(shown), 3, (3.0, 2.4), 0.9)
    limit = 1.08 * max(2, *(float(np.abs(pair.second - pair.first).max()) for pair in shown))
    words = ("better", "same", "worse") if score.better else ("larger", "same", "smaller")
    for axes, pair in zip(panels, shown, strict=True):
        difference = np.sort(pair.second - pair.first)
        gain = -difference if score.better == "lower" else difference
        # A difference of exactly one stays the same whatever the last bit of the subtraction says.
        kinds = {_BETTER: gain > 1 + 1e-9, _SAME: np.abs(gain) <= 1 + 1e-9, _WORSE: gain < -1 - 1e-9}
        for colour, chosen in kinds.items():
            axes.stairs(np.where(chosen, difference, 0), fill=True, color=colour, linewidth=0)
        for edge, style_of_line in ((-1, "--"), (0, "-"), (1, "--")):
            axes.axhline(edge, color="0.3", linewidth=0.8, linestyle=style_of_line)
        axes.set(xlim=(-0.2, len(difference) + 0.2), ylim=(-limit, limit), xticks=[])
        counts = [f"{chosen.sum()} {word}" for chosen, word in zip(kinds.values(), words, strict=True)]
        axes.set_title(f"{pair.title}\n{' · '.join(counts)}")
    unit = score.unit_text.removesuffix("s")
    keys = {f"{words[0]} by more than 1 {unit}": _BETTER, "same": _SAME, f"{words[2]} by more than 1 {unit}": _WORSE}
    patches = [Patch(color=colour) for colour in keys.values()]
    figure.legend(patches, keys, loc="outside upper center", ncols=3 if len(shown) > 1 else 1)
    figure.supylabel(f"Difference in {name_axis(score)}")
    order = f"Cases in order of {shorten(tables.second)} minus {shorten(tables.first)}"
    figure.supxlabel(order + describe_cut(labels[:6], len(labels), "labels"))
    return figure


@chart(
    "strata",
    "Difference in groups of cases",
    "Marks are the mean difference in a group of cases, lines its 95 % interval; right of zero the score is larger "
    "with the second decoder. Small groups give wide intervals, or none (open marks).",
)
def draw_strata(tables: Tables) -> Figure | None:
    """Forest plot of the mean paired difference per stratum; a panel for the mean and for each of three labels."""
    if tables.strata.empty or not tables.is_pair:
        return None
    part = rows_of(tables.strata, metric=tables.metric, first=tables.first, second=tables.second)
    part = part[np.isfinite(part["mean"].astype(np.float64))]
    if part.empty:
        return None
    score, labels = describe_score(tables), labels_of(part)
    shown = [(name, rows_of(part, label=label)) for label, name in labels.items()][:3]
    parts = [(MEAN, mean_rows(part))] * (len(labels) != 1 and len(mean_rows(part)) > 0) + shown
    strata = part[["stratum_by", "stratum"]].astype(str).drop_duplicates()
    groups = strata[:40].groupby("stratum_by", sort=False)["stratum"]
    lines = [line for by, names in groups for line in ((by, None), *((by, name) for name in names))]
    figure, panels = make_panels(len(parts), 4, (2.25, 0.24 * len(lines)), 1.3)
    scale, ends = scale_of(score), [0.0]
    for axes, (title, rows) in zip(panels, parts, strict=True):
        for y, (by, stratum) in enumerate(lines):
            for row in rows_of(rows, stratum_by=by, stratum=stratum).to_dict("records"):
                mean, low, high = (scale * float(row[key]) for key in ("mean", "low", "high"))
                known = bool(np.isfinite(low) and np.isfinite(high))
                axes.plot([low, high], [y, y], color="0.15", linewidth=1.4)
                axes.plot(mean, y, "s", color="#0072B2", markersize=5, fillstyle="full" if known else "none")
                put_count(axes, y, row["num_pairs"])
                ends += [mean, low, high] if known else [mean]
        axes.axvline(0, color="0.5", linewidth=0.8, zorder=0)
        put_count(axes, -0.8, "n")
        axes.set(ylim=(len(lines) - 0.4, -0.6), title=shorten(title, 20), yticks=[])
    margin = 0.08 * max(np.ptp(ends), 0.1)
    for axes in panels:
        axes.set_xlim(min(ends) - margin, max(ends) + margin)
    panels[0].tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(lines)), [shorten(by if name is None else name, 26) for by, name in lines])
    for text, (_, stratum) in zip(panels[0].get_yticklabels(), lines, strict=True):
        text.set_fontweight("bold" if stratum is None else "normal")
    note = describe_cut(shown, len(labels), "labels") + describe_cut(strata[:40], len(strata), "groups")
    order = f"{shorten(tables.second)} minus {shorten(tables.first)}{note}"
    figure.supxlabel(f"Mean difference in {name_axis(score)}, with 95 % interval\n{order}")
    return figure


# Enters the other charts; they need what stands above.
from rankseg_rma.report import volume_charts  # noqa: E402, F401
