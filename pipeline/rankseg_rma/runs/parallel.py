"""Cases in parallel processes, in order, few at a time; a worker that dies costs its own case only."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rankseg_rma.checks import wrong
from rankseg_rma.runs.cores import count_cores, share_threads, take_threads

T = TypeVar("T")
R = TypeVar("R")
# Starting a worker takes about two seconds; below this many voxels in all that does not pay.
_WORTH_STARTING_VOXELS = 200_000_000


def choose_workers(num_cases: int, num_voxels: int, given: int | None) -> int:
    """Number of processes: what the user gave, else one per core when there is enough to do."""
    if given is not None:
        return min(given, num_cases)
    return max(min(count_cores(), num_cases), 1) if num_voxels > _WORTH_STARTING_VOXELS else 1


def run_cases(work: Callable[[T], R], cases: Sequence[T], workers: int, on_death: Callable[[T], R]) -> Iterator[R]:
    """Results in the order of the cases.

    Args:
        work: a function of a module, and cases and results that can be pickled.
        cases: what it is called with.
        workers: number of processes; 1 works in this one.
        on_death: result of a case whose worker was killed, for example for lack of memory.
    """
    if workers <= 1:
        yield from map(work, cases)
        return
    place = 0
    while place < len(cases):
        try:
            for result in _run_pool(work, cases[place:], workers):
                place += 1
                yield result
        except BrokenProcessPool:
            # The first case without a result is tried alone, so that the guilty one is known.
            try:
                result = next(_run_pool(work, cases[place : place + 1], 1))
            except BrokenProcessPool:
                _require_workers()
                result = on_death(cases[place])
            place += 1
            yield result


def _require_workers() -> None:
    """Raise when no worker can start at all, which is not the fault of a case."""
    try:
        next(_run_pool(_say_hello, [0], 1))
    except BrokenProcessPool as error:
        advice = 'Call it under `if __name__ == "__main__":`, or with workers=1.'
        got = "a script without a guard, or a system that starts no process"
        raise ValueError(wrong("run_cases", "workers", "processes that can start", got, advice=advice)) from error


def _say_hello(value: int) -> int:
    return value


def _run_pool(work: Callable[[T], R], cases: Sequence[T], workers: int) -> Iterator[R]:
    # Spawned, because a fork inherits locks of threads that it does not have and may wait for them forever.
    context = multiprocessing.get_context("spawn")
    share = (share_threads(workers),)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=take_threads, initargs=share) as pool:
        waiting: list[Future[R]] = []
        try:
            for case in cases:
                waiting.append(pool.submit(work, case))
                # Few ahead: behind one slow case the results of all others would pile up in memory.
                if len(waiting) > 2 * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BaseException:
            # Leaving the block would otherwise wait for every case that is not begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
