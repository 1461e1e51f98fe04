"""Many rows as several blocks of fewer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import autometa as am


@dataclass(frozen=True, slots=True)
class Blocks:
    """Support rows of tasks, dealt to blocks.

    Parameters
    ----------
    x : Tensor of shape [tasks, blocks, n, features]
    targets : Tensor of shape [tasks, blocks, n, n_outputs]
    mask : Tensor of shape [tasks, blocks, n], bool
    """

    x: Float[Tensor, "task block row feature"]
    targets: Float[Tensor, "task block row out"]
    mask: Bool[Tensor, "task block row"]


def deal(support: am.Examples, x: Float[Tensor, "task row feature"], max_rows: int) -> Blocks:
    """Deal the support rows of each task to as few blocks of about ``max_rows`` rows as possible.

    The rows are sorted by target, then by the sum of their features, and dealt in turn, the rows of a class each by
    themselves; so every block holds targets like those of all, and the order of the rows does not matter. A task of
    at most ``max_rows`` rows is one block.
    """
    targets = support.targets().to(x.dtype)
    n = x.shape[1]
    if n == 0:
        x, targets = (torch.nn.functional.pad(values, (0, 0, 0, 1)) for values in (x, targets))
    mask = torch.nn.functional.pad(support.mask, (0, int(n == 0)))
    n_blocks = -(-n // max_rows)
    if n_blocks <= 1:
        return Blocks(x.unsqueeze(1), targets.unsqueeze(1), mask.unsqueeze(1))
    groups = support.y if support.is_classification else torch.zeros_like(mask, dtype=torch.int64)
    order = _sorted(x.sum(dim=-1), targets.sum(dim=-1), groups, mask)
    block, place = _places(groups.gather(1, order), mask.gather(1, order), -(-mask.sum(dim=1) // max_rows))
    width = int(place.max()) + 1
    source = torch.full((len(x), n_blocks * width + 1), n, device=x.device)
    # Padded rows all go to a last place, which is then cut off.
    target = torch.where(mask.gather(1, order), block * width + place, n_blocks * width)
    source = source.scatter(1, target, order)[:, :-1]

    def taken(values: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(values, (0, 0, 0, 1))
        found = torch.take_along_dim(padded, source.unsqueeze(-1), dim=1)
        return found.reshape(len(x), n_blocks, width, values.shape[-1])

    return Blocks(taken(x), taken(targets), taken(mask.unsqueeze(-1))[..., 0])


def _sorted(features: Tensor, targets: Tensor, groups: Tensor, mask: Tensor) -> Int[Tensor, "task row"]:
    """Order of the rows by mask, group, target and features, the first counting most."""
    order = features.argsort(dim=1, stable=True)
    for key in (targets, groups, ~mask):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order


def _places(groups: Tensor, mask: Tensor, n_blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the block of each sorted row, and its place there."""
    positions = torch.arange(groups.shape[1], device=groups.device).expand_as(groups)
    starts_group = torch.ones_like(mask)
    starts_group[:, 1:] = groups[:, 1:] != groups[:, :-1]
    in_group = positions - torch.where(starts_group, positions, 0).cummax(dim=1).values
    block = in_group % n_blocks.clamp(min=1).unsqueeze(1)
    member = torch.nn.functional.one_hot(block) * mask.unsqueeze(-1)
    place = (member.cumsum(dim=1) - 1).gather(2, block.unsqueeze(-1)).squeeze(-1)
    return block, place.clamp(min=0)
