"""Probability volumes on disk: 4D NIfTI with classes last."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.files.json_files import read_json, values_by_name
from rankseg_rma.files.listing import is_there
from rankseg_rma.files.names import NIFTI_SUFFIXES
from rankseg_rma.files.volumes import read_volume, write_volume
from rankseg_rma.files.writing import write_text

# Lies beside probabilities whose classes may overlap.
KIND_FILE = "kind.json"


@dataclass(frozen=True)
class Probabilities:
    """Probabilities of one case on the image's own grid, before any temperature.

    Attributes:
        probs: (class, *spatial) float32 tensor in [0, 1].
        affine: (4, 4) of the image, to RAS+ mm.
        header: nibabel header of the image, for masks on the same grid; None where there is none.
        multilabel: the classes may overlap; else they add up to 1.
    """

    probs: Any
    affine: Any
    header: Any = None
    multilabel: bool = False


def write_probabilities(path: str | Path, probabilities: Probabilities) -> None:
    """Write (x, y, z, class) float32 NIfTI."""
    array = np.asarray(probabilities.probs, np.float32)
    write_volume(path, array, probabilities.affine, probabilities.header)


def write_kind(folder: Path, multilabel: bool) -> None:
    """Say beside probabilities that their classes may overlap; no file says that they exclude each other."""
    if multilabel:
        write_text(folder / KIND_FILE, json.dumps({"multilabel": True}))
    else:
        # A mark that an earlier run left would make these count as overlapping.
        (folder / KIND_FILE).unlink(missing_ok=True)


def read_kind(folder: Path) -> bool:
    """Whether the classes of the probabilities in a folder may overlap, as `write_kind` has said.

    Raises:
        DatasetError: the file is not JSON with ``multilabel`` true or false.
    """
    path, expected = folder / KIND_FILE, "JSON with 'multilabel' true or false"
    if not is_there(path):
        return False
    content = read_json("read_kind", path, expected)
    told = content.get("multilabel") if isinstance(content, dict) else None
    if not isinstance(told, bool):
        raise DatasetError(wrong("read_kind", path.name, expected, repr(content)[:100], path=path))
    return told


def refuse_overlapping(function: str, folders: Iterable[Path]) -> None:
    """Refuse folders whose probabilities are of classes that may overlap, where classes must exclude each other.

    Raises:
        DatasetError: `read_kind` says so of one.
    """
    for folder in folders:
        if read_kind(folder):
            expected = "of classes that exclude each other"
            advice = "Classes that may overlap are decoded by `rankseg-rma decode`; their masks are not scored yet."
            raise DatasetError(wrong(function, "probabilities", expected, KIND_FILE, path=folder, advice=advice))


def read_probabilities(path: str | Path, *, multilabel: bool = False) -> Probabilities:
    """Read a 4D NIfTI (x, y, z, class); a 3D one is a single class.

    Args:
        path: .nii or .nii.gz.
        multilabel: the classes may overlap: they need not add up to 1.
    Raises:
        FileNotFoundError, ValueError: missing or damaged file, another format, not floating point, or classes that
            do not add up to 1.
    """
    import torch

    if not str(path).lower().endswith(NIFTI_SUFFIXES):
        raise ValueError(wrong("read_probabilities", "path", "a 4D NIfTI, .nii or .nii.gz", Path(path).name, path=path))
    volume = read_volume(path)
    array = volume.array[None] if volume.array.ndim == 3 else volume.array
    if array.dtype.kind != "f":
        advice = "Give the network's probabilities as float32, not labels, an image or quantised values."
        expected = "floating-point probabilities"
        raise ValueError(wrong("read_probabilities", "volume", expected, str(array.dtype), path=path, advice=advice))
    if not multilabel:
        _require_distribution(array, path)
    # NIfTI files of some tools are big-endian and read-only; torch wants neither.
    native = np.array(array, dtype=np.float32)
    return Probabilities(torch.from_numpy(native), volume.affine, volume.header, multilabel)


def _require_distribution(array: Any, path: str | Path) -> None:
    """Refuse (class, *spatial) whose classes do not add up to 1; voxels without any mass are padding."""
    if len(array) == 1 or not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
        return  # a single class, or values that the decoder refuses with more detail
    # Not in the file's own dtype: a sum in half precision misses 1 by its rounding alone.
    total = array.sum(axis=0, dtype=np.float32)
    # Rounded and resampled probabilities miss 1 by little and in few voxels; logits or a wrong axis miss it everywhere.
    off = np.count_nonzero((np.abs(total - 1) > 0.05) & (total != 0))
    if off > total.size / 100 or not total.any():
        # The axes as on disk, to try whether the classes stand first there, as in PyTorch.
        first_axis = array.transpose(1, 2, 3, 0)
        advice = (
            "Store softmax probabilities of all classes, background first, as (x, y, z, class), or say "
            "`decode --multilabel` if they may overlap."
        )
        if np.abs(first_axis.sum(axis=0) - 1).mean() < 0.05:
            advice = "The first axis adds up to 1: store the classes last, (x, y, z, class)."
        got = f"{off} of {total.size} voxels that do not"
        raise ValueError(wrong("read_probabilities", "classes", "adding up to 1", got, path=path, advice=advice))


def read_label_names(folders: Sequence[Path]) -> list[str]:
    """Names of the foreground labels from the labels.json of every folder; none unless all agree.

    Raises:
        DatasetError: a labels.json is no list of names, and no mapping of the labels 1, 2, ... to names.
    """
    names = [_read_names(path) for folder in folders if is_there(path := folder / "labels.json")]
    return names[0] if len(names) == len(folders) and all(name == names[0] for name in names) else []


def _read_names(path: Path) -> list[str]:
    """Names of the labels 1, 2, ...: a list of them, or a mapping either way, also under "labels"; 0 is background."""
    expected = "a list of the names of labels 1, 2, ..., or a mapping from 1, 2, ... to them"
    content = read_json("read_label_names", path, expected)
    if isinstance(content, list) and all(isinstance(name, str) and name.strip() for name in content):
        return content
    labels = content.get("labels", content) if isinstance(content, dict) else None
    try:
        named = {} if labels is None else values_by_name(labels)
    except (ValueError, AttributeError) as error:
        raise DatasetError(wrong("read_label_names", path.name, expected, error, path=path)) from error
    by_value = {values[0]: name for name, values in named.items() if len(values) == 1 and values != (0,)}
    if sorted(by_value) != [*range(1, len(by_value) + 1)] or not by_value:
        got = repr(content)[:100]
        raise DatasetError(wrong("read_label_names", path.name, expected, got, path=path))
    return [by_value[value] for value in sorted(by_value)]
