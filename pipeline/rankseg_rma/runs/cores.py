"""Cores that this process may use, and the threads that each of several processes takes of them."""

import os
import sys
from math import inf
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def count_cores() -> int:
    """Cores that this process may use, at least 1: those it is bound to, or less where its container has a quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, _quota(_CGROUPS))))


def share_threads(num_processes: int) -> int:
    """Threads for each of several processes that work side by side: together no more than there are cores.

    Threads that outnumber the cores wait for each other at the end of every small layer, and a training of seconds
    takes minutes.
    """
    return max(1, count_cores() // num_processes)


def take_threads(num_threads: int) -> None:
    """Let the libraries of a worker process use so many threads, unless the user set OMP_NUM_THREADS."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    torch = sys.modules.get("torch")
    if torch is not None:  # it has read the environment already
        torch.set_num_threads(num_threads)


def _quota(root: Path) -> float:
    """Cores that the quota of a container allows, cgroup 2 or 1; infinite without one."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((root / name).read_text(encoding="ascii") for name in files).split()
        except (OSError, ValueError):
            continue
        # Without a limit cgroup 2 says "max" and cgroup 1 says -1.
        return int(quota) / int(period) if quota.isdigit() and int(quota) > 0 else inf
    return inf
