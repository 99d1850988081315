"""The page: what it says of the tables, and that no name does harm in it."""

import json
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from rankseg_rma.cli import app
from rankseg_rma.report.page import PageChart, PageContent, PagePicture, ViewerCase, make_verdict, render_page
from rankseg_rma.report.viewer import load_viewer
from rankseg_rma.report.wording import write_interval, write_quantity
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.frames import Tables
from rankseg_rma.tables.store import read_rows, write_table

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)
LABELS = {"1": "liver", "2": "tumour"}
BETTER = {"dice": "higher", "iou": "higher", "nsd_2mm": "higher", "hd95_mm": "lower", "avd_ml": "lower"}
UNITS = {"dice": "1", "iou": "1", "nsd_2mm": "1", "hd95_mm": "mm", "avd_ml": "ml"}


def make_scores(num_cases, names=lambda number: f"case_{number:03}", arms=("argmax", "rma"), seed=0):
    """Rows of cases.csv of a plausible cohort: the second decoder gains about a point on tumours."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_cases):
        for label, label_name in LABELS.items():
            start = rng.beta(40, 2) if label == "1" else rng.beta(4, 2)
            volume = rng.lognormal(7.3, 0.2) if label == "1" else rng.lognormal(2, 1.5)
            for place, decoder in enumerate(arms):
                step = place * rng.normal(0.001 if label == "1" else 0.012, 0.004 if label == "1" else 0.03)
                dice = float(np.clip(start + step, 0, 1))
                status = "ok"
                if label == "2" and number % 13 == 5:
                    dice, status, volume = 0.0, "reference_empty", 0.0
                values = {
                    "dice": dice, "iou": dice / (2 - dice), "nsd_2mm": dice**0.7, "avd_ml": volume * (1 - dice),
                    "hd95_mm": float("nan") if status != "ok" else 40 * (1 - dice) + rng.random(),
                }  # fmt: skip
                rows += [
                    {"case_id": names(number), "label": label, "label_name": label_name, "decoder": decoder,
                     "metric": metric, "value": value, "unit": UNITS[metric], "status": status, "empty_policy": "kits",
                     "tp": 1, "fp": 1, "fn": 1, "n_reference": round(100 * volume),
                     "n_prediction": round(100 * volume * (0.95 + 0.1 * place)) + 3}
                    for metric, value in values.items()
                ]  # fmt: skip
    return pandas.DataFrame(rows)


def make_paired(scores, first="argmax", second="rma"):
    """Rows of paired.csv; the interval is a normal one, which serves here."""
    rows = []
    for metric, part in scores.groupby("metric", sort=False):
        wide = part.pivot(index=["label", "label_name", "case_id"], columns="decoder", values="value")
        tables = {key: wide.loc[key].dropna() for key in LABELS.items()}
        tables["mean", "mean"] = wide.dropna().groupby("case_id").mean()
        scale, sign = (100 if UNITS[metric] == "1" else 1), (-1 if BETTER[metric] == "lower" else 1)
        for (label, label_name), table in tables.items():
            change = (table[second] - table[first]).to_numpy()
            spread = 1.96 * change.std() / np.sqrt(len(change)) if len(change) > 5 else float("nan")
            gain = sign * scale * change
            rows.append({
                "label": label, "label_name": label_name, "metric": metric, "unit": UNITS[metric],
                "better": BETTER[metric], "optimised": metric == "dice", "first": first, "second": second,
                "num_pairs": len(change), "num_left_out": len(scores["case_id"].unique()) - len(change),
                "mean_first": table[first].mean(), "mean_second": table[second].mean(), "mean": change.mean(),
                "low": change.mean() - spread, "high": change.mean() + spread, "median": np.median(change),
                "p_permutation_holm": 0.012, "p_wilcoxon_holm": 0.0002, "improved": int((gain > 1).sum()),
                "unchanged": int((abs(gain) <= 1).sum()), "worsened": int((gain < -1).sum()),
                "improved_5": int((gain > 5).sum()), "worsened_5": int((gain < -5).sum()),
                "improved_10": int((gain > 10).sum()), "worsened_10": int((gain < -10).sum()),
                "smallest": change.min(), "largest": change.max(),
            })  # fmt: skip
    return pandas.DataFrame(rows)


def make_tables(num_cases=40, names=lambda number: f"case_{number:03}", **changes):
    """All tables of a plausible cohort with two labels and two decoders."""
    scores = make_scores(num_cases, names)
    one = scores[scores["metric"] == "dice"]
    keys = one[["case_id", "label", "label_name", "decoder"]]
    volumes = keys.assign(reference_ml=one["n_reference"] / 100, prediction_ml=one["n_prediction"] / 100)
    expected_volume = volumes[volumes["decoder"] == "rma"].assign(decoder="expected")
    volumes = pandas.concat([volumes, expected_volume.assign(prediction_ml=expected_volume["reference_ml"] * 1.01)])
    agreement = [
        {"label": label, "label_name": name, "decoder": decoder, "num_cases": num_cases, "bias_ml": bias,
         "loa_low_ml": bias - 9, "loa_high_ml": bias + 9, "bias_percent": 2 * bias, "loa_low_percent": -20.0,
         "loa_high_percent": 30.0, "icc_agreement": 0.97, "icc_consistency": 0.98, "ccc": 0.969}
        for label, name in LABELS.items() for decoder, bias in (("argmax", -1.21), ("rma", 0.84), ("expected", 0.03))
    ]  # fmt: skip
    bins = {"all": 31, "<0.5 mL": 9, "0.5-2 mL": 8, "2-10 mL": 8, ">=10 mL": 6}
    detection = [
        {"label": "2", "label_name": "tumour", "decoder": decoder, "iou_threshold": threshold, "volume_bin": part,
         "num_cases": num_cases, "n_reference": n, "n_prediction": n + 3, "tp": n - 4, "fp": 7, "fn": 4,
         "precision": 0.8 if part == "all" else np.nan, "recall": (n - 4) / n, "f1": 0.83 if part == "all" else np.nan,
         "false_positives_per_case": 0.175 if part == "all" else np.nan}
        for decoder in ("argmax", "rma") for threshold in (0.0, 0.1, 0.5) for part, n in bins.items()
    ]  # fmt: skip
    empty = one[one["status"] == "reference_empty"]
    calibration = [
        {"scope": "pooled", "case_id": "", "temperature": temperature, "measure": measure, "value": value}
        for temperature, factor in (("none", 1.0), ("stored", 0.7))
        for measure, value in (("ece", 0.004 * factor), ("class_ece", 0.02 * factor), ("brier", 0.01), ("nll", 0.03))
    ]
    paired = make_paired(scores)
    strata = [
        {"stratum_by": "reference volume (mL)", "stratum": stratum, "from": low, "to": 3 * low, "label": "2",
         "label_name": "tumour", "metric": "dice",
         **{key: value for key, value in paired.iloc[1].items() if key not in ("label", "label_name", "metric")}}
        for stratum, low in (("low", 0.4), ("middle", 3.2), ("high", 12.7))
    ]  # fmt: skip
    quality = [
        {"label": label, "label_name": name, "decoder": "rma", "num_cases": num_cases, "mae": 0.043, "bias": 0.021,
         "pearson": 0.81, "spearman": 0.77, "auroc": 0.88, "aurc": 0.12, "failure_below": 0.7}
        for label, name in LABELS.items()
    ]  # fmt: skip
    tables = {
        "scores": scores, "paired": paired, "volumes": volumes, "agreement": pandas.DataFrame(agreement),
        "detection": pandas.DataFrame(detection), "strata": pandas.DataFrame(strata),
        "empty_references": empty[["case_id", "label", "label_name", "decoder"]].assign(
            false_positive_voxels=321, false_positive_ml=2.13, components=2),
        "calibration": pandas.DataFrame(calibration), "quality": pandas.DataFrame(quality),
        "expected": keys[keys["decoder"] == "rma"].assign(
            expected_score=0.02 + 0.9 * one["value"], real_score=one["value"], expected_volume_ml=3.0),
    }  # fmt: skip
    return Tables("argmax", "rma", "dice", **{**tables, **changes})


def text_of(html):
    """What a reader sees, without tags, scripts and styles."""
    html = re.sub(r"(?s)<(script|style).*?</\1>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def section(html, name):
    """The part of a page that starts with a heading."""
    return html.split(f'<h2 id="{name}">')[1].split("<h2 ")[0]


def cells(html):
    """Texts of a table's cells, row by row, without the heading."""
    rows = re.findall(r"(?s)<tr.*?</tr>", html.split("<tbody>")[1].split("</tbody>")[0])
    return [[text_of(cell).strip() for cell in re.findall(r"(?s)<t[hd].*?</t[hd]>", row)] for row in rows]


def paired_row(**changes):
    row = {
        "label": "2", "label_name": "tumour", "metric": "dice", "unit": "1", "better": "higher", "optimised": True,
        "first": "argmax", "second": "rma", "num_pairs": 9, "num_left_out": 0, "mean_first": 0.6, "mean_second": 0.612,
        "mean": 0.012, "low": 0.004, "high": 0.02, "median": 0.01, "improved": 5, "unchanged": 3, "worsened": 1,
        "improved_5": 2, "worsened_5": 1, "improved_10": 0, "worsened_10": 1, "smallest": -0.164, "largest": 0.18,
    }  # fmt: skip
    return row | changes


def judge(*rows, metric="dice"):
    return make_verdict(Tables("argmax", "rma", metric, pandas.DataFrame(), pandas.DataFrame(rows)))


def test_verdict_says_what_the_interval_allows():
    better = judge(paired_row())
    assert better.judgement == "rma is better than argmax on average, by 1.20 points."
    assert better.text == (
        "Dice of tumour: 60.00 with argmax, 61.20 with rma; difference +1.20 points (95 % interval +0.40 to +2.00). "
        "Of 9 cases, 5 improved, 3 unchanged and 1 worsened by more than one point."
    )
    unclear = judge(paired_row(low=-0.004))
    assert unclear.judgement == "No clear difference between argmax and rma."
    assert "(95 % interval -0.40 to +2.00, which includes no difference)" in unclear.text
    touching = judge(paired_row(low=0.00003))  # written as +0.00
    assert touching.judgement == "No clear difference between argmax and rma."
    assert "+0.00 to +2.00, which includes no difference" in touching.text
    assert judge(paired_row(low=-0.03, high=-0.01)).judgement == "rma is worse than argmax on average, by 1.20 points."
    few = judge(paired_row(low=float("nan"), high=float("nan")))
    assert few.judgement == "Too few patients to tell."
    assert "too few patients for an interval" in few.text


def test_verdict_takes_the_mean_over_labels_and_the_own_pair():
    rows = [paired_row(second="other", mean=0.5), paired_row(), paired_row(label="mean", label_name="mean", mean=0.03)]
    assert judge(*rows).text.startswith("Mean Dice over labels: ")
    assert "difference +3.00 points" in judge(*rows).text
    assert "difference +1.20 points" in judge(*rows[:2]).text
    assert judge(rows[0]).judgement == "Nothing to judge."


def test_verdict_of_a_distance_is_better_when_lower():
    row = paired_row(metric="hd95_mm", unit="mm", better="lower", mean_first=9.0, mean_second=7.5, mean=-1.5, low=-2.0,
                     high=-0.5)  # fmt: skip
    verdict = judge(row, metric="hd95_mm")
    assert verdict.judgement == "rma is better than argmax on average, by 1.50 mm."
    assert "9.00 with argmax, 7.50 with rma; difference -1.50 mm (95 % interval -2.00 to -0.50)" in verdict.text
    assert "by more than 1 mm" in verdict.text


def test_every_section_shows_its_numbers():
    tables = make_tables()
    html = render_page(PageContent("A title", tables, empty_policy="kits", partial="7 cases are missing"))
    order = re.findall(r'<h2 id="(\w+)">', html)
    assert order == ["labels", "metrics", "costs", "volumes", "detection", "empty_references", "strata", "calibration",
                     "quality", "cases"]  # fmt: skip
    assert html.index("PARTIAL:") < html.index('<div class="verdict')
    row = tables.paired[(tables.paired["metric"] == "dice") & (tables.paired["label"] == "2")].iloc[0]
    shown = cells(section(html, "labels"))[1]
    means = [f"{100 * row[key]:.2f}" for key in ("mean_first", "mean_second")]
    assert shown[:4] == ["tumour", *means, f"{100 * row['mean']:+.2f}"]
    assert shown[4] == f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}"
    assert shown[6] == f"{row['improved']} / {row['unchanged']} / {row['worsened']}"
    assert shown[7] == f"{100 * row['smallest']:+.2f} to {100 * row['largest']:+.2f}"
    metrics = {(row[0], row[1]): row for row in cells(section(html, "metrics"))}
    assert ("Dice ★", "liver") in metrics
    assert metrics["HD95", "tumour"][2:5] == ["mm", "rma with argmax", "lower"]
    assert metrics["HD95", "tumour"][-1] == "3"
    assert "model-implied" in text_of(section(html, "quality")).lower()
    assert "no better than those probabilities" in section(html, "quality")
    assert cells(section(html, "volumes"))[2][:3] == ["liver", "sum of probabilities", "+0.030"]
    burden = tables.agreement.assign(burden_bias=[np.nan] * 3 + [-0.0052] * 3, burden_rmse=[np.nan] * 3 + [0.0078] * 3)
    shown = cells(section(render_page(PageContent("Burden", make_tables(agreement=burden))), "volumes"))
    assert [row[-2:] for row in (shown[0], shown[-1])] == [["–", "–"], ["-0.52", "0.78"]]
    assert "Research use; not a medical device." in html
    assert "both empty counts 1, only the reference empty counts 0" in html


def test_costs_name_the_worst_case():
    tables = make_tables()
    part = tables.scores[(tables.scores["metric"] == "dice") & (tables.scores["label"] == "2")]
    wide = part.pivot(index="case_id", columns="decoder", values="value")
    change = wide["rma"] - wide["argmax"]
    html = render_page(PageContent("A title", tables))
    row = dict(zip(range(12), cells(section(html, "costs"))[1], strict=False))
    assert (row[7], row[8]) == (f"{100 * change.min():+.2f}", change.idxmin())
    assert row[1] == str((change < -0.01).sum())
    assert row[9] == "-1.21 mL (-2.4 %)"
    target = re.search(r'href="#(case-\d+)">' + change.idxmin(), section(html, "costs"))[1]
    assert re.search(rf'<tr id="{target}"><th scope="row">{change.idxmin()}</th><td class="l ">tumour</td>', html)


def test_cases_are_listed_with_their_status():
    html = render_page(PageContent("A title", make_tables(20)))
    rows = cells(section(html, "cases"))
    assert len(rows) == 40
    empty = [row for row in rows if row[-1] == "reference empty"]
    assert [row[0] for row in empty] == ["case_005", "case_018"]
    assert empty[0][1:8] == ["tumour", "0.00", "0.00", "+0.00", "–", "–", "0.000"]
    differing = make_scores(2)
    differing.loc[(differing["case_id"] == "case_000") & (differing["decoder"] == "rma"), "status"] = "prediction_empty"
    rows = cells(section(render_page(PageContent("A title", make_tables(2, scores=differing))), "cases"))
    assert rows[0][-1] == "ok (argmax), prediction empty (rma)"


def test_one_decoder_and_no_scores():
    single = Tables("argmax", "argmax", "dice", make_scores(7, arms=("argmax",)))
    html = render_page(PageContent("One", single))
    assert re.search(r"Mean Dice with argmax: liver \d\d\.\d\d \(7 cases\), tumour", text_of(html))
    assert [row[1] for row in cells(section(html, "labels"))] == ["argmax", "argmax"]
    assert "improved" not in text_of(html)
    html = render_page(PageContent("None", Tables("argmax", "rma", "dice", pandas.DataFrame()), failed={"a": "b"}))
    assert "No case has a Dice." in html
    assert re.findall(r'<h2 id="(\w+)">', html) == ["failed"]


NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><script>alert(1)</script>",
    "a&b'`{{7*7}}",
)


def test_no_name_does_harm():
    tables = make_tables(8, names=lambda number: NASTY[number % 4] + str(number))
    renamed = {name: getattr(tables, name).replace({"label_name": {"tumour": NASTY[1]}}) for name in
               ("scores", "paired", "volumes", "agreement")}  # fmt: skip
    tables = make_tables(8, names=lambda number: NASTY[number % 4] + str(number), **renamed)
    content = PageContent(
        NASTY[0], tables, [PageChart(NASTY[1], NASTY[0], NASTY[1], PIXEL)],
        [PagePicture(NASTY[0], "worst", PIXEL, NASTY[1])],
        [ViewerCase(NASTY[0], NASTY[2], b"1", {"reference": b"2", NASTY[2]: b"3"}, "1")], "let text = '</script><!--';",
        {NASTY[0]: NASTY[1]}, {NASTY[2]: [NASTY[0]]}, NASTY[0], NASTY[1], [NASTY[2]],
        {NASTY[0]: NASTY[1], "more": {NASTY[2]: [NASTY[0]]}},
    )  # fmt: skip
    html = render_page(content)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert len(re.findall(r"<script\b", html)) == len(re.findall(r"</script>", html)) == 3
    assert "49" not in re.findall(r"a&amp;b[^<]*", html)[0]
    assert r"let text = '\x3c/script>\x3c!--';" in html
    data = json.loads(re.search(r'(?s)id="viewer-data">(.*?)</script>', html)[1])
    assert list(data["cases"][0]["masks"]) == ["reference", NASTY[2]]


def test_only_own_scripts_may_run():
    import base64
    import hashlib

    html = render_page(PageContent("A title", make_tables(2)))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    script = re.search(r"(?s)<script>(.*?)</script>", html)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy.replace("  ", " ")
    assert "default-src 'none'" in policy
    assert "http:" not in html.replace("http-equiv", "") and "https:" not in html


def test_page_without_the_viewer_says_so():
    case = ViewerCase("a", "case a", None, {"reference": b"1", "rma": b"2"}, "1")
    html = render_page(PageContent("A title", make_tables(2), viewer_cases=[case]))
    assert "The interactive viewer was left out: npm was not found when the package was built" in html
    assert 'id="viewer-data"' not in html


def test_viewer_carries_its_licences(tmp_path, monkeypatch):
    from rankseg_rma.report import viewer

    monkeypatch.setattr(viewer, "FOLDER", tmp_path)
    assert load_viewer() is None
    (tmp_path / "niivue.umd.js").write_text("run();", encoding="utf-8")
    assert load_viewer() is None
    (tmp_path / "niivue.LICENSES.txt").write_text("BSD */ 2-Clause", encoding="utf-8")
    assert load_viewer() == "/*!\nBSD * / 2-Clause\n*/\nrun();"


@pytest.mark.parametrize(
    ("value", "unit", "signed", "text"),
    [
        (0.5, "1", False, "50.00"), (-0.00001, "1", True, "+0.00"), (1234.5, "ml", False, "1234"),
        (0.0312, "ml", True, "+0.031"), (-0.01, "ml", False, "-0.010"), (3.0, "count", False, "3.00"),
        (float("inf"), "mm", False, "–"), (None, "mm", False, "–"),
    ],
)  # fmt: skip
def test_quantities(value, unit, signed, text):
    assert write_quantity(value, unit, signed) == text


def test_interval_of_too_few():
    assert write_interval(float("nan"), float("nan"), "1") == "too few patients"


def test_demo_ends_with_a_page(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--out", str(tmp_path / "demo"), "--cases", "2"])
    assert result.exit_code == 0, (result.output, result.exception)
    page = Path(result.output.splitlines()[-1].removeprefix("Open the page: "))
    assert page.is_relative_to((tmp_path / "demo").resolve())
    text = page.read_text(encoding="utf-8")
    for part in ("Too few patients to tell.", "too few patients for an interval", "Changed most", "phantom_001"):
        assert part in text, part
    assert "data:image/png;base64," in section(text, "pictures")


def test_rows_keep_odd_names(tmp_path):
    for name in ("NA", "007", "a$x_$b", 'a,"b'):
        path = write_table(tmp_path / "recist.csv", [dict.fromkeys(COLUMNS["recist.csv"], name)])
        assert read_rows(path)["case_id"].tolist() == [name]
