"""A scikit-learn estimator for all tasks together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor, nn

import autometa as am
from autometa_plugins.baselines.estimators import Array, Maker, array, estimator_maker, fit_and_ask
from autometa_plugins.baselines.memory import fingerprints

if TYPE_CHECKING:
    from optuna import Trial


class Pooled(am.Learner):
    """Any scikit-learn estimator fitted on remembered meta-train rows and the support set together.

    The baseline of not telling tasks apart, unless a task's own rows are to weigh more. It needs labels that mean the
    same in every task. Meta-training (meta-optimizer "collect") fills a memory of distinct rows; :meth:`predict` fits a
    fresh clone per task on memory and support. A saved model holds these rows.

    Parameters
    ----------
    estimator : str or scikit-learn estimator, default="auto"
        "auto": logistic or ridge regression, quick on thousands of rows per task. Any name that learner "sklearn"
        knows works, but is fitted to the whole memory for every task.
    support_share : float, optional
        Weight of all support rows together, between 0 and 1. Left out, every row counts alike, whoever's it is: plain
        pooling. An estimator that takes no ``sample_weight`` gets the support rows several times instead.
    max_rows : int, default=5000
        Size of the memory.
    """

    default_meta_optimizer: ClassVar[str | None] = "baselines/collect"
    provides: ClassVar[frozenset[str]] = frozenset({"memory"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"estimator", "support_share"})
    predicts_unseen_classes: ClassVar[bool] = True

    def __init__(
        self, estimator: str | BaseEstimator = "auto", support_share: float | None = None, max_rows: int = 5000
    ) -> None:
        self.estimator = estimator
        self.support_share = support_share
        self.max_rows = max_rows

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return an empty memory.

        Raises
        ------
        Incompatible
            Class labels are drawn anew for each task, so rows of other tasks would only mislead.
        InvalidParameter
            The estimator is unknown or solves another problem; a number is not positive.
        """
        has_classes = info.problem_record.has_classes
        if has_classes and not info.shared_classes:
            raise am.Incompatible(
                "learner 'sklearn_pooled' needs labels that mean the same in every task, and these tasks draw their "
                "classes anew (shared_classes=False); use learner 'sklearn'."
            )
        am.check_int("max_rows", self.max_rows, of="learner 'sklearn_pooled'")
        self._maker(has_classes)
        return _Memory(has_classes, self.max_rows, math.prod(info.input_shape), info.n_outputs)

    def remember(self, module: nn.Module, batch: am.TaskBatch) -> int:
        """Keep the examples of meta-train tasks while there is room, each distinct row once; return how many."""
        assert isinstance(module, _Memory)
        return sum(
            module.keep(examples.x[examples.mask].flatten(1), examples.targets()[examples.mask])
            for examples in (batch.support, batch.query)
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return the support set itself: ``x``, ``targets`` [tasks, n, n_outputs] (classes one-hot) and ``mask``."""
        assert isinstance(support.x, Tensor)
        assert isinstance(module, _Memory)
        targets, known = support.targets(), module.targets.shape[1]
        if targets.shape[-1] > known or (not module.has_classes and targets.shape[-1] != known):
            raise am.Incompatible(
                f"learner 'sklearn_pooled' remembers rows with {known} outputs, and this task has {targets.shape[-1]}; "
                "meta-train on tasks with as many, or use learner 'sklearn'."
            )
        return {"x": support.x, "targets": targets, "mask": support.mask}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Fit and ask one estimator per task; log-probabilities or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _Memory)
        make = self._maker(module.has_classes)
        memory_rows, memory_targets = module.content(adapted["targets"].shape[-1])
        takes_weights = has_fit_parameter(make(self.max_rows, memory_rows.shape[1]), "sample_weight")
        outputs = []
        for rows, targets, mask, asked in zip(adapted["x"], adapted["targets"], adapted["mask"], x, strict=True):
            weight = self._weight(len(memory_rows), int(mask.sum()))
            copies = 1 if takes_weights else max(1, round(weight))
            own_rows, own_targets = (np.tile(array(t[mask]), (copies, 1)) for t in (rows, targets))
            together = np.concatenate([memory_rows, own_rows]), np.concatenate([memory_targets, own_targets])
            weights = np.repeat([1.0, weight], [len(memory_rows), len(own_rows)]) if takes_weights else None
            outputs.append(fit_and_ask(make, module.has_classes, *together, array(asked), weights))
        return torch.as_tensor(np.stack(outputs), dtype=x.dtype, device=x.device)

    def _weight(self, n_remembered: int, n_own: int) -> float:
        """Weight of a support row beside a remembered one."""
        if self.support_share is None or not n_remembered:
            return 1.0
        return self.support_share / (1 - self.support_share) * n_remembered / max(1, n_own)

    def _maker(self, has_classes: bool) -> Maker:
        share = self.support_share
        am.check_real("support_share", share, above=0, below=1, also=(None,), of="learner 'sklearn_pooled'")
        return estimator_maker(self.estimator, has_classes, "sklearn_pooled")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Pooled:
        """Search the weight of the task's own rows."""
        share: Any = trial.suggest_categorical("support_share", [None, 0.02, 0.1, 0.3, 0.6, 0.9])
        return cls(support_share=share)


class _Memory(nn.Module):
    """Rows of meta-train tasks in the order they came, in buffers so that checkpoints hold them."""

    rows: Tensor
    targets: Tensor
    count: Tensor

    def __init__(self, has_classes: bool, max_rows: int, n_features: int, n_outputs: int) -> None:
        super().__init__()
        self.has_classes = has_classes
        self.register_buffer("rows", torch.zeros(max_rows, n_features))
        self.register_buffer("targets", torch.zeros(max_rows, n_outputs))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def keep(self, rows: Tensor, targets: Tensor) -> int:
        """Append the rows that are not there yet, until the memory is full; return how many they were."""
        count = int(self.count)
        room = len(self.rows) - count
        if room == 0:
            return 0
        rows = rows.to(self.rows.dtype)
        targets = nn.functional.pad(targets.to(self.rows.dtype), (0, self.targets.shape[1] - targets.shape[1]))
        seen = torch.cat([fingerprints(self.rows[:count], self.targets[:count]), fingerprints(rows, targets)])
        _, first = np.unique(seen.cpu().numpy(), return_index=True)
        new = torch.as_tensor(np.sort(first[first >= count])[:room] - count, device=rows.device)
        self.rows[count : count + len(new)] = rows[new]
        self.targets[count : count + len(new)] = targets[new]
        self.count += len(new)
        return len(new)

    def content(self, n_outputs: int) -> tuple[Array, Array]:
        """Rows and targets remembered; of classes, those among the first ``n_outputs``."""
        rows, targets = array(self.rows[: int(self.count)]), array(self.targets[: int(self.count)])
        known = targets[:, :n_outputs].any(axis=1) if self.has_classes else slice(None)
        return rows[known], targets[known, :n_outputs]
