"""Charts of the paired comparison: case by case, in order, and in groups of cases."""

from typing import Any, NamedTuple

import numpy as np
import pandas
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rankseg_rma.report.charts.base import (
    BETTER,
    LABEL_LOOKS,
    SAME,
    WORSE,
    chart,
    describe_cut,
    labels_of,
    make_panels,
    mark_size,
    mean_rows,
    name_axis,
    put_count,
    put_legend,
    put_square,
    rows_of,
    scale_of,
    shorten,
)
from rankseg_rma.report.wording import MEAN, describe_score
from rankseg_rma.tables.frames import Tables


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
    pairs: dict[str, Pairs] = {}
    wides: list[pandas.DataFrame] = []
    for label, (name, rows) in (labels | ({MEAN: (MEAN, mean_rows(part))} if len(labels) > 1 else {})).items():
        wide = rows.pivot(index="case_id", columns="decoder", values="value").reindex(columns=arms).astype(np.float64)
        defined = np.isfinite(wide.to_numpy()).all(axis=1)
        wide = wide.loc[defined].mul(scale_of(describe_score(tables)))
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
        for pair, (colour, marker) in zip(group, LABEL_LOOKS, strict=False):
            options: dict[str, Any] = {
                "s": mark_size(len(pair.first)),
                "color": colour,
                "marker": marker,
                "linewidth": 0,
            }
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
    # At least 2, so that the dashed lines at 1 are within every panel.
    limit = 1.08 * max(2, *(float(np.abs(pair.second - pair.first).max()) for pair in shown))
    words = ("better", "same", "worse") if score.better else ("larger", "same", "smaller")
    for axes, pair in zip(panels, shown, strict=True):
        difference = np.sort(pair.second - pair.first)
        gain = -difference if score.better == "lower" else difference
        # A difference of exactly one stays the same whatever the last bit of the subtraction says.
        kinds = {BETTER: gain > 1 + 1e-9, SAME: np.abs(gain) <= 1 + 1e-9, WORSE: gain < -1 - 1e-9}
        for colour, chosen in kinds.items():
            axes.stairs(np.where(chosen, difference, 0), fill=True, color=colour, linewidth=0)
        for edge, style_of_line in ((-1, "--"), (0, "-"), (1, "--")):
            axes.axhline(edge, color="0.3", linewidth=0.8, linestyle=style_of_line)
        axes.set(xlim=(-0.2, len(difference) + 0.2), ylim=(-limit, limit), xticks=[])
        counts = [f"{chosen.sum()} {word}" for chosen, word in zip(kinds.values(), words, strict=True)]
        axes.set_title(f"{pair.title}\n{' · '.join(counts)}")
    unit = score.unit_text.removesuffix("s")
    keys = {f"{words[0]} by more than 1 {unit}": BETTER, "same": SAME, f"{words[2]} by more than 1 {unit}": WORSE}
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
