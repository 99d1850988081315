"""What MONAI's transforms get of a volume: as MONAI reads healthy files itself, and right where it is wrong."""

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, LoadImaged

from rankseg_rma.datasets.loading import LoadVolumed, VolumeReader
from rankseg_rma.files.resources import resource_dir
from rankseg_rma.old_names import translate_config

AFFINE = np.array([[0, -1.37, 0, 5], [0.83, 0, 0, -6], [0, 0, 3.11, 7], [0, 0, 0, 1]])


def store(path, array, unit="mm"):
    scale = {"meter": 1e-3, "mm": 1.0, "micron": 1e3}[unit]
    image = nibabel.Nifti1Image(array, np.diag([scale, scale, scale, 1]) @ AFFINE)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return str(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.dtype(">i2")])
@pytest.mark.parametrize("channels", [(), (2,)])
def test_healthy_files_are_read_as_by_monai(tmp_path, rng, dtype, channels):
    path = store(tmp_path / "a.nii.gz", rng.integers(0, 99, (6, 5, 4, *channels)).astype(dtype))
    theirs = LoadImaged("image", ensure_channel_first=True, image_only=True)({"image": path})["image"]
    ours = LoadVolumed("image")({"image": path, "case_id": "a"})["image"]
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype == torch.float32
    assert torch.equal(ours.as_subclass(torch.Tensor), theirs.as_subclass(torch.Tensor))
    assert torch.equal(ours.affine, theirs.affine) and ours.affine.dtype == theirs.affine.dtype
    for key in ("filename_or_obj", "space"):
        assert ours.meta[key] == theirs.meta[key]
    assert [*ours.meta["spatial_shape"]] == [*theirs.meta["spatial_shape"]]


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_the_chain_of_training_sees_millimetres(tmp_path, rng, unit):
    parser = ConfigParser()
    parser.read_config(str(resource_dir("configs") / "train.yaml"))
    chain = Compose(parser.get_parsed_content("deterministic_transforms"))
    image = rng.normal(size=(12, 10, 8)).astype(np.float32) * 99
    label = rng.integers(0, 3, image.shape).astype(np.uint8)
    found = []
    for folder, one in (("a", "mm"), ("b", unit)):
        (tmp_path / folder).mkdir()
        arrays = (image, label) if folder == "a" else (image[..., None, None], label[..., None])
        paths = [store(tmp_path / folder / f"{k}.nii.gz", array, one) for k, array in enumerate(arrays)]
        found.append(chain(dict(zip(("image", "label"), paths, strict=True))))
    assert found[0]["image"].shape == (1, 5, 4, 5)
    for key in ("image", "label"):
        torch.testing.assert_close(found[0][key], found[1][key], rtol=1e-3, atol=1e-3)


def test_faults_are_told_in_our_words(tmp_path):
    path = store(tmp_path / "flat.nii.gz", np.zeros((6, 5), np.uint8))
    with pytest.raises(ValueError, match=r"volume must be of 3 axes, .*flat.nii.gz"):
        LoadVolumed("image")({"image": path})
    assert VolumeReader().verify_suffix("a.NRRD") and not VolumeReader().verify_suffix("a.png")


def test_old_configs_read_so_too():
    old = {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True, "image_only": True}
    new = {"_target_": "rankseg_rma.LoadVolumed", "keys": "image"}
    assert translate_config({"a": {"transforms": [old]}}) == {"a": {"transforms": [new]}}
    for other in ({**old, "reader": "ITKReader"}, {**old, "image_only": False}):
        assert translate_config({"a": [other]}) == {"a": [other]}
