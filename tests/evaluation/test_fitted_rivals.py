"""A tuned threshold and a fitted temperature beside RMA: `compare` and `advise`."""

import json

import nibabel
import numpy as np
import pandas
import pytest

from conftest import run
from rankseg_rma.files.volumes import read_volume
from rankseg_rma.tables.dictionary import COLUMNS
from scored_cohort import NUM_CASES


def test_compare_with_a_tuned_threshold(cohort, tmp_path):
    for k in range(NUM_CASES):
        side = "validation" if k < 4 else "test"
        (tmp_path / side).mkdir(exist_ok=True)
        (tmp_path / side / f"case_{k}.nii.gz").symlink_to(cohort / "probabilities" / f"case_{k}.nii.gz")
        if side == "test":
            for decoder in ("argmax", "rma"):
                (tmp_path / decoder).mkdir(exist_ok=True)
                (tmp_path / decoder / f"case_{k}.nii.gz").symlink_to(cohort / "masks" / decoder / f"case_{k}.nii.gz")
    (tmp_path / "labels").mkdir()
    for k in range(NUM_CASES):
        (tmp_path / "labels" / f"case_{k}.nii.gz").symlink_to(cohort / "labels" / f"case_{k}.nii.gz")
    command = ("compare", tmp_path / "argmax", tmp_path / "rma", "--references", tmp_path / "labels",
               "--validation", tmp_path / "validation", "--no-report", "--no-surface")  # fmt: skip
    assert "give --probabilities" in run(*command, "--out", tmp_path / "o", code=2)
    run(*command, "--out", tmp_path / "o", "--probabilities", tmp_path / "test")
    told = json.loads((tmp_path / "o" / "masks" / "thresholds.json").read_text())
    assert told["case_ids"] == [f"case_{k}" for k in range(4)]
    mask = read_volume(tmp_path / "o" / "masks" / "threshold" / "case_5.nii.gz").array
    probs = np.moveaxis(nibabel.load(cohort / "probabilities" / "case_5.nii.gz").get_fdata(), -1, 0)
    margins = probs[1:] - np.array(told["thresholds"])[:, None, None, None]
    expected = np.where(margins.max(axis=0) > 0, margins.argmax(axis=0) + 1, 0)
    assert np.mean(mask != expected) < 1e-3
    assert "threshold" in set(pandas.read_csv(tmp_path / "o" / "paired.csv")["second"])
    overlap = run(*command, "--out", tmp_path / "o2", "--probabilities", cohort / "probabilities", code=2)
    assert "of other patients than those compared" in overlap


def test_advise_is_cross_fitted(cohort, tmp_path):
    output = run("advise", cohort / "probabilities", "--references", cohort / "labels", "--out", tmp_path)
    assert "volume: " in output and "slice: " in output
    cases = pandas.read_csv(tmp_path / "advice_cases.csv")
    assert list(cases.columns) == list(COLUMNS["advice_cases.csv"])
    assert set(cases["decoder"]) == {"argmax", "rma", "rma_untempered", "threshold"}
    advice = pandas.read_csv(tmp_path / "advice.csv")
    assert list(advice.columns) == list(COLUMNS["advice.csv"])
    # The temperature of a case comes from the other folds: leaving its own fold out changes nothing of it.
    from rankseg_rma.decoder.temperature import fit_temperature, sample_log_probs
    from rankseg_rma.evaluation.advise import _folds_of

    folds = _folds_of([f"case_{k}" for k in range(NUM_CASES)], 5)
    mine = folds["case_2"]
    others = [name for name, fold in folds.items() if fold != mine]
    samples = []
    for name in others:
        probs = np.moveaxis(
            nibabel.load(cohort / "probabilities" / f"{name}.nii.gz").get_fdata(dtype=np.float32), -1, 0
        )
        samples.append(sample_log_probs(probs, read_volume(cohort / "labels" / f"{name}.nii.gz").array))
    expected = fit_temperature(samples)["temperature"]
    told = cases.query("case_id == 'case_2' and decoder == 'rma'")["temperature"].unique()
    assert told == pytest.approx([expected], rel=1e-4)
    assert "advise" in run("advise", cohort / "probabilities" / "case_0.nii.gz", "--references", cohort / "labels",
                           "--out", tmp_path / "one", code=2)  # fmt: skip
