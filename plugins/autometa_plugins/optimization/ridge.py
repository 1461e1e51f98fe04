"""Ridge regression as a differentiable head, shrunken towards what all tasks share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, cast

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_INITIAL_SCALE = 20.0
"""Outputs lie around 0 and 1, and a softmax of those is nearly even: after 200 episodes of 20-way Omniglot the loss
was 1.2 from a scale of 5 and 0.7 from 20."""


_SHARED_SCALE = 4.0
"""Likewise where labels mean the same in every task: outputs of the population are then shares of classes from the
start, and not too sure."""
_FARTHEST = 12.0
"""Bound of the logarithms of penalties: smaller ones would leave equal rows without a solution in single precision."""
_PACE = 10.0
"""A penalty moves this much faster than a weight: between tasks that share all and tasks that share nothing lie factors
of thousands."""


class Ridge(am.Learner):
    """Ridge regression on learned features, solved in closed form and differentiated through.

    R2-D2 of Bertinetto et al. 2019, section 3.2: the weights of a task are eq. 5, or by the Woodbury identity eq. 6
    where there are fewer support examples than features. Classes are regressed as one-hot targets; a meta-learned
    scale turns the outputs into logits. The regularization λ is meta-learned as well. Unlike in the paper there is an
    intercept, not penalized, and no bias shared by all classes, which would not change a softmax.

    Where targets are real, or labels mean the same in every task, a task is shrunken towards the population instead of
    towards zero (Denevi et al. 2018): weights w0 and a level b0 are meta-learned, and a task's own minimize
    ``|x w + b - y|² + λ |w - w0|² + μ (b - b0)²``, with λ and μ meta-learned. Without a support example w0 and b0
    answer, which meta-training descends the loss of as well; all classes may then be predicted.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    regularization : float, default=1.0
        Multiplies the meta-learned λ (and μ), which starts at 1. Change it after meta-training to regularize a task
        more or less.

    References
    ----------
    L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi: Meta-learning with differentiable closed-form solvers.
    ICLR 2019. G. Denevi, C. Ciliberto, D. Stamos, M. Pontil: Learning To Learn Around A Common Mean. NeurIPS 2018.
    """

    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"regularization"})
    predicts_unseen_classes: ClassVar[bool] = True
    """Where labels mean the same in every task; elsewhere :meth:`predict` forbids the classes that a support lacks."""

    def __init__(self, backbone: am.BackboneLike = "auto", regularization: float = 1.0) -> None:
        self.backbone = backbone
        self.regularization = regularization

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone, the logarithms of penalties, and for classes that of the scale of the logits.

        Raises
        ------
        InvalidParameter
            The regularization is not positive.
        """
        self._check()
        has_classes = info.problem_record.has_classes
        backbone = am.build_backbone(self.backbone, info.input_shape)
        population = None
        if info.shared_classes or not has_classes:
            population = _Population(cast(int, backbone.n_features), info.n_outputs, has_classes)
        scale = _INITIAL_SCALE if population is None else _SHARED_SCALE
        return _RidgeHead(backbone, population, scale if has_classes else None)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"weights": [tasks, n_features, n_outputs], "intercept": [tasks, 1, n_outputs]}``.

        With classes drawn anew also ``"present"`` [tasks, n_outputs], the classes that each support has.

        Raises
        ------
        Incompatible
            The tasks have more outputs than those meta-trained on, whose outputs mean the same.
        """
        self._check()
        assert isinstance(module, _RidgeHead)
        features = am.apply_per_task(module.backbone, support.x)
        # Solved in double precision: a small λ beside large features leaves few digits of single precision.
        # Apple's devices have no double.
        exact = features.dtype if features.device.type == "mps" else torch.float64
        x, targets, mask = features.to(exact), support.targets().to(exact), support.mask.to(exact)
        known: dict[str, Tensor] = {}
        if module.population is None:
            weights, intercept = am.solve_ridge(x, targets, mask, self.regularization * module.penalty.to(exact))
            if support.is_classification:
                known["present"] = support.one_hot().sum(dim=1) > 0
        else:
            weights, intercept = module.population.shrink(x, targets, mask, self.regularization)
        return {"weights": weights.to(features.dtype), "intercept": intercept.to(features.dtype), **known}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _RidgeHead)
        return _outputs(module, am.apply_per_task(module.backbone, x), adapted)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Return the query loss of every task, [tasks]; the mean of it and the population's, where there is one."""
        assert isinstance(module, _RidgeHead)
        if module.population is None:
            return am.query_losses(self, module, batch)
        features = am.apply_per_task(module.backbone, batch.query.x)
        own, shared = self.adapt(module, batch.support), module.population.everywhere()
        losses = [am.task_losses(self, _outputs(module, features, each), batch.query) for each in (own, shared)]
        return torch.stack(losses).mean(dim=0)

    def _check(self) -> None:
        am.check_real("regularization", self.regularization, above=0, of="learner 'ridge'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Ridge:
        """Search the initial regularization."""
        return cls(regularization=trial.suggest_float("regularization", 1e-2, 1e2, log=True))


class _RidgeHead(nn.Module):
    def __init__(self, backbone: nn.Module, population: _Population | None, scale: float | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_penalty = nn.Parameter(torch.zeros(())) if population is None else None
        self.log_scale = None if scale is None else nn.Parameter(torch.tensor(math.log(scale)))
        self.population = population

    @property
    def penalty(self) -> Tensor:
        """λ where there is no population."""
        assert self.log_penalty is not None
        return self.log_penalty.exp()


class _Population(nn.Module):
    """Weights and level that all tasks share, and how much a task's own are drawn to them."""

    def __init__(self, n_features: int, n_outputs: int, has_classes: bool) -> None:
        super().__init__()
        self.has_classes = has_classes
        level = 1 / n_outputs if has_classes else 0.0
        self.weights = nn.Parameter(torch.zeros(n_features, n_outputs))
        self.level = nn.Parameter(torch.full((n_outputs,), level))
        self.log_penalties = nn.Parameter(torch.zeros(2))

    def shrink(self, x: Tensor, targets: Tensor, mask: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        """Weights and intercepts of tasks; see :func:`solve_towards`."""
        missing = len(self.level) - targets.shape[-1]
        if missing < 0 or (missing and not self.has_classes):
            raise am.Incompatible(
                f"learner 'ridge' was meta-trained on {len(self.level)} outputs, which mean the same in every task, "
                f"and this task has {targets.shape[-1]}; meta-train on tasks with as many."
            )
        penalties = factor * (_PACE * self.log_penalties.to(x)).clamp(-_FARTHEST, _FARTHEST).exp()
        targets = nn.functional.pad(targets, (0, missing))
        return solve_towards(x, targets, mask, self.weights.to(x), self.level.to(x), penalties)

    def everywhere(self) -> dict[str, Tensor]:
        """What a task without any support example adapts to, for all tasks at once."""
        return {"weights": self.weights, "intercept": self.level}


def solve_towards(
    x: Tensor, y: Tensor, mask: Tensor, weights: Tensor, level: Tensor, penalties: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimize ``|x w + b - y|² + λ |w - weights|² + μ (b - level)²`` over the unmasked rows of every task.

    Parameters
    ----------
    x : Tensor of shape [tasks, n, n_features]
    y : Tensor of shape [tasks, n, n_outputs]
    mask : Tensor of shape [tasks, n], of the dtype of ``x``
        1 where a row counts, else 0.
    weights : Tensor of shape [n_features, n_outputs]
    level : Tensor of shape [n_outputs]
    penalties : Tensor of shape [2], positive
        λ and μ.

    Returns
    -------
    weights : Tensor of shape [tasks, n_features, n_outputs]
    intercept : Tensor of shape [tasks, 1, n_outputs]
    """
    penalty, scale = penalties[0], (penalties[0] / penalties[1]).sqrt()
    mask = mask.unsqueeze(-1)
    left = (y - x @ weights - level) * mask
    # a column of this size, penalized like the others, is an intercept penalized by μ
    design = torch.cat([x, scale.expand(*x.shape[:-1], 1)], dim=-1) * mask
    across = design.transpose(1, 2)
    n, n_columns = design.shape[1:]
    added = penalty * torch.eye(min(n, n_columns), dtype=x.dtype, device=x.device)
    if n < n_columns:
        own = across @ torch.linalg.solve(design @ across + added, left)
    else:
        own = torch.linalg.solve(across @ design + added, across @ left)
    return weights + own[:, :-1], level + scale * own[:, -1:]


def _outputs(module: _RidgeHead, features: Tensor, adapted: dict[str, Tensor]) -> Tensor:
    """Logits or means for features; of classes drawn anew, never one that the support lacks."""
    outputs: Tensor = features @ adapted["weights"] + adapted["intercept"]
    if module.log_scale is None:
        return outputs
    outputs = module.log_scale.exp() * outputs
    if "present" not in adapted:
        return outputs
    present = adapted["present"].unsqueeze(1)
    nothing = ~present.any(dim=-1, keepdim=True)
    return outputs.masked_fill(~present, torch.finfo(outputs.dtype).min).masked_fill(nothing, 0.0)
