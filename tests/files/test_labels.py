"""Label maps that other tools stored through a scaling factor: whole numbers again, once said; the rest is refused."""

import json

import nibabel
import numpy as np
import pandas
import pytest

import trees
from conftest import run
from rankseg_rma.datasets.check import check_dataset
from rankseg_rma.datasets.prepare import prepare_dataset
from rankseg_rma.datasets.slices import read_slice, read_store
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.metrics.masks import round_labels


def scaled(path, array, dtype):
    """A float mask under an integer dtype: nibabel chooses a slope and an intercept of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array.astype(np.float64), np.eye(4))
    image.set_data_dtype(dtype)
    nibabel.save(image, path)
    return path


def off_by_a_little(path):
    """The label file itself, 0.004 off wherever it is not 0."""
    volume = read_volume(path)
    write_volume(path, np.where(volume.array > 0, volume.array - np.float32(0.004), 0), volume.affine, volume.header)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_masks_of_nibabel_under_an_integer_dtype(tmp_path, rng, dtype):
    labels = rng.integers(0, 4, (6, 7, 8))
    array = labels.astype(np.float64)
    array[0, 0, 0], labels[0, 0, 0] = 2.9961, 3  # a maximum that makes the slope crooked
    path = scaled(tmp_path / "a.nii.gz", array, dtype)
    assert not np.array_equal(read_volume(path).array, labels)
    found = read_labels(path)
    assert found.was_rounded and found.array.dtype == np.uint16
    np.testing.assert_array_equal(found.array, labels)


def test_a_slope_of_a_tenth_and_float32(tmp_path):
    image = nibabel.Nifti1Image(np.array([0, 10, 20, 30], np.uint8).reshape(4, 1, 1), np.eye(4))
    image.header.set_slope_inter(0.1, 0)
    # nibabel sets the slope anew on saving: it is put into the file.
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:116] = np.float32(0.1).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert read_volume(tmp_path / "a.nii").array.ravel()[1] == pytest.approx(1)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.nii").array.ravel(), [0, 1, 2, 3])
    write_volume(tmp_path / "b.nii.gz", np.full((2, 2, 2), 0.9999, np.float32), np.eye(4))
    assert (read_labels(tmp_path / "b.nii.gz").array == 1).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.dtype(">i2"), np.dtype(">f8")])
def test_whole_numbers_are_not_rounded(dtype):
    array = np.array([[0, 1], [1, 0]], dtype)
    found, was_rounded = round_labels("label", array)
    assert not was_rounded
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0, 0.6, 0.6, 1], r"got 0.6 \(2 voxels\) "),
        ([0, 1.011, 1], "got 1.011 "),
        ([0, np.nan, 1, np.nan], r"got nan \(2 voxels\)"),
        ([np.inf, 1], "got inf"),
        ([-1, 0, 1], "got -1 "),
        ([-0.5, 0, 1], "got -0.5 "),
        ([0, 70000], "got 70000 "),
        ([*np.arange(9) + 0.5], r"got 0.5 .*, 4.5 \(1 voxels\), \.\.\."),
    ],
)
def test_what_is_no_label_is_told(tmp_path, values, told):
    path = tmp_path / "a.nii.gz"
    write_volume(path, np.array(values, np.float64).reshape(-1, 1, 1), np.eye(4))
    with pytest.raises(ValueError, match=told) as raised:
        read_labels(path)
    assert str(path) in str(raised.value)
    with pytest.raises(ValueError, match="got -3 .*, 70000 "):
        round_labels("label", np.array([-3, 0, 70000]))


def test_evaluate_says_it_once_in_all_processes(tmp_path, rng):
    labels = (rng.random((6, 7, 8)) > 0.5).astype(np.float64)
    for number in range(4):
        for folder in ("p", "r"):
            scaled(tmp_path / folder / f"{number}.nii.gz", labels * 0.9961, np.uint8)
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r")
    for workers in (1, 2):
        said = run(*command, "--out", tmp_path / f"o{workers}", "--workers", workers)
        assert said.count("not quite whole numbers") == 1
        assert "8 label files hold" in said
    scores = pandas.read_csv(tmp_path / "o1" / "cases.csv").query("metric == 'dice'")
    assert set(scores["value"]) == {1.0}
    assert set(scores["n_reference"]) == {int(labels.sum())}


def test_prepare_and_check_read_them_alike(tmp_path):
    root, out = trees.make_lits(tmp_path / "raw", cases=5), tmp_path / "store"
    path = root / "Training Batch 2" / "segmentation-3.nii"
    assert not prepare_dataset("lits", root, out).rounded
    whole = {entry["file"]: read_slice(out / entry["file"])["label"] for entry in read_store(out)["slices"]}
    off_by_a_little(path)
    checked = check_dataset("lits", root)
    assert not checked.faults
    assert any("volume-3" in note and "not quite of whole numbers" in note for note in checked.notes)
    for _ in range(2):  # a finished case is said again
        outcome = prepare_dataset("lits", root, out)
        assert not outcome.failed and outcome.rounded == [path]
    for name, label in whole.items():
        np.testing.assert_array_equal(read_slice(out / name)["label"], label)
    assert "was_rounded" not in json.loads((out / "cases" / "volume-1.json").read_text())
    said = run("data", "prepare", "lits", "--root", root, "--out", out)
    assert said.count("not quite whole numbers") == 1


def test_advise_and_compare_read_them_alike(tmp_path, rng):
    for number in range(4):
        labels = np.zeros((8, 8, 8))
        labels[2:6, 2:6, 2:6] = 1
        scaled(tmp_path / "r" / f"c{number}.nii.gz", labels * 0.9961, np.uint8)
        probs = np.clip(labels * 0.6 + rng.random(labels.shape) * 0.4, 0.01, 0.99).astype(np.float32)
        write_volume(tmp_path / "p" / f"c{number}.nii.gz", np.stack([1 - probs, probs]), np.eye(4))
        if number < 2:
            write_volume(tmp_path / "v" / f"c{number}.nii.gz", np.stack([1 - probs, probs]), np.eye(4))
        for name in ("a", "b"):
            write_volume(tmp_path / name / f"c{number}.nii.gz", (probs > 0.5).astype(np.uint8), np.eye(4))
    said = run("advise", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "advice")
    assert said.count("4 label files hold values that are not quite whole numbers") == 1
    for number in range(2):
        (tmp_path / "p" / f"c{number}.nii.gz").unlink()
    said = run(
        "compare", tmp_path / "a", tmp_path / "b", "--references", tmp_path / "r", "--out", tmp_path / "o",
        "--probabilities", tmp_path / "p", "--validation", tmp_path / "v",
    )  # fmt: skip
    assert said.count("not quite whole numbers") == 1
