"""The page: what it shows, and that no name does harm in it."""

import numpy as np
import pandas
from typer.testing import CliRunner

from rankseg_rma.cli import app
from rankseg_rma.report.figures import SlicePicture, draw_slices, to_data_url
from rankseg_rma.report.page import PageContent, render_page
from rankseg_rma.workflows.outcome import read_rows, write_csv


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_demo_ends_with_a_page(tmp_path):
    output = run("demo", "--out", tmp_path / "demo", "--cases", 2)
    page = tmp_path / "demo" / "index.html"
    assert output.splitlines()[-1] == f"Open the page: {page.resolve()}"
    text = page.read_text(encoding="utf-8")
    for part in ("95 % interval", "What changed most", "phantom_001", "data:image/png;base64,", "prefers-color-scheme"):
        assert part in text, part
    assert "http" not in text.replace("http-equiv", "")
    assert 1 < text.count("<img") <= 1 + 4
    assert "too few cases" in text
    assert (tmp_path / "demo" / "figures" / "changed.png").is_file()


def test_page_escapes_names():
    scores = pandas.DataFrame(
        [{"case_id": "<script>alert(1)</script>", "label": 1, "label_name": "a&b", "decoder": decoder, "metric": "dice",
          "value": value, "status": "ok", "n_reference": 5} for decoder, value in (("argmax", 0.5), ("rma", 0.6))]
    )  # fmt: skip
    numbers = dict.fromkeys(("mean_first", "mean_second", "mean", "low", "high", "smallest", "largest"), 0.1)
    counts = dict.fromkeys(("num_pairs", "improved", "unchanged", "worsened"), 1)
    paired = {"metric": "dice", "first": "argmax", "second": "rma", **numbers, **counts}
    expected = {"case_id": "<script>alert(1)</script>", "label": 1, "label_name": "a&b", "temperature": 1.0,
                "temperature_source": "none"}  # fmt: skip
    content = PageContent(
        title="<b>", first="argmax", second="rma", scores=scores, pictures=[], window=(0, 1), failed={"<i>": "<u>"},
        paired=pandas.DataFrame([{**paired, "label": k, "label_name": name} for k, name in ((1, "a&b"), (0, "mean"))]),
        expected=pandas.DataFrame([expected]),
    )  # fmt: skip
    text = render_page(content)
    assert "&lt;script&gt;" in text
    assert not any(tag in text for tag in ("<script", "<i>:", "<u>", "a&b"))


def test_rows_keep_odd_names(tmp_path):
    for name in ("NA", "007", "a$x_$b", 'a,"b'):
        path = write_csv(tmp_path / "rows.csv", [{"case_id": name, "value": None}], ["case_id", "value"])
        assert read_rows(path)["case_id"].tolist() == [name]
    picture = SlicePicture(np.zeros((4, 4)), {"rma": np.eye(4, dtype=bool)}, 1.0, "a$x_$b, a$\\q$b")
    assert to_data_url(draw_slices([picture], (0, 1), columns=1)).startswith("data:image/png")
