"""θ of the learner that reads related tasks: the network for a task's own rows, and the rows of other tasks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.effects.memory import Rows as Memory
from autometa_plugins.tabular.effects.remembered import row_keys
from autometa_plugins.tabular.pfn.network import TableNetwork
from autometa_plugins.tabular.related.context import Context, make_context
from autometa_plugins.tabular.scale import Scale, find_scale

_KERNELS = (0, 1, 3, 4, 7, 11, 12, 14)
"""Of the kernel experts: products of Laplace kernels, linear, RBF, additive, by relevance, bent and quadratic."""
_FEWEST_OF_TASK = 6
"""Rows that are read of a task, where tasks have to be left out."""


@dataclass(slots=True)
class _Made:
    """A context made once for all copies of a module."""

    context: Context | None = None
    scale: Scale | None = None
    owners: dict[bytes, int] | None = None
    counts: Counter[int] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Made:
        return self

    def __reduce__(self) -> tuple[type[_Made], tuple[()]]:
        return _Made, ()  # a pickle makes it again of the rows, as a file does


class RelatedNetwork(nn.Module):
    """A network for the rows of a task, beside rows of other tasks.

    Parameters
    ----------
    own : TableNetwork
    n_features, n_outputs : int
    max_rows : int
        Rows of other tasks that are remembered.
    max_context : int
        Those of them that are read.
    """

    def __init__(self, own: TableNetwork, n_features: int, n_outputs: int, max_rows: int, max_context: int) -> None:
        super().__init__()
        self.own, self.max_context = own, max_context
        self.memory = Memory(n_features, n_outputs, max_rows)
        self._made = _Made()

    def keep(self, batch: am.TaskBatch) -> int:
        """Remember the rows of a batch; return how many."""
        kept = self.memory.keep(batch)
        if kept:
            self._made = _Made()
        return kept

    def settle(self) -> None:
        """Drop the rows that are not read."""
        self.memory.select(self._places())
        self._made = _Made()

    def context(self) -> tuple[Context, Scale] | None:
        """Return what the rows of other tasks tell, and the scale of their targets; None without any."""
        if not len(self.memory):
            return None
        made = self._made
        if made.context is None or made.scale is None:
            made.context, made.scale = self._make()
        return made.context, made.scale

    def returning(self, x: Tensor, targets: Tensor, mask: Tensor) -> list[int | None]:
        """Return which of the tasks that are read each task [tasks, n, ...] is; None for a new one.

        Rows that several tasks hold tell nothing. Of the others, at least a quarter of the task's rows, or of those
        that are read of the other, must be the same.
        """
        made = self._made
        if made.owners is None or made.counts is None:
            numbers = self.memory.numbers().tolist()
            owners: dict[bytes, set[int]] = {}
            for key, number in zip(row_keys(self.memory.x, self.memory.targets), numbers, strict=True):
                owners.setdefault(key, set()).add(number)
            made.owners = {key: min(own) for key, own in owners.items() if len(own) == 1}
            made.counts = Counter(numbers)
        found = []
        for rows, wanted, exists in zip(x, targets, mask, strict=True):
            votes = Counter(made.owners.get(key) for key in row_keys(rows[exists], wanted[exists]))
            votes.pop(None, None)
            best = min(votes, key=lambda number: (-votes[number], number), default=None)
            same = best is not None and 4 * votes[best] >= min(int(exists.sum()), made.counts[best])
            found.append(best if same else None)
        return found

    def _places(self) -> Tensor:
        """Return which rows are read: a few of each task in turn, of as many tasks as there is room for."""
        _, _, entity = self.memory.in_order()
        number = torch.from_numpy(entity)
        chance = torch.from_numpy(am.draw_uniform((len(number),), 0, "rows of the context"))
        by_chance = chance.argsort()
        ordered = by_chance[number[by_chance].argsort(stable=True)]
        counts = number.bincount()
        turn = torch.empty_like(number)
        turn[ordered] = torch.arange(len(number)) - (counts.cumsum(0) - counts)[number[ordered]]
        n_tasks = max(2, self.max_context // _FEWEST_OF_TASK)
        task_chance = torch.from_numpy(am.draw_uniform((len(counts),), 1, "rows of the context"))
        task_turn = task_chance.argsort().argsort()[number]
        dropped = task_turn >= n_tasks
        best = (dropped * float(len(number)) ** 2 + turn * float(len(number)) + task_turn).argsort()
        return best[: self.max_context].sort().values

    @torch.no_grad()
    def _make(self) -> tuple[Context, Scale]:
        x, targets, entity = (torch.as_tensor(part)[self._places()] for part in self.memory.in_order())
        place = self.memory.x
        x, targets = x.to(place), targets.to(place)
        has_classes, experts = self.own.has_classes, self.own.body.experts
        scale = find_scale(targets.unsqueeze(0), torch.ones(1, len(targets), 1, dtype=torch.bool, device=place.device))
        if not has_classes:
            targets = scale.standardise(targets.unsqueeze(0))[0]
        context = make_context(
            self.own.columns.read(x.unsqueeze(0)),
            targets,
            entity.to(place.device),
            nn.ModuleList(experts.kernels[number] for number in _KERNELS),
            experts.relevance,
            experts.log_decay.exp(),
            experts.mixture.labels_alike(targets.unsqueeze(0)),
            has_classes,
        )
        return context, scale

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = self.memory.x
        applied = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if (self.memory.x.dtype, self.memory.x.device) != (before.dtype, before.device):
            self._made = _Made()
        return applied

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._made = _Made()
        super()._load_from_state_dict(*arguments)
