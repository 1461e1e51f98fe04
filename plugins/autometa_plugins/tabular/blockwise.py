"""Learning and answering block by block, so that the memory is that of one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.utils._pytree as pytree
from torch import Tensor

import autometa as am
from autometa_plugins.tabular.blocks import Blocks, deal
from autometa_plugins.tabular.columns import Cells, TableColumns
from autometa_plugins.tabular.learned import as_dict
from autometa_plugins.tabular.scale import Scale, find_scale

SCALINGS = ("support", "support+query")
"""Rows by which columns may be standardised and ranked."""
_LARGEST_TARGET = 6.0


class BlockNetwork(Protocol):
    """θ of a learner that learns a block of rows at a time."""

    columns: TableColumns

    @property
    def has_classes(self) -> bool:
        """True if targets are one-hot classes, False if they are real."""

    def learn_block(self, cells: Cells, targets: Tensor, mask: Tensor, beside: Cells | None) -> dict[str, Any]:
        """Return what is kept of support rows: nested dicts of tensors that lead with [tasks].

        Parameters
        ----------
        cells : Cells
        targets : Tensor of shape [tasks, n, n_outputs]
            One-hot classes, or standardised real targets; zero where padded.
        mask : Tensor of shape [tasks, n], bool
        beside : Cells, optional
            Further rows, without labels, that count in the scales of the columns.
        """

    def answer_block(self, learned: dict[str, Any], cells: Cells) -> tuple[Tensor, ...]:
        """Return logits and their factors, or means and standard deviations of standardised targets.

        What more it returns, such as the shape of a distribution, has no unit.
        """


def learn_support(module: BlockNetwork, support: am.Examples, *, scaling: str, max_rows: int) -> dict[str, Any]:
    """Learn support sets as blocks of rows.

    Parameters
    ----------
    module : BlockNetwork
    support : Examples
    scaling : {"support", "support+query"}
        With ``"support+query"`` nothing is learned yet: the blocks are kept until there are rows to answer.
    max_rows : int
        Rows of a block.

    Returns
    -------
    dict of Tensor
        What :func:`learn_blocks` returns, or ``blocks``; every tensor leads with [tasks].
    """
    blocks = deal(support, support.x.flatten(2), max_rows)
    if scaling == "support+query":
        return {"blocks": {"x": blocks.x, "targets": blocks.targets, "mask": blocks.mask}}
    return learn_blocks(module, blocks)


def answer_rows(module: BlockNetwork, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, ...]:
    """Answer for rows ``x`` [tasks, n, *features] from what :func:`learn_support` kept."""
    cells = module.columns.read(x.flatten(2))
    if "blocks" in adapted:
        adapted = learn_blocks(module, Blocks(**adapted["blocks"]), cells)
    return answer_blocks(module, adapted, cells)


def learn_blocks(module: BlockNetwork, blocks: Blocks, beside: Cells | None = None) -> dict[str, Any]:
    """Learn each block.

    Parameters
    ----------
    module : BlockNetwork
    blocks : Blocks
    beside : Cells, optional
        Further rows of each task, without labels, that count in the scales of the columns.

    Returns
    -------
    dict of Tensor
        ``learned``, what the network keeps of a block, with the ``scale`` of real targets, every tensor leading with
        [tasks, blocks]; and ``share`` [tasks, blocks], the blocks' shares of the rows.
    """
    n_blocks = blocks.mask.shape[1]
    learned = [_learn_block(module, blocks, number, beside) for number in range(n_blocks)]
    rows = blocks.mask.sum(dim=2).to(blocks.x.dtype)
    rows[:, 0] += (rows.sum(dim=1) == 0).to(rows.dtype)  # a task of no row is answered by its first block
    return {
        "learned": pytree.tree_map(lambda *parts: torch.stack(parts, dim=1), *learned),
        "share": rows / rows.sum(dim=1, keepdim=True),
    }


def answer_blocks(module: BlockNetwork, adapted: dict[str, Any], cells: Cells) -> tuple[Tensor, ...]:
    """Return the mean answer of the blocks: logits and their factors, or means, standard deviations and what is beside.

    So the answer is a distribution of the blocks' own kind, not a mixture, which would be wider wherever they differ.
    """
    total: tuple[Tensor, ...] = ()
    for number, share in enumerate(adapted["share"].unbind(1)):
        block = pytree.tree_map(lambda t, number=number: t[:, number], adapted["learned"])
        answer = tuple(
            share.reshape(-1, *(1,) * (part.dim() - 1)) * part for part in _answer_block(module, block, cells)
        )
        total = tuple(map(torch.add, total, answer)) if total else answer
    return total


def _learn_block(module: BlockNetwork, blocks: Blocks, number: int, beside: Cells | None) -> dict[str, Any]:
    x, targets, mask = blocks.x[:, number], blocks.targets[:, number], blocks.mask[:, number]
    scaled: dict[str, Any] = {}
    if not module.has_classes:
        scale = find_scale(targets, mask.unsqueeze(-1))
        scaled["scale"] = as_dict(scale)
        targets = scale.standardise(targets).clamp(-_LARGEST_TARGET, _LARGEST_TARGET) * mask.unsqueeze(-1)
    return scaled | module.learn_block(module.columns.read(x), targets, mask, beside)


def _answer_block(module: BlockNetwork, learned: dict[str, Any], cells: Cells) -> tuple[Tensor, ...]:
    outputs, sureness, *more = module.answer_block(
        {key: part for key, part in learned.items() if key != "scale"}, cells
    )
    if module.has_classes:
        return outputs, sureness, *more
    scale = Scale(**learned["scale"])
    return scale.restore(outputs), scale.restore_spread(sureness), *more
