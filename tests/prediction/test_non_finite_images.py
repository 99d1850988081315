"""An image with NaN or infinite voxels is refused with its file and their number, before the network sees it."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from conftest import run, tiny_network
from rankseg_rma.bundles.open import open_bundle
from rankseg_rma.bundles.write import write_bundle
from rankseg_rma.datasets import list_cards, load_card
from rankseg_rma.files import finite
from rankseg_rma.files.volumes import write_volume
from rankseg_rma.prediction.predict import predict_image, predict_probabilities


def untrained(folder, name, datalist):
    """A bundle with random weights for a card."""
    from monai.bundle import ConfigParser

    write_bundle(folder, load_card(name), datalist, tiny_network(2), list_cards()[name])
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.yaml"))
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    return folder


def spoil(source, path):
    """A float copy of a volume with three NaN and two infinite voxels."""
    image = nibabel.load(source)
    array = np.asarray(image.dataobj).astype(np.float32)
    array[1, 1, :3], array[2, 2, 2], array[3, 3, 3] = np.nan, -np.inf, np.inf
    write_volume(path, array, image.affine)
    return path


def explode(item):
    raise AssertionError("the network's input was made")


def test_volumes(work, tmp_path):
    good = work / "data" / "imagesTr" / "phantom_000.nii.gz"
    bad = spoil(good, tmp_path / "bad.nii.gz")
    said = run("infer", "--bundle", work / "run", "-i", good, "-i", bad, "--out", tmp_path / "masks", code=1)
    number = np.prod(nibabel.load(good).shape)
    assert f"image must be of finite numbers; got 5 NaN or infinite of {number} voxels ({bad})" in said
    masks = tmp_path / "masks" / "rma"
    assert (masks / good.name).is_file() and not (masks / bad.name).exists()
    bundle = replace(open_bundle(work / "run", "cpu"), preprocessing=explode)
    with pytest.raises(ValueError, match="5 NaN or infinite"):
        predict_probabilities(bundle, bad)


def test_volumes_of_other_formats(work, tmp_path):
    import SimpleITK

    array = np.zeros((4, 5, 6), np.float32)
    array[0, 0, 0] = -np.inf
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "bad.mha"))
    said = run("infer", "--bundle", work / "run", "-i", tmp_path / "bad.mha", "--out", tmp_path / "masks", code=1)
    assert "got 1 NaN or infinite of 120 voxels" in said and "bad.mha" in said


def test_slices_of_volumes(tmp_path, work):
    datalist = {"training": [{"case_id": "a", "image": "a", "label": "a", "slice_index": 0}]}
    bundle = untrained(tmp_path / "run", "msd_hippocampus", datalist)
    bad = spoil(work / "data" / "imagesTr" / "phantom_000.nii.gz", tmp_path / "bad.nii.gz")
    said = run("infer", "--bundle", bundle, "-i", bad, "--out", tmp_path / "masks", code=1)
    assert "got 5 NaN or infinite of" in said and str(bad) in said


def test_photographs(tmp_path):
    bundle = untrained(tmp_path / "run", "camvid", {"training": []})
    pixels = np.full((8, 8), 100, np.float32)
    pixels[0, :2] = np.nan
    Image.fromarray(pixels).save(tmp_path / "bad.tif")
    said = run("infer", "--bundle", bundle, "-i", tmp_path / "bad.tif", "--out", tmp_path / "masks", code=1)
    assert "of 8 or 16 bits" in said and "bad.tif" in said
    opened = replace(open_bundle(bundle, "cpu"), preprocessing=explode)
    with pytest.raises(ValueError, match="got 6 NaN or infinite of 192 voxels"):
        predict_image(opened, np.stack([pixels] * 3))
    with pytest.raises(ValueError, match="got 6 NaN or infinite of 192 voxels"):
        predict_image(opened, torch.from_numpy(np.stack([pixels] * 3)))


def test_files_of_whole_numbers_are_not_read_again(tmp_path, monkeypatch):
    write_volume(tmp_path / "whole.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    write_volume(tmp_path / "float.nii.gz", np.zeros((2, 3, 4), np.float32), np.eye(4))
    monkeypatch.setattr(finite, "read_volume", lambda path: explode(path))
    finite.require_finite_volume("infer", tmp_path / "whole.nii.gz")
    with pytest.raises(AssertionError):
        finite.require_finite_volume("infer", tmp_path / "float.nii.gz")
