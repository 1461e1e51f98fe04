"""A pooled model for all tasks, corrected for each by random effects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.effects.choice import pool_names
from autometa_plugins.tabular.effects.kernels import EffectColumns
from autometa_plugins.tabular.effects.newcomers import ask, deviations, learn, means
from autometa_plugins.tabular.effects.settled import Effects

if TYPE_CHECKING:
    from optuna import Trial


class MixedEffects(am.Learner):
    """Mixed effects: what all tasks share is a pooled model, and what sets one apart are Gaussian effects.

    ``y = pool(x) + effect(x) + noise``, where the effects of a task (school, patient, machine) have the covariance
    ``a + Σ b_j x_j x_j' + Σ c_j exp(-2 |asinh x_j - asinh x_j'|)``: a random intercept, and a random slope and curve
    for each column of the table. A new task's few rows tell its effects in closed form: best linear unbiased prediction
    (Henderson 1975; Robinson 1991) or, in other words, Gaussian process regression on what the pool leaves (Rasmussen &
    Williams 2006, ch. 2). Of classes the effects are on log-odds, found by Laplace's approximation (ch. 3).

    Meta-training (meta-optimizer "collect") remembers rows. Then pools are fitted, and answer for each training task
    without having seen it; beside each, variances are estimated by maximum likelihood. The pair is kept that serves
    simulated newcomers best, with 0, 1, 2, 5 and 10 known rows. A task without rows is answered by the pool that is
    best without effects. Standard deviations and probabilities are scaled to fit the simulated newcomers, each answered
    as was chosen without its entity; of few entities, intervals are wider. Of a task with more than 1,000 rows the
    effects are learned at 1,000 of them, from all.

    Labels must mean the same in every task, or be real. A saved model is numbers alone if both pools kept are linear;
    otherwise it holds the remembered rows, to which a pool is fitted again when the file is loaded. By these rows a
    training task that comes back is known: its effects are what a pool without it leaves.

    Parameters
    ----------
    pool : str or scikit-learn estimator, default="auto"
        What is fitted to all tasks together: "mean"; "linear", ridge or logistic regression; "boosting", histogram
        boosting; "average" of both. Of real targets also "mixed", "mixed_boosting" and "mixed_average", which are
        fitted beside the effects of the training tasks, so that what is the same in all rows of a task is not taken
        for what varies within. "auto" tries all. A classifier must have ``predict_proba``.
    max_rows : int, default=20000
        Rows remembered at most. Tasks come in random order, so that with more rows some tasks are left out.
    """

    default_meta_optimizer: ClassVar[str | None] = "baselines/collect"
    provides: ClassVar[frozenset[str]] = frozenset({"memory", "distribution", "calibrated"})
    predicts_unseen_classes: ClassVar[bool] = True

    def __init__(self, pool: str | BaseEstimator = "auto", max_rows: int = 20000) -> None:
        self.pool = pool
        self.max_rows = max_rows

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return an empty memory.

        Raises
        ------
        Incompatible
            Class labels are drawn anew for each task, so that no pool can know them.
        InvalidParameter
            The pool is unknown or solves another problem; a number is not positive.
        """
        has_classes = info.problem_record.has_classes
        if has_classes and not info.shared_classes:
            raise am.Incompatible(
                "learner 'mixed_effects' needs labels that mean the same in every task, and these tasks draw their "
                "classes anew (shared_classes=False); use another learner, such as 'prototypical'."
            )
        am.check_int("max_rows", self.max_rows, of="learner 'mixed_effects'")
        self._check_pool(has_classes)
        n_features = math.prod(info.input_shape)
        columns = EffectColumns.of(info, n_features)
        return Effects(columns, n_features, info.n_outputs, has_classes, self.pool, self.max_rows)

    def remember(self, module: nn.Module, batch: am.TaskBatch) -> int:
        """Keep rows of meta-train tasks while there is room; return how many."""
        assert isinstance(module, Effects)
        kept = module.memory.keep(batch)
        if kept:
            module.reopen()
        return kept

    def settle(self, module: nn.Module) -> None:
        """Choose pool and variances."""
        assert isinstance(module, Effects)
        module.settle()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Learn the effects of every task; see :func:`learn`.

        The pool has seen the rows of training tasks. For those it remembers, what a pool without the task answered
        counts; else the task would seem to scatter less than it does.
        """
        assert isinstance(module, Effects)
        assert isinstance(support.x, Tensor)
        model, x = module.model(), _numbers(support.x)
        targets, n_outputs = support.targets(), module.noise.shape[0]
        if targets.shape[-1] > n_outputs or (not module.has_classes and targets.shape[-1] != n_outputs):
            raise am.Incompatible(
                f"learner 'mixed_effects' knows tasks with {n_outputs} outputs, and this task has {targets.shape[-1]}."
            )
        mask = support.mask.cpu()
        padded = nn.functional.pad(targets, (0, n_outputs - targets.shape[-1])).cpu().double()
        told, is_remembered = module.remembered(x, padded, mask)
        base = ask(model, x, mask.any(1)).where(~is_remembered.unsqueeze(-1), told)
        known = learn(model, x, base, padded, mask)
        dtype = torch.promote_types(support.x.dtype, torch.float32)  # half precision would spoil a factor
        return {name: _like(value, support.x, dtype) for name, value in known.items()}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Means of real targets, or log-odds of all classes, [tasks, n, n_outputs]."""
        assert isinstance(module, Effects)
        model, known, rows = module.model(), _known(adapted), _numbers(x)
        return _like(means(model, known, rows, ask(model, rows, known["mask"].any(1))), x)

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of new observations of real targets, each [tasks, n, n_outputs]."""
        assert isinstance(module, Effects)
        found = deviations(module.model(), _known(adapted), _numbers(x))
        return self.predict(module, adapted, x), _like(found, x)

    def _check_pool(self, has_classes: bool) -> None:
        known = pool_names("auto", has_classes)
        if isinstance(self.pool, str) and self.pool in ("auto", *known):
            return
        kind = "classifier" if has_classes else "regressor"
        suits = is_classifier if has_classes else is_regressor
        if not isinstance(self.pool, BaseEstimator) or not suits(self.pool):
            raise am.InvalidParameter(
                f"pool={self.pool!r} of learner 'mixed_effects' must be one of {('auto', *known)} or a scikit-learn "
                f"{kind}."
            )
        if has_classes and not hasattr(self.pool, "predict_proba"):
            raise am.InvalidParameter(
                f"pool={self.pool!r} of learner 'mixed_effects' has no predict_proba, which effects on log-odds need."
            )

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> MixedEffects:
        """Search the pool."""
        names = pool_names("auto", info.problem_record.has_classes)
        return cls(pool=trial.suggest_categorical("pool", ["auto", *names]))


def _numbers(x: Tensor) -> Tensor:
    """Rows on the CPU in double precision, [tasks, n, features]."""
    return x.detach().flatten(2).cpu().double()


def _like(value: Tensor, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return value.to(device=x.device, dtype=(dtype or x.dtype) if value.is_floating_point() else None)


def _known(adapted: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu().double() if value.is_floating_point() else value.cpu() for name, value in adapted.items()}
