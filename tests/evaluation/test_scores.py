"""evaluate, compare, advise and figures through the command line: two folders in, tables and a page out."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pytest
import torch
from monai.metrics import compute_surface_dice
from typer.testing import CliRunner

from rankseg_rma.cli import app
from rankseg_rma.evaluation.protocols import KITS23_REGIONS
from rankseg_rma.files.probabilities import Probabilities, write_probabilities
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.metrics import count_overlap
from rankseg_rma.metrics.metric import dice_of
from rankseg_rma.runs.parallel import run_cases
from rankseg_rma.tables.dictionary import COLUMNS, describe_columns

REPOSITORY = Path(__file__).parents[2]

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
NUM_CASES = 8


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def ball(centre, radius, shape=(24, 20, 12)):
    grid = np.indices(shape)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) < radius**2


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Organ (1) with a tumour (2): soft probabilities, argmax and a larger mask; case 7 has no tumour."""
    root, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(3)
    for k in range(NUM_CASES):
        reference = np.where(ball((12, 10, 6), 5), 1, 0).astype(np.uint8)
        if k < NUM_CASES - 1:
            reference[ball((11 + k % 3, 10, 6), 2.5)] = 2
        noise = rng.normal(size=(3, *reference.shape))
        logits = 2.0 * np.eye(3)[reference].transpose(3, 0, 1, 2) + noise
        probs = torch.from_numpy(logits).softmax(dim=0).float()
        masks = {"argmax": probs.argmax(0).numpy(), "rma": np.where(probs[2] > 0.35, 2, probs.argmax(0).numpy())}
        name = f"case_{k}.nii.gz"
        write_volume(root / "labels" / name, reference, AFFINE)
        write_volume(root / "images" / name, (100.0 * reference + noise[0]).astype(np.float32), AFFINE)
        write_probabilities(root / "probabilities" / name, Probabilities(probs, AFFINE))
        for decoder, mask in masks.items():
            write_volume(root / "masks" / decoder / name, mask.astype(np.uint8), AFFINE)
    return root


@pytest.fixture(scope="module")
def scores(cohort):
    out = cohort / "scores"
    run("compare", cohort / "masks" / "argmax", cohort / "masks" / "rma", "--references", cohort / "labels",
        "--out", out, "--labels", "1=organ,2=tumour", "--region", "both=1+2", "--images", cohort / "images",
        "--probabilities", cohort / "probabilities")  # fmt: skip
    return out


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
                 "--out", tmp_path / "out", code=1)  # fmt: skip
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


def nnunet_key(key):
    """How nnU-Net's loader reads the keys of summary.json."""
    return int(key) if key.isdigit() else tuple(int(part) for part in key.strip("()").split(","))


def test_summary_json_as_nnunet_reads_it(cohort, tmp_path):
    run("evaluate", "--predictions", cohort / "masks" / "argmax", "--references", cohort / "labels", "--out", tmp_path,
        "--protocol", "nnunet", "--labels", "1=organ,2=tumour", "--region", "both=1+2", "--no-report")  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [nnunet_key(key) for key in summary["mean"]] == [1, 2, (1, 2)]
    assert summary["empty_policy"] == "nnunet"
    for entry in summary["metric_per_case"]:
        reference, mask = (nibabel.load(entry[f"{side}_file"]).get_fdata() for side in ("reference", "prediction"))
        for key, row in entry["metrics"].items():
            members = nnunet_key(key) if "(" in key else (nnunet_key(key),)
            r, p = np.isin(reference, members), np.isin(mask, members)
            counts = [(r & p).sum(), (~r & p).sum(), (r & ~p).sum(), (~r & ~p).sum()]
            assert [row[name] for name in ("TP", "FP", "FN", "TN")] == counts
            assert (row["n_ref"], row["n_pred"]) == (r.sum(), p.sum())
            assert row["Dice"] == pytest.approx(2 * counts[0] / (r.sum() + p.sum()))
    dice = [entry["metrics"]["2"]["Dice"] for entry in summary["metric_per_case"]]
    assert summary["mean"]["2"]["Dice"] == pytest.approx(np.nanmean(dice))
    means = [summary["mean"][key]["Dice"] for key in ("1", "2")]  # regions do not enter
    assert summary["foreground_mean"]["Dice"] == pytest.approx(np.mean(means))


def test_lits_protocol(cohort, tmp_path):
    run("evaluate", "--predictions", cohort / "masks", "--references", cohort / "labels", "--out", tmp_path,
        "--protocol", "lits", "--no-report")  # fmt: skip
    table = pandas.read_csv(tmp_path / "cases.csv", dtype={"label": str})
    summary = json.loads((tmp_path / "argmax" / "lits.json").read_text())
    mine = table[(table["decoder"] == "argmax") & (table["metric"] == "dice")].groupby("label_name")["value"].mean()
    assert summary["lesion_dice_per_case"] == pytest.approx(mine["tumour"])
    assert summary["liver_dice_per_case"] == pytest.approx(mine["liver"])
    burden = pandas.read_csv(tmp_path / "burden.csv").query("decoder == 'argmax'")["burden_difference"]
    assert summary["RMSE_Tumorburden_corrected"] == pytest.approx(np.sqrt((burden**2).mean()))


def test_kits23_protocol_on_real_annotators(real_data, tmp_path):
    """Two of KiTS23's annotators: tumour Dice as listed with the data, all scores as MONAI's."""
    root = real_data / "kits23_labels"
    code = {"kidney": 1, "cyst": 3, "tumor": 2}
    for case in ("case_00030", "case_00041"):
        for annotator in (1, 2):
            labels = None
            for name, label in code.items():
                for file in sorted((root / case / "instances").glob(f"{name}_*_annotation-{annotator}.nii.gz")):
                    volume = read_volume(file)
                    labels = np.zeros(volume.array.shape, np.uint8) if labels is None else labels
                    labels[volume.array > 0] = label
            write_volume(tmp_path / str(annotator) / f"{case}.nii.gz", labels, volume.affine, volume.header)
    run("evaluate", "--predictions", tmp_path / "2", "--references", tmp_path / "1", "--out", tmp_path / "out",
        "--protocol", "kits23", "--no-report")  # fmt: skip
    lines = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
    assert lines[0] == "caseID,Dice_kidney,Dice_masses,Dice_tumor,SD_kidney,SD_masses,SD_tumor"
    assert [line.split(",")[0] for line in lines[1:]] == ["case_00030", "case_00041", "average"]
    assert all(len(value.partition(".")[2]) == 8 for line in lines[1:] for value in line.split(",")[1:])
    table = pandas.read_csv(tmp_path / "out" / "evaluation.csv", index_col=0)
    assert table["Dice_tumor"].round(3).tolist()[:2] == [0.984, 0.947]
    assert table.loc["average"].tolist() == pytest.approx(table.iloc[:2].mean().tolist(), abs=1e-8)
    first, second = (read_volume(tmp_path / str(k) / "case_00041.nii.gz") for k in (1, 2))
    for region in KITS23_REGIONS[1:]:
        box = np.ix_(*(np.flatnonzero((first.array > 1).any(axis=others) | (second.array > 1).any(axis=others))
                       for others in ((1, 2), (0, 2), (0, 1))))  # fmt: skip
        pair = [torch.from_numpy(np.pad(np.isin(v.array[box], region.members), 2))[None, None] for v in (second, first)]
        judge = compute_surface_dice(*pair, list(region.tolerances_mm), spacing=first.spacing_mm, use_subvoxels=True,
                                     include_background=True)  # fmt: skip
        assert table.loc["case_00041", f"SD_{region.name}"] == pytest.approx(float(judge), abs=1e-6)


def test_kits_layout_as_references(real_data, tmp_path):
    """case_*/segmentation.nii.gz is found by folder name; a mask equal to it scores 1."""
    root = real_data / "kits23_labels"
    volume = read_volume(root / "case_00502" / "segmentation.nii.gz")
    write_volume(tmp_path / "p" / "case_00502.nii.gz", volume.array.astype(np.uint8), volume.affine, volume.header)
    output = run("evaluate", "--predictions", tmp_path / "p", "--references", root, "--out", tmp_path / "o",
                 "--protocol", "kits23", "--no-report", code=1)  # fmt: skip
    assert "23 with no prediction" in output
    assert (pandas.read_csv(tmp_path / "o" / "evaluation.csv").iloc[0, 1:] == 1).all()


def test_chaos_figures(real_data, tmp_path):
    """The published scores of the CHAOS evaluation, by the command."""
    root = real_data / "chaos_ct_liver"
    for folder, name in (("r", "liver"), ("p", "liver_sample_submission")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "set_3.nii.gz").symlink_to(root / f"{name}.nii.gz")
    run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o",
        "--labels", "1=liver", "--edge-is-inside", "--no-report")  # fmt: skip
    found = pandas.read_csv(tmp_path / "o" / "cases.csv").set_index("metric")["value"]
    published = json.loads((root / "reference_metrics.json").read_text())["recomputed_on_these_files"]
    assert found["dice"] == pytest.approx(published["DICE"], abs=1e-6)
    assert 100 * abs(found["rvd"]) == pytest.approx(published["RAVD_percent"], abs=1e-5)
    assert found["assd_mm"] == pytest.approx(published["ASSD_mm"], abs=1e-5)
    assert found["mssd_mm"] == pytest.approx(published["MSSD_mm"])


def test_many_real_labels(real_data, tmp_path):
    """Two models' 61-class masks of the same slices; one header was left behind, which must be said."""
    root = real_data / "totalseg_ct"
    named = json.loads((root / "labels.json").read_text())["labels"]
    names = {name: int(label) for label, name in named.items()}
    crop, whole = read_volume(root / "crop30_seg.nii.gz"), read_volume(root / "seg.nii.gz")
    write_volume(
        tmp_path / "p" / "ct.nii.gz", np.ascontiguousarray(whole.array[:, :, 82:112]).astype(np.uint8), crop.affine
    )
    write_volume(tmp_path / "r" / "ct.nii.gz", crop.array.astype(np.uint8), crop.affine)
    run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o",
        "--no-surface", "--no-report")  # fmt: skip
    dice = pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'").set_index("label")["value"]
    for name, expected in (("liver", 0.98), ("spleen", 0.98), ("aorta", 0.89), ("pancreas", 0.81)):
        assert dice[names[name]] == pytest.approx(expected, abs=0.006), name
    shifted = whole.affine.copy()
    shifted[2, 3] += 246
    write_volume(
        tmp_path / "p" / "ct.nii.gz", np.ascontiguousarray(whole.array[:, :, 82:112]).astype(np.uint8), shifted
    )
    output = run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o",
                 "--no-surface", "--no-report", code=1)  # fmt: skip
    assert "corners lie up to" in output


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


def _fail_on_three(number):
    if number == 3:
        import os

        os._exit(9)
    return number * number


def test_a_killed_worker_costs_its_case_only():
    found = list(run_cases(_fail_on_three, list(range(6)), 2, lambda number: -number))
    assert found == [0, 1, 4, -3, 16, 25]


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
