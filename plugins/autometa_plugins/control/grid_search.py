"""How to look for a goal on a grid, and go to it once it is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

import autometa as am

Plan = Callable[[Tensor, Tensor], Tensor]
"""Where to look next: of cells [tasks], numbered row by row, and which ones may hold the goal [tasks, cells]."""


def search(experience: am.Experience, possible: Tensor, moves: Sequence[tuple[int, int]], plan: Plan) -> Tensor:
    """Tell the moves of somebody who looks for the goal, and goes straight to it once it has paid.

    Parameters
    ----------
    experience : Experience
        Observations are row and column, one-hot; on the goal, and only there, rewards are positive.
    possible : Tensor of shape [size, size], bool
        Cells that may hold the goal.
    moves : sequence of (int, int)
        What actions add to row and column: to stay, and to go to each neighbour.
    plan : callable
        Where to look next, see :data:`Plan`.

    Returns
    -------
    Tensor of shape [tasks, time], int64
    """
    size = len(possible)
    here, there = (_cells(seen, size) for seen in (experience.observation, experience.next_observation))
    may_be = possible.to(here.device).flatten().expand(len(here), -1).clone()
    goal = torch.full_like(here[:, 0], -1)
    pays = experience.told & (experience.reward > 0)
    advice = []
    for time in range(experience.n_steps):
        cell = here[:, time]
        target = torch.where(may_be.any(1), plan(cell, may_be), cell)
        target = torch.where(goal >= 0, goal, target)
        advice.append(_toward(target // size - cell // size, target % size - cell % size, moves))
        goal = torch.where(pays[:, time], there[:, time], goal)
        is_empty = experience.told[:, time] & ~pays[:, time]
        may_be[is_empty, there[is_empty, time]] = False
    return torch.stack(advice, 1)


def nearest_from_the_corner(size: int) -> Plan:
    """Look in the nearest cell.

    Of several, those are left for later that lie along the first column and the last row: they are on one way from the
    corner (0, 0) to the opposite one, which then costs nothing in the next episode. On 5 x 5 cells with 15 steps that
    is the best that can be done from ignorance.
    """

    def plan(cell: Tensor, may_be: Tensor) -> Tensor:
        places = torch.arange(size * size, device=cell.device)
        rows, columns = places // size, places % size
        order = (((rows == size - 1) | (columns == 0)) * size + columns) * size + rows
        far = (rows - rows[cell, None]).abs() + (columns - columns[cell, None]).abs()
        return (far * 2 * size * size + order).masked_fill(~may_be, torch.iinfo(torch.int64).max).argmin(1)

    return plan


def quarter_by_quarter(size: int) -> Plan:
    """Look in one quarter of the grid around the middle, then in the next one, beginning with the middle itself.

    A quarter goes from the middle out along one side of it and is searched in a spiral that ends inside it, so that no
    cell is entered twice. On 9 x 9 cells every quarter has 20. Who stands in the middle goes on with the quarter of
    which he knows the least; who stands in one stays there until he knows all of it.
    """

    def plan(cell: Tensor, may_be: Tensor) -> Tensor:
        quarter, rank = (part.to(cell.device) for part in _quarters(size))
        own = quarter[cell]
        left = torch.zeros(len(cell), 5, dtype=torch.int64, device=cell.device)
        left = left.scatter_add(1, quarter.expand_as(may_be), may_be.long())
        goes_on = left.gather(1, own.unsqueeze(1))[:, 0] > 0
        next_one = torch.where(goes_on, own, left.argmax(1))
        is_behind = goes_on.unsqueeze(1) & (rank <= rank[cell].unsqueeze(1)) & (quarter != 4)
        order = rank + is_behind * size * size
        return order.masked_fill(~may_be | (quarter != next_one.unsqueeze(1)), 2 * size * size).argmin(1)

    return plan


@cache
def _quarters(size: int) -> tuple[Tensor, Tensor]:
    """Return the quarter of every cell, 4 for the middle, and its place in the search of that quarter."""
    middle, half = size // 2, size // 2
    quarter, rank = torch.full((size, size), 4), torch.zeros(size, size, dtype=torch.int64)
    for place, (out, along) in enumerate(_spiral(half, half + 1)):
        turns = ((along, out + 1), (out + 1, -along), (-along, -out - 1), (-out - 1, along))
        for number, (row, column) in enumerate(turns):
            row, column = row + middle, column + middle
            if max(row, column) < size:
                quarter[row, column], rank[row, column] = number, place
    return quarter.flatten(), rank.flatten()


def _spiral(length: int, width: int) -> list[tuple[int, int]]:
    """Return the cells of a rectangle, first along its length, then round and round, ever further in."""
    left = {(x, y) for x in range(length) for y in range(width)}
    x, y, dx, dy = -1, 0, 1, 0
    found = []
    while left:
        if (x + dx, y + dy) not in left:
            dx, dy = -dy, dx
        x, y = x + dx, y + dy
        left.remove((x, y))
        found.append((x, y))
    return found


def _cells(observation: Tensor, size: int) -> Tensor:
    """Numbers of cells, row by row, [tasks, time]."""
    return observation[..., :size].argmax(-1) * size + observation[..., size:].argmax(-1)


def _toward(rows: Tensor, columns: Tensor, moves: Sequence[tuple[int, int]]) -> Tensor:
    """Return the moves, along the row first, that bring one nearer to what is so many rows and columns away."""
    step = torch.stack([torch.where(columns == 0, rows.sign(), 0), columns.sign()], 1)
    return (step.unsqueeze(1) == torch.tensor(moves, device=step.device)).all(2).long().argmax(1)
