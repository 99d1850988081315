"""Protocols of challenges, by the command, against the judges' own figures."""

import json

import nibabel
import numpy as np
import pandas
import pytest
import torch
from monai.metrics import compute_surface_dice

from conftest import run
from rankseg_rma.evaluation.protocols import KITS23_REGIONS
from rankseg_rma.files.volumes import read_volume, write_volume


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
