"""Headers of other tools: units, axes of length one, colours, and affines that place nothing."""

import nibabel
import numpy as np
import pandas
import pytest
import SimpleITK

from conftest import run
from rankseg_rma.files.labels import read_labels
from rankseg_rma.files.volumes import read_grid, read_volume, write_volume
from rankseg_rma.grid import find_slice_axis, places_voxels, same_grid, spacing_of

SPACING = (0.8, 1.2, 3.0)
PER_MM = {"meter": 1e-3, "mm": 1.0, "micron": 1e3, "unknown": 1.0}


def in_unit(path, array, unit, codes=(1, 1), spacing=SPACING):
    """A NIfTI file whose header counts in another unit, axes turned and moved."""
    affine = np.zeros((4, 4))
    affine[[1, 0, 2], [0, 1, 2]] = spacing * np.array([-1, 1, 1])
    affine[:, 3] = 5, -6, 7, 0
    affine *= PER_MM[unit]
    affine[3, 3] = 1
    image = nibabel.Nifti1Image(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0)])
@pytest.mark.parametrize("unit", [*PER_MM])
def test_millimetres_as_simpleitk_reads_them(tmp_path, unit, codes):
    path = in_unit(tmp_path / "a.nii.gz", np.zeros((5, 6, 7), np.int16), unit, codes)
    theirs = SimpleITK.ReadImage(str(path))
    matrix = np.array(theirs.GetDirection()).reshape(3, 3) @ np.diag(theirs.GetSpacing())
    affine = np.eye(4)
    affine[:3] = np.diag([-1, -1, 1]) @ np.c_[matrix, theirs.GetOrigin()]
    volume, grid = read_volume(path), read_grid(path)
    for found in (volume.affine, grid.affine):
        np.testing.assert_allclose(found, affine, atol=1e-5)
        assert spacing_of(found) == pytest.approx(SPACING)
    assert grid.is_converted == (unit in ("meter", "micron"))


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_a_mask_on_the_grid_of_such_an_image(tmp_path, unit, codes):
    grid = read_grid(in_unit(tmp_path / "image.nii.gz", np.zeros((5, 6, 7), np.int16), unit, codes))
    write_volume(tmp_path / "mask.nii.gz", np.ones(grid.shape, np.uint8), grid.affine, grid.header)
    saved = nibabel.load(tmp_path / "mask.nii.gz")
    assert saved.header.get_xyzt_units()[0] == "mm"
    for affine in (saved.affine, read_grid(tmp_path / "mask.nii.gz").affine):
        assert same_grid(grid.shape, affine, grid.shape, grid.affine) == ""
    if codes != (0, 0):
        ours, theirs = (SimpleITK.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in ("mask", "image"))
        for name in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(ours, name)(), getattr(theirs, name)(), atol=1e-5)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_volumes_in_ml_and_distances_in_mm(tmp_path, unit):
    spacing = (1.0, 1.0, 1.0)
    centre = np.stack(np.meshgrid(*[np.arange(30) - 14.5] * 3, indexing="ij"))
    ball = (np.sum(centre**2, axis=0) < 11.38**2).astype(np.uint8)
    in_unit(tmp_path / "r" / "a.nii.gz", ball, unit, spacing=spacing)
    in_unit(tmp_path / "p" / "a.nii.gz", np.roll(ball, 2, axis=0), "mm", spacing=spacing)
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--surface")
    run(*command, "--out", tmp_path / "o")
    rows = pandas.read_csv(tmp_path / "o" / "cases.csv").set_index("metric")
    # SimpleITK, on the same files.
    images = [SimpleITK.ReadImage(str(tmp_path / folder / "a.nii.gz")) for folder in ("r", "p")]
    volume_ml = int(ball.sum()) * np.prod(images[0].GetSpacing()) / 1000
    assert volume_ml == pytest.approx(6.18, abs=0.05)
    assert rows.loc["dice", "n_reference"] * rows.loc["dice", "voxel_ml"] == pytest.approx(volume_ml)
    assert 1 <= rows.loc["hd95_mm", "value"] <= 2.5


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 1, 1), (6, 5, 4, 1, 1, 1)])
def test_axes_of_one_are_dropped(tmp_path, rng, shape):
    array = rng.integers(0, 3, shape).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    for found in (read_volume(tmp_path / "a.nii.gz").array, read_labels(tmp_path / "a.nii.gz").array):
        np.testing.assert_array_equal(found, array.reshape(6, 5, 4))
    assert (read_grid(tmp_path / "a.nii.gz").shape, read_grid(tmp_path / "a.nii.gz").num_channels) == ((6, 5, 4), 1)
    image = SimpleITK.GetImageFromArray(array.reshape(6, 5, 4, 1).T, isVector=False)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").array, array.reshape(6, 5, 4))


def test_channels_and_colours(tmp_path, rng):
    both = rng.normal(size=(6, 5, 4, 2)).astype(np.float32)
    for name, array in (("a.nii", both), ("vector.nii", both[:, :, :, None])):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(both.transpose(2, 1, 0, 3), isVector=True), tmp_path / "a.nrrd")
    for name in ("a.nii", "vector.nii", "a.nrrd"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, np.moveaxis(both, -1, 0))
        assert (read_grid(tmp_path / name).shape, read_grid(tmp_path / name).num_channels) == ((6, 5, 4), 2)
    with pytest.raises(ValueError, match=r"label must be a label map of 3 axes; got 2 channels of \(6, 5, 4\) .*a.nii"):
        read_labels(tmp_path / "a.nii")
    colours = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 7
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "rgb.nii")
    assert read_volume(tmp_path / "rgb.nii").array.mean(axis=(1, 2, 3)).tolist() == [0, 7, 0]
    assert read_grid(tmp_path / "rgb.nii").num_channels == 3


@pytest.mark.parametrize("kind", ["nii", "rgb", "mha", "five"])
def test_what_is_no_volume_is_refused(tmp_path, kind):
    path = tmp_path / f"a.{'mha' if kind == 'mha' else 'nii'}"
    if kind == "mha":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((5, 6, 3), np.uint8), isVector=True), path)
    else:
        dtype = [("R", "u1"), ("G", "u1"), ("B", "u1")] if kind == "rgb" else np.uint8
        shape = (6, 5, 4, 2, 3) if kind == "five" else (6, 5)
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, dtype), np.eye(4)), path)
    for read in (read_volume, read_grid):
        with pytest.raises(
            ValueError, match=rf"volume must be of 3 axes, and one more for channels; got .*{path.name}"
        ):
            read(path)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_affines_that_place_nothing(tmp_path, value):
    path = tmp_path / "a.nii"
    write_volume(path, np.zeros((4, 5, 6), np.uint8), np.eye(4))
    content = bytearray(path.read_bytes())
    content[252:254] = np.int16(0).tobytes()  # qform_code
    content[284:288] = np.float32(value).tobytes()  # srow_x[1]
    content[280:284] = np.float32(value).tobytes()  # srow_x[0]
    path.write_bytes(content)
    for read in (read_volume, read_grid, read_labels):
        with pytest.raises(ValueError, match=rf"affine must be finite and invertible, \(4, 4\); got .*{path.name}"):
            read(path)
    write_volume(tmp_path / "r" / "a.nii", np.ones((4, 5, 6), np.uint8), np.eye(4))
    (tmp_path / "p").mkdir()
    path.rename(tmp_path / "p" / "a.nii")
    command = ("evaluate", "--predictions", tmp_path / "p", "--references", tmp_path / "r", "--out", tmp_path / "o")
    assert "affine must be finite and invertible" in run(*command, "--labels", "1=liver", code=1)


def test_grids_that_are_not_finite_are_not_the_same():
    broken = np.eye(4)
    broken[0, 3] = np.nan
    for first, second in ((np.eye(4), broken), (broken, np.eye(4)), (broken, broken)):
        assert "not finite" in same_grid((4, 4, 4), first, (4, 4, 4), second)
    for flat in (np.zeros((4, 4)), np.ones((4, 4)), broken, np.diag([1, 1, np.inf, 1])):
        assert not places_voxels(flat)
        with pytest.raises(ValueError, match="find_slice_axis: affine must be finite and invertible"):
            find_slice_axis(flat, "axial")
    assert places_voxels(np.diag([1e-6, 1e-6, -1e-6, 1]))
