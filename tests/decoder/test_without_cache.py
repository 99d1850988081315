"""Kernels where nothing can be stored: a read-only installation, no home, a full disk."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import rankseg_rma
from rankseg_rma import RMADecoder, compiling

CODE = """
import numpy as np
import rankseg_rma
from rankseg_rma.metrics import calibration, overlap, surface
probs = np.array([[0.95, 0.6, 0.55], [0.05, 0.4, 0.45]])
print(rankseg_rma.__file__)
print(rankseg_rma.RMADecoder('iou')(probs).labels.tolist())
"""


def test_import_and_decoding_need_no_writable_place(tmp_path):
    """File permissions do not stop root, so the places that numba would write to are files in the place of folders."""
    copy = tmp_path / "rankseg_rma"
    shutil.copytree(Path(rankseg_rma.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    for folder in [copy, *(path for path in copy.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("no folder")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    paths = filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])
    nowhere = str(copy / "__init__.py" / "home")
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "HOME": nowhere, "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [str(copy / "__init__.py"), "[0, 0, 0]"]
    assert RMADecoder("iou")(np.array([[0.95, 0.6, 0.55], [0.05, 0.4, 0.45]])).labels.tolist() == [0, 0, 0]


def test_every_kernel_is_compiled_in_the_one_place():
    folder = Path(rankseg_rma.__file__).parent
    direct = [path.name for path in folder.rglob("*.py") if "numba.njit(" in path.read_text(encoding="utf-8")]
    assert direct == ["compiling.py"]


def test_a_full_disk_costs_the_cache_not_the_result(tmp_path, monkeypatch):
    """The folder could be written on import; what is compiled later cannot be saved."""
    from numba.core.caching import Cache

    saved = []

    def save(*_):
        saved.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Cache, "save_overload", save)

    @compiling.kernel()
    def double(number):
        return 2 * number

    assert double(21) == 42
    assert saved
