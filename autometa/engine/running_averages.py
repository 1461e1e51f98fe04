"""Running averages of batch norm, updated by tasks side by side as by one task after the other.

An update moves an average a share of the way to the statistics of a batch, which do not depend on the average. So tasks
may start from averages of zero, each on its own: what they end with is what they add, and it is folded into the
module's averages afterwards, in the order of the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_AVERAGES = ("running_mean", "running_var")
_COUNT = "num_batches_tracked"


def updating_layers(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the layers whose running averages a forward pass changes, by name."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.training and part.track_running_stats
    }


def can_fold(module: nn.Module) -> bool:
    """Tell whether all running averages are updated as torch does it, so that updates can be folded in later."""
    return all(type(layer).forward is _BatchNorm.forward for layer in updating_layers(module).values())


def averages_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the averages that a forward pass changes and the numbers of batches in them, by name."""
    return {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, layer in updating_layers(module).items()
        for name, buffer in layer.named_buffers(recurse=False)
    }


def start_at_zero(module: nn.Module, n_tasks: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return averages of zero for every task, each [tasks, n_features], and one count of batches for all tasks."""
    averages, counts = {}, {}
    for name, buffer in averages_of(module).items():
        if name.endswith(_COUNT):
            counts[name] = torch.zeros_like(buffer)
        else:
            averages[name] = buffer.new_zeros(n_tasks, *buffer.shape)
    return averages, counts


@torch.no_grad()
def fold(module: nn.Module, averages: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> None:
    """Update a module's averages by what tasks made of averages of zero, see :func:`start_at_zero`.

    The result is that of the tasks one after the other, up to rounding.

    Parameters
    ----------
    module : nn.Module
    averages : dict of Tensor, each [tasks, n_features]
    counts : dict of Tensor
        How many batches each task has seen, by the name of the layer's count.
    """
    for prefix, layer in updating_layers(module).items():
        dot = f"{prefix}." if prefix else ""
        before, count = layer.num_batches_tracked, counts[f"{dot}{_COUNT}"]
        assert before is not None
        for name in _AVERAGES:
            added, average = averages[f"{dot}{name}"], getattr(layer, name)
            n_tasks = len(added)
            if layer.momentum is None:  # a mean of all batches so far
                total = before + n_tasks * count
                after = (average * before + added.sum(dim=0) * count) / total
            else:
                kept = (1.0 - layer.momentum) ** count.to(average.dtype)
                later = torch.arange(n_tasks - 1, -1, -1, dtype=average.dtype, device=average.device)
                after = average * kept**n_tasks + kept**later @ added
            # As torch's own update, which autograd does not see: graphs may hold the average but do not depend on it.
            average.data.copy_(after)
        before.add_(n_tasks * count)
