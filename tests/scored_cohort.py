"""A made-up cohort with its masks, and the folder in which `evaluate` scored it."""

import numpy as np
import pytest
import torch

from conftest import run
from rankseg_rma.files.probabilities import Probabilities, write_probabilities
from rankseg_rma.files.volumes import write_volume

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
NUM_CASES = 8


def ball(centre, radius, shape=(24, 20, 12)):
    grid = np.indices(shape)
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)) < radius**2


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """Organ (1) with a tumour (2): soft probabilities, argmax and a larger mask; case 7 has no tumour."""
    root, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(3)
    for k in range(NUM_CASES):
        reference = np.where(ball((12, 10, 6), 5), 1, 0).astype(np.uint8)
        if k < NUM_CASES - 1:
            reference[ball((11 + k % 3, 10, 6), 2.5)] = 2
        noise = rng.normal(size=(3, *reference.shape))
        logits = 2.0 * np.eye(3)[reference].transpose(3, 0, 1, 2) + noise
        probs = torch.from_numpy(logits).softmax(dim=0).float()
        masks = {"argmax": probs.argmax(0).numpy(), "rma": np.where(probs[2] > 0.35, 2, probs.argmax(0).numpy())}
        name = f"case_{k}.nii.gz"
        write_volume(root / "labels" / name, reference, AFFINE)
        write_volume(root / "images" / name, (100.0 * reference + noise[0]).astype(np.float32), AFFINE)
        write_probabilities(root / "probabilities" / name, Probabilities(probs, AFFINE))
        for decoder, mask in masks.items():
            write_volume(root / "masks" / decoder / name, mask.astype(np.uint8), AFFINE)
    return root


@pytest.fixture(scope="session")
def scores(cohort):
    out = cohort / "scores"
    run("compare", cohort / "masks" / "argmax", cohort / "masks" / "rma", "--references", cohort / "labels",
        "--out", out, "--labels", "1=organ,2=tumour", "--region", "both=1+2", "--images", cohort / "images",
        "--probabilities", cohort / "probabilities")  # fmt: skip
    return out
