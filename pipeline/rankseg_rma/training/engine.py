"""What training adds to MONAI's engines: plan, optimiser, exact resumption, a record of the loss."""

import csv
import logging
import logging.config
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from ignite.metrics import MetricsLambda

from rankseg_rma.checks import require_number, require_one_of
from rankseg_rma.files.weights import require_no_nan
from rankseg_rma.networks import OPTIMIZERS, parameter_groups
from rankseg_rma.training.distributed import is_first_process, mean_over_processes

LOSS_FILE = "logs/loss.csv"


@dataclass(frozen=True)
class Schedule:
    """Length of a training: epochs of ``epoch_length`` iterations; the learning rate falls over ``num_iterations``."""

    num_epochs: int
    epoch_length: int
    num_iterations: int


def plan_epochs(
    num_items: int, batch_size: int, max_epochs: int, max_iterations: int | None, iterations_per_epoch: int
) -> Schedule:
    """Plan a training by passes over the data, or by iterations where their number is given.

    A run of iterations is reported, checked and stored in epochs of ``iterations_per_epoch`` or a little less.

    Example:
        >>> plan_epochs(100, 8, 5, None, 1000), plan_epochs(100, 8, 5, 2500, 1000)
        (Schedule(num_epochs=5, epoch_length=13, num_iterations=65), Schedule(num_epochs=3, epoch_length=834, num_iterations=2500))
    """  # noqa: E501 - one line, since it is compared with what Python prints
    if max_iterations is None:
        length = ceil(num_items / batch_size)
        return Schedule(max_epochs, length, max_epochs * length)
    num_epochs = ceil(max_iterations / iterations_per_epoch)
    return Schedule(num_epochs, ceil(max_iterations / num_epochs), max_iterations)


def make_optimizer(
    network: Any, name: str, learning_rate: float, weight_decay: float, momentum: float, head_multiplier: float
) -> Any:
    """AdamW, or SGD with momentum; what is not the encoder learns ``head_multiplier`` times as fast.

    Raises:
        ValueError: another name.
    """
    require_one_of("train", "optimizer_name", name, OPTIMIZERS)
    groups = parameter_groups(network, learning_rate, head_multiplier)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay)


def poly_schedule(
    optimizer: Any, num_iterations: int, power: float, warmup_fraction: float, start_learning_rate: float
) -> Any:
    """Linear warm-up over the first fraction of the iterations, then decay to zero by ``(1 - done) ** power``.

    Args:
        optimizer: its first group gives the learning rate that ``start_learning_rate`` is compared with.
        num_iterations: iterations in all; later ones have the rate 0.
        power: 0.9 in most of the literature.
        warmup_fraction: in [0, 1); 0 starts at the full rate.
        start_learning_rate: smallest rate of the warm-up.
    """
    require_number("train", "warmup_fraction", warmup_fraction, 0, 0.999)
    warmup, highest = warmup_fraction * num_iterations, optimizer.param_groups[0]["lr"]
    lowest = min(1.0, start_learning_rate / highest) if highest else 0.0

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return max(lowest, iteration / warmup)
        # Epochs of rounded length may run past the end, where a negative base gives a complex number.
        return float(max(0.0, 1 - (iteration - warmup) / (num_iterations - warmup)) ** power)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def make_ema(network: Any, decay: float | None) -> EMAHandler | None:
    """Exponential moving average of the weights, which then is validated and kept; None without a decay."""
    # ignite's momentum is the share of the new weights.
    return None if decay is None else EMAHandler(network, momentum=1 - decay)


def attach_ema(ema: EMAHandler | None, trainer: Any, accumulation_steps: int) -> None:
    """Let the average follow the weights, once for each step of the optimiser."""
    if ema is not None:
        ema.attach(trainer, name="ema_momentum", event=Events.ITERATION_COMPLETED(every=accumulation_steps))


def latest_checkpoint(models_dir: str | Path) -> Path | None:
    """Newest checkpoint that can be read and holds numbers.

    A run killed while writing leaves the one before; earlier versions also stored weights that had become NaN.
    """
    # By number: as text, epoch 10 comes before epoch 9.
    found = sorted(Path(models_dir).glob("checkpoint_epoch=*.pt"), key=_epoch_of, reverse=True)
    for path in found:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            for part in ("network", "ema"):
                require_no_nan(content.get(part, {}), function="train", path=path)
        except Exception as error:  # a torn file raises many kinds of error
            logging.getLogger(__name__).warning("%s is not used (%s); an older one is tried", path, error)
            continue
        return path
    return None


def _epoch_of(path: Path) -> int:
    return int(path.stem.split("=")[1])


def checkpoint_parts(network: Any, optimizer: Any, lr_scheduler: Any, trainer: Any, ema: Any) -> dict[str, Any]:
    """All that a run needs to go on as if it had not been killed; with AMP also the loss scale."""
    parts = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "trainer": trainer}
    if ema is not None:
        parts["ema"] = ema.ema_model
    return parts if trainer.scaler is None else {**parts, "scaler": trainer.scaler}


def has_tensorboard() -> bool:
    """Whether the extra ``tracking`` is installed; says so when it is not."""
    installed = find_spec("tensorboard") is not None
    if not installed:
        logging.getLogger(__name__).info("no TensorBoard log: install the extra rankseg-rma[tracking]")
    return installed


def image_and_label(output: Any) -> tuple[Any, Any]:
    """Logits (batch, class, H, W) and labels (batch, H, W) of an evaluator's output, as ignite's metrics take them."""
    return output["pred"], output["label"][:, 0].long()


def mean_iou(confusion: Any) -> Any:
    """Mean IoU of the pooled validation images over the classes that label or prediction have."""

    def present_only(table: Any) -> Any:
        # Pooled counts of pixels soon exceed 2**24, beyond which float32 skips whole numbers.
        hits = table.diag().double()
        union = table.sum(dim=0) + table.sum(dim=1) - hits
        return (hits / union)[union > 0].mean()

    return MetricsLambda(present_only, confusion)


class LossRecord:
    """Mean loss of each epoch, over its iterations and all processes; written to logs/loss.csv by the first.

    A run that goes on from epoch N keeps the rows up to N.
    """

    def __init__(self, path: Path, on_epoch: Callable[[int, int, float], None]) -> None:
        self.path, self.on_epoch = path, on_epoch
        self._losses: list[float] = []
        self._open = False

    def attach(self, engine: Engine) -> None:
        # Not when it starts: the epoch of a run that goes on is known only then.
        engine.add_event_handler(Events.EPOCH_STARTED, self._keep)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _keep(self, engine: Engine) -> None:
        if self._open or not is_first_process():
            return
        self._open, rows = True, []
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if row and row[0].isdigit()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Rewritten without the epochs after the checkpoint, which are trained again.
        with self.path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", "iteration", "loss", "learning_rate"])
            writer.writerows(row for row in rows if int(row[0]) < engine.state.epoch)

    def _note(self, engine: Engine) -> None:
        output: Any = engine.state.output
        self._losses.append(float(output[0]["loss"]))

    def _write(self, engine: Engine) -> None:
        state = engine.state
        loss = mean_over_processes(sum(self._losses) / max(len(self._losses), 1))
        self._losses.clear()
        if not is_first_process():
            return
        rate = engine.optimizer.param_groups[0]["lr"]  # type: ignore[attr-defined]
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([state.epoch, state.iteration, f"{loss:.6g}", f"{rate:.6g}"])
        logging.getLogger(__name__).info("epoch %d of %d, loss %.4f", state.epoch, state.max_epochs, loss)
        self.on_epoch(state.epoch, state.max_epochs or state.epoch, loss)


def run_training(run: Path, dataset_dir: str | Path, on_epoch: Callable[[int, int, float], None]) -> None:
    """Run the bundle's own training config, as ``python -m monai.bundle run`` would.

    Args:
        run: bundle folder as `write_bundle` makes it; a killed run goes on from its latest checkpoint.
        dataset_dir: the data set's folder.
        on_epoch: called after each epoch with its number, the number of epochs and the epoch's mean loss.
    Raises:
        DatasetError: a loss or a weight is not finite, see `FiniteGuard`; nothing of that state is saved.
    """
    from monai.bundle import ConfigParser

    logging.config.fileConfig(run / "configs" / "logging.conf", disable_existing_loggers=False)
    parser = ConfigParser()
    parser.read_config(str(run / "configs" / "train.yaml"))
    parser["bundle_root"], parser["dataset_dir"] = str(run), str(dataset_dir)
    parser.get_parsed_content("initialize", default=None)
    LossRecord(run / LOSS_FILE, on_epoch).attach(parser.get_parsed_content("train::trainer"))
    parser.get_parsed_content("run")
