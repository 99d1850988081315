"""Several processes of one training, as torchrun starts them; one process is the plain case."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from rankseg_rma.checks import wrong
from rankseg_rma.runs.cores import share_threads

# Validation of a large data set on one slow process must not end the others.
_PATIENCE = timedelta(hours=6)


def num_processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ.get("RANK", "0"))


def num_local_processes() -> int:
    """How many of them run on this machine; all of them where the launcher does not say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or num_processes())


def share_cores() -> str:
    """Give this process its share of the machine's cores; one process alone keeps what torch chose.

    OMP_NUM_THREADS wins where it is set; torchrun sets it to 1 unless the user did.

    Returns:
        What was chosen, for the reader; empty for one process.
    """
    processes = num_local_processes()
    if processes == 1:
        return ""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(share_threads(processes))
    source = " as OMP_NUM_THREADS says" if "OMP_NUM_THREADS" in os.environ else "; OMP_NUM_THREADS changes that"
    return f"{processes} processes on this machine with {torch.get_num_threads()} threads each{source}"


def is_first_process() -> bool:
    """Whether this process writes the files and talks."""
    return rank() == 0


def default_device() -> torch.device:
    """CUDA where there is one, the one of this process when there are several; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device(f"cuda:{os.environ['LOCAL_RANK']}") if "LOCAL_RANK" in os.environ else torch.device("cuda")


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes for the length of the block: NCCL between GPUs, gloo between CPUs."""
    if num_processes() == 1:
        yield
        return
    device = default_device()
    # Before NCCL begins, or every process opens the first GPU.
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def on_first_process(work: Callable[[], None]) -> None:
    """Do in the first process what all depend on; the others wait for it, and stop when it failed.

    Raises:
        ValueError: in the other processes, when ``work`` raised anything; in the first one that very error.
    """
    failure: Exception | None = None
    if is_first_process():
        try:
            work()
        except Exception as error:  # raised again below, when the others know
            failure = error
    # Every process comes by here, failed or not: the others wait for it.
    failed = is_any(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise ValueError(wrong("train", "first process", "able to begin", "an error, which it tells"))


def is_any(flag: bool) -> bool:
    """Whether a flag is up in some process."""
    return flag if not distributed.is_initialized() else mean_over_processes(float(flag)) > 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


def spread(network: Any, device: torch.device) -> Any:
    """The network whose gradients are averaged over all processes; the same one when there is only one.

    On GPUs its batch norms see the batch of all processes.
    """
    if not distributed.is_initialized():
        if num_processes() > 1:
            advice = "Use `torchrun --nproc_per_node=N -m rankseg_rma train ...`."
            raise ValueError(wrong("spread", "processes", "joined before the training", "apart", advice=advice))
        return network
    # Only on GPUs: SyncBatchNorm has no CPU version.
    if device.type == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)


def mean_over_processes(value: float) -> float:
    """Mean of a number over all processes."""
    if not distributed.is_initialized():
        return value
    tensor = torch.tensor(value, dtype=torch.float64 if default_device().type == "cpu" else torch.float32)
    tensor = tensor.to(default_device())
    distributed.all_reduce(tensor)
    return float(tensor) / num_processes()


def share_of(items: list[Any]) -> list[Any]:
    """This process's items of a validation; every process gets one at least."""
    return items[rank() :: num_processes()] or items[:1]
