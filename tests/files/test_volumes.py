"""Volumes on disk: what is written comes back, on the same grid, and damage is named."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK

from rankseg_rma.files.volumes import Volume, case_id_of, list_volumes, read_grid, read_volume, write_volume
from rankseg_rma.files.writing import replacing
from rankseg_rma.grid import find_slice_axis, same_grid, voxel_volume_ml

OBLIQUE = np.array([[-0.9, 0.2, 0.1, 5], [0.15, 1.1, -0.3, -7], [0.1, 0.2, 3.0, 9], [0, 0, 0, 1.0]])


def test_mask_takes_over_grid_and_codes(tmp_path, rng):
    image = nibabel.Nifti1Image(rng.normal(size=(4, 5, 6)).astype(np.float32), OBLIQUE)
    image.set_qform(nibabel.affines.from_matvec(np.diag([1.0, 1.0, 3.0])), code=1)
    image.set_sform(OBLIQUE, code=4)
    nibabel.save(image, tmp_path / "image.nii.gz")
    grid = read_grid(tmp_path / "image.nii.gz")
    mask = (rng.random((4, 5, 6)) > 0.5).astype(np.uint8)
    write_volume(tmp_path / "mask.nii.gz", mask, grid.affine, grid.header)
    saved = nibabel.load(tmp_path / "mask.nii.gz")
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(saved.affine, nibabel.load(tmp_path / "image.nii.gz").affine)
    assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (4, 1)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), mask)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_broken_quaternion_is_kept_and_does_no_harm(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), OBLIQUE)
    image.set_sform(OBLIQUE, code=2)
    for name, value in (("qform_code", 1), ("quatern_b", 1.0), ("quatern_c", 0.5)):
        image.header[name] = value
    nibabel.save(image, tmp_path / "image.nii.gz")
    grid = read_grid(tmp_path / "image.nii.gz")
    write_volume(tmp_path / "mask.nii.gz", np.ones((3, 4, 5), np.uint8), grid.affine, grid.header)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "mask.nii.gz").affine, grid.affine)


@pytest.mark.parametrize(("sform", "qform"), [(0, 1), (1, 0), (0, 0), (2, 2)])
def test_codes_and_affine_survive(tmp_path, sform, qform):
    affine = np.diag([-2.0, 2, 3, 1])
    affine[:3, 3] = 4, 5, 6
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    nibabel.save(image, tmp_path / "image.nii.gz")
    grid = read_grid(tmp_path / "image.nii.gz")
    write_volume(tmp_path / "mask.nii.gz", np.ones((3, 4, 5), np.uint8), grid.affine, grid.header)
    saved = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(saved.affine, grid.affine)
    if sform or qform:
        assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (sform, qform)


def test_probabilities_are_stored_with_classes_last(tmp_path, rng):
    probs = rng.random((3, 4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / "p.nii.gz", probs, OBLIQUE)
    assert nibabel.load(tmp_path / "p.nii.gz").shape == (4, 5, 6, 3)
    np.testing.assert_array_equal(read_volume(tmp_path / "p.nii.gz").array, probs)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_simpleitk_and_nibabel_agree_on_the_affine(tmp_path, rng, suffix):
    image = SimpleITK.GetImageFromArray(rng.integers(0, 9, (6, 5, 4)).astype(np.int16))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-12.0, 30.0, 4.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    for name in (f"a{suffix}", "b.nii.gz"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
    a, b = read_volume(tmp_path / f"a{suffix}"), read_volume(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-5)
    assert a.spacing_mm == pytest.approx((0.7, 0.8, 2.5))
    assert read_grid(tmp_path / f"a{suffix}").shape == (4, 5, 6)


def test_grids_are_compared_by_their_corners():
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.01
    assert same_grid((4, 5, 6), OBLIQUE, (4, 5, 6), moved) == ""
    moved[0, 3] += 5
    assert "5.01 mm apart" in same_grid((4, 5, 6), OBLIQUE, (4, 5, 6), moved)


def test_slice_axes_and_volume():
    assert [find_slice_axis(OBLIQUE, plane) for plane in ("sagittal", "coronal", "axial")] == [0, 1, 2]
    assert find_slice_axis(None, -1) == 2
    with pytest.raises(ValueError, match="axis from 0 to 2"):
        find_slice_axis(None, 7)
    assert voxel_volume_ml(np.diag([-0.5, 2.0, 4.0, 1.0])) == pytest.approx(0.004)
    assert Volume(None, np.diag([-0.5, 2.0, 4.0, 1.0])).spacing_mm == (0.5, 2.0, 4.0)


def test_folder_listing(tmp_path):
    for name in ("b.nii.gz", "a.nii", ".hidden.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert [*list_volumes(tmp_path)] == ["a", "b"]
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(ValueError, match="case ids must be unique; got a.nii and a.nii.gz"):
        list_volumes(tmp_path)
    assert case_id_of("x/Case.01.NII.GZ") == "Case.01"


def test_damage_is_named(tmp_path, rng):
    write_volume(tmp_path / "good.nii.gz", rng.random((30, 30, 30)), np.eye(4))
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:9000])
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"hello"))
    for name in ("torn", "text"):
        with pytest.raises(ValueError, match=rf"must be a readable volume; got .*{name}.nii.gz\). The file is damaged"):
            read_volume(tmp_path / f"{name}.nii.gz")
    with pytest.raises(FileNotFoundError, match="an existing file"):
        read_volume(tmp_path / "none.nii.gz")
    with pytest.raises(ValueError, match="one of .nii.gz"):
        (tmp_path / "a.png").touch()
        read_volume(tmp_path / "a.png")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"
