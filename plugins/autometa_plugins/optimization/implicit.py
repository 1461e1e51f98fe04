"""Implicit differentiation: the meta-gradient at a task's minimum, whatever way led there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

Vector = tuple[Tensor, ...]
"""One vector for every task, in parts [tasks, *shape]."""


class Implicit(am.MetaOptimizer):
    """Descend the mean query loss along its implicit gradient.

    Let φ minimize a task's inner objective G(φ, θ). By the implicit function theorem the query loss L(φ, θ) has the
    gradient ``∂L/∂θ - (∂²G/∂θ∂φ)ᵀ v`` with ``(∂²G/∂φ²) v = ∂L/∂φ``. Conjugate gradients find v from products of the
    second derivative with vectors (Rajeswaran et al. 2019, algorithm 2; for G = loss + λ/2 |φ - θ|² this is their Lemma
    1). Adaptation runs without a graph, so many steps cost no memory, and any method may find φ.

    Parameters
    ----------
    cg_steps : int, default=5
        Steps of conjugate gradients, at least 1. Each costs about two gradients.
    damping : float, default=1.0
        Added to the second derivative's diagonal, at least 0. It makes up for minima not quite reached and for few
        steps, and shrinks the gradient in flat directions. 0 with enough steps gives the exact gradient.
    optimizer : str, default="adam"
        Any class of ``torch.optim`` that needs nothing but a learning rate: "adam", "sgd", "adamw", ...
    lr : float, default=1e-3
    schedule : {"constant", "cosine", "step"}, default="cosine"
        Of the learning rate over meta-training, as in meta-optimizer "gradient".
    clip : float or None, default=10.0
        Largest norm of the whole gradient, to which larger ones are scaled down; None lets all pass.
    chunk : int or None, default=None
        Differentiate this many tasks at a time, for less memory and the same gradient; None: all at once.

    References
    ----------
    A. Rajeswaran, C. Finn, S. Kakade, S. Levine: Meta-Learning with Implicit Gradients. NeurIPS 2019, algorithms 1
    and 2.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"inner_objective"})
    shares_tasks: ClassVar[bool] = True

    def __init__(
        self,
        *,
        cg_steps: int = 5,
        damping: float = 1.0,
        optimizer: str = "adam",
        lr: float = 1e-3,
        schedule: Literal["constant", "cosine", "step"] = "cosine",
        clip: float | None = 10.0,
        chunk: int | None = None,
    ) -> None:
        self.cg_steps = cg_steps
        self.damping = damping
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.clip = clip
        self.chunk = chunk

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        am.check_int("cg_steps", self.cg_steps, of="meta-optimizer 'implicit'")
        am.check_int("chunk", self.chunk, also=(None,), of="meta-optimizer 'implicit'")
        am.check_real("damping", self.damping, least=0, of="meta-optimizer 'implicit'", such_as=1.0)
        self.learner_, self.module_ = learner, module
        self.replay_: am.Replay[Tensor] = am.Replay(learner.replayable)
        self.update_ = am.ParameterUpdate(
            module,
            optimizer=self.optimizer,
            lr=self.lr,
            schedule=self.schedule,
            clip=self.clip,
            average=self.average,
        )

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        """Take one step; record the mean query loss before it."""
        size = self.chunk or len(batch)
        sums: list[Tensor] = []
        for first in range(0, len(batch), size):
            chunk = batch[first : first + size]
            found = [part / len(batch) for part in self.replay_(self._loss_and_gradients, chunk)]
            sums = [whole + part for whole, part in zip(sums, found, strict=True)] if sums else found
        self.update_.step_along(sums[1:], self.progress)
        return {"loss": sums[0]}

    def _loss_and_gradients(self, batch: am.TaskBatch) -> Sequence[Tensor]:
        """Summed query loss of the tasks, and its implicit gradient in every parameter."""
        learner, module = self.learner_, self.module_
        with torch.no_grad():
            adapted = {name: value.detach() for name, value in learner.adapt(module, batch.support).items()}
        for value in adapted.values():
            value.requires_grad_()
        loss = am.query_losses(learner, module, batch, adapted=adapted).sum()
        leaves = tuple(adapted.values())
        wanted = torch.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
        objective = learner.inner_objective(module, adapted, batch.support).sum()
        slopes = torch.autograd.grad(objective, leaves, create_graph=True, materialize_grads=True)

        def curvature(vector: Vector) -> Vector:
            products = torch.autograd.grad(slopes, leaves, vector, retain_graph=True, materialize_grads=True)
            return tuple(p + self.damping * v for p, v in zip(products, vector, strict=True))

        solution = conjugate_gradients(curvature, wanted, self.cg_steps)
        mixed = sum(((s * v).sum() for s, v in zip(slopes, solution, strict=True)), loss.new_zeros(()))
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return [loss.detach(), *torch.autograd.grad(loss - mixed, parameters, materialize_grads=True)]

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimizer."""
        return self.update_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.update_.load_state_dict(state)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the learning rate and how the second derivative is inverted."""
        return cls(
            lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
            cg_steps=trial.suggest_int("cg_steps", 1, 10),
        )


def conjugate_gradients(matrix: Callable[[Vector], Vector], target: Vector, steps: int) -> Vector:
    """Solve ``matrix(v) = target`` for every task at once, from zero.

    A task stops where its residual is zero to rounding, or where its matrix is found not to be positive along the
    next direction: it is at no minimum then, and going on would lead away.

    Parameters
    ----------
    matrix : callable
        Symmetric and linear, from vectors to vectors; tasks do not mix.
    target : tuple of Tensor, each [tasks, *shape]
    steps : int
    """
    solution = tuple(torch.zeros_like(part) for part in target)
    residual = direction = target
    square = first = _dot(target, target)
    for _ in range(steps):
        product = matrix(direction)
        bend = _dot(direction, product)
        goes_on = (bend > 0) & (square > torch.finfo(square.dtype).eps ** 2 * first)
        length = torch.where(goes_on, square / bend, 0)
        solution = _add(solution, length, direction)
        residual = _add(residual, -length, product)
        before, square = square, _dot(residual, residual)
        direction = _add(residual, torch.where(goes_on, square / before, 0), direction)
    return solution


def _dot(a: Vector, b: Vector) -> Tensor:
    """Inner product of every task's two vectors, [tasks]."""
    return torch.stack([(x * y).flatten(1).sum(dim=1) for x, y in zip(a, b, strict=True)]).sum(dim=0)


def _add(a: Vector, factor: Tensor, b: Vector) -> Vector:
    """``a + factor * b`` with a factor for every task."""
    return tuple(x + factor.view(-1, *[1] * (y.dim() - 1)) * y for x, y in zip(a, b, strict=True))
