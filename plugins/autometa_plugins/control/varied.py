"""What differs from task to task: numbers of a range, or values of a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am

_HOW = "a pair (low, high), from which numbers are drawn, or a list of choices, such as {'gravity': (5.0, 15.0)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Varied:
    """One value that differs from task to task.

    Parameters
    ----------
    name : str
    low, high : float
        Of a range, in which numbers are uniform.
    choices : tuple
        Values of the same probability; none: a range.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    @property
    def first(self) -> Any:
        """The lowest value, or the first choice."""
        return self.choices[0] if self.choices else self.low

    @property
    def last(self) -> Any:
        """The highest value, or the last choice."""
        return self.choices[-1] if self.choices else self.high

    @property
    def width(self) -> int:
        """Numbers that tell the value: one, or one of each choice where some are no numbers."""
        return 1 if all(map(_is_number, self.choices)) else len(self.choices)

    def drawn(self, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a number for each uniform one: the value of a range, the place of a choice."""
        if self.choices:
            return np.floor(uniform * len(self.choices))
        return self.low + uniform * (self.high - self.low)

    def value(self, number: float) -> Any:
        """Return what the environment is given."""
        return self.choices[int(number)] if self.choices else number

    def coded(self, numbers: Tensor) -> Tensor:
        """Return what tells the values of tasks [tasks, width]: themselves, or one-hot."""
        if not self.choices:
            return numbers.unsqueeze(1)
        if self.width > 1 or not _is_number(self.choices[0]):
            return torch.nn.functional.one_hot(numbers.long(), len(self.choices)).to(numbers)
        return torch.tensor([float(choice) for choice in self.choices]).to(numbers)[numbers.long()].unsqueeze(1)


def read_vary(vary: Any, whose: str) -> tuple[Varied, ...]:
    """Return what a mapping from names to ranges or choices says.

    Raises
    ------
    InvalidParameter
        It says something else.
    """
    if vary is None:
        return ()
    if not isinstance(vary, Mapping) or not all(isinstance(name, str) and name for name in vary):
        raise am.InvalidParameter(f"vary={vary!r:.80} of {whose} must map names to what they may be: {_HOW}.")
    return tuple(_read(name, given, f"vary[{name!r:.40}]={given!r:.80} of {whose}") for name, given in vary.items())


def _read(name: str, given: Any, what: str) -> Varied:
    if isinstance(given, Mapping) and given.keys() == {"low", "high"}:
        given = (given["low"], given["high"])
    if isinstance(given, tuple):
        if len(given) != 2 or not all(map(_is_number, given)) or not given[0] < given[1]:
            raise am.InvalidParameter(f"{what} must be two finite numbers, the lower one first; choices are a list.")
        return Varied(name=name, low=float(given[0]), high=float(given[1]))
    if not isinstance(given, list) or not given:
        raise am.InvalidParameter(f"{what} must be {_HOW}.")
    if not all(isinstance(choice, str | bool) or _is_number(choice) for choice in given):
        raise am.InvalidParameter(f"{what} must hold finite numbers, texts, True or False alone.")
    if len({(type(choice), choice) for choice in given}) < len(given):
        raise am.InvalidParameter(f"{what} names a choice twice.")
    return Varied(name=name, choices=tuple(given))


def _is_number(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return bool(np.isfinite(float(value)))
    except OverflowError:
        return False
