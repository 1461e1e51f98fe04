"""What one of several processes that share the tasks of every step knows of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """The processes of a Lightning Fabric that has been launched.

    Parameters
    ----------
    fabric : lightning_fabric.Fabric
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank: int = fabric.global_rank
        self.count: int = fabric.world_size

    def average(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Mean of every tensor over all processes: the same bits in all of them.

        Tensors of one type and device travel together. Every process must give as many, of the same shapes.
        """
        together: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for place, tensor in enumerate(tensors):
            together.setdefault((tensor.dtype, tensor.device), []).append(place)
        means = list(tensors)
        for places in together.values():
            flat = torch.cat([tensors[place].detach().flatten() for place in places])
            reduced = self._fabric.all_reduce(flat, reduce_op="mean")
            assert isinstance(reduced, Tensor)
            parts = torch.split(reduced, [tensors[place].numel() for place in places])
            for place, part in zip(places, parts, strict=True):
                means[place] = part.view_as(tensors[place])
        return means

    def of_first(self, value: float, device: torch.device) -> float:
        """The value that the process of rank 0 has."""
        held = torch.tensor([value if self.rank == 0 else 0.0], dtype=torch.float64, device=device)
        summed = self._fabric.all_reduce(held, reduce_op="sum")
        assert isinstance(summed, Tensor)
        return float(summed)
