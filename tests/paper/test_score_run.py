"""The command ``test``: numbers worked out by hand from images that hold the probabilities themselves."""

import json

import numpy as np
import pandas
import pytest
import torch
import yaml
from PIL import Image
from pretended_runs import indexed, pretend, write_datalist

from conftest import run
from rankseg_rma.checks import DatasetError
from rankseg_rma.datasets.datalist import choose_part, crop_centre
from rankseg_rma.paper.items import group_entries
from rankseg_rma.prediction.predict import predict_sample
from rankseg_rma.statistics.differences import compare_pairs
from rankseg_rma.tables.dictionary import COLUMNS
from rankseg_rma.tables.store import read_rows

TABLES = ("items.csv", "classes.csv", "probabilities.csv", "test_summary.csv")

CARD = {
    "kind": "image", "name": "tiny", "title": "Tiny", "task": "three classes", "void": [3],
    "classes": {0: "ground", 1: "thing", 2: "other"}, "colours": {0: [9, 9, 9], 1: [200, 0, 0], 2: [0, 200, 0]},
    "crop_size": [4, 4], "mean": [0, 0, 0], "std": [1, 1, 1], "parts": {"training": 0, "validation": 8, "test": 4},
    "licence": "none", "source": "this test", "layout": "camvid",
}  # fmt: skip


# Probabilities in 255ths of classes 0, 1 and 2. Class 1 has .902 and .478 and gets both from RMA: a mask of both is
# worth .815 where the first alone is worth .756, and class 0 gains less by the second. Argmax gives it the first only.
SPLIT = [[25, 230, 0], [133, 122, 0], [255, 0, 0], [255, 0, 0]]

ONE_HOT = [[255, 0, 0], [0, 0, 255], [255, 0, 0], [255, 0, 0]]


# Image and label (1, 4); 3 is void.
SCENES = {"a": (SPLIT, [1, 1, 0, 3]), "b": (SPLIT, [3, 1, 0, 0]), "c": (SPLIT, [3, 3, 3, 3]), "d": (ONE_HOT, [0] * 4)}


@pytest.fixture
def scenes(tmp_path, monkeypatch):
    """Four images of a row of four pixels for the test; validation has each twice."""
    datalist = {"training": [], "validation": [], "test": []}
    (tmp_path / "data" / "train").mkdir(parents=True)
    for part, copies, short in (("validation", (1, 2), "val"), ("test", (0,), "test")):
        for copy in copies:
            for name, (image, label) in SCENES.items():
                entry = {"case_id": f"{name}{copy}", "image": f"{short}/{name}{copy}.png",
                         "label": f"{short}annot/{name}{copy}.png"}  # fmt: skip
                for key, array in (("image", [image]), ("label", [label])):
                    path = tmp_path / "data" / entry[key]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(np.array(array, np.uint8)).save(path)
                datalist[part].append(entry)
    write_datalist(tmp_path / "run", datalist, temperature=1.5, case_ids=["z9"])
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CARD))
    pretend(monkeypatch, tmp_path / "run", "image", lambda image: image / np.float32(255))
    return tmp_path


def trial(folder, *more, out="out", code=0):
    return run("test", "--dataset", folder / "tiny.yaml", "--root", folder / "data", "--bundle", folder / "run",
               "--out", folder / out, *more, code=code)  # fmt: skip


def test_images_by_hand(scenes):
    said = trial(scenes, "--temperature", "none")
    summary = indexed(scenes / "out").loc["image"]
    # Of a, b and d, in this order. Argmax: (1/2 + 1/2) / 2, (2/3 + 0) / 2 and 3/4; RMA: 1, 1 and 3/4.
    # C: class 0 has 1/2, 2/3, 3/4 and class 1 has 1/2, 0; RMA 1, 1, 3/4 and 1, 1.
    # D: class 0 tp 6, fp 2, fn 1, class 1 tp 1, fn 2, class 2 fp 1; RMA tp 6, fn 1, then tp 3, then fp 1.
    expected = {
        "miou_i": (19 / 36, 11 / 12), "miou_c": ((23 / 36 + 1 / 4) / 2, (11 / 12 + 1) / 2),
        "miou_d": ((6 / 9 + 1 / 3 + 0) / 3, (6 / 7 + 1 + 0) / 3),
        "mdice_i": ((2 / 3 + (4 / 5 + 0) / 2 + 6 / 7) / 3, (1 + 1 + 6 / 7) / 3),
        "mdice_d": ((12 / 15 + 2 / 4 + 0) / 3, (12 / 13 + 1 + 0) / 3),
        "pixel_accuracy": (7 / 10, 9 / 10), "miou_worst5": (1 / 3, 3 / 4),
    }  # fmt: skip
    for score, (argmax, rma) in expected.items():
        assert summary.loc[("argmax", score), "value"] == pytest.approx(argmax), score
        assert summary.loc[("rma", score), "value"] == pytest.approx(rma), score
        assert summary.loc[("rma", score), "difference"] == pytest.approx(rma - argmax), score
    # Four images are too few for an interval; c has no annotated pixel.
    assert summary[["low", "difference_low"]].isna().all(axis=None)
    assert (summary["num_images"] == 3).all() and (summary["num_images_left_out"] == 1).all()
    assert summary.loc[("rma", "miou_c"), ["num_classes", "num_classes_left_out"]].tolist() == [2, 1]
    assert summary.loc[("rma", "miou_d"), ["num_classes", "num_classes_left_out"]].tolist() == [3, 0]
    for text in ("52.78", "91.67", "+38.89", "too few patients", "1 of 4 images have no annotated pixel"):
        assert text in said, text
    for name in TABLES:
        header = (scenes / "out" / name).read_text().splitlines()[0].split(",")
        assert header == list(COLUMNS[name])
    assert json.loads((scenes / "out" / "columns.json").read_text()) == {name: COLUMNS[name] for name in TABLES}


def test_rows_of_images_and_classes(scenes):
    trial(scenes, "--temperature", "none")
    items = indexed(scenes / "out", "items.csv", ("decoder", "case_id"))
    assert items.loc["argmax", "miou"].tolist() == pytest.approx([1 / 2, 1 / 3, np.nan, 3 / 4], nan_ok=True)
    assert items.loc["rma", "num_void"].tolist() == [1, 1, 4, 0]
    assert items.loc[("rma", "d0"), ["num_classes", "num_voxels"]].tolist() == [1, 4]
    classes = indexed(scenes / "out", "classes.csv", ("decoder", "case_id", "label_name"))
    columns = ["tp", "fp", "fn", "iou", "dice", "counted"]
    assert classes.loc[("argmax", "a0", "ground"), columns].tolist() == [1, 1, 0, 1 / 2, pytest.approx(2 / 3), True]
    # Predicted but absent: listed, not counted. In neither map: not listed; nor is anything of the void image.
    assert classes.loc[("rma", "d0", "other"), columns].tolist() == [0, 1, 0, 0, 0, False]
    assert ("rma", "a0", "other") not in classes.index and "c0" not in classes.index.get_level_values("case_id")


def test_calibration(scenes):
    trial(scenes, "--temperature", "0.5")
    table = read_rows(scenes / "out" / "probabilities.csv").set_index(["temperature", "case_id"])
    # a: three pixels. The most probable class has 230, 133 and 255 of 255 and is right, wrong and right.
    probs = np.array([230, 133, 255]) / 255
    assert table.loc[("none", "a0"), "ece"] == pytest.approx((abs(1 - probs[0]) + probs[1]) / 3, abs=1e-6)
    assert table.loc[("none", "a0"), "nll"] == pytest.approx(-np.log([230 / 255, 122 / 255, 1]).mean(), abs=1e-6)
    # At temperature 1/2 probabilities are squared: 122 against 133.
    squared = [230**2 / (230**2 + 25**2), 122**2 / (122**2 + 133**2), 1]
    assert table.loc[("given", "a0"), "nll"] == pytest.approx(-np.log(squared).mean(), abs=1e-6)
    assert table.loc[("none", "c0"), "num_voxels"] == 0 and np.isnan(table.loc[("none", "c0"), "ece"])
    summary = read_rows(scenes / "out" / "test_summary.csv")
    shared = summary[summary["decoder"].isna()].set_index(["temperature", "score"])
    assert shared.index.get_level_values("score").unique().tolist() == ["ece", "ece_image", "class_ece", "brier", "nll"]
    of_images = table.loc["none", "ece"]
    assert shared.loc[("none", "ece_image"), "value"] == pytest.approx(of_images.mean())
    assert shared.loc[("none", "ece_image"), ["num_cases", "num_cases_left_out"]].tolist() == [3, 1]
    # Pooled, pixels weigh the same: 3, 3 and 4 of them.
    nll = table.loc["none", "nll"]
    assert shared.loc[("none", "nll"), "value"] == pytest.approx((3 * nll["a0"] + 3 * nll["b0"] + 4 * nll["d0"]) / 10)
    decoders = summary[summary["decoder"].notna()].groupby("decoder")["temperature"].unique()
    assert decoders["argmax"].tolist() == ["none"] and decoders["rma"].tolist() == ["given"]


def test_intervals(scenes):
    trial(scenes, "--part", "validation", "--temperature", "none")
    summary = indexed(scenes / "out").loc["image"]
    for decoder in ("argmax", "rma"):
        part = summary.loc[decoder]
        assert ((part["low"] <= part["value"]) & (part["value"] <= part["high"])).all()
        assert (part["num_patients"] == 8).all()
    rma = summary.loc["rma"]
    assert (rma["difference_low"] <= rma["difference"]).all() and (rma["difference"] <= rma["difference_high"]).all()
    assert rma.loc[["miou_i", "mdice_i", "miou_c", "miou_d"], "interval"].tolist() == ["bca"] * 2 + ["percentile"] * 2
    items = indexed(scenes / "out", "items.csv", ("decoder", "case_id"))
    first, second = (items.loc[name, "mdice"].to_numpy() for name in ("argmax", "rma"))
    found = compare_pairs(first, second, clusters=[*items.loc["rma"].index], better="higher", margins=(0.01, 0.05, 0.1),
                          num_resamples=2000, seed=0)  # fmt: skip
    assert rma.loc["mdice_i", ["difference_low", "difference_high"]].tolist() == pytest.approx([found.low, found.high])


def test_a_damaged_image_costs_only_itself(scenes):
    path = scenes / "data" / "test" / "a0.png"
    path.write_bytes(path.read_bytes()[:40])
    said = trial(scenes, "--save-masks", code=1)
    assert (
        "read_image: file must be a readable image" in said
        and "  a0: " in said
        and str(path) in said
        and "PARTIAL, 3 of 4 images" in said
    )
    summary = indexed(scenes / "out").loc["image"]
    assert summary.loc[("argmax", "miou_i"), "value"] == pytest.approx((1 / 3 + 3 / 4) / 2)
    record = json.loads((scenes / "out" / "test.json").read_text())
    assert list(record["failed"]) == ["a0"] and any("PARTIAL" in text for text in record["notes"])
    for name, mask in (("argmax", [1, 0, 0, 0]), ("rma", [1, 1, 0, 0])):
        with Image.open(scenes / "out" / "masks" / name / "b0.png") as image:
            assert image.mode == "P" and np.asarray(image).tolist() == [mask]
    for name in SCENES:
        (scenes / "data" / "test" / f"{name}0.png").unlink()
    assert "4 faults" in trial(scenes, out="none", code=1)
    assert not (scenes / "none").exists()


@pytest.mark.parametrize(
    ("given", "case_ids", "source", "text"),
    [
        (None, ["z9"], "stored", "temperature of RMA and of the second calibration: 1.500 (stored)"),
        (None, ["z9", "d0"], "none", "no temperature is used: the stored one, 1.500, was fitted on 1 of the tested"),
        (None, ["test/d0.png", "d0.png"], "none", "fitted on 1 of"),
        ("2", ["d0"], "given", "temperature of RMA and of the second calibration: 2.000 (given)"),
        ("none", ["z9"], "none", ""),
    ],
)
def test_temperature_never_comes_from_the_tested_cases(scenes, monkeypatch, given, case_ids, source, text):
    write_datalist(scenes / "run", json.loads((scenes / "run/configs/datalist.json").read_text()), temperature=1.5,
                   case_ids=case_ids)  # fmt: skip
    said = trial(scenes, *(["--temperature", given] if given else []))
    assert text in said
    record = json.loads((scenes / "out" / "test.json").read_text())
    assert record["temperature_source"] == source
    assert record["temperature"] == {"stored": 1.5, "given": 2.0, "none": None}[source]
    temperatures = read_rows(scenes / "out" / "probabilities.csv")["temperature"].unique().tolist()
    assert temperatures == ["none"] + [source] * (source != "none")


def test_record_and_options(scenes):
    said = trial(scenes, "--decode", "rma", "--metric", "iou", "--limit", "2", "--temperature", "none")
    assert "PARTIAL, 2 of 4 images" in said and "argmax" not in said
    record = json.loads((scenes / "out" / "test.json").read_text())
    wanted = {"dataset": "tiny", "part": "test", "kind": "image", "units": ["image"], "arms": ["rma"], "metric": "iou",
              "limit": 2, "seed": 0, "bootstrap_resamples": 2000, "rule": "present", "pruning_prob": 0.5,
              "num_items": 2, "num_images": 2, "num_void_voxels": 2, "num_voxels": 6, "failed": {},
              "classes": ["ground", "thing", "other"]}  # fmt: skip
    assert {name: record[name] for name in wanted} == wanted
    assert list(record["sha256"]) == ["configs/datalist.json"] and "torch" in record["packages"]
    assert read_rows(scenes / "out" / "test_summary.csv")["difference"].isna().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--decode", "argmax,best"), "decode must be one of 'argmax', 'rma'"),
        (("--decode", "none"), "decode must be one of 'argmax', 'rma'; got ''"),
        (("--unit", "slice"), "unit must be one of 'image' for a run of kind 'image'"),
        (("--part", "training"), "part must be one that has entries"),
        (("--part", "holdout"), "part must be one of training, validation, test"),
    ],
)
def test_wrong_use(scenes, options, message):
    assert message in trial(scenes, *options, code=2)
    assert not (scenes / "out").exists()


def test_data_set_of_another_kind(scenes, monkeypatch):
    pretend(monkeypatch, scenes / "run", "slices", None)
    assert "dataset must be of the kind of the run, 'slices'; got tiny, 'image'" in trial(scenes, code=2)
    pretend(monkeypatch, scenes / "run", "image", lambda image: image[:2] / np.float32(255))
    assert "probabilities must be of the 3 classes of tiny; got 2 (case a0)" in trial(scenes, code=1)


def test_label_at_its_own_resolution(scenes):
    # The image of a, four times as wide and high in the label: probabilities are resized before decoding.
    path = scenes / "data" / "testannot" / "a0.png"
    Image.fromarray(np.kron(np.array([[1, 1, 0, 0]]), np.ones((4, 4))).astype(np.uint8)).save(path)
    trial(scenes, "--save-masks", "--limit", "1")
    with Image.open(scenes / "out" / "masks" / "argmax" / "a0.png") as image:
        mask = np.asarray(image)
    # Between the centres of pixels 0 and 1, class 1 falls from .902 to .478: linear, above one half up to column 5.
    assert mask.shape == (4, 16) and (mask[:, :6] == 1).all() and (mask[:, 6:] == 0).all()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    said = trial(scenes, "--limit", "1", code=1)
    assert "label must be of the aspect of the image, 1 x 4; got 4 x 4" in said


def test_a_label_may_be_a_pixel_off_the_aspect(monkeypatch):
    probs = torch.stack([torch.full((50, 75), 0.25), torch.full((50, 75), 0.75)])
    monkeypatch.setattr("rankseg_rma.prediction.predict.predict_image", lambda bundle, image: probs)
    image = np.zeros((3, 50, 75), np.float32)

    def fitted(shape):
        return predict_sample(None, image, np.zeros(shape), "x")

    np.testing.assert_array_equal(fitted((50, 75)), probs)
    assert fitted((333, 500)).shape == (2, 333, 500)
    np.testing.assert_allclose(fitted((101, 150)).sum(axis=0), 1)
    for shape in ((50, 80), (75, 50), (300, 500)):
        with pytest.raises(DatasetError, match="aspect"):
            fitted(shape)


def test_centre_crop():
    array = np.arange(30).reshape(1, 5, 6)
    assert crop_centre(array, (1, 2)).tolist() == [[[14, 15]]]
    assert crop_centre(array, (9, 4)).shape == (1, 5, 4) and crop_centre(array, (9, 4))[0, 0, 0] == 1


def test_entries_are_grouped_by_case():
    slices = [{"case_id": "k", "slice_index": n, "image": f"{n}.npz"} for n in (7, 2)]
    items = group_entries([*slices, {"case_id": "liver_3", "image": "imagesTr/liver_3.nii.gz"}])
    assert [item.case_id for item in items] == ["k", "liver_3"]
    assert [entry["slice_index"] for entry in items[0].entries] == [2, 7]
    with pytest.raises(DatasetError, match="case ids must be unique"):
        group_entries([{"case_id": "k", "image": "a.png"}, {"case_id": "k", "image": "b.png"}])


def test_part_by_default(tmp_path):
    path = tmp_path / "datalist.json"
    one, two = {"case_id": "a", "image": "a.png"}, {"case_id": "b", "image": "b.png"}
    for content, part in (({"validation": [one], "test": [two]}, "test"), ({"validation": [one]}, "validation"),
                          ({"validation": [one], "test": []}, "validation")):  # fmt: skip
        path.write_text(json.dumps(content))
        assert choose_part(path, None)[0] == part


def test_stored_tables_read_as_documented(scenes):
    trial(scenes)
    for name in TABLES:
        table = pandas.read_csv(scenes / "out" / name)
        assert len(table) and table.columns.tolist() == list(COLUMNS[name]), name
