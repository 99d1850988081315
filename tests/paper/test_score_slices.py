"""The command ``test`` on slices and volumes: numbers worked out by hand, and a trained run."""

import json

import numpy as np
import pandas
import pytest
import torch
import yaml
from PIL import Image
from pretended_runs import indexed, pretend, write_datalist
from sklearn import metrics

from conftest import run, tiny_network
from rankseg_rma.files.probabilities import Probabilities
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.metrics.semantic import count_images
from rankseg_rma.paper.scores import UnitScores, score_rows
from rankseg_rma.tables.store import read_rows
from trees import make_camvid

STORE_CARD = {
    "name": "pieces", "title": "Pieces", "task": "slices", "modality": "CT", "labels": {1: "organ", 2: "tumour"},
    "spacing_mm": None, "intensity": {"kind": "zscore"}, "roi_size": [4, 4, 4], "licence": "none", "source": "test",
    "layout": "msd", "splits": {"group": "pair", "test_fraction": 0, "folds": 2, "seed": 0},
    "slices": {"labels": {1: [2]}, "names": ["tumour"], "keep": "labelled", "size": [3, 6], "crop_size": [1, 4]},
}  # fmt: skip


def test_a_case_without_foreground_has_no_value_for_any_decoder():
    # In the first case RMA predicts some that is wrong; what its label lacks counts for neither.
    reference = np.array([[0, 0, 0, 0], *[[1, 1, 2, 0]] * 11])
    argmax, rma = reference.copy(), reference.copy()
    rma[0, 0], argmax[1:4, 0] = 1, 0
    counts = {name: count_images(mask, reference, 3) for name, mask in (("argmax", argmax), ("rma", rma))}
    patients = [str(k // 2) for k in range(12)]
    view = UnitScores("slice", counts, np.arange(12), patients, [None] * 12, {}, "foreground")
    rows = pandas.DataFrame(score_rows(view, patients, {"argmax": "none", "rma": "none"})).set_index(
        ["score", "decoder"]
    )
    found = rows.loc[("miou_i", "rma")]
    # Argmax: three cases of (1/2 + 1) / 2 and eight of 1, of eleven; RMA eleven of 1.
    assert rows.loc[("miou_i", "argmax"), "value"] == pytest.approx((3 * 3 / 4 + 8) / 11)
    assert found["difference"] == pytest.approx(1 - (3 * 3 / 4 + 8) / 11) and found["interval"] == "bca"
    assert rows.loc["miou_i", "num_images"].tolist() == [11, 11]


# Thousandths of class 1 in the row that is left of each slice after the crop, and its label.
SLICES = {
    ("p_1", 3): ([900, 478, 0, 0], [1, 1, 0, 0]),
    ("p_1", 10): ([450, 0, 0, 0], [1, 0, 0, 0]),
    ("p_2", 4): ([1000, 0, 0, 0], [1, 0, 0, 0]),
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    entries, listed = [], []
    for (case_id, number), (image, label) in SLICES.items():
        file = f"slices/{case_id}/{number:04d}.npz"
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        # Around the crop, a tumour that must not count.
        whole = {"image": np.full((3, 6), 1000, np.int16), "label": np.zeros((3, 6), np.uint8)}
        for name, row in (("image", image), ("label", label)):
            whole[name][1, 1:5] = row
        np.savez(path, **whole)
        counts = np.bincount(whole["label"].ravel(), minlength=2).tolist()
        listed.append({"case_id": case_id, "slice_index": number, "file": file, "position": len(listed),
                       "num_slices": 20, "shape": [3, 6], "counts": counts})  # fmt: skip
        entries.append({"case_id": case_id, "slice_index": number, "image": file, "label": file})
    content = {
        "dataset": "pieces", "card": {}, "classes": ["background", "tumour"], "size": [3, 6], "crop_size": [1, 4],
        "intensity": {}, "slices": listed, "num_cases": 2, "case_ids": ["p_1", "p_2"], "version": 1,
        "complete": True,
    }  # fmt: skip
    (tmp_path / "data" / "store.json").write_text(json.dumps(content))
    write_datalist(tmp_path / "run", {"training": [], "validation": entries}, temperature=1.5, case_ids=["p_1_0010"])
    (tmp_path / "pieces.yaml").write_text(yaml.safe_dump(STORE_CARD))
    pretend(monkeypatch, tmp_path / "run", "slices", lambda image: np.concatenate([1000 - image, image]) / 1000)
    return tmp_path


def store_trial(folder, *more, code=0):
    return run("test", "--dataset", folder / "pieces.yaml", "--root", folder / "data", "--bundle", folder / "run",
               "--out", folder / "out", *more, code=code)  # fmt: skip


def test_slices_by_hand(store):
    said = store_trial(store, "--save-masks")
    assert "fitted on 1 of the tested cases" in said
    with np.load(store / "out" / "masks" / "rma_volume" / "p_1.npz") as saved:
        assert saved["slice_index"].tolist() == [3, 10]
        assert saved["label"].tolist() == [[[1, 1, 0, 0]], [[1, 0, 0, 0]]]
    summary = indexed(store / "out")
    # Class 1 of the second slice has .45 at most: pruned by itself, found within the case.
    # The first case, IoU per slice: argmax 1/2 and 0, rma_slice 1 and 0, rma_volume 1 and 1; the second 1, of the same
    # weight. As a volume, tp and fn of the first: 1 and 2, 2 and 1, 3 and 0.
    expected = {
        ("slice", "argmax"): (5 / 8, (1 / 3 + 1) / 2, 2 / 4), ("slice", "rma_slice"): (3 / 4, 3 / 4, 3 / 4),
        ("slice", "rma_volume"): (1, 1, 1), ("volume", "argmax"): (2 / 3, 3 / 4, 2 / 4),
        ("volume", "rma_slice"): (5 / 6, 9 / 10, 3 / 4), ("volume", "rma_volume"): (1, 1, 1),
    }  # fmt: skip
    for place, (iou, dice, pooled) in expected.items():
        found = summary.loc[place, "value"]
        assert found[["miou_i", "miou_c", "mdice_i", "miou_d"]].tolist() == pytest.approx([iou, iou, dice, pooled])
    assert summary.loc[("slice", "rma_volume", "miou_i"), "difference"] == pytest.approx(3 / 8)
    # Both are one patient, who is resampled as a whole.
    assert (summary["num_patients"] == 1).all() and (summary["num_cases"] == 2).all()
    assert (summary.loc["slice", "num_images"] == 3).all()
    items = indexed(store / "out", "items.csv", ("score_over", "decoder", "case_id"))
    assert items.loc[("slice", "argmax", "p_1"), "slice_index"].tolist() == [3, 10]
    assert items.loc["slice", "seconds"].isna().all() and (items.loc["volume", "seconds"] >= 0).all()
    assert (items.loc["slice", "num_voxels"] == 4).all()  # the crop
    assert len(read_rows(store / "out" / "probabilities.csv")) == 3


def test_one_unit_of_slices(store):
    said = store_trial(store, "--unit", "slice", "--decode", "rma")
    assert "rma_volume" not in said
    assert set(indexed(store / "out").index.get_level_values("decoder")) == {"rma_slice"}
    assert json.loads((store / "out" / "test.json").read_text())["crop_size"] == [1, 4]


def test_a_damaged_slice_costs_its_case(store):
    path = store / "data" / "slices" / "p_1" / "0010.npz"
    path.write_bytes(path.read_bytes()[:100])
    said = store_trial(store, code=1)
    assert "read_slice: file must be a slice with image and label" in said and str(path) in said
    assert "0003.npz" not in said
    assert read_rows(store / "out" / "items.csv")["case_id"].unique().tolist() == ["p_2"]


def test_slices_need_a_store(store):
    entries = [{"case_id": "a", "image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
    write_datalist(store / "run", {"training": [], "validation": entries})
    assert "entries must be slices of a slice store" in store_trial(store, code=1)


# --- volumes


def test_volumes(tmp_path, monkeypatch):
    data = tmp_path / "data"
    content = {"labels": {"0": "background", "1": "organ", "2": "tumour"}, "modality": {"0": "CT"}, "training": []}
    probs = np.zeros((3, 2, 2, 1), np.float32)
    probs[0], probs[1, 0], probs[0, 0] = 1, 1, 0
    for number, label in ((1, [[1, 1], [0, 0]]), (2, [[1, 0], [2, 0]])):
        files = {key: f"{key}sTr/p_{number}.nii.gz" for key in ("image", "label")}
        write_volume(data / files["image"], np.zeros((2, 2, 1), np.int16), np.eye(4))
        write_volume(data / files["label"], np.array(label, np.uint8)[..., None], np.eye(4))
        content["training"].append(files)
    (data / "dataset.json").write_text(json.dumps(content))
    write_datalist(tmp_path / "run", {"training": [], "validation": content["training"]})
    (tmp_path / "pieces.yaml").write_text(yaml.safe_dump(STORE_CARD))
    pretend(monkeypatch, tmp_path / "run", "volume", None)
    monkeypatch.setattr(
        "rankseg_rma.prediction.predict.predict_probabilities",
        lambda bundle, path: Probabilities(torch.from_numpy(probs), np.eye(4), None),
    )
    store_trial(tmp_path, "--save-masks")
    # Foreground: label 1 has IoU 1; in the second case 1/2, and label 2 is missed.
    summary = indexed(tmp_path / "out").loc["volume"]
    for decoder in ("argmax", "rma"):
        found = summary.loc[decoder, "value"]
        assert found[["miou_i", "miou_c", "miou_d"]].tolist() == pytest.approx([5 / 8, 3 / 8, (3 / 4 + 0) / 2])
    mask = read_volume(tmp_path / "out" / "masks" / "rma" / "p_1.nii.gz").array
    np.testing.assert_array_equal(mask[..., 0], [[1, 1], [0, 0]])
    message = "unit must be one of 'volume' for a run of kind 'volume'; got 'slice'"
    assert message in store_trial(tmp_path, "--unit", "slice", code=2)
    write_volume(data / "labelsTr" / "p_1.nii.gz", np.zeros((2, 2, 1), np.uint8), np.diag([2.0, 2, 2, 1]))
    assert "on the reference's grid" in store_trial(tmp_path, code=1)


# --- a run that was trained


def test_trained_run_against_scikit_learn(tmp_path):
    data = make_camvid(tmp_path / "data")
    (tmp_path / "net.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    run("train", "--dataset", "camvid", "--root", data, "--network", tmp_path / "net.yaml", "--iterations", 3,
        "--batch-size", 2, "--out", tmp_path / "run")  # fmt: skip
    run("test", "--dataset", "camvid", "--root", data, "--bundle", tmp_path / "run", "--metric", "iou", "--save-masks",
        "--out", tmp_path / "out")  # fmt: skip
    summary = indexed(tmp_path / "out").loc["image"]
    labels = {path.stem: np.asarray(Image.open(path)) for path in sorted((data / "testannot").glob("*.png"))}
    assert len(labels) == 3 and all((label == 11).any() for label in labels.values())
    for decoder in ("argmax", "rma"):
        pairs = []
        for name, label in labels.items():
            mask = np.asarray(Image.open(tmp_path / "out" / "masks" / decoder / f"{name}.png"))
            pairs.append((label[label != 11], mask[label != 11]))
        images = [metrics.jaccard_score(*pair, labels=np.unique(pair[0]), average="macro") for pair in pairs]
        assert summary.loc[(decoder, "miou_i"), "value"] == pytest.approx(np.mean(images))
        pooled = [np.concatenate(parts) for parts in zip(*pairs, strict=True)]
        assert summary.loc[(decoder, "mdice_d"), "value"] == pytest.approx(metrics.f1_score(*pooled, average="macro"))
    # Test and validation are different images, so the fitted temperature is used.
    stored = json.loads((tmp_path / "run" / "models" / "temperature.json").read_text())["temperature"]
    record = json.loads((tmp_path / "out" / "test.json").read_text())
    assert (record["temperature"], record["temperature_source"]) == (stored, "stored")
    assert set(record["sha256"]) == {"models/model.pt", "configs/datalist.json"}
