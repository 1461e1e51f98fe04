"""MAML++ (Antoniou, Edwards & Storkey 2019): what makes MAML with many steps train steadily."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from sklearn.base import clone
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.per_step_norm import (
    at_step,
    has_per_step_norm,
    per_step_parameters,
    with_per_step_norm,
)
from autometa_plugins.optimization.task_network import TaskNetwork, build_own_backbone, first_rate, suggest_rate

if TYPE_CHECKING:
    from optuna import Trial


class MAMLPlusPlus(am.Learner):
    """MAML with losses after every step, derivatives of rising order, batch norm per step and learned step sizes.

    Antoniou et al. 2019, section 4. As in learner "maml", all classes of a task start from one learned row of the
    head, and every step and parameter tensor has a learned size.

    Parameters
    ----------
    steps : int, default=5
        Gradient steps. Steps beyond those meta-trained reuse the last learned size.
    inner_lr : float or "auto", default="auto"
        What the step sizes start from. "auto": 0.03, or 0.4 for classes if the backbone has no weights (backbone
        "identity").
    first_order_until : float, default=0.3
        Leave out second derivatives during this share of meta-training, which is faster and steadier at first.
    multi_step_loss : float, default=0.2
        Count the query losses after every step during this share of meta-training, equally at first and in the end
        only the last. This steadies many steps.
    per_step_norm : {"auto", True, False}, default="auto"
        Give the backbone's batch norms gain, bias and running statistics of their own for every step; all tasks share
        them. Inner steps normalise a support set by itself. Queries are normalised by themselves in meta-training and
        by running averages afterwards, so predictions are inductive; the authors' code always normalises queries by
        themselves. (Support sets normalised by averages adapted to chance.) "auto": where the backbone has batch
        norm.
    checkpoint : bool, default=False
        Recompute each step when it is differentiated: many steps need the memory of one. The gradient is the same.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 with batch norm, or with group norm if ``per_step_norm=False``:
        one running average for all steps describes no task's own weights (adapting with it stayed at chance).

    References
    ----------
    A. Antoniou, H. Edwards, A. Storkey: How to train your MAML. ICLR 2019.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "checkpoint", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 5,
        inner_lr: float | Literal["auto"] = "auto",
        first_order_until: float = 0.3,
        multi_step_loss: float = 0.2,
        per_step_norm: bool | Literal["auto"] = "auto",
        checkpoint: bool = False,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.first_order_until = first_order_until
        self.multi_step_loss = multi_step_loss
        self.per_step_norm = per_step_norm
        self.checkpoint = checkpoint
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and step sizes.

        Raises
        ------
        InvalidParameter
            ``per_step_norm=True`` and the backbone has no inductive batch norm, or a number is out of range.
        """
        self._check()
        if self.per_step_norm is False:
            backbone = build_own_backbone(self.backbone, info)
        else:
            backbone = am.build_backbone(self.backbone, info.input_shape)
            found = with_per_step_norm(backbone, self.steps + 1)
            if self.per_step_norm is True and not found:
                raise am.InvalidParameter(
                    f"per_step_norm=True of learner 'maml_plus_plus' needs a backbone with inductive batch norm, such "
                    f"as conv4 for images; backbone={self.backbone!r} has none for inputs of shape {info.input_shape}."
                )
        shared = frozenset(f"backbone.{name}" for name in per_step_parameters(backbone))
        rate = self._rate(backbone, info.problem_record.has_classes)
        return TaskNetwork(backbone, info, n_rates=self.steps, rate=rate, shared=shared)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        return self._states(module, support)[-1]

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        if has_per_step_norm(module):
            module = at_step(module, self.steps, n=x.shape[1], is_support=False)
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Query losses after adapting; while ``multi_step_loss`` lasts, weighted sums of those after every step."""
        self._check()
        every_step = progress < self.multi_step_loss and self.steps > 0
        states = self._states(
            module, batch.support, one_by_one=every_step, first_order=progress < self.first_order_until
        )
        if not every_step:
            return am.query_losses(self, module, batch, adapted=states[-1])
        weights = step_weights(self.steps, progress / self.multi_step_loss)
        losses = [
            weight * am.query_losses(clone(self).set_params(steps=steps), module, batch, adapted=states[steps])
            for steps, weight in enumerate(weights, start=1)
        ]
        return torch.stack(losses).sum(dim=0)

    def _states(
        self, module: nn.Module, support: am.Examples, *, one_by_one: bool = False, first_order: bool = False
    ) -> list[dict[str, Tensor]]:
        """Every task's parameters before and after the steps, or between all of them if taken one by one."""
        assert isinstance(module, TaskNetwork)
        per_step = has_per_step_norm(module)
        if per_step and not support.is_full:
            # Padding would count in the statistics of a support set.
            alone = [support[task : task + 1].select(support.mask[task]) for task in range(len(support))]
            each = [self._states(module, one, one_by_one=one_by_one, first_order=first_order) for one in alone]
            return [
                {name: torch.cat([state[name] for state in states]) for name in states[0]}
                for states in zip(*each, strict=True)
            ]
        at_once = 1 if one_by_one or per_step else self.steps
        rate = self._rate(module.backbone, support.is_classification)
        states = [module.start(support)]
        for first in range(0, self.steps, max(at_once, 1)):
            after = am.descend(
                at_step(module, first, n=support.x.shape[1], is_support=True) if per_step else module,
                states[-1],
                support,
                steps=at_once,
                rates=module.rates_by_name(rate, first),
                first_order=first_order,
                checkpoint=self.checkpoint,
                strategy=self.strategy,
            )
            states.append(after)
        return states

    def _rate(self, backbone: nn.Module, is_classification: bool) -> float:
        return first_rate(self.inner_lr, backbone, is_classification=is_classification, otherwise=0.03)

    def _check(self) -> None:
        whose = "learner 'maml_plus_plus'"
        am.check_int("steps", self.steps, least=0, of=whose)
        am.check_real("inner_lr", self.inner_lr, above=0, also=("auto",), of=whose)
        for name in ("first_order_until", "multi_step_loss"):
            am.check_real(name, getattr(self, name), least=0, most=1, of=whose)
        am.check_bool("per_step_norm", self.per_step_norm, also=("auto",), of=whose)
        am.check_bool("checkpoint", self.checkpoint, of=whose)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and their first size."""
        return cls(
            steps=trial.suggest_int("steps", 1, 8),
            inner_lr=suggest_rate(trial, info),
        )


def step_weights(n_steps: int, done: float) -> list[float]:
    """Weight of the query loss after each of ``n_steps`` steps: equal at first, all on the last once ``done`` is 1.

    Antoniou et al. 2019, section 4, multi-step loss optimization.
    """
    other = (1 - min(done, 1.0)) / n_steps
    return [other] * (n_steps - 1) + [1 - other * (n_steps - 1)]
