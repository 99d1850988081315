"""The charts of the report: every mark is a number of the tables, text can be read, and odd tables do no harm."""

import re
from dataclasses import fields, replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas
import pytest
from matplotlib.text import Text

from rankseg_rma.report.charts import CHARTS, PNG_DPI, figure_bytes, shorten
from rankseg_rma.statistics.agreement import agree_volumes
from rankseg_rma.statistics.quality import risk_coverage
from rankseg_rma.tables.frames import Tables

PREDICTED = "prediction_ml"
BINS = ("<0.5 mL", "0.5-2 mL", "2-10 mL", ">=10 mL")


def make_tables(num_cases=20, names=("liver", "tumour"), first="argmax", second="rma", seed=7):
    """Tables of a made-up cohort: the first label is large and easy, later ones smaller and harder."""
    rng = np.random.default_rng(seed)
    arms = list(dict.fromkeys([first, second]))
    rows = {key: [] for key in ("scores", "volumes", "expected", "detection", "reliability")}
    for place, name in enumerate(names):
        label = {"label": str(place + 1), "label_name": name}
        reference = np.exp(rng.normal(7.3 - 2.2 * (place % 4), 0.3 + 0.4 * (place % 4), num_cases))
        if place % 4 and num_cases > 4:
            reference[[1, 3]] = 0
        dice = np.clip(rng.beta(40 - 11 * (place % 4), 2 + place % 4, num_cases), 0, 1)
        for arm in [*arms, "expected"]:
            better = arm == second
            own = np.clip(dice + better * rng.normal(0.012, 0.02, num_cases) * (1 + place % 4), 0, 1)
            prediction = reference * np.exp(rng.normal(0.06 if better else -0.12, 0.12 + 0.1 * (place % 4), num_cases))
            if place % 4 and num_cases > 4:
                prediction[[3, 4]] = (0.3, 0) if arm != "expected" else (0.4, 0.02)
            for k in range(num_cases):
                case = {"case_id": f"case_{k:03d}", **label, "decoder": arm}
                rows["volumes"].append({
                    **case, "reference_ml": reference[k], "prediction_ml": prediction[k],
                    "difference_ml": prediction[k] - reference[k], "difference_percent": 0.0, "expected_ml": np.nan,
                })  # fmt: skip
                if arm == "expected":
                    continue
                forecast = np.clip(own[k] + rng.normal(0.03, 0.05), 0, 1)
                rows["expected"].append({
                    **case, "expected_score": forecast, "real_score": own[k], "expected_volume_ml": reference[k],
                })  # fmt: skip
                distance = np.nan if reference[k] == 0 else 60 * (1 - own[k])
                for metric, value, unit in (("dice", own[k], "1"), ("hd95_mm", distance, "mm")):
                    status = "ok" if reference[k] else "reference_empty"
                    rows["scores"].append({**case, "metric": metric, "value": value, "unit": unit, "status": status})
            if arm == "expected":
                continue
            for threshold in (0.0, 0.1, 0.25, 0.5):
                for size, bin_name in enumerate((*BINS, "all")):
                    recall = min(1.0, 0.3 + 0.2 * size + 0.05 * better) * (1 - threshold / 2)
                    rows["detection"].append({
                        **label, "decoder": arm, "iou_threshold": threshold, "volume_bin": bin_name,
                        "num_cases": num_cases, "n_reference": 40 if bin_name == "all" else (16, 12, 12, 0)[size],
                        "recall": np.nan if bin_name == ">=10 mL" else recall,
                        "false_positives_per_case": 0.45 + 0.3 * better if bin_name == "all" else np.nan,
                    })  # fmt: skip
        for key, bend in (("none", 1.6), ("stored", 1.05)):
            for k in range(15):
                middle = (k + 0.5) / 15
                rows["reliability"].append({
                    **label, "temperature_name": key, "bin": k, "low": k / 15, "high": (k + 1) / 15,
                    "count": int(10 ** (3 + 3 * abs(middle - 0.5))) if k != 7 else 0,
                    "confidence": middle if k != 7 else np.nan, "frequency": middle**bend if k != 7 else np.nan,
                })  # fmt: skip
    frames = {key: pandas.DataFrame(value) for key, value in rows.items()}
    label_rows = [{"label": str(k + 1), "label_name": name} for k, name in enumerate(names)]
    both = [*label_rows, {"label": "mean", "label_name": "mean"}]
    volumes = frames["volumes"].groupby(["label", "label_name", "decoder"], sort=False)
    agreement = [
        dict(zip(("label", "label_name", "decoder"), key, strict=True))
        | vars(agree_volumes(rows["reference_ml"], rows[PREDICTED]))
        for key, rows in volumes
    ]
    strata = [
        {"stratum_by": by, "stratum": stratum, **label, "metric": "dice", "first": first, "second": second,
         "num_pairs": 4 + 3 * k, "mean": 0.004 * (k - 1), "low": 0.004 * (k - 1) - 0.01 if k else np.nan,
         "high": 0.004 * (k - 1) + 0.01 if k else np.nan}
        for by, strata in (("volume", ("<0.5 mL", "0.5-2 mL", ">=2 mL")), ("scanner", ("A", "B")))
        for k, stratum in enumerate(strata) for label in both
    ]  # fmt: skip
    quality = [
        {**label, "decoder": arm, "mae": 0.031 + 0.02 * k, "spearman": 0.8 - 0.5 * k, "aurc": 0.06 + 0.01 * k}
        for label in label_rows for k, arm in enumerate(arms)
    ]  # fmt: skip
    calibration = [
        {"scope": "pooled", "case_id": "", "temperature": key, "measure": measure, "value": value}
        for key, values in (("none", (0.0081, 0.093, 0.2)), ("stored", (0.0012, 0.047, 0.1)))
        for measure, value in zip(("ece", "foreground_ece", "nll"), values, strict=True)
    ]  # fmt: skip
    paired = [{"metric": "dice", "label": "1", "label_name": names[0], "margin": 0.01, "better": "higher"}]
    return Tables(
        first, second, "dice", paired=pandas.DataFrame(paired), strata=pandas.DataFrame(strata),
        agreement=pandas.DataFrame(agreement), quality=pandas.DataFrame(quality),
        calibration=pandas.DataFrame(calibration), **frames,
    )  # fmt: skip


def draw(tables, name):
    figure = CHARTS[name].draw(tables)
    assert figure is not None, name
    return figure


def legend_texts(owner):
    legend = owner.get_legend() if hasattr(owner, "get_legend") else owner.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def values_of(frame, label, decoder, *columns):
    rows = frame[(frame["label"] == label) & (frame["decoder"] == decoder)]
    return rows[list(columns)].to_numpy(float)


def scores_of(tables, label, decoder, metric="dice"):
    return values_of(tables.scores[tables.scores["metric"] == metric], label, decoder, "value")[:, 0]


def drawn_texts(figure, monkeypatch):
    """What is written where, (text, left, bottom, right, top) in pixels, as the renderer draws it."""
    found, draw_text = {}, Text.draw

    def record(self, renderer):
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = (self.get_text(), *self.get_window_extent(renderer).extents, self.get_fontsize())
        draw_text(self, renderer)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        assert figure_bytes(figure, "png").startswith(b"\x89PNG")
    return list(found.values())


def assert_readable(figure, monkeypatch):
    """No text is cut off, covered by another or smaller than 8 points."""
    texts = drawn_texts(figure, monkeypatch)
    width, height = figure.get_size_inches() * PNG_DPI
    for k, (text, left, bottom, right, top, size) in enumerate(texts):
        assert size >= 8, text
        assert left > -1 and bottom > -1 and right < width + 1 and top < height + 1, f"cut off: {text!r}"
        for other, left_2, bottom_2, right_2, top_2, _ in texts[k + 1 :]:
            shared = min(right, right_2) - max(left, left_2), min(top, top_2) - max(bottom, bottom_2)
            assert min(shared) < 2, f"{text!r} covers {other!r}"


def assert_not_empty(figure):
    for axes in figure.axes:
        assert axes.collections or axes.lines or axes.patches, "an empty panel"


NAMES = (
    "paired", "differences", "strata", "score_quantiles", "surface", "volumes", "bland_altman", "bland_altman_percent",
    "lesion_recall", "reliability", "expected", "risk_coverage",
)  # fmt: skip
ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta",
    "inferior vena cava", "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder",
    "prostate/uterus",
)  # fmt: skip


def all_equal():
    tables = make_tables(8)
    return replace(
        tables,
        scores=tables.scores.assign(value=1.0),
        volumes=tables.volumes.assign(reference_ml=1234.5, prediction_ml=1234.5),
        expected=tables.expected.assign(expected_score=1.0, real_score=1.0),
    )


def all_zero():
    tables = make_tables(8)
    return replace(
        tables,
        scores=tables.scores.assign(value=0.0),
        volumes=tables.volumes.assign(reference_ml=0.0, prediction_ml=0.0),
        expected=tables.expected.assign(expected_score=0.0, real_score=0.0),
        detection=tables.detection.assign(recall=0.0, false_positives_per_case=0.0),
    )


def with_gaps():
    """Every third value is missing, in every table; infinite where a distance could be."""
    tables = make_tables(20)

    def pierce(frame, *columns):
        holes = {column: frame[column].where(np.arange(len(frame)) % 3 > 0) for column in columns}
        return frame.assign(**holes)

    scores = pierce(tables.scores, "value")
    scores.loc[scores.index[1::7], "value"] = np.inf
    return replace(
        tables,
        scores=scores,
        volumes=pierce(tables.volumes, "prediction_ml"),
        agreement=pierce(tables.agreement, "ccc", "bias_ml", "loa_low_ml", "loa_high_percent"),
        detection=pierce(tables.detection, "recall"),
        reliability=pierce(tables.reliability, "frequency"),
        expected=pierce(tables.expected, "expected_score", "real_score"),
        quality=pierce(tables.quality, "mae", "spearman"),
        calibration=pierce(tables.calibration, "value"),
        strata=pierce(tables.strata, "mean", "low"),
    )


def three_arms():
    """Another decoder beside the pair, of which one label is missing."""
    tables = make_tables(12)
    extra = {}
    for name in ("scores", "volumes", "detection", "expected", "quality", "agreement"):
        frame = getattr(tables, name)
        other = frame[(frame["decoder"] == "rma") & (frame["label"] == "1")].assign(decoder="threshold 0.3")
        extra[name] = pandas.concat([frame, other], ignore_index=True)
    return replace(tables, **extra)


def five_arms():
    """The most decoders that a panel holds, "expected" among them."""
    tables, extra = make_tables(12), {}
    for name in ("scores", "volumes", "detection", "expected", "quality", "agreement"):
        frame = getattr(tables, name)
        others = [frame[frame["decoder"] == "rma"].assign(decoder=decoder) for decoder in ("rma_untempered", "tuned")]
        extra[name] = pandas.concat([frame, *others], ignore_index=True)
    return replace(tables, **extra)


STRANGE_NAMES = ("<script>alert('$x$')</script>", "a$b_$ 肝臓\nzwei", "\x00\x1b[0m%s{}--")
COHORTS = {
    "full": make_tables,
    "one case": lambda: make_tables(1, names=("liver",)),
    "two cases": lambda: make_tables(2),
    "one decoder": lambda: make_tables(12, first="rma"),
    "15 labels": lambda: make_tables(15, names=ORGANS),
    "500 cases": lambda: make_tables(500),
    "strange names": lambda: make_tables(
        12, STRANGE_NAMES, "nnunet$_3d_fullres_fold0_argmax_$x", "nnunet_3d_fullres_fold0_<b>rma</b>"
    ),
    "all equal": all_equal,
    "all zero": all_zero,
    "gaps": with_gaps,
    "three decoders": three_arms,
    "five decoders": five_arms,
    "distances": lambda: replace(
        make_tables(12), metric="hd95_mm", strata=make_tables(12).strata.assign(metric="hd95_mm")
    ),
}


@pytest.mark.parametrize("cohort", COHORTS)
def test_every_chart_of_every_cohort_can_be_read(cohort, monkeypatch):
    tables = COHORTS[cohort]()
    for name, chart in CHARTS.items():
        figure = chart.draw(tables)
        if figure is None:
            absent = {"one decoder": ("paired", "differences", "strata"), "all zero": ("bland_altman_percent",)}
            assert name in absent.get(cohort, ()), name
            continue
        assert_not_empty(figure)
        assert 4.6 <= figure.get_size_inches()[0] <= 9.3
        assert_readable(figure, monkeypatch)


def test_the_charts_are_these():
    assert tuple(CHARTS) == NAMES
    for name, chart in CHARTS.items():
        assert chart.name == name
        assert chart.title
        assert 1 <= len(re.findall(r"[.?]( |$)", chart.caption)) <= 4, name


def test_nothing_to_draw():
    full = make_tables(4)
    frames = {
        field.name: getattr(full, field.name)
        for field in fields(Tables)
        if field.name not in ("first", "second", "metric")
    }
    numbers = {"value", "mean", "reference_ml", "prediction_ml", "recall", "frequency", "expected_score"}
    missing = {name: frame.assign(**dict.fromkeys(numbers & set(frame), np.nan)) for name, frame in frames.items()}
    for made in (
        {"scores": pandas.DataFrame()},
        {name: frame.iloc[:0] for name, frame in frames.items()},
        missing,
    ):
        for name, chart in CHARTS.items():
            assert chart.draw(Tables("argmax", "rma", "dice", **made)) is None, name


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


def test_one_decoder_is_no_pair():
    tables = make_tables(6, first="rma")
    assert all(CHARTS[name].draw(tables) is None for name in ("paired", "differences", "strata"))
    assert legend_texts(draw(tables, "volumes").axes[0])[0].startswith("rma: CCC")


def test_a_third_decoder_keeps_its_look():
    tables = three_arms()
    looks = set()
    for name in ("volumes", "risk_coverage"):
        axes = draw(tables, name).axes[0]
        looks |= {(text, name) for text in legend_texts(axes) if text.startswith("threshold")}
    assert looks == {(f"threshold 0.3: CCC {ccc_of(tables):.3f}", "volumes")}  # risk_coverage is about the pair
    bars = draw(tables, "lesion_recall").axes[0].containers
    assert len({(bar[0].get_facecolor(), bar[0].get_hatch()) for bar in bars}) == 3
    assert draw(tables, "bland_altman").get_supxlabel().endswith("(the first 3 of 4 decoders)")


def ccc_of(tables):
    row = tables.agreement[(tables.agreement["decoder"] == "rma") & (tables.agreement["label"] == "1")]
    return row["ccc"].iloc[0]


def test_labels_may_be_numbers():
    """Frames made in memory, or read without text columns, hold labels as integers."""
    tables = make_tables(6)
    frames = {name: getattr(tables, name) for name in ("scores", "volumes", "agreement", "expected", "detection")}
    numbers = {name: frame.assign(label=frame["label"].astype(int)) for name, frame in frames.items()}
    for name in ("paired", "volumes", "bland_altman", "expected", "lesion_recall", "score_quantiles"):
        assert figure_bytes(draw(replace(tables, **numbers), name), "png") == figure_bytes(draw(tables, name), "png"), (
            name
        )


@pytest.mark.parametrize("format", ["png", "svg"])
def test_the_same_tables_give_the_same_file(format):
    for name in ("volumes", "score_quantiles", "lesion_recall", "reliability"):
        first = figure_bytes(draw(make_tables(210, names=("liver",)), name), format)
        with matplotlib.rc_context(
            {"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": None, "savefig.pad_inches": 3}
        ):
            assert figure_bytes(draw(make_tables(210, names=("liver",)), name), format) == first, name
        assert not any(word in first for word in (b"Software", b"Matplotlib", b"<dc:date>"))


def test_names_do_no_harm():
    tables = COHORTS["strange names"]()
    for name, chart in CHARTS.items():
        text = figure_bytes(chart.draw(tables), "svg").decode("utf-8")
        ElementTree.fromstring(text)
        assert "<script" not in text.lower(), name
    (axes,) = draw(make_tables(3, names=("a$x_$b", "$$")), "paired").axes
    assert legend_texts(axes) == ["a$x_$b (n = 3)", "$$ (n = 3)"]
    assert not any(text.get_parse_math() for text in axes.get_legend().get_texts())


def test_names_are_shortened_in_the_middle():
    assert shorten("nnunet_fold0_argmax", 11) == "nnune…rgmax"
    assert len(shorten("x" * 100, 18)) == 18
    assert shorten(" a\n\tb\x00c ") == "a b c"


def test_wrong_format():
    with pytest.raises(ValueError, match="figure_bytes: format must be one of 'png', 'svg'; got 'pdf'"):
        figure_bytes(draw(make_tables(2), "paired"), "pdf")
