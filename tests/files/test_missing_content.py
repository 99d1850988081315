"""Links to nowhere and folders named like files are cases: every reader and listing names them as failed."""

import json
import os
import shutil

import numpy as np
import pandas
import pytest
from PIL import Image

import trees
from conftest import run
from rankseg_rma.bundles.open import stored_temperature
from rankseg_rma.datasets import list_cases, load_card
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.evaluation.inputs import find_arms, list_references, temperature_beside
from rankseg_rma.files.images import read_image
from rankseg_rma.files.listing import require_file
from rankseg_rma.files.volumes import list_volumes, read_grid, read_volume, write_volume
from rankseg_rma.prediction.inputs import find_inputs, find_photographs

LINK, FOLDER = "a link to nowhere/at/all, which is not there", ", a folder"


def dangle(path):
    """Put a link to nowhere in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere/at/all")


@pytest.fixture
def cohort(tmp_path):
    """Masks and references of the cases a and d, whose b is a link to nowhere and whose c is a folder."""
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    for folder in ("p", "r"):
        for case_id in "abcd":
            write_volume(tmp_path / folder / f"{case_id}.nii.gz", mask, np.eye(4))
    return tmp_path


def spoil(folder):
    dangle(folder / "b.nii.gz")
    (folder / "c.nii.gz").unlink()
    (folder / "c.nii.gz").mkdir()


def test_listings_have_them_and_readers_refuse_them(cohort):
    spoil(cohort / "p")
    (cohort / "p" / ".hidden.nii").symlink_to("nowhere")
    assert [*list_volumes(cohort / "p")] == [*find_inputs([cohort / "p"])] == [*"abcd"]
    assert [*find_inputs([cohort / "p" / "b.nii.gz"])] == ["b"]
    for read in (read_volume, read_grid):
        for name, words in (("b", LINK), ("c", "a folder")):
            with pytest.raises(FileNotFoundError, match=rf"an existing file; got .*{name}.nii.gz, {words}"):
                read(cohort / "p" / f"{name}.nii.gz")
    require_file("test", cohort / "p" / "a.nii.gz")


@pytest.mark.parametrize("folder", ["p", "r"])
def test_evaluate_counts_them_as_failed(cohort, folder):
    spoil(cohort / folder)
    command = ("evaluate", "--predictions", cohort / "p", "--references", cohort / "r", "--out", cohort / "o")
    said = run(*command, code=1)
    told = f"p/b: FileNotFoundError: read_volume: path must be an existing file; got {cohort / folder / 'b.nii.gz'}"
    assert told in said
    assert LINK in said and f"{cohort / folder / 'c.nii.gz'}{FOLDER}" in said
    assert set(pandas.read_csv(cohort / "o" / "cases.csv")["case_id"]) == {"a", "d"}
    assert json.loads((cohort / "o" / "provenance.json").read_text())["partial"] == "p/b; p/c"


def test_folders_of_decoders_and_cases(cohort):
    (cohort / "run" / "argmax").mkdir(parents=True)
    dangle(cohort / "run" / "rma")
    arms = find_arms([str(cohort / "run")])
    assert [*arms] == ["argmax", "rma"]
    with pytest.raises(FileNotFoundError, match="an existing folder"):
        list_volumes(arms["rma"])
    for number in range(3):
        (cohort / "kits" / f"case_{number:05d}").mkdir(parents=True)
        shutil.copy(cohort / "r" / "a.nii.gz", cohort / "kits" / f"case_{number:05d}" / "segmentation.nii.gz")
    dangle(cohort / "kits" / "case_00001" / "segmentation.nii.gz")
    dangle(cohort / "kits" / "case_00002")
    assert [*list_references(cohort / "kits")] == ["case_00000", "case_00001", "case_00002"]


def test_decode_and_advise_count_them_as_failed(cohort, rng):
    for case_id in "abcd":
        probs = np.clip(read_volume(cohort / "r" / f"{case_id}.nii.gz").array * 0.5 + rng.random((6, 6, 6)) * 0.4, 0, 1)
        write_volume(cohort / "q" / f"{case_id}.nii.gz", np.stack([1 - probs, probs]).astype(np.float32), np.eye(4))
    spoil(cohort / "q")
    said = run("decode", cohort / "q", "--out", cohort / "o", code=1)
    assert "b: FileNotFoundError" in said and "c: FileNotFoundError" in said
    assert [path.name for path in sorted((cohort / "o" / "rma").iterdir())] == ["a.nii.gz", "d.nii.gz"]
    said = run("advise", cohort / "q", "--references", cohort / "r", "--out", cohort / "advice", code=1)
    assert "PARTIAL, 2 cases" in said and "b: FileNotFoundError" in said


def test_photographs(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / f"{name}.png")
    dangle(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    assert [*find_photographs([tmp_path])] == ["a", "b", "c"]
    with pytest.raises(FileNotFoundError, match=LINK):
        read_image(tmp_path / "b.png")


def faults_of(name, root):
    return {fault["case_id"]: fault["problem"] for fault in check_dataset(name, root).faults}


def test_volume_layouts_list_them(tmp_path):
    root = trees.make_lits(tmp_path / "lits")
    dangle(root / "Training Batch 1" / "volume-0.nii")
    dangle(root / "Training Batch 2" / "segmentation-2.nii")
    whole = root / "Training Batch 2" / "volume-3.nii"
    shutil.move(whole, tmp_path / "volume-3.nii")
    whole.mkdir()
    found = faults_of("lits", root)
    assert LINK in found["volume-0"] and LINK in found["volume-2"] and FOLDER in found["volume-3"] and len(found) == 3
    shutil.move(tmp_path / "volume-3.nii", whole)  # as some unpackers do
    assert [*faults_of("lits", root)] == ["volume-0", "volume-2"]
    said = run("data", "prepare", "lits", "--root", root, "--out", tmp_path / "store", code=1)
    assert "volume-0: " in said and "volume-2: " in said and LINK in said
    dangle(root / "Training Batch 1")
    with pytest.raises(FileNotFoundError, match=LINK):
        list_cases(load_card("lits"), root)

    root = trees.make_kits(tmp_path / "kits", cases=5)
    dangle(root / "data" / "case_00001" / "imaging.nii.gz")
    dangle(root / "data" / "case_00002")
    dangle(root / "data" / "case_00004" / "segmentation.nii")
    (root / "data" / "case_00004" / "segmentation.nii.gz").unlink()
    found = faults_of("kits19", root)
    assert [*found] == ["case_00001", "case_00002", "case_00004"] and LINK in found["case_00004"]


def test_folders_that_are_links_are_looked_into(tmp_path):
    root = trees.make_lits(tmp_path / "lits")
    before = {case.case_id for case in list_cases(load_card("lits"), root)[1]}
    shutil.move(root / "Training Batch 2", tmp_path / "elsewhere")
    (root / "Training Batch 2").symlink_to(tmp_path / "elsewhere")
    (root / "Training Batch 2" / "again").symlink_to(root)  # a circle
    assert {case.case_id for case in list_cases(load_card("lits"), root)[1]} == before


def test_image_layouts_list_them(tmp_path):
    root = trees.make_camvid(tmp_path / "camvid")
    for name in ("train.txt", "val.txt", "test.txt"):
        (root / name).unlink()
    names = sorted(path.stem for path in (root / "train").iterdir())
    dangle(root / "train" / f"{names[0]}.png")
    (root / "trainannot" / f"{names[1]}.png").unlink()
    (root / "trainannot" / f"{names[1]}.png").mkdir()
    found = faults_of("camvid", root)
    assert [*found] == names[:2] and LINK in found[names[0]] and FOLDER in found[names[1]]
    dangle(root / "testannot")
    with pytest.raises(FileNotFoundError, match=LINK):
        list_cases(load_card("camvid"), root)

    root = trees.make_cityscapes(tmp_path / "city")
    dangle(root / "leftImg8bit" / "val" / "lindau")
    dangle(root / "gtFine" / "val" / "lindau")
    dangle(root / "gtFine" / "train" / "aachen" / "aachen_000000_000019_gtFine_labelIds.png")
    found = faults_of("cityscapes", root)
    assert {"lindau", "aachen_000000_000019"} == found.keys()
    assert os.path.islink(root / "leftImg8bit" / "val" / "lindau")


def test_side_files_are_not_passed_over(cohort, rng):
    probs = rng.random((6, 6, 6)).astype(np.float32)
    write_volume(cohort / "q" / "a.nii.gz", np.stack([1 - probs, probs]), np.eye(4))
    for name in ("temperature.json", "labels.json"):
        dangle(cohort / "q" / name)
        assert LINK in run("decode", cohort / "q", "--out", cohort / "o", code=2)
        (cohort / "q" / name).unlink()
    dangle(cohort / "q" / "temperature.json")
    with pytest.raises(FileNotFoundError, match=LINK):
        temperature_beside(cohort / "q")
    dangle(cohort / "run" / "models" / "temperature.json")
    with pytest.raises(FileNotFoundError, match=LINK):
        stored_temperature(cohort / "run")
    run("decode", cohort / "q", "--temperature", "none", "--out", cohort / "o")
