"""What training adds to MONAI's engines: exact resumption, and one temperature fitted when it ends."""

import json
import logging
import logging.config
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.utils import set_determinism

from rankseg_rma.bundles import TEMPERATURE_FILE, open_bundle
from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.inference import predict_probabilities
from rankseg_rma.transforms import TEMPERATURE_RANGE
from rankseg_rma.volumes import case_id_of, read_volume, write_text

_MAX_VOXELS_PER_CASE = 200_000


class ReseedEachEpoch:
    """Seed every source of randomness from the epoch's number, so that a resumed run equals an unbroken one."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = self.seed * 100_003 + engine.state.epoch
        set_determinism(seed)
        set_rnd(self.dataset, seed)


def latest_checkpoint(models_dir: str | Path) -> Path | None:
    """Newest checkpoint that can be read: a run killed while writing leaves the one before."""
    found = sorted(Path(models_dir).glob("checkpoint_epoch=*.pt"), key=_epoch_of, reverse=True)
    for path in found:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception:
            continue
        return path
    return None


def _epoch_of(path: Path) -> int:
    return int(path.stem.split("=")[1])


def checkpoint_parts(network: Any, optimizer: Any, lr_scheduler: Any, trainer: Any) -> dict[str, Any]:
    """All that a run needs to go on as if it had not been killed; with AMP also the loss scale."""
    parts = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "trainer": trainer}
    return parts if trainer.scaler is None else {**parts, "scaler": trainer.scaler}


def has_tensorboard() -> bool:
    """Whether the extra ``tracking`` is installed; says so when it is not."""
    installed = find_spec("tensorboard") is not None
    if not installed:
        logging.getLogger(__name__).info("no TensorBoard log: install the extra rankseg-rma[tracking]")
    return installed


def fit_run_temperature(bundle_root: str | Path, dataset_dir: str | Path) -> dict[str, Any]:
    """Fit one temperature on the validation cases of a finished run and store it in the bundle.

    The probabilities are taken on the native grid, where masks are decoded.

    Args:
        bundle_root: run folder with models/model.pt and configs/datalist.json.
        dataset_dir: folder that the paths in the data list are relative to.
    Returns:
        What is stored in models/temperature.json: temperature, nll_before and nll_after (mean negative log-likelihood
        of a voxel, in nats), case_ids, num_voxels, and per label expected_volume_ratio (expected over true volume).
    """
    root = Path(bundle_root)
    cases = json.loads((root / "configs" / "datalist.json").read_text(encoding="utf-8"))["validation"]
    bundle = open_bundle(root)

    def log_probs_of_cases() -> Iterable[tuple[Any, Any]]:
        for case in cases:
            probs = predict_probabilities(bundle, Path(dataset_dir) / case["image"]).probs
            label = read_volume(Path(dataset_dir) / case["label"]).array
            yield sample_log_probs(probs, label)

    found = fit_temperature(log_probs_of_cases())
    found["expected_volume_ratio"] = dict(
        zip(bundle.label_names, found.pop("mass_ratio")[-len(bundle.label_names) :], strict=True)
    )
    found["case_ids"] = [case_id_of(case["image"]) for case in cases]
    write_text(root / TEMPERATURE_FILE, json.dumps(found, indent=1))
    return found


def sample_log_probs(probs: Any, label: Any) -> tuple[Any, Any]:
    """Log-probabilities and labels of at most 200,000 voxels of a case, drawn with a fixed seed.

    Args:
        probs: (class, *spatial).
        label: (*spatial) integers; voxels whose label is no class (void) are left out.
    Returns:
        (voxel, class) float32 log-probabilities and (voxel,) int64 labels.
    """
    flat, target = torch.as_tensor(probs).reshape(len(probs), -1), np.asarray(label).ravel().astype(np.int64)
    places = np.flatnonzero((target >= 0) & (target < len(probs)))
    if places.size > _MAX_VOXELS_PER_CASE:
        places = np.sort(np.random.default_rng(0).choice(places, _MAX_VOXELS_PER_CASE, replace=False))
    chosen = flat[:, torch.from_numpy(places)].T.float()
    return chosen.clamp_min(1e-12).log(), torch.from_numpy(target[places])


def fit_temperature(cases: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Temperature that minimises the negative log-likelihood of labelled voxels.

    Args:
        cases: pairs of (voxel, class) log-probabilities or logits and (voxel,) int64 labels.
    Returns:
        temperature, nll_before, nll_after, num_voxels, and mass_ratio: per class, the sum of its scaled probabilities
        over its number of voxels. The temperature is kept within [0.05, 20].
    Raises:
        DatasetError: no voxel is labelled.
    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    parts = list(cases)
    if not parts or not sum(len(target) for _, target in parts):
        raise DatasetError(wrong("fit_temperature", "validation cases", "at least one labelled case", "none"))
    logits, target = (torch.cat(part) for part in zip(*parts, strict=True))
    logits = logits.double()
    log_temperature = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")

    def nll(temperature: Any) -> Any:
        return torch.nn.functional.cross_entropy(logits / temperature, target)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nll(log_temperature.exp())
        loss.backward()
        return loss.detach()

    before = float(nll(torch.ones(1, dtype=torch.float64)))
    optimizer.step(closure)
    temperature = float(log_temperature.detach().exp().clamp(*TEMPERATURE_RANGE))
    after = float(nll(torch.tensor(temperature, dtype=torch.float64)))
    if after > before:
        temperature, after = 1.0, before
    mass = (logits / temperature).softmax(dim=1).sum(dim=0)
    count = torch.bincount(target, minlength=logits.shape[1])
    return {
        "temperature": temperature, "nll_before": before, "nll_after": after, "num_voxels": len(target),
        "mass_ratio": (mass / count).tolist(),
    }  # fmt: skip


def run_training(run: Path, dataset_dir: str | Path, on_epoch: Callable[[int, int, float], None]) -> None:
    """Run the bundle's own training config, as ``python -m monai.bundle run`` would.

    Args:
        run: bundle folder as `write_bundle` makes it; a killed run goes on from its latest checkpoint.
        dataset_dir: the data set's folder.
        on_epoch: called after each epoch with its number, the number of epochs and the last loss.
    """
    from monai.bundle import ConfigParser

    logging.config.fileConfig(run / "configs" / "logging.conf", disable_existing_loggers=False)
    parser = ConfigParser()
    parser.read_config(str(run / "configs" / "train.yaml"))
    parser["bundle_root"], parser["dataset_dir"] = str(run), str(dataset_dir)
    parser.get_parsed_content("initialize", default=None)
    trainer = parser.get_parsed_content("train::trainer")

    def report(engine: Engine) -> None:
        loss = float(engine.state.output[0]["loss"])
        logging.getLogger(__name__).info("epoch %d of %d, loss %.4f", engine.state.epoch, engine.state.max_epochs, loss)
        on_epoch(engine.state.epoch, engine.state.max_epochs, loss)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, report)
    parser.get_parsed_content("run")
