"""The charts of the report: text can be read, and odd tables do no harm."""

import re
from dataclasses import fields, replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas
import pytest
from made_tables import COHORTS, draw, legend_texts, make_tables, three_arms
from matplotlib.text import Text

from rankseg_rma.report.charts import CHARTS, PNG_DPI, figure_bytes, shorten
from rankseg_rma.tables.frames import Tables


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
