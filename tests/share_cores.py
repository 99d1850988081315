"""Test processes side by side share the cores: what they import and start takes no more threads than its share.

Two processes with two threads each on two cores wait for each other longer than they compute. Imported first by
`conftest.py`, since NumPy, torch and numba read the environment once. A single process takes the libraries' defaults.
"""

import os

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

if WORKERS > 1:
    for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(_name, str(max(1, CORES // WORKERS)))
