"""What tests of `data prepare` share: small cards, the state of a folder, planes by nibabel alone."""

import hashlib

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from rankseg_rma.cli import app
from rankseg_rma.datasets import list_cards

SIZE = (24, 20)


@pytest.fixture
def small(tmp_path):
    """Give a card with slices of the miniature trees' size, and other changes."""

    def write(name, slices=None, **change):
        content = yaml.safe_load(list_cards()[name].read_text())
        content["slices"] |= {"size": [*SIZE], "crop_size": [16, 16], **(slices or {})}
        folder = tmp_path / "cards"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**content, **change}))
        return str(path)

    return write


def state(folder, pattern="**/*"):
    """Content and time of every file."""
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.glob(pattern)
        if path.is_file()
    }


def planes(path):
    """Planes of a NIfTI file in RAS order, by nibabel alone: index along the file's axial axis -> (R, A) array."""
    image = nibabel.load(path)
    codes = nibabel.aff2axcodes(image.affine)
    axis = next(place for place, code in enumerate(codes) if code in "SI")
    array = np.asarray(nibabel.as_closest_canonical(image).dataobj)
    count = array.shape[2]
    return {index: array[:, :, count - 1 - index if codes[axis] == "I" else index] for index in range(count)}


def run(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])
