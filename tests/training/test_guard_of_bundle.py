"""The guard against losses that are no number is part of the bundle: MONAI's own command runs it too."""

import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch
import yaml
from ignite.engine import Engine

from conftest import run
from rankseg_rma.training.guard import FinalCheckpoint


def test_monai_alone_saves_nothing_of_a_loss_that_is_no_number(work, tmp_path):
    """Without MONAI's handler of exceptions, too, behind which its saver of the final weights did not run."""
    data, out = (shutil.copytree(work / name, tmp_path / name) for name in ("data", "run"))
    for name in ("model.pt", "temperature.json", "checkpoint_epoch=2.pt"):
        (out / "models" / name).unlink()
    for path in (data / "imagesTr").iterdir():
        volume = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.full(volume.shape, np.nan, np.float32), volume.affine), path)
    config = yaml.safe_load((out / "configs" / "train.yaml").read_text())
    handlers = config["train"]["handlers"]
    config["train"]["handlers"] = [one for one in handlers if one["_target_"] != "StatsHandler"]
    assert len(config["train"]["handlers"]) == len(handlers) - 1
    (out / "configs" / "train.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--bundle_root", ".",
               "--config_file", "configs/train.yaml", "--dataset_dir", str(data)]  # fmt: skip
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, timeout=600)
    assert done.returncode and "train: images must be finite when they reach the network" in done.stderr
    assert [path.name for path in (out / "models").iterdir()] == ["checkpoint_epoch=1.pt"]
    kept, before = (
        torch.load(at / "models" / "checkpoint_epoch=1.pt", weights_only=True)["network"] for at in (out, work / "run")
    )
    assert all(torch.equal(kept[name], before[name]) for name in before)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_training_that_stops_leaves_no_final_weights(tmp_path, error):
    def step(engine, batch):
        if batch:
            raise error

    network = torch.nn.Linear(1, 1)
    stopped, ended = Engine(step), Engine(step)
    for engine in (stopped, ended):
        FinalCheckpoint(str(tmp_path), {"model": network}, save_final=True, final_filename="model.pt").attach(engine)
    with pytest.raises(error):
        stopped.run([0, 1])
    assert not [*tmp_path.iterdir()]
    ended.run([0, 0])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_an_unfinished_run_of_the_version_before_goes_on(work, tmp_path):
    """As it wrote its config, when the command attached the guard itself."""
    out = shutil.copytree(work / "run", tmp_path / "run")
    for name in ("model.pt", "temperature.json", "checkpoint_epoch=2.pt"):
        (out / "models" / name).unlink()
    path = out / "configs" / "train.yaml"
    today = path.read_text()
    before = yaml.safe_load(today.replace("rankseg_rma.FinalCheckpoint", "CheckpointSaver"))
    before["run"] = [step for step in before["run"] if "FiniteGuard" not in step]
    path.write_text(yaml.safe_dump(before, sort_keys=False))
    run("train", "--dataset", "phantom", "--root", work / "data", "--network", work / "tiny.yaml", "--epochs", 2,
        "--batch-size", 2, "--out", out)  # fmt: skip
    assert path.read_text() == today
    assert (out / "logs" / "loss.csv").read_bytes() == (work / "run" / "logs" / "loss.csv").read_bytes()
