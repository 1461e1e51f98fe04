"""iMAML (Rajeswaran, Finn, Kakade & Levine 2019): adapt by minimizing a loss that holds each task near the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.task_network import TaskNetwork, build_task_network

if TYPE_CHECKING:
    from optuna import Trial

_LONGER, _SHORTER = 1.3, 0.4
"""Factors of a task's step size after a step that was kept, and after one that was undone."""
_ROUNDING = 8
"""An objective that rises by fewer units in the last place counts as level."""
Point = dict[str, Tensor]


class IMAML(am.Learner):
    """Gradient descent on the support loss plus λ/2 times the squared distance from a meta-learned start.

    Equation 3 of Rajeswaran et al. 2019. The penalty keeps a task near the start, however many steps there are, so the
    steps lead to a minimum, and its derivative needs no record of them: see meta-optimizer "implicit". As in learner
    "maml", all classes of a task start from one learned row of the head, so a task may have any number of classes, in
    any order.

    A step that raises a task's objective is undone. Every task has its own step size, which grows after a step that
    was kept and shrinks after one that was undone. The paper's steps have one size. Meta-training, which does not see
    the way to the minimum, makes the objective steeper until that size diverges: on Omniglot, with conv4 and group
    norm, 16 steps of 0.1 raise the objective from the first step on (1.61 to 1.84), and nothing is learned.

    Parameters
    ----------
    steps : int, default=16
        Gradient steps tried; more come closer to the minimum and cost no memory in meta-training.
    inner_lr : float or "auto", default="auto"
        Size of the first step. "auto": 0.1 for classes, as in the paper, and 0.01 for real targets, whose squared
        errors are steep.
    regularization : float, default=2.0
        λ, at least 0: how strongly a task is held at the start.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm, which keeps tasks and examples apart.

    References
    ----------
    A. Rajeswaran, C. Finn, S. Kakade, S. Levine: Meta-Learning with Implicit Gradients. NeurIPS 2019, eq. 3 and
    section 5.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "optimization/implicit"
    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient", "inner_objective"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "inner_lr", "regularization", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 16,
        inner_lr: float | Literal["auto"] = "auto",
        regularization: float = 2.0,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.regularization = regularization
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone and head."""
        self._check()
        return build_task_network(self.backbone, info)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        first = self.inner_lr if self.inner_lr != "auto" else 0.1 if support.is_classification else 0.01
        differentiable = torch.is_grad_enabled()

        @torch.enable_grad()
        def look(point: Point) -> tuple[Point, Tensor, Point]:
            point = {
                name: value if differentiable and value.requires_grad else value.detach().requires_grad_()
                for name, value in point.items()
            }
            objective = self.inner_objective(module, point, support)
            found = torch.autograd.grad(
                objective.sum(), list(point.values()), create_graph=differentiable, materialize_grads=True
            )
            return point, objective.detach(), dict(zip(point, found, strict=True))

        assert isinstance(module, TaskNetwork)
        values, height, slopes = look(module.start(support))
        size = torch.full_like(height, first)
        for _ in range(self.steps):
            ahead = {name: value - _by_task(size, value) * slopes[name] for name, value in values.items()}
            ahead, height_ahead, slopes_ahead = look(ahead)
            rounding = _ROUNDING * torch.finfo(height.dtype).eps * height.abs()
            kept = _descends(slopes, slopes_ahead) & (height_ahead <= height + rounding)
            values, slopes = (
                {name: torch.where(_by_task(kept, old), new[name], old) for name, old in olds.items()}
                for olds, new in ((values, ahead), (slopes, slopes_ahead))
            )
            height = torch.where(kept, height_ahead, height)
            size = size * torch.where(kept, _LONGER, _SHORTER)
        return values if differentiable else {name: value.detach() for name, value in values.items()}

    def inner_objective(self, module: nn.Module, adapted: dict[str, Tensor], support: am.Examples) -> Tensor:
        """Support loss plus λ/2 times the squared distance from θ, [tasks]."""
        loss: Tensor = am.loss_on(support)(self.predict(module, adapted, support.x))
        assert isinstance(module, TaskNetwork)
        start = module.start(support)
        squares = [(value - start[name]).square().flatten(1).sum(dim=1) for name, value in adapted.items()]
        return loss + self.regularization / 2 * torch.stack(squares).sum(dim=0)

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'imaml'")
        am.check_real("inner_lr", self.inner_lr, above=0, also=("auto",), of="learner 'imaml'")
        am.check_real("regularization", self.regularization, least=0, of="learner 'imaml'", such_as=2.0)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how far a task may go, and in how many steps."""
        return cls(
            steps=trial.suggest_int("steps", 4, 32, log=True),
            regularization=trial.suggest_float("regularization", 0.1, 10.0, log=True),
        )


def _descends(slopes: Point, slopes_ahead: Point) -> Tensor:
    """Tell whether each task's step went down, [tasks]: by the mean of the slopes along it at both of its ends.

    Close to a minimum, values of the objective differ by less than they are rounded.
    """
    with torch.no_grad():
        falls = [(slope * (slope + slopes_ahead[name])).flatten(1).sum(dim=1) for name, slope in slopes.items()]
        return torch.stack(falls).sum(dim=0) >= 0


def _by_task(numbers: Tensor, like: Tensor) -> Tensor:
    """One number for each task [tasks], to go with ``like`` [tasks, *shape]."""
    return numbers.view(-1, *[1] * (like.dim() - 1))
