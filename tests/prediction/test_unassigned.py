"""Voxels that no class claims, and classes that are left out, in what `infer`, `decode` and `test` write."""

import json

import numpy as np
import pandas
import pytest
import torch
import yaml
from made_bundles import CONFIG, PHOTOGRAPHS, write_network
from PIL import Image

from conftest import run
from rankseg_rma.files.probabilities import Probabilities, write_probabilities
from rankseg_rma.files.volumes import read_volume, write_volume

# An image of 1 (class 2), -1 (class 0) and 0, where the three classes are equal and no cutoff is exceeded: the largest
# class loses least by that voxel.
IMAGE = np.full((4, 4, 4), 1, np.float32)
IMAGE[0, 0] = -1, -1, 0, 1
UNCLAIMED = (0, 0, 2)
EXPECTED = {"max_score": 2, "background": 0, "void": 255}


@pytest.fixture
def volumes(tmp_path):
    """A bundle with logits of -8, 0 and 8 times the image, and the image."""
    write_volume(tmp_path / "images" / "case.nii.gz", IMAGE, np.eye(4))
    return write_network(tmp_path / "bundle", CONFIG, torch.tensor([-8.0, 0.0, 8.0]).view(3, 1, 1, 1, 1))


@pytest.fixture
def photographs(tmp_path):
    """A bundle whose classes are the primary colours; a photograph of blue, two pixels of red, one of black."""
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[..., 2] = 255
    colours[0, :3] = (255, 0, 0), (255, 0, 0), (0, 0, 0)
    (tmp_path / "images").mkdir()
    Image.fromarray(colours).save(tmp_path / "images" / "photo.png")
    return write_network(tmp_path / "bundle", PHOTOGRAPHS, 8 / 255 * torch.eye(3)[:, :, None, None])


@pytest.mark.parametrize("unassigned", [*EXPECTED])
def test_volumes(volumes, tmp_path, unassigned):
    arguments = ("--input", tmp_path / "images", "--save-probabilities", "--unassigned", unassigned)
    run("infer", "--bundle", volumes, "--out", tmp_path / "out", *arguments)
    run("decode", tmp_path / "out" / "probabilities", "--out", tmp_path / "again", "--unassigned", unassigned)
    for out in (tmp_path / "out", tmp_path / "again"):
        mask = read_volume(out / "rma" / "case.nii.gz").array
        assert mask.dtype == np.uint8
        assert mask[UNCLAIMED] == EXPECTED[unassigned]
        assert np.isin(np.delete(mask.ravel(), 2), (0, 2)).all()
        assert read_volume(out / "argmax" / "case.nii.gz").array[UNCLAIMED] == 0
        thing = pandas.read_csv(out / "inference.csv").set_index("label").loc[2]
        assert thing.volume_rma_ml == pytest.approx((61 + (unassigned == "max_score")) / 1000)


@pytest.mark.parametrize("unassigned", [*EXPECTED])
def test_photographs(photographs, tmp_path, unassigned):
    run(
        "infer",
        "--bundle",
        photographs,
        "-i",
        tmp_path / "images",
        "--out",
        tmp_path / "out",
        "--unassigned",
        unassigned,
    )
    with Image.open(tmp_path / "out" / "rma" / "photo.png") as image:
        mask = np.asarray(image)
    assert (mask[0, 2], mask.dtype) == (EXPECTED[unassigned], np.uint8)
    table = pandas.read_csv(tmp_path / "out" / "inference_images.csv").set_index("class")
    assert table.pixels_rma.sum() == 24 - (unassigned == "void")


def test_columns_of_photographs(photographs, tmp_path):
    run("infer", "--bundle", photographs, "-i", tmp_path / "images", "--out", tmp_path / "out", "--temperature", 1.5)
    table = pandas.read_csv(tmp_path / "out" / "inference_images.csv")
    assert set(table.score_over) == {"image"}
    assert set(table.temperature_source) == {"given"}
    assert set(table.temperature) == {1.5}
    np.testing.assert_allclose(table.expected_gain, table.expected_score_rma - table.expected_score_argmax)
    assert table.expected_gain[0] > 0
    assert (table.seconds > 0).all()
    assert (table.peak_memory_bytes > 1e6).all()
    run("infer", "--bundle", photographs, "-i", tmp_path / "images", "--out", tmp_path / "one", "--decode", "rma")
    alone = pandas.read_csv(tmp_path / "one" / "inference_images.csv")
    assert set(alone.temperature_source) == {"none"}
    assert alone.expected_gain.isna().all()


def test_photographs_have_no_slices(photographs, tmp_path):
    arguments = ("--bundle", photographs, "-i", tmp_path / "images", "--out", tmp_path / "out")
    assert "unit must be 'volume', which is the image" in run("infer", *arguments, "--unit", "slice", code=2)
    assert not (tmp_path / "out").exists()


def test_photographs_of_overlapping_classes_are_refused(photographs, tmp_path):
    path = photographs / "configs" / "inference.yaml"
    path.write_text(yaml.safe_dump(PHOTOGRAPHS | {"multilabel": True}))
    told = run("infer", "--bundle", photographs, "-i", tmp_path / "images", "--out", tmp_path / "out", code=2)
    assert "classes that exclude each other" in told


def test_void_of_many_classes_is_refused_not_wrapped(tmp_path):
    probs = np.zeros((256, 4, 4, 4), np.float32)
    probs.reshape(256, -1)[np.arange(64) * 4, np.arange(64)] = 1
    write_probabilities(tmp_path / "in" / "case.nii.gz", Probabilities(probs, np.eye(4)))
    told = run("decode", tmp_path / "in", "--out", tmp_path / "out", "--unassigned", "void", "--decode", "rma", code=1)
    assert "void_index must be outside the labels 0 to 255" in told
    run("decode", tmp_path / "in", "--out", tmp_path / "out", "--unassigned", "background")
    (tmp_path / "in" / "labels.json").write_text(json.dumps([]))
    assert read_volume(tmp_path / "out" / "rma" / "case.nii.gz").array.max() == 252
