"""Every notebook runs from top to bottom, and shows its pictures."""

import asyncio

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import REPOSITORY


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    # By asyncio, which closes its loop; the client's own way leaves one open, a warning in some later test.
    # The limits are against a kernel that hangs: a busy machine is waited for.
    client = NotebookClient(notebook, timeout=3600, startup_timeout=3600, kernel_name="python3")
    asyncio.run(client.async_execute())
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("expected Dice" in output.get("data", {}).get("text/html", "") for output in outputs)
