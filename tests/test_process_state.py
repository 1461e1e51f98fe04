"""What a plugin changes in its process is put back and named."""

from __future__ import annotations

import gc
import locale
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from threadpoolctl import ThreadpoolController

from autometa.engine.process_state import restored_process


def leave_inference_mode_on() -> None:
    sys.modules[__name__].kept = torch.inference_mode(True)  # type: ignore[attr-defined]
    sys.modules[__name__].kept.__enter__()  # type: ignore[attr-defined]


def other_threads() -> None:
    for library in ThreadpoolController().lib_controllers:
        library.set_num_threads(3)


def is_kept(number: float) -> bool:
    return number * float("1") > 0


CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "signal handlers": (
        lambda: signal.signal(signal.SIGTERM, lambda *_: None),
        lambda: signal.getsignal(signal.SIGTERM),
    ),
    "blocked signals": (
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]),
        lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []),
    ),
    "alarm": (lambda: signal.alarm(600), lambda: signal.getitimer(signal.ITIMER_REAL)),
    "working directory": (lambda: os.chdir("/"), os.getcwd),
    "environment variables": (lambda: os.environ.update(OMP_NUM_THREADS="77", NEW="1"), lambda: dict(os.environ)),
    "inference mode": (leave_inference_mode_on, torch.is_inference_mode_enabled),
    "gradient mode": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "default dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "default device": (lambda: torch.set_default_device("meta"), torch.get_default_device),
    "autocast": (lambda: torch.autocast("cpu").__enter__(), lambda: torch.is_autocast_enabled("cpu")),
    "anomaly mode": (lambda: torch.autograd.set_detect_anomaly(True), torch.is_anomaly_enabled),
    "deterministic algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        torch.are_deterministic_algorithms_enabled,
    ),
    "matmul precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: (torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision),
    ),
    "backend flags": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: torch.backends.cudnn.benchmark,
    ),
    "fast path of attention": (
        lambda: torch.backends.mha.set_fastpath_enabled(False),
        torch.backends.mha.get_fastpath_enabled,
    ),
    "numbers of threads": (
        other_threads,
        lambda: [library.num_threads for library in ThreadpoolController().lib_controllers],
    ),
    "flushing of denormal numbers": (
        lambda: torch.set_flush_denormal(is_kept(1e-310)),  # which another library may have set already
        lambda: is_kept(1e-310),
    ),
    "numpy error handling": (lambda: np.seterr(all="raise"), np.geterr),
    "scikit-learn configuration": (lambda: sklearn.set_config(transform_output="pandas"), sklearn.get_config),
    "warning filters": (lambda: warnings.simplefilter("error"), lambda: list(warnings.filters)),
    "recursion limit": (lambda: sys.setrecursionlimit(12345), sys.getrecursionlimit),
    "garbage collection": (gc.disable, gc.isenabled),
    "locale": (lambda: locale.setlocale(locale.LC_NUMERIC, "C.UTF-8"), lambda: locale.setlocale(locale.LC_ALL)),
    "start method of processes": (
        lambda: multiprocessing.set_start_method("spawn", force=True),
        multiprocessing.get_start_method,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_put_back_and_named(name: str) -> None:
    change, look = CHANGES[name]
    with warnings.catch_warnings():
        warnings.filters[:] = [each for each in warnings.filters if each[0] != "error"]  # type: ignore[index]
        before = look()
        with restored_process() as changed:
            change()
            assert look() != before, "the change shows nowhere"
        assert look() == before
    assert name in changed  # perhaps with what a module that was imported for it has changed


def test_a_change_is_put_back_after_an_error_too() -> None:
    def leave() -> None:
        torch.set_default_dtype(torch.float64)
        raise SystemExit

    with pytest.raises(SystemExit), restored_process() as changed:
        leave()
    assert (changed, torch.get_default_dtype()) == (["default dtype"], torch.float32)


def test_a_precision_of_one_backend_is_put_back_and_torch_answers_again() -> None:
    before = torch.get_float32_matmul_precision()
    with restored_process() as changed:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert (changed, torch.get_float32_matmul_precision()) == (["matmul precision"], before)


def test_random_states_are_put_back_and_drawing_is_no_change() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    with restored_process() as changed:
        first = draw()
    assert draw() == first
    assert changed == []


def test_a_working_directory_that_is_gone_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with restored_process() as changed:
        (tmp_path / "inner").mkdir()
        os.chdir(tmp_path / "inner")
        (tmp_path / "inner").rmdir()
    assert Path.cwd() == tmp_path
    assert changed == ["working directory"]


def test_in_another_thread_it_works_too() -> None:
    found: list[list[str]] = []

    def change() -> None:
        with restored_process() as changed:
            torch.set_default_dtype(torch.float64)
        found.append(changed)

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert found == [["default dtype"]]


def test_it_costs_less_than_a_millisecond() -> None:
    with restored_process():
        pass
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        with restored_process():
            pass
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1e-3


def test_what_cannot_be_put_back_keeps_nothing_else_from_it_and_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")

    def leave() -> None:
        os.chdir(here)
        (tmp_path / "gone").rmdir()
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), restored_process() as changed:
        leave()
    assert torch.get_default_dtype() == torch.float32
    assert changed[0].startswith("working directory (which cannot be put back: FileNotFoundError")
    assert changed[1:] == ["default dtype"]


def test_streams_that_are_replaced_are_put_back_and_named() -> None:
    before = sys.stdout, sys.stderr
    with restored_process() as changed:
        sys.stdout = sys.stderr = None
    assert (sys.stdout, sys.stderr) == before
    assert changed == ["standard streams"]
