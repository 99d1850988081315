"""Threads and processes share the cores that there are; one process alone keeps what its libraries chose."""

import os
import sys
from math import inf

import pytest
import torch

from rankseg_rma.runs import cores
from rankseg_rma.runs.parallel import choose_workers
from rankseg_rma.training import distributed


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of so many cores with such cgroup files, whatever this one has; torch keeps its threads."""

    def make(bound, **files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(bound)), raising=False)
        monkeypatch.setattr(cores, "_CGROUPS", tmp_path)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/cpu.").replace("_max", ".max")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.setenv(name, "")  # what a test sets goes away again, whether it was there or not
        monkeypatch.delenv(name)
    before = torch.get_num_threads()
    yield make
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu_max": "max 100000\n"}, 8),
        ({"cpu_max": "300000 100000\n"}, 3),
        ({"cpu_max": "50000 100000\n"}, 1),
        ({"cpu_max": "1600000 100000\n"}, 8),
        ({"cpu__cfs_quota_us": "250000\n", "cpu__cfs_period_us": "100000\n"}, 2),
        ({"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}, 8),
        ({"cpu_max": "torn"}, 8),
    ],
)
def test_cores_are_those_of_the_affinity_and_the_container(machine, files, expected):
    machine(8, **files)
    assert cores.count_cores() == expected
    assert choose_workers(100, 10**9, None) == expected
    assert cores._quota(cores._CGROUPS / "nowhere") == inf


def test_processes_share_the_cores(machine):
    machine(8)
    assert [cores.share_threads(number) for number in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]


def test_one_training_keeps_the_threads_of_torch(machine, monkeypatch):
    machine(3)
    torch.set_num_threads(2)
    assert distributed.share_cores() == "" and torch.get_num_threads() == 2
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")  # one process on each of four machines
    assert distributed.share_cores() == "" and torch.get_num_threads() == 2


def test_several_trainings_share_the_cores_and_say_so(machine, monkeypatch):
    machine(6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.share_cores().startswith("2 processes on this machine with 3 threads each; OMP_NUM_THREADS")
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")
    assert "6 processes on this machine with 1 threads" in distributed.share_cores() and torch.get_num_threads() == 1
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert distributed.share_cores().endswith("2 threads each as OMP_NUM_THREADS says")
    assert torch.get_num_threads() == 2


def test_threads_of_a_worker(machine, monkeypatch):
    machine(4)
    cores.take_threads(3)
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("3", 3)
    cores.take_threads(2)  # what is set already is the user's
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("3", 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delitem(sys.modules, "torch")  # not loaded yet: it will read the environment
    cores.take_threads(1)
    assert (os.environ["OMP_NUM_THREADS"], torch.get_num_threads()) == ("1", 3)
