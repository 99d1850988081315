"""A small run of the phantom, trained once, and the masks of the shipped demonstration."""

import pytest
import yaml

from conftest import run, tiny_network
from rankseg_rma.datasets.phantom import make_phantom
from rankseg_rma.demo import DEMO_BUNDLE, RECORD_SEED


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A tiny phantom and a tiny network trained on it for two epochs."""
    folder = tmp_path_factory.mktemp("work")
    make_phantom(folder / "data", 8, seed=RECORD_SEED)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(3)))
    run("train", "--dataset", "phantom", "--root", folder / "data", "--network", folder / "tiny.yaml", "--epochs", 2,
        "--batch-size", 2, "--out", folder / "run")  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def masks(work):
    """Masks and probabilities of two phantom cases by the shipped weights."""
    images = [work / "data" / "imagesTr" / f"phantom_00{k}.nii.gz" for k in (0, 1)]
    run("infer", "--bundle", DEMO_BUNDLE, "-i", images[0], "-i", images[1], "--out", work / "masks",
        "--save-probabilities")  # fmt: skip
    return work / "masks"
