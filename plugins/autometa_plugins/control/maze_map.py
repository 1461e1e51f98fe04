"""Passages between the cells of a square maze, and where steps lead; cells are counted row by row."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

EAST, SOUTH, WEST, NORTH = range(4)
"""Actions in a maze."""


@cache
def edges_of(size: int) -> tuple[tuple[int, int, int], ...]:
    """Return all pairs of neighbours: cell, direction (EAST or SOUTH), the cell there."""
    east = [(row * size + column, EAST, row * size + column + 1) for row in range(size) for column in range(size - 1)]
    south = [(cell, SOUTH, cell + size) for cell in range(size * (size - 1))]
    return tuple(east + south)


def draw_passages(weights: Tensor, size: int) -> Tensor:
    """Return which edges [tasks, edges] are open: those of the lightest tree that joins all cells (Prim 1957).

    Parameters
    ----------
    weights : Tensor of shape [tasks, edges]
        Random ones make a random maze.
    size : int
        Cells along a side.
    """
    one, _, other = torch.tensor(edges_of(size)).unbind(1)
    tasks = torch.arange(len(weights))
    joined = torch.zeros(len(weights), size**2, dtype=torch.bool)
    joined[:, 0] = True
    is_open = torch.zeros(weights.shape, dtype=torch.bool)
    for _ in range(size**2 - 1):
        leads_out = joined[:, one] ^ joined[:, other]
        chosen = weights.masked_fill(~leads_out, torch.inf).argmin(1)
        is_open[tasks, chosen] = True
        joined[tasks, one[chosen]] = joined[tasks, other[chosen]] = True
    return is_open


def cells_after(is_open: Tensor, size: int) -> Tensor:
    """Return where every step leads, [tasks, cells, 4]; a wall keeps who walks into it."""
    cells = torch.arange(size**2, device=is_open.device)
    after = cells.view(1, -1, 1).repeat(len(is_open), 1, 4)
    one, way, other = torch.tensor(edges_of(size), device=is_open.device).unbind(1)
    after[:, one, way] = torch.where(is_open, other, one)
    after[:, other, way + 2] = torch.where(is_open, one, other)
    return after


def sight(after: Tensor, goal: Tensor, size: int) -> Tensor:
    """Return what is seen from every cell, [tasks, cells, 8].

    Parameters
    ----------
    after : Tensor of shape [tasks, cells, 4]
    goal : Tensor of shape [tasks]
    size : int

    Returns
    -------
    Tensor
        For each direction how far one may go, as a share of the side; then whether the goal lies there.
    """
    n_tasks, n_cells, _ = after.shape
    here = torch.arange(n_cells, device=after.device).view(1, -1, 1).expand_as(after)
    far, found = torch.zeros_like(after), torch.zeros_like(after, dtype=torch.bool)
    for _ in range(size - 1):
        there = after.gather(1, here.reshape(n_tasks, n_cells, 4))
        far = far + (there != here)
        found = found | ((there != here) & (there == goal[:, None, None]))
        here = there
    return torch.cat([far / size, found.to(far)], 2)


def draw_walls(is_open: Tensor, size: int, marks: Mapping[int, str], *, width: int = 1) -> str:
    """Draw a maze [edges], the first row at the top, with marks in some of its cells, each ``width`` characters."""
    wide = [width if column % 2 else 1 for column in range(2 * size + 1)]
    picture = [["#" * n for n in wide] for _ in wide]
    for cell in range(size**2):
        picture[1 + 2 * (cell // size)][1 + 2 * (cell % size)] = f"{marks.get(cell, ''):^{width}}"
    for opened, (cell, way, _) in zip(is_open.tolist(), edges_of(size), strict=True):
        if opened:
            column = 1 + 2 * (cell % size) + (way == EAST)
            picture[1 + 2 * (cell // size) + (way == SOUTH)][column] = " " * wide[column]
    return "\n".join("".join(row) for row in picture)
