"""Cases in worker processes. The imports here are few: every worker does them again."""

import os

from rankseg_rma.runs.parallel import run_cases


def _fail_on_three(number):
    if number == 3:
        os._exit(9)
    return number * number


def test_a_killed_worker_costs_its_case_only():
    found = list(run_cases(_fail_on_three, list(range(6)), 2, lambda number: -number))
    assert found == [0, 1, 4, -3, 16, 25]


def _threads_of_torch(_):
    import torch

    return os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


def test_workers_take_their_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert list(run_cases(_threads_of_torch, [0], 2, lambda case: ("", 0))) == [("1", 1)]
