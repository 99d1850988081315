"""A photograph that is named is a case whatever its suffix; of a folder only images are."""

import numpy as np
import pytest
import torch
from made_bundles import PHOTOGRAPHS, write_network
from PIL import Image

from conftest import run
from rankseg_rma.prediction.inputs import find_photographs


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.gif"):
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "c.gif").write_text("no image")
    (tmp_path / ".d.png").write_bytes((tmp_path / "a.png").read_bytes())
    return tmp_path


def test_listing(folder):
    assert [*find_photographs([folder])] == ["a"]
    named = [folder / name for name in ("a.png", "b.gif", "c.gif", ".d.png")]
    assert [*find_photographs(named).values()] == named


def test_a_named_file_is_decoded_or_fails_with_its_reason(folder):
    bundle = write_network(folder / "bundle", PHOTOGRAPHS, torch.eye(3)[:, :, None, None])
    files = [argument for name in ("a.png", "b.gif", "c.gif") for argument in ("--input", folder / name)]
    said = run("infer", "--bundle", bundle, *files, "--out", folder / "out", code=1)
    assert "must be a readable image" in said and str(folder / "c.gif") in said
    assert sorted(path.name for path in (folder / "out" / "rma").iterdir()) == ["a.png", "b.png"]
