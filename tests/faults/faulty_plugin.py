"""A plugin whose learner waits at a gate, so that a fault strikes exactly there, or brings a fault of its own.

``FAULT_GATE`` names a folder. While it holds a file ``close``, a learner writes its process id to ``waiting`` and stays
where it is. ``FAULT`` names a fault of the learner ``means``. ``FAULT_ONCE`` names a file: a fault happens while it
exists, and removes it.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import autometa as am


def gate() -> None:
    """Wait while the gate is closed; a file ``ticket`` lets one pass."""
    folder = Path(os.environ.get("FAULT_GATE", "no-gate"))
    while (folder / "close").exists():
        with suppress(FileNotFoundError):
            (folder / "ticket").unlink()
            return
        (folder / "waiting").write_text(str(os.getpid()))
        time.sleep(0.02)


class Own(BaseException):
    """Neither an error nor a signal."""


def leave(error: BaseException) -> None:
    raise error


def set_clock_back() -> None:
    """Let the clock of the process jump back by a day, and by one more each time."""
    before = time.time
    time.time = lambda: before() - 86400.0


FAULTS: dict[str, Callable[[], Any]] = {
    "exit": lambda: ctypes.CDLL(None)._exit(7),  # which Python does not see
    "segfault": lambda: ctypes.string_at(0),
    "no memory": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the system does
    "sleep": lambda: time.sleep(3600),
    "loop": lambda: [None for _ in iter(int, 1)],
    "loop in C": lambda: sum(range(10**13)),
    "expression": lambda: re.match(r"(a|aa)+$", 100 * "a" + "b"),
    "SystemExit": lambda: sys.exit("no GPU"),
    "KeyboardInterrupt": lambda: leave(KeyboardInterrupt()),
    "GeneratorExit": lambda: leave(GeneratorExit()),
    "Own": lambda: leave(Own()),
    "clock": set_clock_back,
    "NaN": lambda: None,  # see predict
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "gradient mode": lambda: torch.set_grad_enabled(False),
    "working directory": lambda: os.chdir("/"),
    "signal handlers": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    "environment variables": lambda: os.environ.update(OMP_NUM_THREADS="3"),
}
"""What a learner may do to its process, by name."""


class Means(am.Learner):
    """The mean of each class, or the mean target, with one weight to train.

    Parameters
    ----------
    fault : str, default="none"
        What it does at its outer steps: names of ``FAULTS`` joined by ``+``; ``"none"``: what the environment says.
    width : float, default=1.0
    """

    def __init__(self, fault: str = "none", width: float = 1.0) -> None:
        self.fault = fault
        self.width = width

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(1, 1)

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        gate()
        fault = self._named_fault()
        if fault != "none" and module.training and self._is_due():
            for name in fault.split("+"):
                FAULTS[name]()
        x = support.x.flatten(2)
        if support.is_classification:
            members = support.one_hot().to(x.dtype).transpose(1, 2)
            return members @ x / members.sum(-1, keepdim=True).clamp(min=1)
        return support.y.reshape(len(x), -1).mean(1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        scale = module.weight.exp() + module.bias
        if self._named_fault() == "NaN":
            scale = scale * torch.nan
        if adapted.dim() == 3:
            return -self.width * scale * torch.cdist(x.flatten(2), adapted)
        return (scale * adapted).unsqueeze(1).expand(-1, x.shape[1], 1)

    def _named_fault(self) -> str:
        return os.environ.get("FAULT", "none") if type(self) is Means and self.fault == "none" else self.fault

    @staticmethod
    def _is_due() -> bool:
        """Return True always, or the one time that ``FAULT_ONCE`` asks for."""
        once = os.environ.get("FAULT_ONCE")
        if once is None:
            return True
        try:
            os.remove(once)
        except FileNotFoundError:
            return False
        return True

    @classmethod
    def suggest(cls, trial: Any, info: am.TaskInfo) -> Means:
        return cls(width=trial.suggest_float("width", 0.5, 2.0, log=True))


class Other(Means):
    """The same under another name: what must not suffer from the first."""


@am.hookimpl
def autometa_learners() -> list[am.LearnerSpec]:
    problems = ("classification", "regression")
    return [
        am.LearnerSpec(name=name, factory=factory, summary=summary, problems=problems)
        for name, factory, summary in (("means", Means, "Waits at a gate."), ("other", Other, "Its neighbour."))
    ]
