"""Few rows of a task, beside rows of related tasks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.pfn.learner import PFN
from autometa_plugins.tabular.pfn.network import TableNetwork
from autometa_plugins.tabular.related.network import RelatedNetwork
from autometa_plugins.tabular.related.newcomer import Newcomer

if TYPE_CHECKING:
    from optuna import Trial

_NAME = "learner 'pfn_related'"


class RelatedPFN(am.Learner):
    """The pretrained network, beside Gaussian processes that have seen the rows of other tasks.

    Meta-training (meta-optimizer "collect") remembers rows of the tasks of a table, and that is all: no weight is
    trained. Gaussian processes of several kernels, that differ in how much of one task they expect to hold in another,
    are weighted by how likely they make these rows (the intrinsic coregionalization of Bonilla, Chai & Williams 2007).
    A new task's rows are added to those of the others, each with the mark of its task; without any, the others answer
    alone. How well the processes, and the kernel experts that ``pfn`` starts from, predict each of the task's rows from
    the rest decides how much the processes count, and how much ``pfn`` with the task's rows alone: little where tasks
    have something in common, more where they have not.

    Standard deviations are of a whole task, by the errors where its rows and those of others were left out, but for the
    part of ``pfn`` in them. Labels must mean the same in every task, or be real. A saved model holds the rows that are
    read. A task that is known by its rows among these is answered without them; what was learned of all tasks together,
    it was among.

    Parameters
    ----------
    weights : "bundled", path or None, default="bundled"
        As of ``pfn``.
    max_rows : int, default=20000
        Rows of other tasks that are remembered; tasks come in random order.
    max_context : int, default=500
        Rows among them that are read: a few of each task in turn, of as many tasks as there is room for. A task with
        more rows of its own than this is answered by ``pfn`` from its own rows.
    """

    default_meta_optimizer: ClassVar[str | None] = "baselines/collect"
    provides: ClassVar[frozenset[str]] = frozenset({"memory", "distribution"})
    names_files: ClassVar[frozenset[str]] = frozenset({"weights"})
    predicts_unseen_classes: ClassVar[bool] = True

    def __init__(
        self, weights: str | Path | None = "bundled", *, max_rows: int = 20000, max_context: int = 500
    ) -> None:
        self.weights = weights
        self.max_rows = max_rows
        self.max_context = max_context

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network with its weights, and an empty memory.

        Raises
        ------
        Incompatible
            Class labels are drawn anew for each task, or the weights are of another problem.
        InvalidParameter
            A parameter is out of range.
        MissingData, InvalidFile
            There is no such file of weights, or it is none.
        """
        if info.problem_record.has_classes and not info.shared_classes:
            raise am.Incompatible(
                f"{_NAME} needs labels that mean the same in every task, and these tasks draw their classes anew "
                "(shared_classes=False); use another learner, such as 'pfn'."
            )
        am.check_int("max_rows", self.max_rows, of=_NAME)
        am.check_int("max_context", self.max_context, least=2, most=2000, of=_NAME)
        own = self._own.build(info)
        assert isinstance(own, TableNetwork)
        return RelatedNetwork(own, math.prod(info.input_shape), info.n_outputs, self.max_rows, self.max_context)

    def remember(self, module: nn.Module, batch: am.TaskBatch) -> int:
        """Keep rows of meta-train tasks while there is room; return how many."""
        assert isinstance(module, RelatedNetwork)
        return module.keep(batch)

    def settle(self, module: nn.Module) -> None:
        """Drop the rows that are not read."""
        assert isinstance(module, RelatedNetwork)
        module.settle()

    @torch.no_grad()
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Any]:
        """Return what ``pfn`` keeps of a task's rows, and what they add to the rows of other tasks."""
        assert isinstance(module, RelatedNetwork)
        own = self._own.adapt(module.own, support)
        newcomers = self._newcomers(module)
        if newcomers is None:
            return {"own": own}
        back = module.returning(support.x.flatten(2), support.targets(), support.mask)
        return {"own": own, "related": newcomers.learn(support, back, self.max_context)}

    @torch.no_grad()
    def predict(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        return self.predict_distribution(module, adapted, x)[0]

    @torch.no_grad()
    def predict_distribution(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of new observations, each [tasks, n, n_outputs]."""
        assert isinstance(module, RelatedNetwork)
        own = self._own.predict_distribution(module.own, adapted["own"], x)
        newcomers = self._newcomers(module)
        if newcomers is None or "related" not in adapted:
            return own
        return newcomers.answer(adapted["related"], x, *own)

    @property
    def _own(self) -> PFN:
        return PFN(self.weights)

    def _newcomers(self, module: RelatedNetwork) -> Newcomer | None:
        known = module.context()
        return None if known is None else Newcomer(module.own, *known)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> RelatedPFN:
        """Return the defaults: how much tasks have in common is found out by itself."""
        return cls()
