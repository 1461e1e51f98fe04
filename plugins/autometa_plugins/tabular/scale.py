"""Mean and spread of numbers of any size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_LARGEST = 1e6
"""Bound of a standardised number."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What standardises: ``(value / unit - centre) / spread``, in double precision.

    Parameters
    ----------
    unit : Tensor of shape [tasks, 1, columns]
        The largest absolute value, so that no square overflows.
    centre, spread : Tensor of shape [tasks, 1, columns]
        Mean and standard deviation in that unit. A constant has the spread that makes 1 of the values' own unit.
    varies : Tensor of shape [tasks, 1, columns], bool
        False where all values are the same but for rounding.
    """

    unit: Float[Tensor, "task 1 column"]
    centre: Float[Tensor, "task 1 column"]
    spread: Float[Tensor, "task 1 column"]
    varies: Bool[Tensor, "task 1 column"]

    def standardise(self, values: Float[Tensor, "task row column"]) -> Float[Tensor, "task row column"]:
        """Return standardised values, in the type of ``values``."""
        standard = (values.to(self.unit.dtype) / self.unit - self.centre) / self.spread
        return standard.clamp(-_LARGEST, _LARGEST).to(values.dtype)

    def restore(self, standard: Float[Tensor, "task row column"]) -> Float[Tensor, "task row column"]:
        """Return values from standardised ones."""
        return ((standard.to(self.unit.dtype) * self.spread + self.centre) * self.unit).to(standard.dtype)

    def restore_spread(self, deviation: Float[Tensor, "task row column"]) -> Float[Tensor, "task row column"]:
        """Return deviations in the unit of the values from deviations of standardised ones."""
        return (deviation.to(self.unit.dtype) * (self.spread * self.unit)).to(deviation.dtype)


def find_scale(values: Float[Tensor, "task row column"], known: Bool[Tensor, "task row #column"]) -> Scale:
    """Find the scale of the known values of each column."""
    known = known.expand_as(values)
    exact = values.to(exact_type(values))
    counts = known.sum(dim=1, keepdim=True).clamp(min=1)
    unit = torch.where(known, exact.abs(), 0).amax(dim=1, keepdim=True)
    unit = torch.where(unit > 0, unit, 1)
    exact = exact / unit
    centre = torch.where(known, exact, 0).sum(dim=1, keepdim=True) / counts
    spread = (torch.where(known, exact - centre, 0).square().sum(dim=1, keepdim=True) / counts).sqrt()
    varies = spread > 8 * torch.finfo(values.dtype).eps
    return Scale(unit, centre, torch.where(varies, spread, 1 / unit), varies)


def exact_type(values: Tensor) -> torch.dtype:
    """Double precision, where the device has it (Apple's have not)."""
    return values.dtype if values.device.type == "mps" else torch.float64
