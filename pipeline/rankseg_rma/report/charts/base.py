"""What the charts share: their register, their style, and the parts they are put together from."""

import io
import re
import warnings
from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import pandas
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, NullLocator

from rankseg_rma.checks import require_one_of
from rankseg_rma.report.palette import COLOURS
from rankseg_rma.report.wording import MEAN, NONE, Score
from rankseg_rma.tables.frames import Tables

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "figure.labelsize": 9, "legend.fontsize": 8,
    "legend.title_fontsize": 9, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    # Without a salt the ids in an SVG are random, and its bytes differ from run to run.
    "hatch.linewidth": 0.7, "axes.formatter.useoffset": False, "svg.hashsalt": "rankseg-rma",
}  # fmt: skip
TICK_SIZE = 8
PNG_DPI = 110
MAX_ARMS, MAX_PANELS, MAX_ROWS = 5, 9, 4
_OTHER_COLOURS = ("#0072B2", "#D55E00", "#000000", "#009E73", "#CC79A7", "#F0E442")
_OTHER_LINES = ("-.", (0, (5, 1)), (0, (1, 1)))
LABEL_LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "D"))
BETTER, SAME, WORSE = "#0072B2", "#B5B5B5", "#D55E00"


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
    # Programs and dates in a file would make it differ from run to run.
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
    # Decoders of all tables, so that one looks the same in every chart.
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
    options: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "borderaxespad": 0.2,
        "handletextpad": 0.5,
    }
    legend = axes.legend(title=title, labelspacing=0.25, **options)
    for mark in legend.legend_handles:
        # Marks of many cases are too small to be told apart in a legend.
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


def describe_cut(shown: Sized, total: int, what: str) -> str:
    """Says on a line of its own that not everything is drawn; empty when all is."""
    return f"\n(the first {len(shown)} of {total} {what})" if len(shown) < total else ""


def scale_of(score: Score) -> float:
    """Fractions are drawn in points."""
    return 100.0 if score.unit == "1" else 1.0


def mark_size(count: int) -> float:
    """Area of a mark: smaller when there are many."""
    return 30 if count <= 60 else 16 if count <= 200 else 9


@dataclass(frozen=True)
class LogRange:
    """A logarithmic axis from low to high; zeros, when there are any, stand at ``zero`` behind a dotted line."""

    low: float
    high: float
    zero: float | None

    def place(self, values: Any) -> Any:
        """Positions of non-negative values."""
        return np.where(np.asarray(values) > 0, values, self.zero or self.low)

    def apply(self, axes: Axes, axis: XAxis | YAxis) -> None:
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
    arms, panels = arms_of(tables, frame), []
    shown = arms[: most[1]]
    for label, name in labels_of(frame).items():
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
    return make_panels(len(drawn), 3, (3.0, 2.8 + 0.2 * max(len(panel.series) for panel in drawn)), 0.35)


def scatter_panel(axes: Axes, panel: Panel, place: Callable[[Any], Any], describe: Callable[[str, str], str]) -> None:
    """Marks of every decoder, and the legend with what is to be said of each label and decoder."""
    for arm, both in panel.series.items():
        look: dict[str, Any] = {"marker": arm.marker, "color": arm.colour, "alpha": 0.7, "linewidth": 0}
        text = f"{arm.text}: {describe(panel.label, arm.name)}"
        across, upwards = place(both)
        axes.scatter(across, upwards, s=mark_size(both.shape[1]), label=text, **look)
    put_legend(axes, panel.title)
