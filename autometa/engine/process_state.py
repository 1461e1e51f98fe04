"""What code may change in its whole process, put back after it."""

from __future__ import annotations

import gc
import locale
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

import numpy as np
import sklearn
import torch
from threadpoolctl import LibController, ThreadpoolController

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Setting(Generic[Value]):
    """One thing that belongs to the whole process, or to the thread that a trial runs in."""

    read: Callable[[], Value]
    write: Callable[[Value], Any]


@contextmanager
def restored_process() -> Iterator[list[str]]:
    """Put the process back after a block, however that ends.

    Random states are put back too, but drawing a number is no change to report. What code replaces inside of other
    modules stays replaced.

    Yields
    ------
    list of str
        After the block: what it had changed.

    Examples
    --------
    >>> import torch
    >>> with restored_process() as changed:
    ...     _ = torch.set_grad_enabled(False)
    >>> changed, torch.is_grad_enabled()
    (['gradient mode'], True)
    """
    changed: list[str] = []
    before = {name: setting.read() for name, setting in _SETTINGS.items()}
    random_states = {name: setting.read() for name, setting in _RANDOM_STATES.items()}
    try:
        yield changed
    finally:
        for name, setting in _SETTINGS.items():
            changed += _put_back(name, setting, before[name])
        for name, setting in _RANDOM_STATES.items():
            setting.write(random_states[name])


def _put_back(name: str, setting: _Setting[Any], before: Any) -> list[str]:
    """Put one setting back; return what had changed. One that cannot be put back must not keep others from it."""
    try:
        if setting.read() == before:
            return []
        setting.write(before)
    except (OSError, RuntimeError, TypeError, ValueError, locale.Error) as error:
        return [f"{name} (which cannot be put back: {type(error).__name__}: {error})"]
    return [name]


def _attributes(*places: tuple[Any, str]) -> _Setting[tuple[Any, ...]]:
    def write(values: tuple[Any, ...]) -> None:
        for (module, name), value in zip(places, values, strict=True):
            setattr(module, name, value)

    return _Setting(lambda: tuple(getattr(module, name) for module, name in places), write)


def _write_inference_mode(on: bool) -> None:
    guard = torch.inference_mode(on)
    guard.__enter__()
    _guards.append(guard)  # which ends the mode when it is deleted


_guards: list[torch.inference_mode] = []


_deterministic: Any = torch.utils.deterministic


def _read_deterministic() -> tuple[int, bool]:
    return torch.get_deterministic_debug_mode(), _deterministic.fill_uninitialized_memory


def _write_deterministic(before: tuple[int, bool]) -> None:
    torch.set_deterministic_debug_mode(before[0])
    _deterministic.fill_uninitialized_memory = before[1]


_OPERATIONS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
_PRECISIONS: list[Any] = [torch.backends, *attrgetter(*_OPERATIONS)(torch.backends)]


def _read_precision() -> tuple[str, ...]:
    return _read_matmul_precision(), *(backend.fp32_precision for backend in _PRECISIONS)


def _read_matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to answer where single backends were set
        return ""


def _write_precision(before: tuple[str, ...]) -> None:
    if before[0] and before[0] != _read_matmul_precision():
        torch.set_float32_matmul_precision(before[0])
    for backend, precision in zip(_PRECISIONS, before[1:], strict=True):
        backend.fp32_precision = precision


def _write_device(before: torch.device) -> None:
    torch.set_default_device(None if before.type == "cpu" else before)  # None costs nothing from then on


def _read_autocast() -> list[tuple[bool, torch.dtype]]:
    return [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]


def _write_autocast(before: list[tuple[bool, torch.dtype]]) -> None:
    for device, (enabled, dtype) in zip(("cpu", "cuda"), before, strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


@cache
def _libraries() -> list[LibController]:
    return list(ThreadpoolController().lib_controllers)


def _read_threads() -> tuple[int, ...]:
    return torch.get_num_threads(), *(library.num_threads for library in _libraries())


def _write_threads(before: tuple[int, ...]) -> None:
    for library, count in zip(_libraries(), before[1:], strict=True):
        library.set_num_threads(count)
    torch.set_num_threads(before[0])


def _read_folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _write_folder(before: str | None) -> None:
    if before is not None:
        os.chdir(before)


_SET_BY_TORCH = ("TORCHINDUCTOR_", "TRITON_", "CUDA_MODULE_LOADING")
"""How environment variables begin that torch sets itself when it is first used for something."""


def _read_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_SET_BY_TORCH)}


def _write_environment(before: dict[str, str]) -> None:
    for name in _read_environment().keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


_SIGNALS = sorted(signal.valid_signals() - {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")})


def _read_handlers() -> dict[int, Any]:
    if threading.current_thread() is not threading.main_thread():
        return {}  # no other thread can change them
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _write_handlers(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _read_blocked() -> set[Any]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, [])) if hasattr(signal, "pthread_sigmask") else set()


def _write_blocked(before: set[Any]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_alarm() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _write_alarm(was_set: bool) -> None:
    if not was_set:
        signal.setitimer(signal.ITIMER_REAL, 0)


@dataclass(frozen=True)
class _Filters:
    """Warning filters; the same if those about all warnings of a kind are, for imports add some about single ones."""

    every: list[Any] = field(compare=False)
    general: set[Any]

    @classmethod
    def now(cls) -> _Filters:
        every = list(warnings.filters)
        general = {each for each in every if each[1] is each[3] is None and each[2].__module__ == "builtins"}
        return cls(every, general)


def _write_filters(before: _Filters) -> None:
    warnings.resetwarnings()
    warnings.filters[:] = before.every  # type: ignore[index]


def _is_flushing() -> bool:
    return sys.float_info.min * float("0.5") == 0.0


_SETTINGS: dict[str, _Setting[Any]] = {
    "standard streams": _attributes((sys, "stdin"), (sys, "stdout"), (sys, "stderr")),
    "signal handlers": _Setting(_read_handlers, _write_handlers),
    "blocked signals": _Setting(_read_blocked, _write_blocked),
    "alarm": _Setting(_read_alarm, _write_alarm),
    "working directory": _Setting(_read_folder, _write_folder),
    "environment variables": _Setting(_read_environment, _write_environment),
    "inference mode": _Setting(torch.is_inference_mode_enabled, _write_inference_mode),
    "gradient mode": _Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "default dtype": _Setting(torch.get_default_dtype, torch.set_default_dtype),
    "default device": _Setting(torch.get_default_device, _write_device),
    "autocast": _Setting(_read_autocast, _write_autocast),
    "anomaly mode": _Setting(
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda before: torch.autograd.set_detect_anomaly(*before),
    ),
    "deterministic algorithms": _Setting(_read_deterministic, _write_deterministic),
    "matmul precision": _Setting(_read_precision, _write_precision),
    "backend flags": _attributes(
        *((torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
        (torch.backends.mkldnn, "enabled"),
        *((torch.backends.opt_einsum, name) for name in ("enabled", "strategy")),
    ),
    "fast path of attention": _Setting(
        torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled
    ),
    "numbers of threads": _Setting(_read_threads, _write_threads),
    "flushing of denormal numbers": _Setting(_is_flushing, torch.set_flush_denormal),
    "numpy error handling": _Setting(np.geterr, lambda before: np.seterr(**before)),
    "scikit-learn configuration": _Setting(sklearn.get_config, lambda before: sklearn.set_config(**before)),
    "warning filters": _Setting(_Filters.now, _write_filters),
    "recursion limit": _Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collection": _Setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    "locale": _Setting(lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    "start method of processes": _Setting(
        # The first is what is used where none was set, and asking for it sets it.
        lambda: multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0],
        lambda before: multiprocessing.set_start_method(before, force=True),
    ),
}
"""By the name under which a change is reported."""

_RANDOM_STATES: dict[str, _Setting[Any]] = {
    "python": _Setting(random.getstate, random.setstate),
    "numpy": _Setting(np.random.get_state, np.random.set_state),
    "torch": _Setting(torch.get_rng_state, torch.set_rng_state),
}
