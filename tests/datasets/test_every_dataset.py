"""Every data set from its folder to its scores: check, prepare where there is something to, one iteration, test."""

import csv

import pytest
import yaml

from conftest import run, tiny_network
from rankseg_rma.datasets import list_cards
from trees import make_ade20k, make_camvid, make_cityscapes, make_kits, make_lits, make_msd, make_sbd, make_voc


def small_card(name, folder, **changes):
    """The shipped card with smaller patches, for miniature files; the rest of its facts stays."""
    content = yaml.safe_load(list_cards()[name].read_text())
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def train_and_test(card, root, folder, dims):
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(dims)))
    run("train", "--dataset", card, "--root", root, "--network", folder / "tiny.yaml", "--iterations", 1,
        "--batch-size", 2, "--out", folder / "run")  # fmt: skip
    said = run("test", "--dataset", card, "--root", root, "--bundle", folder / "run", "--metric", "iou", "--out",
               folder / "scores")  # fmt: skip
    with (folder / "scores" / "test_summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["decoder"], row["score_over"], row["score"]): row["value"] for row in rows}
    assert all(0 <= float(value) <= 1 for key, value in found.items() if key[2].startswith("m") and value)
    assert "mIoU^I" in said
    return {decoder for decoder, _, _ in found} - {"", "probabilities"}, {unit for _, unit, _ in found}


TREES = {
    "lits": make_lits,
    "kits19": make_kits,
    "kits23": lambda root: make_kits(root, year=23),
    "msd": make_msd,
    "msd_hippocampus": make_msd,
}
PHOTOGRAPHS = {"cityscapes": make_cityscapes, "ade20k": make_ade20k, "camvid": make_camvid}


def test_no_data_set_is_forgotten():
    assert {*TREES, *PHOTOGRAPHS, "pascal_voc", "phantom"} == set(list_cards())


@pytest.mark.parametrize("name", TREES)
def test_volumes(name, tmp_path):
    root = TREES[name](tmp_path / "raw")
    # Another spacing than the files have: cropping and resampling are undone together.
    card = small_card(name, tmp_path, roi_size=[16, 16, 8], spacing_mm=[1.1, 1.3, 1.4])
    assert " 0 with faults" in run("data", "check", card, "--root", root)
    decoders, units = train_and_test(card, root, tmp_path, dims=3)
    assert {"argmax", "rma"} <= decoders and "volume" in units


@pytest.mark.parametrize("name", [name for name in TREES if name != "msd"])
def test_slices_of_volumes(name, tmp_path):
    root, store = TREES[name](tmp_path / "raw"), tmp_path / "store"
    size = None if name == "msd_hippocampus" else [32, 32]
    card = small_card(name, tmp_path, slices={"size": size, "crop_size": [24, 24]})
    run("data", "prepare", card, "--root", root, "--out", store)
    assert " 0 with faults" in run("data", "check", card, "--root", store)
    decoders, units = train_and_test(card, store, tmp_path, dims=2)
    assert {"argmax", "rma_slice", "rma_volume"} <= decoders and {"slice", "volume"} <= units


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs(name, tmp_path):
    root = PHOTOGRAPHS[name](tmp_path / "raw")
    card = small_card(name, tmp_path, crop_size=[32, 32])
    assert " 0 with faults" in run("data", "check", card, "--root", root)
    decoders, units = train_and_test(card, root, tmp_path, dims=2)
    assert {"argmax", "rma"} <= decoders and "image" in units


def test_pascal_voc_with_sbd(tmp_path):
    root, store = make_voc(tmp_path / "raw"), tmp_path / "aug"
    card = small_card("pascal_voc", tmp_path, crop_size=[32, 32])
    run("data", "prepare", card, "--root", root, "--sbd", make_sbd(tmp_path / "sbd"), "--out", store)
    assert " 0 with faults" in run("data", "check", card, "--root", store)
    decoders, _ = train_and_test(card, store, tmp_path, dims=2)
    assert {"argmax", "rma"} <= decoders
