"""Colours of masks, safe for colour-blind readers, and the figure of decode times; matplotlib only."""

from collections.abc import Sequence

from matplotlib.figure import Figure

# Okabe and Ito's palette.
COLOURS = {"reference": "#009E73", "argmax": "#E69F00", "rma": "#56B4E9"}


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
