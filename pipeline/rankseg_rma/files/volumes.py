"""Volumes on disk: an array with the affine that places it in the patient; NIfTI by nibabel, others by SimpleITK."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.files.listing import list_named, require_file
from rankseg_rma.files.names import NIFTI_SUFFIXES, SUFFIXES, case_id_of
from rankseg_rma.files.writing import replacing
from rankseg_rma.grid import Grid, require_affine, spacing_of

# Millimetres of the units metre and micron in NIfTI's xyzt_units; no unit, or an unknown one, is mm, as ITK has it.
_MM_OF_UNIT = {1: 1e3, 3: 1e-3}
_AXES = "of 3 axes, and one more for channels"


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


def list_volumes(folder: str | Path) -> dict[str, Path]:
    """Image files directly in a folder, by case id, in alphabetical order; see `list_named`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: two files have the same case id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(wrong("list_volumes", "folder", "an existing folder", folder))
    found: dict[str, Path] = {}
    for path in list_named(folder, SUFFIXES):
        case_id = case_id_of(path)
        if case_id in found:
            got = f"{found[case_id].name} and {path.name}"
            raise ValueError(wrong("list_volumes", "case ids", "unique", got, case_id=case_id, path=folder))
        found[case_id] = path
    return found


def read_volume(path: str | Path, dtype: Any = None) -> Volume:
    """Read a volume.

    Args:
        path: .nii, .nii.gz, .mha, .mhd, .nrrd or .nhdr. A file with four axes is (x, y, z, class) on disk and
            (class, x, y, z) here; axes of length one after the third are dropped, and RGB is three channels.
        dtype: numpy dtype of the array; by default as stored.
    Returns:
        The volume, in millimetres whatever unit its header has.
    Raises:
        FileNotFoundError: no such file.
        ValueError: the file cannot be read, is no volume, or its affine gives voxels no place.
    """
    path = Path(path)
    require_file("read_volume", path)
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(wrong("read_volume", "path", "one of " + ", ".join(SUFFIXES), path.name, path=path))
    try:
        volume = _read_nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _read_sitk(path)
    except Exception as error:  # nibabel, zlib, gzip and SimpleITK raise a dozen kinds for a damaged file
        raise _unreadable(path, error) from error
    array = volume.array
    _require_volume(array.shape, volume.affine, path)
    array = np.moveaxis(array, -1, 0) if array.ndim == 4 else array
    return Volume(array if dtype is None else array.astype(dtype, copy=False), volume.affine, volume.header)


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
            affine, header = _in_millimetres(image)
            shape = _shape_of(image.shape, image.get_data_dtype())
        except Exception as error:
            raise _unreadable(path, error) from error
        _require_volume(shape, affine, path)
        is_converted = header is not image.header or len(image.shape) > 4 or len(shape) > len(image.shape)
        return Grid(shape[:3], affine, header, shape[3] if len(shape) == 4 else 1, is_converted)
    volume = read_volume(path)
    num_channels = len(volume.array) if volume.array.ndim == 4 else 1
    return Grid(volume.array.shape[-3:], volume.affine, None, num_channels, is_converted=True)


def _unreadable(path: Path, error: Exception) -> ValueError:
    got = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    advice = "The file is damaged or no image: copy it again."
    return ValueError(wrong("read_volume", "file", "a readable volume", got, path=path, advice=advice))


def _require_volume(shape: tuple[int, ...], affine: Any, path: Path) -> None:
    if len(shape) not in (3, 4):
        advice = "A picture of two axes is no volume." if len(shape) < 3 else ""
        raise ValueError(wrong("read_volume", "volume", _AXES, shape, path=path, advice=advice))
    require_affine("read_volume", affine, path)


def _shape_of(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """Shape of an array as it is read: axes of length one after the third mean nothing, RGB is one axis more.

    Example:
        >>> _shape_of((5, 4, 1, 1), np.dtype("int16")), _shape_of((5, 4, 3, 1, 2), np.dtype("int16"))
        ((5, 4, 1), (5, 4, 3, 2))
    """
    components = (len(dtype.names),) if dtype.names and len(shape) >= 3 else ()
    return (*shape[:3], *(length for length in shape[3:] if length != 1), *components)


def _read_nifti(path: Path) -> Volume:
    """(x, y, z) or (x, y, z, channel)."""
    import nibabel
    from numpy.lib.recfunctions import structured_to_unstructured

    image = nibabel.load(path)
    # Not `get_fdata`, which makes float64 of everything: eight times the memory of a label map.
    array = np.asanyarray(image.dataobj)
    affine, header = _in_millimetres(image)
    shape = _shape_of(array.shape, array.dtype)
    # Only axes after the third: a volume of a single slice keeps its slice axis.
    array = array.squeeze(tuple(axis for axis in range(3, array.ndim) if array.shape[axis] == 1))
    # NIfTI keeps RGB as records of three bytes.
    return Volume(structured_to_unstructured(array) if len(shape) > array.ndim else array, affine, header)


def _in_millimetres(image: Any) -> tuple[Any, Any]:
    """Affine and header of a nibabel image; both as they are unless the file counts in metres or microns."""
    header = image.header
    # The lower three bits are the unit of space, those above the unit of time.
    scale = _MM_OF_UNIT.get(int(header["xyzt_units"]) % 8)
    if scale is None:
        return image.affine, header
    header = header.copy()
    # pixdim[0] is the sign of the quaternion's frame, and those from the fourth on are no lengths.
    header["pixdim"][1:4] *= scale
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[name] = header[name] * scale
    header.set_xyzt_units("mm")
    return np.diag([scale, scale, scale, 1.0]) @ image.affine, header


def _read_sitk(path: Path) -> Volume:
    """(x, y, z) or (x, y, z, channel)."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    # SimpleITK's arrays run z, y, x.
    array = SimpleITK.GetArrayFromImage(image).T
    if array.ndim > image.GetDimension():
        array = np.moveaxis(array, 0, -1)  # components of a voxel
    array = array.squeeze(tuple(axis for axis in range(3, array.ndim) if array.shape[axis] == 1))
    if image.GetDimension() < 3:
        return Volume(np.empty(image.GetSize()), np.eye(4))  # whatever is in it: `read_volume` refuses its shape
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
    # NIfTI knows no bool.
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    # With the dtype named, because nibabel refuses 64-bit integers that nobody asks for.
    image = nibabel.Nifti1Image(np.moveaxis(array, 0, -1) if array.ndim == 4 else array, affine, dtype=array.dtype)
    if header is not None and hasattr(header, "get_sform"):
        image.set_sform(affine, code=int(header["sform_code"]), update_affine=False)
        if int(header["qform_code"]):
            # Field by field and not computed anew: the image's own quaternion, even a broken one, is to be kept.
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
