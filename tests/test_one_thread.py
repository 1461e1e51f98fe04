"""A test computes on one thread, and so does a process that it starts."""

from __future__ import annotations

import os

import sklearn.ensemble  # brings an OpenMP of its own
import torch
from threadpoolctl import threadpool_info

THREADS = int(os.environ["AUTOMETA_TEST_THREADS"])


def test_no_library_shares_its_work() -> None:
    assert torch.get_num_threads() == THREADS
    found = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    assert len(found) >= 3, sklearn.ensemble
    assert set(found.values()) == {THREADS}, found


def test_a_process_reads_it_from_its_environment() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        assert os.environ[name] == str(THREADS)
