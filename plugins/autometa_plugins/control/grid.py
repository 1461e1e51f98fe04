"""A grid of cells to walk on: five moves, and walls around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
"""What actions add to row and column."""

WALK_KEY = (
    "Numbers: the step that first ended in a cell, in brackets that on the goal; S: the start; G: a goal that was not "
    "reached."
)
"""How to read a walk, see :func:`draw_walk`."""


def moved(cell: Tensor, action: Tensor, size: int) -> Tensor:
    """Return the cells [tasks, 2] after actions [tasks]; who walks into a wall stays."""
    return (cell + torch.tensor(MOVES, device=action.device)[action]).clamp(0, size - 1)


def code(cell: Tensor, size: int) -> Tensor:
    """Return rows and columns one-hot, [tasks, 2 * size], of cells [tasks, 2]."""
    return F.one_hot(cell, size).flatten(1)


@cache
def random_visits(size: int, steps: int, start: tuple[int, int]) -> Tensor:
    """Expected number of steps that end in each cell, [size, size], of a walk at random."""
    here = torch.zeros(size, size, dtype=torch.float64)
    here[start] = 1.0
    visits = torch.zeros_like(here)
    places = torch.arange(size)
    for _ in range(steps):
        after = torch.zeros_like(here)
        for dx, dy in MOVES:
            x, y = (places + dx).clamp(0, size - 1), (places + dy).clamp(0, size - 1)
            after.index_put_((x[:, None].expand_as(here), y.expand_as(here)), here / len(MOVES), accumulate=True)
        here = after
        visits += here
    return visits


def drawn(size: int, marks: Mapping[tuple[int, int], str]) -> str:
    """Draw a grid, the first row at the top, with marks in some of its cells."""
    rows = ((marks.get((x, y), ".") for y in range(size)) for x in range(size))
    return "\n".join(" ".join(row) for row in rows)


def cells_in(observation: Tensor) -> list[tuple[int, int]]:
    """Return the rows and columns that observations [time, 2 * size] show."""
    row, column = observation.chunk(2, dim=-1)
    return list(zip(row.argmax(-1).tolist(), column.argmax(-1).tolist(), strict=True))


def draw_walk(size: int, start: tuple[int, int], goal: tuple[int, int], cells: Sequence[tuple[int, int]]) -> str:
    """Draw a walk on a grid: in every cell stands the step that first ended there.

    Parameters
    ----------
    size : int
        Cells along a side.
    start : (int, int)
        Marked S, until a step ends there.
    goal : (int, int)
        Marked G; in brackets once it was reached.
    cells : sequence of (int, int)
        Where each step ended.
    """
    first = {cell: str(step) for step, cell in reversed(list(enumerate(cells, start=1)))}
    marks = {start: "S", goal: "G"} | first
    marks[goal] = f"[{first[goal]}]" if goal in first else "G"
    return "\n".join("".join(f"{marks.get((x, y), '.'):>4}" for y in range(size)) for x in range(size))
