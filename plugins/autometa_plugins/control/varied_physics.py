"""Constants of physics that differ from task to task."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

import autometa as am

LARGEST_SPREAD = 10.0


def check_spread(spread: float, whose: str) -> None:
    """Refuse a spread of which no constants can be drawn."""
    am.check_real("spread", spread, least=1, most=LARGEST_SPREAD, of=whose)


def draw_factors(n_tasks: int, n_constants: int, spread: float, seed: int, split: str) -> Tensor:
    """Draw factors [tasks, constants] from 1 / ``spread`` to ``spread``, whose logarithms are uniform."""
    uniform = torch.from_numpy(am.draw_uniform((n_tasks, n_constants), seed, split, "physics"))
    return torch.exp((2 * uniform - 1) * math.log(spread)).float()


def draw_constants(constants: Mapping[str, float], unit: str = "x ") -> str:
    """Write down constants of a task, a line each, with a unit before each number."""
    wide = max(map(len, constants))
    return "\n".join(f"{name:<{wide}}  {unit}{value:.2f}" for name, value in constants.items())
