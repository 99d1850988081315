"""A training stops at the first loss that is no number, names the cases, saves nothing of it; a rerun goes on."""

import shutil

import pytest
import torch
import yaml

from conftest import run, tiny_network
from rankseg_rma.checks import DatasetError
from rankseg_rma.training.engine import latest_checkpoint
from rankseg_rma.training.guard import FiniteGuard, names_of


def train(work, out, code, *options):
    return run("train", "--dataset", "phantom", "--root", work / "data", "--network", work / "tiny.yaml", "--epochs", 2,
               "--batch-size", 2, "--out", out, *options, code=code)  # fmt: skip


def finite(path):
    content = torch.load(path, weights_only=True)
    return all(bool(torch.isfinite(tensor).all()) for tensor in content.get("network", content).values())


@pytest.fixture
def diverging(work, tmp_path):
    """A run whose first epoch is done, and which reads a loss of NaN in the second."""
    out = shutil.copytree(work / "run", tmp_path / "run")
    for name in ("model.pt", "temperature.json", "checkpoint_epoch=2.pt"):
        (out / "models" / name).unlink()
    return out


def test_it_stops_names_the_cases_and_goes_on_when_mended(work, diverging, monkeypatch):
    from rankseg_rma.training.losses import CrossEntropy

    sound, calls = CrossEntropy.forward, []

    def spoilt(self, logits, labels):
        calls.append(None)
        return sound(self, logits, labels) * (float("nan") if len(calls) == 2 else 1)

    monkeypatch.setattr(CrossEntropy, "forward", spoilt)
    said = train(work, diverging, 2)
    # Epoch 2 begins with the iteration after those of the first; its second one is bad.
    length = int((work / "run" / "logs" / "loss.csv").read_text().splitlines()[1].split(",")[1])
    assert f"train: loss must be finite; got nan in epoch 2, iteration {length + 2}, on the cases phantom_" in said
    assert sorted(path.name for path in (diverging / "models").iterdir()) == ["checkpoint_epoch=1.pt"]
    assert finite(diverging / "models" / "checkpoint_epoch=1.pt")
    monkeypatch.undo()
    train(work, diverging, 0)
    whole, resumed = (torch.load(at / "models" / "model.pt", weights_only=True) for at in (work / "run", diverging))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (diverging / "logs" / "loss.csv").read_bytes() == (work / "run" / "logs" / "loss.csv").read_bytes()


def test_weights_that_the_last_step_spoilt_are_not_saved(work, diverging, monkeypatch):
    """The losses of the epoch are finite; the gradient of its last batch is not."""
    from rankseg_rma.training.losses import CrossEntropy

    length = int((work / "run" / "logs" / "loss.csv").read_text().splitlines()[1].split(",")[1])
    sound, calls = CrossEntropy.forward, []

    def spoilt(self, logits, labels):
        calls.append(None)
        if len(calls) == length:
            logits.register_hook(lambda gradient: gradient * float("inf"))
        return sound(self, logits, labels)

    monkeypatch.setattr(CrossEntropy, "forward", spoilt)
    said = train(work, diverging, 2)
    assert "weights must be finite; got others after the last step in epoch 2" in said and "phantom_" in said
    assert sorted(path.name for path in (diverging / "models").iterdir()) == ["checkpoint_epoch=1.pt"]


def test_a_checkpoint_of_nan_is_passed_over(tmp_path, caplog):
    """Earlier versions stored them: a rerun goes on from the last good one."""
    sound, bad = torch.ones(2), torch.full((2,), torch.nan)
    torch.save({"network": {"w": sound}}, tmp_path / "checkpoint_epoch=1.pt")
    torch.save({"network": {"w": sound}, "ema": {"w": bad}}, tmp_path / "checkpoint_epoch=2.pt")
    torch.save({"network": {"w": bad}}, tmp_path / "checkpoint_epoch=3.pt")
    assert latest_checkpoint(tmp_path).name == "checkpoint_epoch=1.pt"
    assert caplog.text.count("an older one is tried") == 2 and "NaN in 1 of 1 tensors" in caplog.text
    (tmp_path / "checkpoint_epoch=1.pt").unlink()
    assert latest_checkpoint(tmp_path) is None


def test_slices_are_named_with_their_index():
    batch = {"case_id": ["a", "b"], "slice_index": torch.tensor([3, 12])}
    assert names_of(batch) == ["a_0003", "b_0012"]
    assert names_of({"case_id": ["a"]}) == ["a"] and names_of([1]) == []


@pytest.fixture
def engine():
    """A trainer's state in its third iteration."""
    from types import SimpleNamespace

    batch = {"case_id": ["a", "b"]}
    output = {"loss": torch.tensor(float("nan")), "image": torch.zeros(2, 1, 4)}
    return SimpleNamespace(state=SimpleNamespace(batch=batch, output=output, epoch=1, iteration=3))


def test_the_case_whose_image_is_no_number_is_named_alone(engine):
    engine.state.output["image"][1, 0, 2] = torch.inf
    with pytest.raises(DatasetError, match=r"images must be finite .*; got loss nan in .* on the case b\."):
        FiniteGuard(torch.nn.Linear(1, 1))._look_at_loss(engine)


def test_weights_spoilt_before_are_laid_to_the_batch_before(engine):
    network = torch.nn.Linear(1, 1)
    guard, bad = FiniteGuard(network), engine.state.output["loss"]
    engine.state.output["loss"], engine.state.batch = torch.tensor(1.0), {"case_id": ["c"]}
    guard._look_at_loss(engine)
    engine.state.output["loss"], engine.state.batch = bad, {"case_id": ["a", "b"]}
    network.weight.data.fill_(torch.nan)
    with pytest.raises(DatasetError, match=r"weights must be finite; got others after the step before .* the case c\."):
        guard._look_at_loss(engine)


def test_infinities_of_a_buffer_may_be_meant(engine):
    network = torch.nn.Linear(1, 1)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    FiniteGuard(network)._look_at_weights(engine)
    network.mask[0] = torch.nan
    with pytest.raises(DatasetError, match="weights must be finite"):
        FiniteGuard(network)._look_at_weights(engine)


def test_processes_stop_together(work, tmp_path):
    """One of two processes has the bad batch; both end, and the cases of that one are named."""
    import os
    import subprocess
    import sys

    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny_network(3)))
    code = (
        "import sys, os\n"
        "from rankseg_rma.training.losses import CrossEntropy\n"
        "sound = CrossEntropy.forward\n"
        "bad = float('nan') if os.environ['RANK'] == '1' else 1\n"
        "CrossEntropy.forward = lambda self, logits, labels: sound(self, logits, labels) * bad\n"
        "from rankseg_rma.cli import main\n"
        "main()\n"
    )
    (tmp_path / "spoilt.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               tmp_path / "spoilt.py", "train", "--dataset", "phantom", "--root", work / "data", "--network",
               tmp_path / "tiny.yaml", "--epochs", "1", "--batch-size", "2", "--out", tmp_path / "run"]  # fmt: skip
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert said.returncode
    assert said.stderr.count("loss must be finite; got nan in epoch 1, iteration 1, on the case phantom_") == 1
    assert said.stderr.count("finite in every process; got another in one, which tells it") == 1
    assert not [*(tmp_path / "run" / "models").iterdir()]
