"""Volumes on disk: an array with the affine that places it in the patient; NIfTI by nibabel, others by SimpleITK."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import wrong
from rankseg_rma.files.writing import replacing
from rankseg_rma.grid import Grid, spacing_of

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES = (*NIFTI_SUFFIXES, *SITK_SUFFIXES)


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
