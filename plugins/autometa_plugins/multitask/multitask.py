"""Multi-task learning: what one trunk must know to serve many tasks serves a new one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.multitask.weighting import WEIGHTINGS, Weighting, uncertainty_weighted, without_conflicts

if TYPE_CHECKING:
    from optuna import Trial


class MultiTask(am.Learner):
    """A trunk shared by all training tasks, each with a head of its own; a new task gets a new head.

    Caruana 1997, section 2. The new head is fitted on the trunk's features of the support set by gradient steps. It
    starts as the mean of the training heads where labels mean the same in every task and in regression, else at
    zero.

    Parameters
    ----------
    weighting : {"equal", "uncertainty", "pcgrad"}, default="equal"
        How training tasks share the trunk. "uncertainty": weight each loss by a learned noise of its task (Kendall et
        al. 2018, section 3). "pcgrad": where the trunk's gradients of two tasks conflict, remove from each the part
        that opposes the other (Yu et al. 2020, algorithm 1); this takes one derivative for each task.
    n_tasks : int, default=64
        Number of training tasks, if the distribution has no finite number of them.
    steps : int, default=100
        Gradient steps that fit a new head.
    lr : float, default=1.0
        Their size; at most 1 is stable on any features. See :func:`autometa.fit_head`.
    weight_decay : float, default=0.0
        Pulls the head back to where it started.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        The trunk.

    References
    ----------
    R. Caruana: Multitask Learning. Machine Learning 28, 1997.

    A. Kendall, Y. Gal, R. Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics. CVPR 2018.

    T. Yu, S. Kumar, A. Gupta, S. Levine, K. Hausman, C. Finn: Gradient Surgery for Multi-Task Learning. NeurIPS 2020.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "lr", "weight_decay"})

    def __init__(
        self,
        *,
        weighting: Weighting = "equal",
        n_tasks: int = 64,
        steps: int = 100,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.weighting = weighting
        self.n_tasks = n_tasks
        self.steps = steps
        self.lr = lr
        self.weight_decay = weight_decay
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the trunk and the heads of the training tasks."""
        am.check_int("n_tasks", self.n_tasks, of="learner 'multitask'")
        self._check()
        return Trunk(
            am.build_backbone(self.backbone, info.input_shape),
            n_tasks=info.n_base_tasks or self.n_tasks,
            n_outputs=info.n_outputs,
            common_outputs=not info.problem_record.has_classes or info.shared_classes,
            has_variances=self.weighting == "uncertainty",
        )

    def n_pooled_tasks(self, info: am.TaskInfo) -> int | None:
        """One for each head."""
        return info.n_base_tasks or self.n_tasks

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Mean loss of every training task's own head on its support and query, weighted as asked."""
        assert isinstance(module, Trunk)
        if batch.ids is None:
            raise am.Incompatible("learner 'multitask' needs tasks with ids; its meta-optimizer is 'pooled'.")
        ids, examples = batch.ids, batch.support.join(batch.query)
        features = am.apply_per_task(module.backbone, examples.x)
        head = {"weight": module.weight[ids], "bias": module.bias[ids]}
        loss = am.loss_on(examples)

        def losses(trunk: bool = True, heads: bool = True) -> Tensor:
            used = head if heads else {name: value.detach() for name, value in head.items()}
            return loss(am.apply_head(used, features if trunk else features.detach()))

        trunk = [parameter for parameter in module.backbone.parameters() if parameter.requires_grad]
        if self.weighting == "pcgrad" and trunk:
            return without_conflicts(losses, ids, trunk)
        if self.weighting == "uncertainty" and module.log_variances is not None:
            variances = module.log_variances[ids]
            return uncertainty_weighted(losses(), variances, classification=examples.is_classification).mean()
        return losses().mean()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's new head: ``weight`` [tasks, n_outputs, n_features], ``bias`` [tasks, n_outputs]."""
        self._check()
        assert isinstance(module, Trunk)
        return am.fit_head(
            am.apply_per_task(module.backbone, support.x),
            support,
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            start={"weight": module.weight.mean(0), "bias": module.bias.mean(0)} if module.common_outputs else None,
        )

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of the new head on the trunk's features."""
        assert isinstance(module, Trunk)
        return am.apply_head(adapted, am.apply_per_task(module.backbone, x))

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'multitask'")
        am.check_real("lr", self.lr, above=0, of="learner 'multitask'", such_as=1.0)
        am.check_real("weight_decay", self.weight_decay, least=0, of="learner 'multitask'")
        am.check_choice("weighting", self.weighting, WEIGHTINGS, of="learner 'multitask'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how training tasks share the trunk and how closely the support set is fitted."""
        return cls(
            weighting=trial.suggest_categorical("weighting", list(WEIGHTINGS)),  # type: ignore[arg-type]
            steps=trial.suggest_int("steps", 3, 300, log=True),
            weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
        )


class Trunk(nn.Module):
    """A backbone with a linear head for every training task.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_tasks : int
    n_outputs : int
        Width of every head.
    common_outputs : bool
        Whether an output means the same in every task, so that a new head can start from the old ones.
    has_variances : bool
        Whether the noise of every training task is learned.
    """

    def __init__(
        self, backbone: nn.Module, *, n_tasks: int, n_outputs: int, common_outputs: bool, has_variances: bool
    ) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.common_outputs = common_outputs
        self.weight = nn.Parameter(torch.randn(n_tasks, n_outputs, n_features) / math.sqrt(n_features))
        self.bias = nn.Parameter(torch.zeros(n_tasks, n_outputs))
        self.log_variances = nn.Parameter(torch.zeros(n_tasks)) if has_variances else None
