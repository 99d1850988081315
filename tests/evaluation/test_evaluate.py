"""The command `evaluate` on a made-up cohort: tables, report and what a second run leaves."""

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from conftest import run
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.metrics import count_overlap
from rankseg_rma.metrics.metric import dice_of
from rankseg_rma.tables.dictionary import COLUMNS, describe_columns
from scored_cohort import AFFINE, NUM_CASES

REPOSITORY = Path(__file__).parents[2]


def test_tables_match_the_dictionary(scores):
    made = sorted(path.name for path in scores.glob("*.csv"))
    assert {"cases.csv", "cases_wide.csv", "lesions.csv", "volumes.csv", "paired.csv", "slices.csv", "agreement.csv",
            "detection.csv", "strata.csv", "calibration.csv", "reliability.csv", "empty_references.csv", "burden.csv",
            "recist.csv"} <= set(made)  # fmt: skip
    for name in made:
        columns = list(pandas.read_csv(scores / name).columns)
        expected = [column for column in COLUMNS[name] if column != "*"]
        assert columns[: len(expected)] == expected, name
        assert "*" in COLUMNS[name] or columns == expected, name
    assert json.loads((scores / "columns.json").read_text()) == COLUMNS
    assert (REPOSITORY / "docs" / "columns.md").read_text(encoding="utf-8") == describe_columns()


def test_scores_against_counts(scores, cohort):
    table = pandas.read_csv(scores / "cases.csv", dtype={"label": str}).set_index(
        ["case_id", "label", "decoder", "metric"]
    )
    wide = pandas.read_csv(scores / "cases_wide.csv", dtype={"label": str}).set_index(["case_id", "label", "decoder"])
    for k in range(NUM_CASES):
        reference = read_volume(cohort / "labels" / f"case_{k}.nii.gz").array
        for decoder in ("argmax", "rma"):
            mask = read_volume(cohort / "masks" / decoder / f"case_{k}.nii.gz").array
            for label, members in (("1", [1]), ("2", [2]), ("1+2", [1, 2])):
                (counts,) = count_overlap(np.isin(mask, members), np.isin(reference, members), [1])
                row = table.loc[(f"case_{k}", label, decoder, "dice")]
                expected = 0.0 if counts.status == "reference_empty" else dice_of(counts)
                assert row["value"] == pytest.approx(expected)
                assert (row["tp"], row["fp"], row["fn"]) == (counts.tp, counts.fp, counts.fn)
                assert wide.loc[(f"case_{k}", label, decoder), "dice"] == row["value"]
    assert list(table.loc[("case_0", "1", "rma", "dice"), ["spacing_1_mm", "spacing_2_mm", "spacing_3_mm"]]) == [
        1,
        1.5,
        2,
    ]
    volumes = pandas.read_csv(scores / "volumes.csv", dtype={"label": str}).set_index(["case_id", "label", "decoder"])
    counted = (read_volume(cohort / "labels" / "case_2.nii.gz").array == 2).sum() * 3.0 / 1000
    assert volumes.loc[("case_2", "2", "rma"), "reference_ml"] == pytest.approx(counted)


def test_paired_rows(scores):
    table = pandas.read_csv(scores / "cases.csv", dtype={"label": str})
    paired = pandas.read_csv(scores / "paired.csv", dtype={"label": str}).set_index(["label", "metric"])
    for (label, metric), part in table.groupby(["label", "metric"]):
        if metric == "rvd":
            assert (label, metric) not in paired.index  # signed: neither direction is better
            continue
        values = part.pivot(index="case_id", columns="decoder", values="value").dropna()
        if len(values):
            row = paired.loc[(label, metric)]
            assert row["mean"] == pytest.approx((values["rma"] - values["argmax"]).mean())
            assert row["num_pairs"] == len(values)
    dice = table[(table["metric"] == "dice") & table["label"].isin(["1", "2"])]
    macro = dice.pivot_table(index="case_id", columns="decoder", values="value").diff(axis=1)["rma"]
    assert paired.loc[("mean", "dice"), "mean"] == pytest.approx(macro.mean())  # the region does not enter
    assert paired.loc[("2", "avd_ml"), "better"] == "lower"
    assert not paired["partial"].any()
    labels = paired.loc[[("1", "dice"), ("2", "dice"), ("1+2", "dice")]]
    assert (labels["p_permutation_holm"] >= labels["p_permutation"]).all()


def test_reference_without_the_label_is_shown(scores, cohort):
    table = pandas.read_csv(scores / "empty_references.csv").set_index("decoder")
    mask = read_volume(cohort / "masks" / "rma" / "case_7.nii.gz").array
    assert set(table["case_id"]) == {"case_7"}
    assert table.loc["rma", "false_positive_voxels"] == (mask == 2).sum() > 0
    assert table.loc["rma", "false_positive_ml"] == pytest.approx((mask == 2).sum() * 3.0 / 1000)
    assert table.loc["rma", "components"] >= 1


def test_report_and_provenance(scores, cohort):
    page = (scores / "report.html").read_text(encoding="utf-8")
    assert "PARTIAL" not in page
    assert "tumour" in page
    provenance = json.loads((scores / "provenance.json").read_text())
    import hashlib

    file = cohort / "masks" / "rma" / "case_3.nii.gz"
    assert provenance["sha256"]["case_3"]["rma"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (provenance["seed"], provenance["bootstrap_resamples"], provenance["partial"]) == (0, 10_000, "")
    figures = {path.stem for path in (scores / "figures").glob("*.svg")}
    assert {"paired", "differences", "volumes", "bland_altman", "lesion_recall", "reliability", "surface"} <= figures
    assert {path.stem for path in (scores / "figures").glob("*.png")} >= figures


def test_same_numbers_again_and_in_processes(scores, cohort, tmp_path):
    command = ("compare", cohort / "masks" / "argmax", cohort / "masks" / "rma", "--references", cohort / "labels",
               "--labels", "1=organ,2=tumour", "--region", "both=1+2", "--probabilities", cohort / "probabilities",
               "--no-report", "--out", tmp_path, "--workers", "2")  # fmt: skip
    run(*command)
    for path in scores.glob("*.csv"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_missing_case_and_limit_are_partial(cohort, tmp_path):
    command = ("evaluate", "--predictions", cohort / "masks", "--references", cohort / "labels", "--no-surface")
    output = run(*command, "--out", tmp_path / "limit", "--limit", 3)
    assert "PARTIAL" in output
    assert "PARTIAL" in (tmp_path / "limit" / "report.html").read_text(encoding="utf-8")
    assert pandas.read_csv(tmp_path / "limit" / "paired.csv")["partial"].all()
    assert "limit" in json.loads((tmp_path / "limit" / "provenance.json").read_text())["partial"]
    for k in range(3):
        for decoder in ("argmax", "rma") if k else ("argmax",):
            array = read_volume(cohort / "masks" / decoder / f"case_{k}.nii.gz").array
            write_volume(tmp_path / "few" / decoder / f"case_{k}.nii.gz", array, AFFINE)
    output = run("evaluate", "--predictions", tmp_path / "few", "--references", cohort / "labels", "--no-surface",
                 "--no-report", "--out", tmp_path / "out", code=1)  # fmt: skip
    assert "rma: 6 with no prediction" in output
    assert "PARTIAL" in output
    paired = pandas.read_csv(tmp_path / "out" / "paired.csv")
    assert set(paired["num_pairs"]) <= {0, 1, 2}  # only cases that both have


@pytest.mark.parametrize(
    ("policy", "both", "reference_empty"), [("kits", 1.0, 0.0), ("nnunet", np.nan, 0.0), ("monai", np.nan, np.nan)]
)
def test_empty_policies(tmp_path, policy, both, reference_empty):
    empty, full = np.zeros((4, 4, 4), np.uint8), np.ones((4, 4, 4), np.uint8)
    for name, prediction, reference in (("both", empty, empty), ("extra", full, empty), ("ok", full, full)):
        write_volume(tmp_path / "p" / f"{name}.nii.gz", prediction, np.eye(4))
        write_volume(tmp_path / "r" / f"{name}.nii.gz", reference, np.eye(4))
    run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o",
        "--empty", policy, "--no-report")  # fmt: skip
    table = pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'").set_index("case_id")
    assert table.loc["both", "value"] == pytest.approx(both, nan_ok=True)
    assert table.loc["extra", "value"] == pytest.approx(reference_empty, nan_ok=True)
    assert set(table["empty_policy"]) == {policy}


def test_figures_again(scores, tmp_path):
    run("figures", scores, "--out", tmp_path, "--name", "paired")
    assert (tmp_path / "paired.png").read_bytes() == (scores / "figures" / "paired.png").read_bytes()
    assert (tmp_path / "paired.svg").read_bytes() == (scores / "figures" / "paired.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paired.png", "paired.svg"]
    assert "name must be one of" in run("figures", scores, "--out", tmp_path, "--name", "pared", code=2)
    assert "second must be one of" in run("figures", scores, "--out", tmp_path, "--second", "rna", code=2)
    assert "nothing to draw" in run("figures", scores, "--out", tmp_path, "--name", "expected", code=1)
    assert "evaluate or compare wrote" in run("figures", tmp_path, "--out", tmp_path, code=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--labels", "one=liver"), "labels must be"),
        (("--region", "all=1"), "region must be"),
        (("--tolerances", "wide"), "tolerances must be"),
        (("--connectivity", "18"), "connectivity must be"),
        (("--labels", "1=organ,2=tumour", "--lesions", "tumor"), "lesions must be one of"),
        (("--metric", "dise"), "metric must be one of"),
    ],
)
def test_typing_errors(cohort, tmp_path, options, message):
    command = ("evaluate", "--predictions", cohort / "masks", "--references", cohort / "labels", "--out", tmp_path)
    assert message in run(*command, *options, code=2)


def test_an_earlier_run_leaves_nothing_behind(cohort, tmp_path):
    """A second run into the same folder removes what the first one wrote and it did not, and nothing else."""
    (tmp_path / "notes.txt").write_text("mine")
    common = ("--references", cohort / "labels", "--no-surface", "--out", tmp_path)
    run("evaluate", "--predictions", cohort / "masks", "--protocol", "lits", *common)
    assert (tmp_path / "argmax" / "lits.json").is_file() and (tmp_path / "report.html").is_file()
    run("evaluate", "--predictions", cohort / "masks" / "rma", "--lesions", "none", "--no-report", *common)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    told = set(json.loads((tmp_path / "provenance.json").read_text())["files"])
    assert left == told | {"provenance.json", "notes.txt"}
    assert not any("lits" in name or "report" in name or "figures" in name or "paired" in name for name in left)
