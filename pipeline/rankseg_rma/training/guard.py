"""Stop a training at the first loss or weight that is no number; nothing of a training that stops is saved as final."""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver

from rankseg_rma.checks import DatasetError, wrong
from rankseg_rma.training.distributed import is_any


class FiniteGuard:
    """Watch loss and weights of a training whose checkpoints are saved at the end of epochs.

    The loss is looked at before its gradients reach the weights, and the weights after the last step of each epoch,
    before they are saved.

    Args:
        network: whose weights are looked at, without what spreads it over processes.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self.network = network
        self._before: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._look_at_loss)
        # Not at the end of the epoch, where what saves them may have been attached before.
        is_last = Events.ITERATION_COMPLETED(event_filter=_ends_epoch)
        engine.add_event_handler(is_last, self._look_at_weights)

    def _look_at_loss(self, engine: Engine) -> None:
        output: Any = engine.state.output
        names = names_of(engine.state.batch)
        is_bad = not bool(torch.isfinite(output["loss"]))
        # All stop together, or the others wait for the one that stopped.
        if is_any(is_bad):
            if not is_bad:
                raise ValueError(wrong("train", "loss", "finite in every process", "another in one, which tells it"))
            loss = f"{float(output['loss'])}"
            # From the first cause on: bad images make the weights bad, and bad weights the loss.
            spoilt = [name for name, image in zip(names, output["image"], strict=False) if not _is_finite(image)]
            if spoilt:
                self._stop(engine, "images", "finite when they reach the network", f"loss {loss}", spoilt)
            # It was the step before this one that spoilt them.
            if not self._weights_are_finite():
                self._stop(engine, "weights", "finite", "others after the step before", self._before)
            self._stop(engine, "loss", "finite", loss, names)
        self._before = names

    def _look_at_weights(self, engine: Engine) -> None:
        if is_any(not self._weights_are_finite()):
            self._stop(engine, "weights", "finite", "others after the last step", self._before)

    def _weights_are_finite(self) -> bool:
        # Infinities in a buffer may be meant, as in masks of attention.
        return all(map(_is_finite, self.network.parameters())) and not any(
            bool(torch.isnan(buffer).any()) for buffer in self.network.buffers()
        )

    def _stop(self, engine: Engine, argument: str, expected: str, got: str, names: list[str]) -> None:
        place = f"{got} in epoch {engine.state.epoch}, iteration {engine.state.iteration}"
        advice = (
            "Nothing of this state is saved. Look at these cases, then give the same command again: it goes on from "
            "the last checkpoint. If they are sound, start another run with a lower --learning-rate, or with --no-amp."
        )
        cases = f"{place}, on {'the case' if len(names) == 1 else 'the cases'} {', '.join(names)}"
        raise DatasetError(wrong("train", argument, expected, cases, advice=advice))


class FinalCheckpoint(CheckpointSaver):
    """MONAI's saver of final weights, for trainings that end.

    MONAI's own saves them on an error and on Ctrl-C too, unless another handler of exceptions is attached before it and
    raises; a training that stopped would look like a finished one, and could hold NaN.
    """

    def exception_raised(self, engine: Engine, e: BaseException) -> None:
        raise e


def _ends_epoch(engine: Engine, iteration: int) -> bool:
    length = engine.state.epoch_length
    return length is not None and iteration % length == 0


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def names_of(batch: Any) -> list[str]:
    """Ids of the samples of a batch; of slices the id of the case and the index."""
    if not isinstance(batch, Mapping) or "case_id" not in batch:
        return []
    ids = [str(case_id) for case_id in batch["case_id"]]
    if "slice_index" not in batch:
        return ids
    return [f"{case_id}_{int(index):04d}" for case_id, index in zip(ids, batch["slice_index"], strict=True)]
