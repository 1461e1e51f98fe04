"""What a ``suggest`` method may ask of a trial, and a trial that is asked under longer names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Suggests(Protocol):
    """The part of ``optuna.Trial`` that a ``suggest`` may use."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw a real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Draw a whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draw one of the choices."""


class Prefixed:
    """A trial that puts a prefix before every name: the parameters of several components share one study."""

    def __init__(self, trial: Suggests, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._trial.suggest_float(self._prefix + name, low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._trial.suggest_int(self._prefix + name, low, high, step=step, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(self._prefix + name, choices)
