"""Fixtures shared by all tests: every backend, and the real data."""

import share_cores  # noqa: F401  before NumPy and torch, which read the environment once

# isort: split
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rankseg_rma.cli import app
from rankseg_rma.decoder.solver import BACKENDS

# Fixtures of several folders, each beside what it makes.
pytest_plugins = ["grown", "prepared", "scored_cohort", "trained_run"]
REPOSITORY = Path(__file__).parents[1]
SHIM = str(Path(__file__).parent / "shim")
DATA = Path(os.environ.get("RANKSEG_RMA_DATA", REPOSITORY.parent / "shared" / "data"))

# torchvision beside a CPU build of torch: in subprocesses through PYTHONPATH, here by importing the same file, under
# whose name the environment may have a module of its own.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SHIM, os.environ.get("PYTHONPATH")]))
specification = importlib.util.spec_from_file_location("torchvision_shim", Path(SHIM) / "sitecustomize.py")
sys.modules["torchvision_shim"] = importlib.util.module_from_spec(specification)
specification.loader.exec_module(sys.modules["torchvision_shim"])


# What one process makes once for all tests that ask for it; with several processes these tests stay together.
SHARED = ("work", "cohort", "roots", "photos", "browser")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        made = next((name for name in SHARED if name in getattr(item, "fixturenames", ())), None)
        if made:
            item.add_marker(pytest.mark.xdist_group(made))


@pytest.fixture(params=[*BACKENDS])
def backend(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20251015)


@pytest.fixture(scope="session")
def real_data():
    if not DATA.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the real data is missing in CI: {DATA}")
        pytest.skip(f"no real data at {DATA}; set RANKSEG_RMA_DATA")
    return DATA


def random_probs(rng, num_classes, spatial_shape, sharpness=2.0, dtype=np.float32):
    """Softmax of noise with a little spatial correlation, so that classes form blobs."""
    from scipy.ndimage import gaussian_filter

    logits = np.stack([gaussian_filter(rng.normal(size=spatial_shape), 1.0) for _ in range(num_classes)])
    logits *= sharpness / logits.std()
    exponent = np.exp(logits - logits.max(axis=0))
    return (exponent / exponent.sum(axis=0)).astype(dtype)


def run(*arguments, code=0):
    """Call the command line; its exit code must be ``code``. Returns what it says."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.output + result.stderr


def tiny_network(spatial_dims):
    """Content of a network's YAML file: a UNet of two levels."""
    return {
        "network_def": {
            "_target_": "monai.networks.nets.UNet", "spatial_dims": spatial_dims, "in_channels": "@in_channels",
            "out_channels": "@num_classes", "channels": [4, 8], "strides": [2], "norm": "instance",
        }
    }  # fmt: skip
