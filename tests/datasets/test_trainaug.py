"""`data prepare` of PASCAL VOC: trainaug out of VOC and SBD, and sets that need no preparation."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

import trees
from prepared import run, state
from rankseg_rma.datasets import list_cards, list_cases, load_card, part_cases
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.files.images import VOID, read_classes


@pytest.fixture
def downloads(tmp_path):
    return trees.make_voc(tmp_path / "voc"), trees.make_sbd(tmp_path / "sbd")


def sbd_mask(sbd, name):
    from scipy.io import loadmat

    return loadmat(sbd / "dataset" / "cls" / f"{name}.mat", squeeze_me=True)["GTcls"]["Segmentation"].item()


def test_voc_trainaug(tmp_path, downloads):
    (voc, sbd), out = downloads, tmp_path / "aug"
    before = state(voc), state(sbd)
    result = run("prepare", "pascal_voc", "--root", voc.parent, "--sbd", sbd, "--out", out)
    assert result.exit_code == 0, result.output
    assert (state(voc), state(sbd)) == before
    names = sorted({*trees.VOC_TRAIN, *trees.VOC_EXTRA})
    assert (out / "ImageSets" / "Segmentation" / "trainaug.txt").read_text().split() == names
    assert sorted(path.stem for path in (out / "SegmentationClassAug").iterdir()) == names
    card = load_card("pascal_voc")
    has_void = set()
    for name in names:
        stored = Image.open(out / "SegmentationClassAug" / f"{name}.png")
        assert stored.mode == "P"
        assert stored.getpalette()[3:6] == [128, 0, 0]
        if name in trees.VOC_TRAIN:
            expected = np.asarray(Image.open(voc / "SegmentationClass" / f"{name}.png"))
            has_void.add((expected == VOID).any())
        else:
            expected = sbd_mask(sbd, name)
        np.testing.assert_array_equal(np.asarray(stored), expected)
        np.testing.assert_array_equal(read_classes(out / "SegmentationClassAug" / f"{name}.png", card), expected)
    assert has_void == {True}
    content = json.loads((out / "prepared.json").read_text())
    counts = {"training": 10, "from_voc": 6, "from_sbd": 4, "validation": 3}
    assert content == {"dataset": "pascal_voc", "source": str(voc), "counts": counts}
    _, cases = list_cases(card, out)
    parts = part_cases(card, cases, 0)
    assert [case.case_id for case in parts["training"]] == names
    assert [case.case_id for case in parts["validation"]] == sorted(trees.VOC_VAL)
    assert not check_dataset("pascal_voc", out).faults
    assert "warning: trainaug: 10 of 10582" in result.output
    assert "warning: SBD train: 5 of 8498" in result.output


def test_voc_is_resumed_and_checked(tmp_path, downloads):
    (voc, sbd), out = downloads, tmp_path / "aug"
    truncated = sbd / "dataset" / "cls" / f"{trees.VOC_EXTRA[0]}.mat"
    good = truncated.read_bytes()
    truncated.write_bytes(good[:150])
    (voc / "JPEGImages" / f"{trees.VOC_EXTRA[1]}.jpg").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(voc / "JPEGImages" / f"{trees.VOC_EXTRA[2]}.jpg")
    Image.open(voc / "SegmentationClass" / f"{trees.VOC_TRAIN[0]}.png").convert("L").save(
        voc / "SegmentationClass" / f"{trees.VOC_TRAIN[0]}.png"
    )
    outcome = prepare_dataset("pascal_voc", voc, out, sbd)
    for name, problem in zip(
        (trees.VOC_TRAIN[0], *trees.VOC_EXTRA[:3]),
        ("read as luminance", "a .mat file with GTcls", "with a photograph", "photograph's size (9, 9)"),
        strict=True,
    ):
        assert problem in outcome.failed.pop(name)
    assert not outcome.failed
    assert not (out / "prepared.json").exists()
    finished = state(out / "SegmentationClassAug")
    assert len(finished) == 6
    shutil.rmtree(voc.parents[1])
    trees.make_voc(tmp_path / "voc")
    truncated.write_bytes(good)
    for name in trees.VOC_TRAIN[1:]:
        path = voc / "SegmentationClass" / f"{name}.png"
        os.utime(path, ns=(0, finished[f"{name}.png"][1] + (name == trees.VOC_TRAIN[1])))
    outcome = prepare_dataset("pascal_voc", voc, out, sbd, workers=2)
    assert not outcome.failed
    # Five stay; the one whose source has another time is made again.
    assert "5 masks were finished before and left as they are" in outcome.notes
    again = state(out / "SegmentationClassAug")
    assert {name for name in finished if again[name] != finished[name]} == {f"{trees.VOC_TRAIN[1]}.png"}
    assert (out / "prepared.json").is_file()
    truncated.write_bytes(good[:150])
    assert [*prepare_dataset("pascal_voc", voc, out, sbd).failed] == [truncated.stem]
    assert [path.name for path in out.iterdir() if path.is_file()] == []


def test_voc_without_sbd_says_what_to_download(tmp_path, downloads):
    voc, sbd = downloads
    result = run("prepare", "pascal_voc", "--root", voc, "--out", tmp_path / "aug")
    assert result.exit_code == 2
    assert "benchmark.tgz" in result.output
    assert f"nothing is to be prepared: train with --root {voc}" in result.output
    assert not (tmp_path / "aug").exists()
    for out, message in (
        (sbd / "x", "never written to"),
        (voc / "x", "never written to"),
        (tmp_path, "holds|empty or a"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_dataset("pascal_voc", voc, out, sbd)
    with pytest.raises(FileNotFoundError, match="sbd must be a folder with cls"):
        prepare_dataset("pascal_voc", voc, tmp_path / "aug", tmp_path)
    with pytest.raises(ValueError, match="pascal_voc only"):
        prepare_dataset("camvid", trees.make_camvid(tmp_path / "camvid"), None, sbd)


@pytest.mark.parametrize(
    ("name", "make", "note"),
    [
        ("cityscapes", trees.make_cityscapes, "warning: training images: 6 of 2975"),
        ("ade20k", trees.make_ade20k, "warning: validation images: 3 of 2000"),
        ("camvid", trees.make_camvid, "warning: test images: 3 of 233"),
        ("msd", trees.make_msd, "cases: 16"),
    ],
)
def test_what_needs_nothing_is_only_counted(tmp_path, name, make, note):
    root = make(tmp_path / "raw")
    before = state(tmp_path)
    result = run("prepare", name, "--root", root)
    assert result.exit_code == 0, result.output
    assert f"{name} is read as it is: nothing to prepare" in result.output
    assert note in result.output
    assert state(tmp_path) == before


def test_data_commands_know_both_kinds(tmp_path):
    listed = run("list").output
    for name in list_cards():
        assert name in listed
        described = yaml.safe_load(run("describe", name).output)
        assert (described["name"], described["kind"]) == (name, load_card(name).kind)
    lits = yaml.safe_load(run("describe", "lits").output)
    assert lits["slices"]["labels"] == {1: [2]}
    assert lits["fold_slices"] == [1320, 889, 459, 2278, 2244]
    root = trees.make_kits(tmp_path / "kits23", year=23)
    for path in root.rglob("imaging.nii.gz"):
        path.unlink()
    assert run("check", "kits23", "--root", root).exit_code == 1
    result = run("check", "kits23", "--root", root, "--labels-only")
    assert result.exit_code == 0, result.output
    assert "cases: 6 of 489" in result.output
    assert "6 cases, 6 good, 0 with faults" in result.output
