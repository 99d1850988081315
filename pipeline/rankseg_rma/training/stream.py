"""Training samples as a function of their position: the same whatever the number of processes, workers or restarts.

Position p of a run means: the p-th sample that training sees, augmented with random numbers of its own. So a run that
was killed goes on with the samples it would have seen, and two processes share the very batches of one.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import set_determinism
from torch.utils.data import Dataset, Sampler

from rankseg_rma.checks import wrong


class SampleStream(Dataset[Any]):
    """An endless sequence of augmented samples: each pass goes through all items in an order of its own.

    Args:
        items: a data set, with whatever transforms need no randomness.
        transform: random MONAI transforms; None leaves the items as they are.
        seed: the same seed gives the same sequence.
    """

    def __init__(self, items: Any, transform: Any, seed: int) -> None:
        self.items, self.transform, self.seed = items, transform, seed
        # Of the present pass: drawn for each sample, it would cost the length of the data set every time.
        self._order: tuple[int, Any] = (-1, None)

    def __getitem__(self, position: int) -> Any:
        through, place = divmod(int(position), len(self.items))
        if self._order[0] != through:
            self._order = through, np.random.default_rng([self.seed, through]).permutation(len(self.items))
        item = self.items[int(self._order[1][place])]
        if self.transform is None:
            return item
        # From the position alone: which worker or process makes the sample must not matter.
        state = np.random.default_rng([self.seed, 1, int(position)]).integers(2**31)
        self.transform.set_random_state(seed=int(state))
        return self.transform(item)


class StreamBatches(Sampler[list[int]]):
    """Positions of one process's share of each batch of an epoch.

    Args:
        epoch_length: batches in an epoch.
        batch_size: samples of a batch, over all processes.
        rank: this process.
        num_processes: all of them.
    Raises:
        ValueError: the batch cannot be divided among the processes.
    """

    def __init__(self, epoch_length: int, batch_size: int, rank: int, num_processes: int) -> None:
        if batch_size % num_processes:
            expected = f"a multiple of the number of processes, {num_processes}"
            raise ValueError(wrong("train", "batch_size", expected, batch_size))
        self.epoch_length, self.batch_size = epoch_length, batch_size
        self.share, self.rank = batch_size // num_processes, rank
        self.epoch = 1

    def __iter__(self) -> Iterator[list[int]]:
        first = (self.epoch - 1) * self.epoch_length
        for batch in range(first, first + self.epoch_length):
            # Side by side, so that the shares of all processes make up the batch that one alone would have.
            start = batch * self.batch_size + self.rank * self.share
            yield list(range(start, start + self.share))

    def __len__(self) -> int:
        return self.epoch_length


class StartEpoch:
    """Tell the batches which epoch it is, and seed what else is random (dropout) from the epoch's number."""

    def __init__(self, batches: StreamBatches, seed: int) -> None:
        self.batches, self.seed = batches, seed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.batches.epoch = engine.state.epoch
        # Numbers of one seed, epochs below 990 and processes up to 101, do not run into those of the next.
        set_determinism(self.seed * 100_003 + engine.state.epoch * 101 + self.batches.rank)
