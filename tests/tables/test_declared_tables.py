"""Tables are declared once: what a writer may leave out, what it may not, and the headers of earlier versions."""

import numpy as np
import pandas
import pytest

from rankseg_rma.evaluation import cohort
from rankseg_rma.evaluation.cohort import read_expected
from rankseg_rma.runs.outcome import Outcome
from rankseg_rma.tables.columns import ANY, declare
from rankseg_rma.tables.dictionary import COLUMNS, TABLES, describe_columns
from rankseg_rma.tables.store import frame_of, read_rows, write_table


def row_of(name, **values):
    """A row with every column that it may not lack."""
    return {column.name: "x" for column in TABLES[name] if not column.optional} | values


@pytest.mark.parametrize("name", [*TABLES])
def test_every_table_is_written_in_the_order_of_its_columns(tmp_path, name):
    row = row_of(name)
    path = write_table(tmp_path / name, [dict(reversed(row.items()))])
    header, line = path.read_text(encoding="utf-8").splitlines()
    named = [column.name for column in TABLES[name] if column.name != ANY]
    assert header.split(",") == named
    assert line.split(",") == ["x" if column in row else "" for column in named]


@pytest.mark.parametrize("name", [*TABLES])
@pytest.mark.parametrize("make", [list, pandas.DataFrame])
def test_a_row_without_a_needed_column_is_refused(tmp_path, name, make):
    for left_out in row_of(name):
        row = {key: value for key, value in row_of(name).items() if key != left_out}
        with pytest.raises(ValueError, match=rf"row 0 of {name} must be of its declared columns; got no {left_out}"):
            write_table(tmp_path / name, make([row]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in TABLES if ANY not in COLUMNS[name]])
@pytest.mark.parametrize("make", [list, pandas.DataFrame])
def test_an_unknown_column_is_refused(tmp_path, name, make):
    with pytest.raises(ValueError, match="got unknown colour"):
        write_table(tmp_path / name, make([row_of(name, colour="red")]))
    assert not list(tmp_path.iterdir())


def test_the_bad_row_is_named(tmp_path):
    good = row_of("recist.csv")
    with pytest.raises(ValueError, match="row 1 of recist.csv"):
        write_table(tmp_path / "recist.csv", [good, {**good, "colour": "red"}, good])


def test_a_table_of_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of .*; got 'colours.csv'"):
        write_table(tmp_path / "colours.csv", [])


def test_further_columns_come_last(tmp_path):
    row = {"dice": 0.5, **row_of("cases_wide.csv"), "iou": 0.4}
    header = write_table(tmp_path / "cases_wide.csv", [row]).read_text(encoding="utf-8").splitlines()[0]
    assert header.endswith(",n_prediction,dice,iou") and header.startswith("case_id,")


def test_optional_columns_are_the_tables_own():
    with pytest.raises(ValueError, match="optional must be columns of the table; got colour"):
        declare({"case_id": "case"}, optional=("case_id", "colour"))


def test_unit_has_one_meaning():
    text = describe_columns()
    for name, columns in COLUMNS.items():
        assert "score_unit" not in columns, name
        assert "computed over" not in columns.get("unit", "") and f"## {name}\n" in text
    assert [name for name in COLUMNS if "unit" in COLUMNS[name]] == [
        "cases.csv", "summary.csv", "paired.csv", "advice.csv",
    ]  # fmt: skip
    over = ["inference.csv", "inference_images.csv", "items.csv", "classes.csv", "probabilities.csv",
            "test_summary.csv", "reproduce.csv", "advice_cases.csv", "advice.csv"]  # fmt: skip
    assert [name for name in COLUMNS if "score_over" in COLUMNS[name]] == over


@pytest.mark.parametrize("name", [name for name in TABLES if "score_over" in COLUMNS[name]])
def test_headers_of_the_version_before_are_read(tmp_path, name):
    new = row_of(name, score_over="slice") | ({"unit": "1"} if name == "advice.csv" else {})
    old = {{"score_over": "unit", "unit": "score_unit"}.get(key, key): value for key, value in new.items()}
    (tmp_path / "old").mkdir()
    pandas.DataFrame([old]).to_csv(tmp_path / "old" / name, index=False)
    write_table(tmp_path / name, [new])
    before, today = read_rows(tmp_path / "old" / name), read_rows(tmp_path / name)
    assert list(before.columns) == list(new) and before["score_over"].tolist() == ["slice"]
    assert before.astype(str).equals(today[list(new)].astype(str))


def test_the_unit_of_a_score_keeps_its_name(tmp_path):
    write_table(tmp_path / "summary.csv", [row_of("summary.csv", unit="mm")])
    assert read_rows(tmp_path / "summary.csv")["unit"].tolist() == ["mm"]


def test_masks_of_the_version_before_are_evaluated(tmp_path):
    pandas.DataFrame({
        "case_id": ["a"], "label": [1], "metric": ["dice"], "unit": ["slice"], "expected_score_rma": [0.8],
        "expected_volume_ml": [3.0], "volume_rma_ml": [2.0], "temperature": [1.0],
    }).to_csv(tmp_path / "inference.csv", index=False)  # fmt: skip
    (tmp_path / "rma").mkdir()
    (row,) = read_expected({"rma": tmp_path / "rma"}).to_dict("records")
    assert row["score_over"] == "slice" and row["expected_score"] == 0.8


def test_a_derived_table_with_a_strange_column_costs_itself_only(tmp_path, monkeypatch):
    outcome = Outcome(tmp_path)
    monkeypatch.setattr(cohort, "COHORT_TABLES", ("summary", "volumes", "agreement"))
    monkeypatch.setattr(cohort, "summary_rows", lambda scores: [{"colour": "red"}])
    row = {"case_id": "a", "label": "1", "label_name": "liver", "decoder": "rma", "metric": "dice", "value": 0.5,
           "unit": "1", "status": "ok", "empty_policy": "kits", "tp": 1, "fp": 1, "fn": 1, "n_reference": 2,
           "n_prediction": 2, "n_voxels": 8, "voxel_ml": 0.5, "spacing_1_mm": 1, "spacing_2_mm": 1,
           "spacing_3_mm": 1}  # fmt: skip
    tables = cohort.Tables("rma", "rma", "dice", frame_of("cases.csv", [row]))
    options = cohort.EvaluationOptions()
    scored = cohort.ScoredCohort([], [], {"rma": tmp_path}, {}, {}, {}, options, None)
    found = cohort.add_cohort_tables(tables, scored, False, outcome)
    assert list(outcome.failed) == ["summary.csv"] and "unknown colour" in outcome.failed["summary.csv"]
    assert found.summary.empty and found.volumes["prediction_ml"].tolist() == [1.0] and len(found.agreement) == 1
    assert np.isnan(found.agreement["sd_ml"].iloc[0])
