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

    The rows are sorted by class or target, then by their features, and dealt in turn; so every block holds targets like
    those of all, blocks differ by one row at most, and the order of the rows does not matter. A task of at most
    ``max_rows`` rows is one block.
    """
    targets = support.targets().to(x.dtype)
    n = x.shape[1]
    if n == 0:
        x, targets = (torch.nn.functional.pad(values, (0, 0, 0, 1)) for values in (x, targets))
    mask = torch.nn.functional.pad(support.mask, (0, int(n == 0)))
    n_blocks = -(-n // max_rows)
    if n_blocks <= 1:
        return Blocks(x.unsqueeze(1), targets.unsqueeze(1), mask.unsqueeze(1))
    order = _sorted(x, targets, support.y if support.is_classification else None, mask)
    position, n_existing = torch.arange(n, device=x.device).expand_as(mask), mask.sum(dim=1, keepdim=True)
    dealt = (-(-n_existing // max_rows)).clamp(min=1)
    block, place = position % dealt, position // dealt
    width = max(1, int((-(-n_existing // dealt)).max()))
    source = torch.full((len(x), n_blocks * width + 1), n, device=x.device)
    # Padded rows all go to a last place, which is then cut off.
    target = torch.where(mask.gather(1, order), block * width + place, n_blocks * width)
    source = source.scatter(1, target, order)[:, :-1]

    def taken(values: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(values, (0, 0, 0, 1))
        found = torch.take_along_dim(padded, source.unsqueeze(-1), dim=1)
        return found.reshape(len(x), n_blocks, width, values.shape[-1])

    return Blocks(taken(x), taken(targets), taken(mask.unsqueeze(-1))[..., 0])


def _sorted(x: Tensor, targets: Tensor, classes: Tensor | None, mask: Tensor) -> Int[Tensor, "task row"]:
    """Order of the rows: those that exist first, by class or target, by the sum of the features, then by chance.

    What chance gives to a row depends on its values alone, so that only equal rows are interchangeable. The sums are
    rounded: those that are equal but for the order of addition shall be equal.
    """
    values = torch.cat([x, targets], dim=-1)
    values = values if values.device.type == "mps" else values.double()  # which has no double precision
    chance = torch.from_numpy(am.draw_uniform((values.shape[-1],), 0, "order of rows")).to(values)
    sums = values[..., : x.shape[-1]].sum(dim=-1).float()
    order = (values * chance).sum(dim=-1).argsort(dim=1)
    for key in (sums, targets.sum(dim=-1) if classes is None else classes, ~mask):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order
