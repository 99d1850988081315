"""Before the first iteration every case of a run is checked as `data check` does; nothing trains on a bad one."""

import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from conftest import run, tiny_network
from rankseg_rma.datasets.datalist import items_of
from rankseg_rma.old_names import translate_config
from rankseg_rma.training.samples import WholeLabelsd
from trees import make_camvid, make_msd


@pytest.fixture
def data(work, tmp_path):
    return shutil.copytree(work / "data", tmp_path / "data")


def train(data, work, out, code=2):
    return run("train", "--dataset", "phantom", "--root", data, "--network", work / "tiny.yaml", "--epochs", 2,
               "--batch-size", 2, "--out", out, code=code)  # fmt: skip


def entry_of(work, part, data):
    """The first entry of a part of the run, with paths below ``data``."""
    return items_of(work / "run" / "configs" / "datalist.json", part, data)[0]


def change(path, new, affine=None):
    """Store another array in a volume's file; ``new`` is made of the present one."""
    image = nibabel.load(path)
    array = new(np.asarray(image.dataobj))
    nibabel.save(nibabel.Nifti1Image(array, image.affine if affine is None else affine, dtype=array.dtype), path)


def put(value, dtype):
    def new(array):
        array = array.astype(dtype)
        array[2, 3, 4] = value
        return array

    return new


# Every fault of a label or image, the file that has it, and what is said.
SHIFTED = np.diag([1.0, 1.0, 1.0, 1.0])
FAULTS = {
    "label 256": ("label", put(256, np.int16), None, "labels outside 0 to 2: 256"),
    "label -1": ("label", put(-1, np.int16), None, "0 to 65535"),
    "label of no class": ("label", put(3, np.uint8), None, "labels outside 0 to 2: 3"),
    "a fraction": ("label", put(0.6, np.float32), None, "whole numbers"),
    "NaN in the label": ("label", put(np.nan, np.float32), None, "0 to 65535"),
    "two rows too few": ("label", lambda array: array[:-2], None, "image and label differ in shape"),
    "another affine": ("label", lambda array: array, SHIFTED, "image and label differ in"),
    "two channels": (
        "image",
        lambda array: np.stack([array, array], -1),
        None,
        "the image has 2 channels; the data set has 1",
    ),
    "NaN": ("image", put(np.nan, np.float32), None, "NaN or infinite voxels: 1 of"),
    "-inf": ("image", put(-np.inf, np.float32), None, "NaN or infinite voxels: 1 of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_nothing_trains(work, data, tmp_path, fault):
    key, new, affine, message = FAULTS[fault]
    entry = entry_of(work, "training", data)
    change(entry[key], new, affine)
    said = train(data, work, tmp_path / "run")
    assert "got 1 of " in said and f"{entry['case_id']}: " in said and message in said, said
    assert not [*(tmp_path / "run" / "models").iterdir()] and not (tmp_path / "run" / "logs").exists()


def test_every_bad_case_of_both_parts_is_named(work, data, tmp_path):
    bad = [entry_of(work, part, data) for part in ("training", "validation")]
    untouched = entry_of(work, "test", data)
    for entry in [*bad, untouched]:
        change(entry["label"], put(7, np.uint8))
    said = train(data, work, tmp_path / "run")
    assert "got 2 of " in said and f"{untouched['case_id']}: " not in said
    assert all(f"{entry['case_id']}: labels outside 0 to 2: 7" in said for entry in bad)


def test_a_run_that_goes_on_is_checked_too(work, data, tmp_path):
    shutil.copytree(work / "run", tmp_path / "run")
    entry = entry_of(work, "training", data)
    change(entry["label"], put(256, np.int16))
    assert f"{entry['case_id']}: " in train(data, work, tmp_path / "run")


def test_labels_that_are_nearly_whole_train_as_whole_ones(work, data, tmp_path):
    """0.996 and 2.0000001 are 1 and 2: the same losses, weights and temperature."""
    nearly = np.array([0, 0.996, 2.0000001])
    for path in (data / "labelsTr").iterdir():
        change(path, lambda array: nearly[array])
    said = train(data, work, tmp_path / "run", code=0)
    assert "cases whose label is not quite of whole numbers and is read rounded" in said
    for name in ("logs/loss.csv", "models/temperature.json"):
        assert (tmp_path / "run" / name).read_bytes() == (work / "run" / name).read_bytes()
    one, two = (torch.load(at / "run" / "models" / "model.pt", weights_only=True) for at in (work, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_photographs_are_checked(tmp_path):
    data = make_camvid(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    labels = sorted((data / "trainannot").glob("*.png"))
    strange = np.asarray(Image.open(labels[0])).copy()
    strange[0, 0] = 200
    Image.fromarray(strange).save(labels[0])
    Image.open(labels[1]).resize((20, 10), 0).save(labels[1])
    said = run("train", "--dataset", "camvid", "--root", data, "--network", tmp_path / "tiny.yaml", "--iterations", 1,
               "--batch-size", 2, "--out", tmp_path / "run", code=2)  # fmt: skip
    assert f"{labels[0].stem}: " in said and "200 (1 pixels)" in said
    assert f"{labels[1].stem}: " in said and "differ in size" in said


def test_slices_of_a_store_are_checked(tmp_path):
    raw, store = make_msd(tmp_path / "raw"), tmp_path / "store"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(2)))
    run("data", "prepare", "msd_hippocampus", "--root", raw, "--out", store)
    first, second, *_ = sorted(store.glob("slices/*/*.npz"))
    with np.load(first) as content:
        image, label = content["image"].astype(np.float32), content["label"]
    image[0, :2] = np.inf
    np.savez_compressed(first, image=image, label=label)
    with np.load(second) as content:
        image, label = content["image"], content["label"] + np.uint8(5)
    np.savez_compressed(second, image=image, label=label)
    said = run("train", "--dataset", "msd_hippocampus", "--root", store, "--network", tmp_path / "tiny.yaml",
               "--iterations", 1, "--batch-size", 2, "--out", tmp_path / "run", code=2)  # fmt: skip
    assert f"{first.parent.name}_{first.stem}: the image has NaN or infinite pixels: 2 of" in said
    assert f"{second.parent.name}_{second.stem}: labels outside 0 to 2" in said


def test_only_the_first_process_checks_and_all_stop(work, data, tmp_path):
    entry = entry_of(work, "training", data)
    change(entry["label"], put(256, np.int16))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "rankseg_rma",
               "train", "--dataset", "phantom", "--root", data, "--network", work / "tiny.yaml", "--epochs", "1",
               "--batch-size", "2", "--out", tmp_path / "run"]  # fmt: skip
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)
    assert said.returncode
    assert said.stderr.count(f"{entry['case_id']}: labels outside 0 to 2: 256") == 1
    assert not [*(tmp_path / "run" / "models").iterdir()]


def test_whole_labels_keep_what_they_are(tmp_path):
    from monai.data import MetaTensor

    labels = MetaTensor(torch.tensor([[0.0, 0.996, 2.0000001]]), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
    found = WholeLabelsd("label", 3)({"label": labels, "case_id": "a"})["label"]
    assert found.tolist() == [[0, 1, 2]] and found.dtype == torch.float32
    assert torch.equal(found.affine, labels.affine)
    with pytest.raises(ValueError, match=r"of the classes 0 to 1; got 2 \(case a\)"):
        WholeLabelsd("label", 2)({"label": labels, "case_id": "a"})
    for value in (0.6, -1.0, np.nan):
        with pytest.raises(ValueError, match="label must be"):
            WholeLabelsd("label", 3)({"label": MetaTensor(torch.tensor([value]))})
    with pytest.raises(ValueError, match="num_classes must be from 1 to 255; got 256"):
        WholeLabelsd("label", 256)


def test_a_config_of_before_gets_whole_labels_once():
    reading = {"_target_": "LoadImaged", "keys": ["image", "label"], "ensure_channel_first": True, "image_only": True}
    old = {"imports": ["$import rankseg_rma"], "deterministic_transforms": [reading, {"_target_": "Orientationd"}]}
    new = translate_config(old)
    assert [entry["_target_"] for entry in new["deterministic_transforms"]] == [
        "rankseg_rma.LoadVolumed", "rankseg_rma.WholeLabelsd", "Orientationd",
    ]  # fmt: skip
    assert translate_config(new) == new
    slices = {"imports": ["$import rankseg_rma"], "deterministic_transforms": "$@load"}
    assert translate_config(slices) == slices
