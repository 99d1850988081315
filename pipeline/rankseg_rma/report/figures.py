"""Figures, matplotlib only; colours are safe for colour-blind readers."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's palette.
COLOURS = {"reference": "#009E73", "argmax": "#E69F00", "rma": "#56B4E9"}
_LABEL_COLOURS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73", "#F0E442", "#56B4E9")


def draw_paired(scores: pandas.DataFrame, first: str, second: str, metric: str) -> Figure:
    """Scatter of the second decoder's score over the first's, one mark per case and label."""
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=0)
    markers = "osD^vP"
    part = scores[scores["metric"] == metric]
    for place, (name, rows) in enumerate(part.groupby("label_name", sort=False)):
        table = rows.pivot(index="case_id", columns="decoder", values="value")
        if {first, second} <= set(table):
            colour, marker = _LABEL_COLOURS[place % len(_LABEL_COLOURS)], markers[place % len(markers)]
            axes.scatter(
                table[first],
                table[second],
                s=34,
                alpha=0.75,
                color=colour,
                marker=marker,
                label=str(name).replace("$", r"\$"),
                linewidth=0,
            )
    axes.set(xlabel=f"{metric} with {first}", ylabel=f"{metric} with {second}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(f"Above the line: {second} is better", fontsize=10)
    return figure


@dataclass(frozen=True)
class SlicePicture:
    """One slice with the masks to outline.

    Attributes:
        image: (rows, columns) grey values, first row at the bottom.
        masks: (rows, columns) bool by name; names in COLOURS get their colour, empty masks draw nothing.
        aspect: height of a pixel over its width, in mm.
        title: line above the picture.
    """

    image: Any
    masks: Mapping[str, Any]
    aspect: float
    title: str


def draw_slices(pictures: Sequence[SlicePicture], window: tuple[float, float], columns: int) -> Figure:
    """Slices with the contours of every mask, in a grid; black and white are the ends of the window."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    styles = {"reference": ("solid", 2.2), "argmax": ("dashed", 1.6), "rma": ("solid", 1.4)}
    for axes, picture in zip(np.ravel(figure.subplots(rows, columns, squeeze=False)), pictures, strict=False):
        axes.imshow(picture.image, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=picture.aspect)
        for name, mask in picture.masks.items():
            line, width = styles.get(name, ("dotted", 1.4))
            if np.any(mask):
                colour = COLOURS.get(name, "#CC79A7")
                axes.contour(mask, levels=[0.5], colors=[colour], linewidths=width, linestyles=line)
        axes.set_title(picture.title, fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def add_key(figure: Figure, names: Sequence[str]) -> None:
    """Legend of mask colours below a figure."""
    lines = [Line2D([], [], color=COLOURS.get(name, "#CC79A7"), linewidth=2.4) for name in names]
    figure.legend(lines, names, loc="outside lower center", ncols=len(names), frameon=False)


def draw_speed(names: Sequence[str], seconds: Sequence[float], reads: str) -> Figure:
    """Bars of decode times on a logarithmic axis."""
    figure = Figure(figsize=(6.4, 0.42 * len(names) + 1.1), layout="constrained")
    axes = figure.subplots()
    colours = [COLOURS["rma"] if name.startswith("RankSEG-RMA") else "0.72" for name in names]
    bars = axes.barh(list(names)[::-1], list(seconds)[::-1], color=colours[::-1])
    axes.bar_label(bars, [f"{value:.3g} s" for value in list(seconds)[::-1]], padding=4, fontsize=9)
    axes.set(xscale="log", xlabel=reads, xlim=(min(seconds) / 2, max(seconds) * 4))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def to_data_url(figure: Figure) -> str:
    """The figure as a PNG inside a data URL."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
