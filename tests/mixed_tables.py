"""Small tables with numbers, missing values and categories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import autometa as am

PROBLEMS = ("classification", "regression")
MIXED = {
    "kinds": ("numeric", "numeric", "missing", "categorical", "categorical", "categorical", "missing"),
    "columns": (0, 1, 1, 2, 2, 2, 2),
}
"""A number, a number with missing values, and a category of three levels with missing values."""


def info_of(problem: str, n_features: int, n_outputs: int, layout: dict[str, Any] | None = None) -> am.TaskInfo:
    layout = layout or {"kinds": None, "columns": None}
    return am.TaskInfo(
        problem=problem,
        input_shape=(n_features,),
        n_outputs=n_outputs,
        n_shot=5,
        n_query=5,
        feature_kinds=layout["kinds"],
        feature_columns=layout["columns"],
    )


def mixed_rows(n_tasks: int, n: int, seed: int = 0) -> Tensor:
    """Rows of the layout MIXED, with missing values and rows without any level."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n_tasks, n, 2, generator=generator, dtype=torch.float64)
    missing = torch.rand(n_tasks, n, generator=generator) < 0.2
    numbers[..., 1] = numbers[..., 1].masked_fill(missing, 0.1)
    level = torch.randint(5, (n_tasks, n), generator=generator)  # 3: missing, 4: not seen before
    levels = torch.nn.functional.one_hot(level, 5)[..., :4].double()
    return torch.cat([numbers, missing[..., None].double(), levels], dim=-1)


def task(problem: str, n: int = 12, n_tasks: int = 2, seed: int = 0) -> am.Examples:
    """Support sets of the layout MIXED whose targets follow the first number and the level."""
    x = mixed_rows(n_tasks, n, seed)
    y = x[..., 0] + 2 * x[..., 3] - x[..., 4]
    if problem == "regression":
        return am.Examples(x, y)
    return am.Examples(x, (y > 0).long() + (y > 1.2).long(), n_classes=3)
