"""The charts of the report: every mark is a number of the tables."""

import re
from dataclasses import replace

import numpy as np
import pandas
import pytest
from made_tables import COHORTS, ORGANS, PREDICTED, draw, legend_texts, make_tables

from rankseg_rma.report.charts import CHARTS, figure_bytes
from rankseg_rma.statistics.agreement import agree_volumes
from rankseg_rma.statistics.quality import risk_coverage
from rankseg_rma.tables.frames import Tables


def values_of(frame, label, decoder, *columns):
    rows = frame[(frame["label"] == label) & (frame["decoder"] == decoder)]
    return rows[list(columns)].to_numpy(float)


def scores_of(tables, label, decoder, metric="dice"):
    return values_of(tables.scores[tables.scores["metric"] == metric], label, decoder, "value")[:, 0]


def test_paired_marks_are_the_scores():
    tables = make_tables(20)
    (axes,) = draw(tables, "paired").axes
    for place, label in enumerate(("1", "2")):
        expected = 100 * np.stack([scores_of(tables, label, "argmax"), scores_of(tables, label, "rma")], axis=1)
        assert np.allclose(axes.collections[place].get_offsets(), expected)
    assert legend_texts(axes) == ["liver (n = 20)", "tumour (n = 20)"]
    figure = draw(tables, "paired")
    assert figure.get_supxlabel() == "Dice, points, with argmax\nabove the line: rma is better"
    assert figure.get_supylabel() == "Dice, points, with rma"
    assert "below the line" in draw(COHORTS["distances"](), "paired").get_supxlabel()
    marks = {collection.get_paths()[0].vertices.shape for collection in axes.collections}
    assert len(marks) == 2  # not by colour alone


def test_paired_has_a_panel_per_label_above_three():
    figure = draw(make_tables(5, names=ORGANS), "paired")
    assert [axes.get_title() for axes in figure.axes] == [f"{name} (n = 5)" for name in ORGANS]
    figure = draw(make_tables(3, names=[f"label {k}" for k in range(20)]), "paired")
    assert len(figure.axes) == 16
    assert figure.get_supxlabel().endswith("(the first 16 of 20 labels)")


def scores_table(first, second, metric="dice", unit="1"):
    same = {"label": "1", "label_name": "liver", "metric": metric, "unit": unit, "status": "ok"}
    rows = [
        {**same, "case_id": f"case_{k}", "decoder": decoder, "value": value}
        for decoder, values in (("argmax", first), ("rma", second))
        for k, value in enumerate(values)
    ]
    return Tables("argmax", "rma", metric, scores=pandas.DataFrame(rows))


def test_differences_by_hand():
    # In points: +20, +1 (the margin itself: same), 0, -1 (same), -5; the sixth case lacks one score.
    figure = draw(scores_table([0.5, 0.70, 0.8, 0.81, 0.9, np.nan], [0.7, 0.71, 0.8, 0.80, 0.85, 1.0]), "differences")
    (axes,) = figure.axes
    assert axes.get_title() == "liver (n = 5)\n1 better · 3 same · 1 worse"
    better, same, worse = (patch.get_data().values for patch in axes.patches)
    assert better == pytest.approx([0, 0, 0, 0, 20])
    assert same == pytest.approx([0, -1, 0, 1, 0], abs=1e-9)
    assert worse == pytest.approx([-5, 0, 0, 0, 0])
    assert axes.get_ylim() == pytest.approx((-21.6, 21.6))
    assert figure.get_supxlabel() == "Cases in order of rma minus argmax"
    assert legend_texts(figure) == ["better by more than 1 point", "same", "worse by more than 1 point"]


def test_differences_of_distances_are_better_downwards():
    figure = draw(scores_table([9.0, 3.0, 1.0], [4.0, 3.5, 3.0], "hd95_mm", "mm"), "differences")
    assert figure.axes[0].get_title() == "liver (n = 3)\n1 better · 1 same · 1 worse"
    better, _, worse = (patch.get_data().values for patch in figure.axes[0].patches)
    assert (better.tolist(), worse.tolist()) == ([-5, 0, 0], [0, 0, 2])
    assert legend_texts(figure)[0] == "better by more than 1 mm"


def test_differences_of_the_mean():
    tables = make_tables(10)
    difference = np.mean([scores_of(tables, k, "rma") - scores_of(tables, k, "argmax") for k in ("1", "2")], axis=0)
    mean = draw(tables, "differences").axes[2]
    drawn = np.sum([patch.get_data().values for patch in mean.patches], axis=0)
    assert drawn == pytest.approx(np.sort(100 * difference))
    own = tables.scores[tables.scores["label"] == "1"].assign(label="mean", label_name="mean", value=0.25)
    given = replace(tables, scores=pandas.concat([tables.scores, own]))  # the table's own mean is taken
    assert draw(given, "differences").axes[2].get_title() == "mean (n = 10)\n0 better · 10 same · 0 worse"
    assert len(draw(make_tables(5, names=ORGANS), "differences").axes) == 7


def test_volumes_and_their_zeros():
    tables = make_tables(20)
    liver, tumour = draw(tables, "volumes").axes
    assert np.allclose(
        liver.collections[0].get_offsets(), values_of(tables.volumes, "1", "argmax", "reference_ml", PREDICTED)
    )
    ccc = {row["decoder"]: row["ccc"] for row in tables.agreement.to_dict("records") if row["label"] == "1"}
    assert legend_texts(liver) == [f"{arm}: CCC {ccc[arm]:.3f}" for arm in ("argmax", "rma", "expected")]
    assert liver.get_legend().get_title().get_text() == "liver (n = 20)"
    both = values_of(tables.volumes, "2", "rma", "reference_ml", PREDICTED)
    marks = np.asarray(tumour.collections[1].get_offsets())
    zero = tumour.get_xticks()[0]
    assert tumour.get_xticklabels()[0].get_text() == "0"
    assert (both == 0).sum() == 4  # case 1 in both masks, case 3 in the reference, case 4 in the prediction
    assert (marks[both == 0] == zero).all()
    assert np.allclose(marks[both > 0], both[both > 0])
    assert both[both > 0].min() > zero > tumour.get_xlim()[0]
    assert "0" not in [text.get_text() for text in liver.get_xticklabels()]
    assert liver.get_xlim() == liver.get_ylim()


@pytest.mark.parametrize(("name", "unit"), [("bland_altman", "ml"), ("bland_altman_percent", "percent")])
def test_limits_of_agreement(name, unit):
    tables = make_tables(20)
    figure = draw(tables, name)
    assert len(figure.axes) == 6
    axes = figure.axes[4]  # tumour, rma
    reference, prediction = values_of(tables.volumes, "2", "rma", "reference_ml", PREDICTED).T
    difference, mean = prediction - reference, (prediction + reference) / 2
    if unit == "percent":  # case 3 is empty in the reference (+200 %), case 4 in the prediction (-200 %)
        difference, mean = 100 * difference[mean > 0] / mean[mean > 0], mean[mean > 0]
        assert (difference.min(), difference.max()) == (-200, 200)
    assert np.allclose(axes.collections[0].get_offsets(), np.stack([mean, difference], axis=1))
    found = agree_volumes(reference, prediction)
    numbers = [getattr(found, f"{key}_{unit}") for key in ("bias", "loa_low", "loa_high")]
    lines = [line.get_ydata()[0] for line in axes.lines if line.get_color() == "black"]
    assert lines == pytest.approx(numbers)
    title, words = axes.get_title().split("\n")
    assert title == "tumour · rma"
    assert [float(text.replace("−", "-")) for text in re.findall(r"[+−][\d.]+", words)] == pytest.approx(
        numbers, abs=0.5
    )
    assert words.endswith("%" if unit == "percent" else "mL")


def test_limits_of_agreement_where_a_decoder_is_missing():
    tables = make_tables(12)
    frame = tables.volumes[(tables.volumes["label"] == "1") | (tables.volumes["decoder"] == "rma")]
    for name in ("bland_altman", "bland_altman_percent"):
        figure = draw(replace(tables, volumes=frame), name)
        assert len(figure.axes) == 4
        figure_bytes(figure, "png")
        assert all("mathdefault" not in text.get_text() for axes in figure.axes for text in axes.get_xticklabels())


def test_lesions_found():
    tables = make_tables(6)
    figure = draw(tables, "lesion_recall")
    assert len(figure.axes) == 4
    axes = figure.axes[3]  # tumour, IoU > 0.1
    part = tables.detection[(tables.detection["iou_threshold"] == 0.1) & (tables.detection["label"] == "2")]
    for bars, arm in zip(axes.containers, ("argmax", "rma"), strict=True):
        recall = 100 * part[part["decoder"] == arm]["recall"].dropna().to_numpy()
        assert [bar.get_height() for bar in bars] == pytest.approx(recall)  # none where there is no lesion
        assert np.round([bar.get_x() + bar.get_width() / 2 for bar in bars]).tolist() == [0, 1, 2, 4]
    assert [text.get_text() for text in axes.get_xticklabels()] == [
        "<0.5 mL\nn = 16", "0.5-2 mL\nn = 12", "2-10 mL\nn = 12", ">=10 mL\nn = 0", "all\nn = 40"
    ]  # fmt: skip
    assert legend_texts(axes) == ["argmax: 0.45 false positives per case", "rma: 0.75 false positives per case"]
    assert axes.get_legend().get_title().get_text() == "tumour, found at IoU > 0.1"
    assert len({bars[0].get_hatch() for bars in axes.containers}) == 2


@pytest.mark.parametrize("column", ["temperature", "temperature_name"])
def test_reliability(column):
    tables = make_tables(3)
    tables = replace(tables, reliability=tables.reliability.rename(columns={"temperature_name": column}))
    figure = draw(tables, "reliability")
    assert legend_texts(figure) == [
        "without temperature, ECE 0.81 %, foreground ECE 9.30 %",
        "with the stored temperature, ECE 0.12 %, foreground ECE 4.70 %",
    ]
    liver, tumour, voxels, _ = figure.axes
    assert (liver.get_title(), tumour.get_title()) == ("liver", "tumour")
    part = tables.reliability[tables.reliability["label"] == "1"].dropna()  # the empty bin is left out
    for line, count, key in zip(liver.lines[:2], voxels.lines[:2], ("none", "stored"), strict=True):
        rows = part[part[column] == key]
        assert np.allclose(line.get_xydata(), 100 * rows[["confidence", "frequency"]])
        assert np.allclose(count.get_ydata(), rows["count"])
    assert voxels.get_yscale() == "log"
    only = replace(tables, reliability=tables.reliability[tables.reliability[column] == "none"])
    assert len(legend_texts(draw(only, "reliability"))) == 1
    bare = replace(tables, calibration=pandas.DataFrame())
    assert legend_texts(draw(bare, "reliability"))[0] == "without temperature"


def test_expected_over_real_score():
    tables = make_tables(20)
    figure = draw(tables, "expected")
    axes = figure.axes[1]
    for marks, arm in zip(axes.collections, ("argmax", "rma"), strict=True):
        assert np.allclose(
            marks.get_offsets(), 100 * values_of(tables.expected, "2", arm, "real_score", "expected_score")
        )
    assert legend_texts(axes) == ["argmax: MAE 3.1, Spearman 0.80", "rma: MAE 5.1, Spearman 0.30"]
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("Real Dice, points", "Expected Dice, points")
    bare = draw(replace(tables, quality=pandas.DataFrame()), "expected")
    assert legend_texts(bare.axes[0])[0] == "argmax: MAE –, Spearman –"
    both = pandas.concat(
        [tables.expected.assign(metric="iou", expected_score=0.5), tables.expected.assign(metric="dice")]
    )
    again = draw(replace(tables, expected=both), "expected").axes[1].collections
    assert np.allclose(again[0].get_offsets(), axes.collections[0].get_offsets())
    other = draw(replace(tables, expected=tables.expected.assign(metric="iou")), "expected")
    assert other.get_supxlabel() == "Real IoU, points"


def test_risk_over_coverage():
    tables = make_tables(20)
    axes = draw(tables, "risk_coverage").axes[0]
    expected, real = values_of(tables.expected, "1", "rma", "expected_score", "real_score").T
    coverage, risk = risk_coverage(expected, real)
    assert np.allclose(axes.lines[2].get_xydata(), 100 * np.stack([coverage, risk], axis=1))
    assert axes.lines[3].get_ydata()[0] == pytest.approx(100 * (1 - real.mean()))
    assert legend_texts(axes) == ["argmax: AURC 6.0", "rma: AURC 7.0"]
    assert axes.get_ylim()[0] == 0
    assert axes.lines[0].get_linestyle() != axes.lines[2].get_linestyle()


def test_quantiles_of_the_score():
    tables = make_tables(25)
    (axes,) = draw(tables, "score_quantiles").axes
    values = 100 * scores_of(tables, "1", "rma")
    assert np.allclose(np.sort(axes.collections[1].get_offsets()[:, 0]), np.sort(values))
    outer, inner, median = (line.get_xdata() for line in axes.lines[3:6])
    assert [*outer, *inner, *median] == pytest.approx(np.quantile(values, [0.05, 0.95, 0.25, 0.75, 0.5]))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["liver", "tumour"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first label is at the top


def test_surface_distances():
    tables = make_tables(20)
    scores = tables.scores.copy()
    scores.loc[(scores["metric"] == "hd95_mm") & (scores["case_id"] == "case_005"), "value"] = 0.0
    (axes,) = draw(replace(tables, scores=scores), "surface").axes
    values = scores_of(replace(tables, scores=scores), "2", "argmax", "hd95_mm")
    assert np.isnan(values).sum() == 2  # cases without a tumour in the reference
    marks = np.sort(axes.collections[2].get_offsets()[:, 0])
    assert np.allclose(marks[1:], np.sort(values[values > 0]))
    assert (axes.get_xticks()[0], axes.get_xticklabels()[0].get_text()) == (marks[0], "0")
    assert [text.get_text() for text in axes.texts] == ["20", "20", "18", "18", "n"]
    assert axes.get_xscale() == "log"
    without = replace(tables, scores=tables.scores[tables.scores["metric"] == "dice"])
    assert CHARTS["surface"].draw(without) is None


def test_strata():
    tables = make_tables(20)
    figure = draw(tables, "strata")
    assert [axes.get_title() for axes in figure.axes] == ["mean", "liver", "tumour"]
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["volume", "<0.5 mL", "0.5-2 mL", ">=2 mL", "scanner", "A", "B"]
    marks = [line for line in axes.lines if line.get_marker() == "s"]
    places = [[-0.4, 1], [0, 2], [0.4, 3], [-0.4, 5], [0, 6]]
    assert np.allclose([mark.get_xydata()[0] for mark in marks], places)
    assert [mark.get_fillstyle() for mark in marks] == ["none", "full", "full", "none", "full"]
    assert axes.lines[4].get_xdata() == pytest.approx([-0.6, 1.4])  # 0.4 - 1 to 0.4 + 1 points
    assert [text.get_text() for text in axes.texts] == ["4", "7", "10", "4", "7", "n"]
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert CHARTS["strata"].draw(replace(tables, metric="iou")) is None
