"""Volumes on disk: an array with the affine that places it in the patient; NIfTI by nibabel, others by SimpleITK."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI_SUFFIXES, *SITK_SUFFIXES)
ANATOMICAL_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


@dataclass(frozen=True)
class Volume:
    """An array and its place in the patient.

    Attributes:
        array: (*spatial) or, for probabilities, (class, *spatial).
        affine: (4, 4) from array indices to RAS+ millimetres.
        header: nibabel header that a mask on the same grid takes over (orientation codes); None for other formats.
    """

    array: Any
    affine: Any
    header: Any = None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in array-axis order."""
        return spacing_of(self.affine)


def spacing_of(affine: Any) -> tuple[float, float, float]:
    """Voxel size in mm, in array-axis order.

    Example:
        >>> spacing_of(np.diag([0.5, -2.0, 3.0, 1.0]))
        (0.5, 2.0, 3.0)
    """
    x, y, z = np.linalg.norm(np.asarray(affine, np.float64)[:3, :3], axis=0)
    return float(x), float(y), float(z)


def voxel_volume_ml(affine: Any) -> float:
    """Volume of one voxel in millilitres (1 ml = 1000 cubic mm).

    Example:
        >>> round(voxel_volume_ml(np.diag([1.0, 1.0, 5.0, 1.0])), 6)
        0.005
    """
    return float(abs(np.linalg.det(np.asarray(affine, np.float64)[:3, :3])) / 1000)


def find_slice_axis(affine: Any, slice_axis: str | int, num_axes: int = 3) -> int:
    """Array axis along which slices lie.

    Args:
        affine: (4, 4) to RAS+; None when unknown: the array is then taken to be in RAS order, as MONAI does.
        slice_axis: an array axis, or "axial", "coronal" or "sagittal": the axis closest to the normal of that plane.
        num_axes: number of spatial axes.
    Raises:
        ValueError: another name, or a plane asked of an array that is not 3D.
    Example:
        >>> find_slice_axis(np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1.0]]), "axial")
        0
    """
    if isinstance(slice_axis, int | np.integer) and not isinstance(slice_axis, bool):
        if not -num_axes <= slice_axis < num_axes:
            expected = f"an axis from 0 to {num_axes - 1}, or from the end, of {num_axes} spatial axes"
            raise ValueError(wrong("find_slice_axis", "slice_axis", expected, slice_axis))
        return int(slice_axis) % num_axes
    if slice_axis not in ANATOMICAL_AXES:
        expected = f"an axis number or one of {', '.join(map(repr, ANATOMICAL_AXES))}"
        raise ValueError(wrong("find_slice_axis", "slice_axis", expected, repr(slice_axis)))
    if num_axes != 3:
        expected = f"an axis number for an array with {num_axes} spatial axes"
        raise ValueError(wrong("find_slice_axis", "slice_axis", expected, repr(slice_axis)))
    direction = np.eye(3) if affine is None else np.asarray(affine, np.float64)[:3, :3]
    if direction.shape != (3, 3) or not np.linalg.det(direction):
        raise ValueError(wrong("find_slice_axis", "affine", "invertible, (4, 4)", np.asarray(affine).tolist()))
    from nibabel.orientations import io_orientation

    homogeneous = np.eye(4)
    homogeneous[:3, :3] = direction
    return int(np.flatnonzero(io_orientation(homogeneous)[:, 0] == ANATOMICAL_AXES[slice_axis])[0])


def case_id_of(path: str | Path) -> str:
    """File name without the suffixes of an image.

    Example:
        >>> case_id_of("imagesTr/liver_12.nii.gz")
        'liver_12'
    """
    name = Path(path).name
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def list_volumes(folder: str | Path) -> dict[str, Path]:
    """Image files directly in a folder, by case id, in alphabetical order; hidden files are left out.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: two files have the same case id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(wrong("list_volumes", "folder", "an existing folder", folder))
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES) or not path.is_file():
            continue
        case_id = case_id_of(path)
        if case_id in found:
            got = f"{found[case_id].name} and {path.name}"
            raise ValueError(wrong("list_volumes", "case ids", "unique", got, case_id=case_id, path=folder))
        found[case_id] = path
    return found


def read_volume(path: str | Path, dtype: Any = None) -> Volume:
    """Read a volume.

    Args:
        path: .nii, .nii.gz, .mha, .mhd, .nrrd or .nhdr. A NIfTI with four axes is (x, y, z, class) on disk and
            (class, x, y, z) here.
        dtype: numpy dtype of the array; by default as stored.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, or is no volume.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(wrong("read_volume", "path", "an existing file", path))
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(wrong("read_volume", "path", "one of " + ", ".join(SUFFIXES), path.name, path=path))
    try:
        volume = _read_nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _read_sitk(path)
    except Exception as error:  # nibabel, zlib, gzip and SimpleITK raise a dozen kinds for a damaged file
        raise _unreadable(path, error) from error
    if volume.array.ndim not in (3, 4):
        raise ValueError(wrong("read_volume", "volume", "of 3 (or 4) axes", volume.array.shape, path=path))
    return volume if dtype is None else Volume(volume.array.astype(dtype, copy=False), volume.affine, volume.header)


@dataclass(frozen=True)
class Grid:
    """Spatial shape, affine and header of a volume; see `Volume`."""

    shape: tuple[int, ...]
    affine: Any
    header: Any = None


def read_grid(path: str | Path) -> Grid:
    """Grid of a volume; the voxels of a NIfTI file are not read.

    Raises:
        FileNotFoundError, ValueError: as `read_volume`.
    """
    path = Path(path)
    if path.is_file() and path.name.lower().endswith(NIFTI_SUFFIXES):
        import nibabel

        try:
            image = nibabel.load(path)
        except Exception as error:
            raise _unreadable(path, error) from error
        return Grid(tuple(image.shape[:3]), image.affine, image.header)
    volume = read_volume(path)
    return Grid(volume.array.shape[-3:], volume.affine)


def _unreadable(path: Path, error: Exception) -> ValueError:
    got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    advice = "The file is damaged or no image: copy it again."
    return ValueError(wrong("read_volume", "file", "a readable volume", got, path=path, advice=advice))


def _read_nifti(path: Path) -> Volume:
    import nibabel

    image = nibabel.load(path)
    array = np.asanyarray(image.dataobj)
    while array.ndim > 4 and array.shape[3] == 1:  # vector images: (x, y, z, 1, channel)
        array = array[:, :, :, 0]
    return Volume(np.moveaxis(array, -1, 0) if array.ndim == 4 else array, image.affine, image.header)


def _read_sitk(path: Path) -> Volume:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image).T
    if image.GetDimension() == 4:
        array = np.moveaxis(array, -1, 0)
    lps_to_ras = np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    affine[:3, :3] = lps_to_ras @ direction @ np.diag(image.GetSpacing()[:3])
    affine[:3, 3] = lps_to_ras @ np.array(image.GetOrigin()[:3])
    return Volume(array, affine)


def write_volume(path: str | Path, array: Any, affine: Any, header: Any = None) -> None:
    """Write a NIfTI file under a temporary name and rename it, so that a killed run leaves no half file.

    Args:
        path: .nii or .nii.gz.
        array: (*spatial) of any integer or float dtype, or (class, *spatial), stored with classes last.
        affine: (4, 4) to RAS+, stored exactly (as float32, as NIfTI does).
        header: nibabel header of a volume on the same grid: its orientation codes are kept.
    """
    import nibabel

    array = np.asarray(array)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = nibabel.Nifti1Image(np.moveaxis(array, 0, -1) if array.ndim == 4 else array, affine, dtype=array.dtype)
    if header is not None and hasattr(header, "get_sform"):
        image.set_sform(affine, code=int(header["sform_code"]), update_affine=False)
        if int(header["qform_code"]):
            for name in ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
                image.header[name] = header[name]
            image.header["pixdim"][:4] = header["pixdim"][:4]
        else:
            image.set_qform(affine, code=0, update_affine=False)
            if not int(header["sform_code"]):
                image.set_sform(affine, code=2)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:
        nibabel.save(image, temporary)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text under a temporary name and rename it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_same_grid(
    function: str, argument: str, shape: Any, affine: Any, reference: Any, path: str | Path, advice: str = ""
) -> None:
    """Raise unless an array lies on the grid of a reference.

    Args:
        function: who asks, for the message.
        argument: what is checked.
        shape: its spatial shape.
        affine: its affine.
        reference: anything with an ``array`` (*spatial) and an ``affine``.
        path: its file.
        advice: what to do.
    Raises:
        ValueError: the grids differ.
    """
    difference = same_grid(shape, affine, reference.array.shape, reference.affine)
    if difference:
        expected, got = "on the reference's grid", f"a difference in {difference}"
        raise ValueError(wrong(function, argument, expected, got, path=path, advice=advice))


def same_grid(shape_a: Any, affine_a: Any, shape_b: Any, affine_b: Any) -> str:
    """Say how two grids differ; the empty string when they are the same (corners within a tenth of a voxel).

    Example:
        >>> same_grid((4, 4, 4), np.eye(4), (4, 4, 5), np.eye(4))
        'shape (4, 4, 4) and (4, 4, 5)'
    """
    if tuple(shape_a) != tuple(shape_b):
        return f"shape {tuple(shape_a)} and {tuple(shape_b)}"
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape_a[:3]], [1.0], indexing="ij")).reshape(4, -1)
    shift = np.abs((np.asarray(affine_a) - np.asarray(affine_b)) @ corners).max()
    if shift > 0.1 * min(spacing_of(affine_a)):
        return f"position: corners lie up to {shift:.3g} mm apart"
    return ""
