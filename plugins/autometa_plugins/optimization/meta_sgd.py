"""Meta-SGD (Li et al. 2017): learn a step size for every single parameter along with the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.task_network import TaskNetwork, build_task_network

if TYPE_CHECKING:
    from optuna import Trial


class MetaSGD(am.Learner):
    """One gradient step, every parameter by a learned step size of its own.

    Algorithm 1 of Li et al. 2017: ``θ - α ∘ gradient``, where α has the shape of θ and is learned with it.
    Meta-training decides how far a task moves and, as sizes may turn negative, in which direction. In classification
    all classes of a task share one learned row of the head, zero at first, and its step sizes (Ye & Chao 2022, section
    5), so a task may have any number of classes, in any order.

    Parameters
    ----------
    steps : int, default=1
        Gradient steps, all of the same sizes; the paper takes one.
    inner_lr : float, default=0.05
        Step sizes start between a tenth and twice of it, each drawn apart and uniformly: in the paper's range
        [0.005, 0.1] by default.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm, which keeps tasks and examples apart.

    References
    ----------
    Z. Li, F. Zhou, F. Chen, H. Li: Meta-SGD: Learning to Learn Quickly for Few-Shot Learning. arXiv 1707.09835.
    """

    replayable: ClassVar[bool] = True
    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 1,
        inner_lr: float = 0.05,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and the step sizes of both."""
        self._check()
        network = build_task_network(self.backbone, info)
        sizes = [
            torch.empty_like(network.get_parameter(name)).uniform_(0.1 * self.inner_lr, 2 * self.inner_lr)
            for name in network.own
        ]
        network.register_module("step_sizes", nn.ParameterList(sizes))
        return network

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        assert isinstance(module, TaskNetwork)
        sizes = module.get_submodule("step_sizes").parameters()
        return am.descend(
            module,
            module.start(support),
            support,
            steps=self.steps,
            rates={name: size.unsqueeze(0) for name, size in zip(module.own, sizes, strict=True)},
            strategy=self.strategy,
        )

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'meta_sgd'")
        am.check_real("inner_lr", self.inner_lr, above=0, of="learner 'meta_sgd'", such_as=0.05)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and what their sizes start from."""
        return cls(
            steps=trial.suggest_int("steps", 1, 4),
            # Squared errors of raw targets are steep: larger steps diverge.
            inner_lr=trial.suggest_float("inner_lr", 1e-3, 0.5 if info.problem_record.has_classes else 0.05, log=True),
        )
