"""What other tools store, through a bundle that reads its files by itself: units, axes of one, channels, affines."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import trees
from conftest import run
from rankseg_rma.bundles.open import Bundle
from rankseg_rma.datasets.phantom import make_phantom
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.datasets.slices import read_slice, read_store
from rankseg_rma.files.volumes import read_grid, read_volume, write_volume
from rankseg_rma.grid import same_grid
from rankseg_rma.prediction.predict import predict_probabilities

BUNDLE = Path(__file__).parents[1] / "old_runs" / "volume"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """The middle of a phantom's image, in millimetres."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, 1, seed=1)
    volume = read_volume(folder / "imagesTr" / "phantom_000.nii.gz")
    write_volume(folder / "image.nii.gz", volume.array[20:60, 20:60, 4:16], volume.affine)
    return folder / "image.nii.gz"


def store(path, array, affine, unit="mm"):
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(np.array(array), affine)  # a copy, for the file may be the one that it was read from
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


def test_units_and_axes_change_nothing(tmp_path, phantom):
    image = nibabel.load(phantom)
    array = np.asarray(image.dataobj)
    per_mm = {"meter": 1e-3, "micron": 1e3}
    store(tmp_path / "in" / "mm.nii.gz", array, image.affine)
    for unit, scale in per_mm.items():
        store(tmp_path / "in" / f"{unit}.nii.gz", array, np.diag([scale, scale, scale, 1]) @ image.affine, unit)
    store(tmp_path / "in" / "four.nii.gz", array[..., None], image.affine)
    store(tmp_path / "in" / "five.nii.gz", array[..., None, None], image.affine)
    run("infer", "--bundle", BUNDLE, "--input", tmp_path / "in", "--out", tmp_path / "o", "--device", "cpu")
    expected = read_volume(tmp_path / "o" / "rma" / "mm.nii.gz")
    assert expected.array.any()
    for name in ("meter", "micron", "four", "five"):
        found = read_volume(tmp_path / "o" / "rma" / f"{name}.nii.gz")
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-3)
        grid = read_grid(tmp_path / "in" / f"{name}.nii.gz")
        assert same_grid(found.array.shape, found.affine, grid.shape, grid.affine) == ""


def test_other_channels_and_shapes_are_told(tmp_path, phantom):
    image = nibabel.load(phantom)
    array = np.asarray(image.dataobj)
    colours = np.zeros(array.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    store(tmp_path / "in" / "good.nii.gz", array, image.affine)
    store(tmp_path / "in" / "two.nii.gz", np.stack([array, array], axis=-1), image.affine)
    store(tmp_path / "in" / "flat.nii.gz", array[..., 0], image.affine)
    store(tmp_path / "in" / "rgb.nii.gz", colours, image.affine)
    store(tmp_path / "in" / "zero.nii", array, image.affine)
    content = bytearray((tmp_path / "in" / "zero.nii").read_bytes())
    content[280:328] = bytes(48)  # the rows of the affine
    (tmp_path / "in" / "zero.nii").write_bytes(content)
    said = run("infer", "--bundle", BUNDLE, "--input", tmp_path / "in", "--out", tmp_path / "o", code=1)
    for name, words in {
        "two": "image must be of 1 channel, as the bundle takes; got 2 (",
        "rgb": "image must be of 1 channel, as the bundle takes; got 3 (",
        "flat": "volume must be of 3 axes, and one more for channels; got (40, 40) (",
        "zero": "affine must be finite and invertible, (4, 4); got ",
    }.items():
        line = next(line for line in said.splitlines() if line.strip().startswith(f"{name}: "))
        assert words in line and f"{name}.nii" in line
    assert [path.name for path in sorted((tmp_path / "o" / "rma").iterdir())] == ["good.nii.gz"]


def test_slices_network_takes_them_too(tmp_path, rng):
    bundle = Bundle(
        tmp_path, lambda item: item, lambda images: torch.cat([-images, images], dim=1),
        lambda images, network: network(images), torch.device("cpu"), ("liver",), None, "slices",
    )  # fmt: skip
    array = rng.normal(size=(6, 5, 4)).astype(np.float32)
    store(tmp_path / "in" / "three.nii", array, np.eye(4))
    store(tmp_path / "in" / "four.nii", array[..., None], np.eye(4))
    store(tmp_path / "in" / "two.nii", np.stack([array, array], axis=-1), np.eye(4))
    three, four = (predict_probabilities(bundle, tmp_path / "in" / f"{name}.nii").probs for name in ("three", "four"))
    np.testing.assert_array_equal(three, four)
    assert three.shape == (2, 6, 5, 4)
    with pytest.raises(ValueError, match=r"of 1 channel, as the bundle takes; got 2 \(.*two.nii"):
        predict_probabilities(bundle, tmp_path / "in" / "two.nii")


def test_prepare_takes_them_too(tmp_path, small):
    root, name = trees.make_lits(tmp_path / "raw", cases=5), small("lits")
    assert not prepare_dataset(name, root, tmp_path / "before").failed
    for path in (*root.rglob("volume-1.nii"), *root.rglob("segmentation-2.nii")):
        volume = read_volume(path)
        store(path, volume.array[..., None], volume.affine)
    (path,) = root.rglob("volume-0.nii")
    volume = read_volume(path)
    store(path, volume.array, np.diag([1e-3, 1e-3, 1e-3, 1]) @ volume.affine, "meter")
    assert not prepare_dataset(name, root, tmp_path / "after").failed
    entries = read_store(tmp_path / "before")["slices"]
    assert entries
    for entry in entries:
        before, after = (read_slice(tmp_path / folder / entry["file"]) for folder in ("before", "after"))
        for part in ("image", "label"):
            np.testing.assert_array_equal(before[part], after[part])
    said = run("data", "check", name, "--root", root)
    assert "5 good" in said
