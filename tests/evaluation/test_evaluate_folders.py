"""`evaluate` on plain folders of masks: pairs, labels, and what it says of the rest."""

import json
import shutil

import numpy as np
import pandas
import pytest
import yaml

from conftest import run
from rankseg_rma.datasets import list_cards
from rankseg_rma.files.volumes import list_volumes, write_volume
from rankseg_rma.metrics import METRIC_TABLE


def test_evaluate_two_plain_folders(tmp_path, rng):
    """Two masks of known overlap: a,1 = 6 of 8 and 6 of 7 voxels -> Dice 0.8; b is empty on both sides."""
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
    reference, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    reference.flat[:8], prediction.flat[2:9] = 1, 1
    affine = np.diag([1.0, 1, 2, 1])
    write_volume(tmp_path / "references" / "a.nii.gz", reference, affine)
    write_volume(tmp_path / "predictions" / "a.nii.gz", prediction, affine)
    for folder in ("predictions", "references"):
        write_volume(tmp_path / folder / "b.nii.gz", np.zeros_like(reference), affine)
    command = ("evaluate", "--predictions", tmp_path / "predictions", "--references", tmp_path / "references", "--out")
    run(*command, tmp_path / "out", "--no-report")
    table = pandas.read_csv(tmp_path / "out" / "cases.csv")
    assert list(table)[:8] == ["case_id", "label", "label_name", "decoder", "metric", "value", "unit", "status"]
    dice = table[table["metric"] == "dice"].set_index("case_id")
    assert dice.loc["a", "value"] == pytest.approx(0.8)
    assert (dice.loc["b", "value"], dice.loc["b", "status"]) == (1.0, "both_empty")
    assert set(table["empty_policy"]) == {"kits"}
    raw = pandas.read_csv(tmp_path / "out" / "mean_dice_raw.csv")
    assert list(raw) == ["filename", "class0", "mean"]
    assert raw["class0"].tolist() == pytest.approx([0.8, 1.0])
    assert (tmp_path / "out" / "metrics.csv").read_text().startswith("mean_dice,0.9")
    assert list(pandas.read_csv(tmp_path / "out" / "mean_dice_summary.csv")["class"]) == ["class0", "mean"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["metric_per_case"][0]["metrics"]["1"]["TP"] == 6
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.9)

    # Missing, extra, moved, damaged and wrongly labelled cases are named; the rest is scored.
    for name, array, where in (("missing", reference, "references"), ("extra", prediction, "predictions")):
        write_volume(tmp_path / where / f"{name}.nii.gz", array, affine)
    for name, array, place in (("moved", prediction, np.diag([1.0, 1, 3, 1])), ("strange", prediction * 7, affine)):
        write_volume(tmp_path / "references" / f"{name}.nii.gz", reference, affine)
        write_volume(tmp_path / "predictions" / f"{name}.nii.gz", array, place)
    write_volume(tmp_path / "references" / "torn.nii.gz", reference, affine)
    (tmp_path / "predictions" / "torn.nii.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "card.yaml").write_text(
        yaml.safe_dump({**yaml.safe_load(list_cards()["phantom"].read_text()), "name": "card"})
    )
    output = run(*command, tmp_path / "again", "--dataset", tmp_path / "card.yaml", code=1)
    for text in (
        "5 faults",
        "1 with no reference in",
        "1 with no prediction in",
        "moved: ",
        "mm apart",
        "strange: ",
        "torn: ",
    ):
        assert text in output, (text, output)
    assert set(pandas.read_csv(tmp_path / "again" / "cases.csv")["case_id"]) == {"a", "b"}


def test_evaluate_hints(work, tmp_path):
    references = work / "data" / "labelsTr"
    for name, path in list(list_volumes(references).items())[:2]:
        (tmp_path / "p").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "p" / f"pred_{name}.nii.gz")
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", references, "--out", tmp_path / "o")
    assert "p has for example 'pred_phantom_000', references 'phantom_000'" in run(
        *command, "--dataset", "phantom", code=1
    )
    for decoder in ("argmax", "rma"):
        shutil.copytree(references, tmp_path / "both" / decoder)
    command = ("evaluate", "--predictions", tmp_path / "both", "--references", references, "--out", tmp_path / "o")
    assert "unterminated subpattern" in run(*command, "--cluster", "phantom_(", code=2)
    run(*command, "--no-report")
    assert (tmp_path / "o" / "paired.csv").is_file()
    run("evaluate", "--predictions", tmp_path / "both" / "rma", "--references", references, "--out", tmp_path / "o",
        "--no-report")  # fmt: skip
    assert not (tmp_path / "o" / "paired.csv").exists()


def test_evaluate_labels_that_only_one_side_has(tmp_path):
    """False positives of a label that no reference holds score 0; without any label the command says what it needs."""
    one, two = np.ones((3, 3, 3), np.uint8), np.full((3, 3, 3), 2, np.uint8)
    write_volume(tmp_path / "r" / "a.nii.gz", one, np.eye(4))
    write_volume(tmp_path / "p" / "a.nii.gz", two[None].astype(np.float32), np.eye(4))
    run("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o",
        "--no-report")  # fmt: skip
    dice = pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'").set_index("label")
    assert dice["value"].to_dict() == {1: 0.0, 2: 0.0}
    assert dice["status"].to_dict() == {1: "prediction_empty", 2: "reference_empty"}
    for folder in ("r", "p"):
        write_volume(tmp_path / folder / "a.nii.gz", 0 * one, np.eye(4))
    empty = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    assert "Name the data set with --dataset" in run(*empty, code=2)
    run(*empty, "--dataset", "phantom", "--no-report")
    assert set(pandas.read_csv(tmp_path / "o" / "cases.csv").query("metric == 'dice'")["value"]) == {1.0}


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, -1, 1e9])
def test_evaluate_names_what_is_no_label_map(tmp_path, value):
    good = np.ones((3, 3, 3), np.float32)
    bad = good.copy()
    bad[0, 0, 0] = value
    for case_id, array in (("good", good), ("bad", bad)):
        write_volume(tmp_path / "r" / f"{case_id}.nii.gz", array, np.eye(4))
        write_volume(tmp_path / "p" / f"{case_id}.nii.gz", good, np.eye(4))
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    assert "a label map of whole numbers" in run(*command, "--no-report", code=1)
    table = pandas.read_csv(tmp_path / "o" / "cases.csv")
    assert set(table["case_id"]) == {"good"}
    assert set(table["label"]) == {1}


def test_evaluate_compares_decoders(work, masks, tmp_path):
    out = tmp_path / "evaluation"
    ids = tmp_path / "datalist.json"
    entries = [{"image": f"imagesTr/phantom_00{k}.nii.gz"} for k in (0, 1)]
    ids.write_text(json.dumps({"test": entries}))
    again, references = f"again={masks / 'rma'}", work / "data" / "labelsTr"
    run("evaluate", "--predictions", masks, "--predictions", again, "--references", references, "--out", out,
        "--dataset", "phantom", "--unit", "slice", "--datalist", ids, "--no-report")  # fmt: skip
    table = pandas.read_csv(out / "cases.csv")
    assert set(table["decoder"]) == {"argmax", "rma", "again"}
    assert set(table["metric"]) == {*METRIC_TABLE, "nsd_1mm", "nsd_2mm"}
    paired = pandas.read_csv(out / "paired.csv").set_index(["label_name", "metric", "second"])
    scores = table[table["metric"] == "dice"].pivot(index=["case_id", "label"], columns="decoder", values="value")
    tumour = scores.xs(2, level="label")
    assert paired.loc[("tumour", "dice", "rma"), "mean"] == pytest.approx((tumour["rma"] - tumour["argmax"]).mean())
    macro = scores.groupby(level="case_id").mean()
    assert paired.loc[("mean", "dice", "rma"), "mean"] == pytest.approx((macro["rma"] - macro["argmax"]).mean())
    assert paired.loc[("mean", "dice", "rma"), "mean"] == paired.loc[("mean", "dice", "again"), "mean"]
    assert (out / "rma" / "summary.json").is_file()
