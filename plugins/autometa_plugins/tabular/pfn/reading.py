"""What the network is told of a row and a class, or a target: what the experts say, and the label where it is known."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.learned import Learned

_N_CONTEXT = 5
_N_LABEL = 4
_FARTHEST = 6.0


def n_row_features(n_experts: int) -> int:
    """Return the length of what :func:`class_features` and :func:`real_features` give."""
    return 3 * n_experts + 1 + _N_CONTEXT + _N_LABEL


def class_features(
    outputs: Float[Tensor, "task expert row way"],
    mixed: Float[Tensor, "task row way"],
    learned: Learned,
    counts: Float[Tensor, " task"],
    members: Float[Tensor, "task row way"] | None = None,
) -> Float[Tensor, "task way row feature"]:
    """Describe every row and class.

    Parameters
    ----------
    outputs : Tensor of shape [tasks, experts, n, n_way]
        Scores by each expert; of support rows those of left-out rows.
    mixed : Tensor of shape [tasks, n, n_way]
        Scores by the mixture.
    learned : Learned
    counts : Tensor of shape [tasks]
        Number of support rows.
    members : Tensor of shape [tasks, n, n_way], optional
        One-hot classes of the rows, where they are support rows.
    """
    said = torch.cat([outputs, mixed.unsqueeze(1)], dim=1).permute(0, 3, 2, 1)
    present = learned.targets.sum(dim=1) > 0
    rivals = said.masked_fill(~present[:, :, None, None], -_FARTHEST)
    best = torch.nn.functional.pad(rivals, (0, 0, 0, 0, 0, 1), value=-_FARTHEST).topk(2, dim=1)
    is_best = torch.arange(said.shape[1], device=said.device)[None, :, None, None] == best.indices[:, :1]
    margins = (said - torch.where(is_best, best.values[:, -1:], best.values[:, :1])).clamp(-_FARTHEST, _FARTHEST)
    if members is None:
        label = torch.zeros_like(said[..., :_N_LABEL])
    else:
        own = members.mT.unsqueeze(-1)
        label = torch.cat([own, 1 - own, torch.zeros_like(own), torch.zeros_like(own)], dim=-1)
    share = learned.targets.sum(dim=1) / counts.clamp(min=1)[:, None]
    ways = present.sum(dim=1, keepdim=True).clamp(min=1).to(share.dtype).expand_as(share)
    context = [ways.log(), share * ways, learned.sureness[:, :, 0].log().expand_as(share)]
    return _join(said, margins[..., :-1], label, learned, counts, context)


def real_features(
    outputs: Float[Tensor, "task expert row out"],
    mixed: Float[Tensor, "task row out"],
    learned: Learned,
    counts: Float[Tensor, " task"],
    targets: Float[Tensor, "task row out"] | None = None,
) -> Float[Tensor, "task out row feature"]:
    """Describe every row and target; the arguments are those of :func:`class_features`, with standardised targets."""
    said = torch.cat([outputs, mixed.unsqueeze(1)], dim=1).permute(0, 3, 2, 1)
    if targets is None:
        label, residuals = torch.zeros_like(said[..., :_N_LABEL]), torch.zeros_like(said[..., :-1])
    else:
        value = targets.mT.unsqueeze(-1)
        label = torch.cat([value, value.asinh(), (2 * value).sin(), torch.ones_like(value)], dim=-1)
        residuals = said[..., :-1] - value
    deviation = learned.sureness[:, 0].log()
    context = [torch.zeros_like(deviation), torch.zeros_like(deviation), deviation]
    return _join(said, residuals, label, learned, counts, context)


def _join(
    said: Tensor, beside: Tensor, label: Tensor, learned: Learned, counts: Tensor, context: list[Tensor]
) -> Tensor:
    """Put together what is said of each row, and what is the same for all rows of a task."""
    n_columns = torch.full_like(counts, learned.support.bent.shape[-1])
    sizes = [(counts + 1).log()[:, None] / 3, n_columns.log()[:, None] / 3]
    of_task = torch.stack([*(size.expand_as(context[0]) for size in sizes), *context], dim=-1)
    shares = learned.shares[:, :, 0].mT.expand(-1, said.shape[1], -1)
    of_task = torch.cat([of_task, shares * shares.shape[-1]], dim=-1)
    return torch.cat([said, beside, label, of_task.unsqueeze(2).expand(-1, -1, said.shape[2], -1)], dim=-1)
