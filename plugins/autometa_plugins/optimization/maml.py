"""MAML (Finn, Abbeel & Levine 2017): learn where a few gradient steps should start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.task_network import TaskNetwork, build_own_backbone, first_rate, suggest_rate

if TYPE_CHECKING:
    from optuna import Trial


class MAML(am.Learner):
    """Gradient steps on the support loss, from a start and by step sizes that meta-training learns.

    Finn et al. 2017, algorithms 1 and 2; their step size is fixed (``learn_lr=False``). All classes of a task start
    from one learned row of the head (UNICORN-MAML, Ye & Chao 2022, section 5), so a task may have any number of
    classes, in any order. Without meta-training and with the identity backbone this is logistic regression by a few
    gradient steps from zero.

    Parameters
    ----------
    steps : int, default=5
        Gradient steps. Steps beyond those meta-trained reuse the last learned size.
    inner_lr : float or "auto", default="auto"
        Step size; learned sizes start from it. "auto": 0.03, or 0.4 for classes if the backbone has no weights
        (backbone "identity").
    learn_lr : bool, default=True
        Learn one size for every step and parameter tensor (Antoniou et al. 2019, section 4). Learned sizes become as
        large as support sets like those of meta-training allow. On fewer examples, or after more steps, they can
        diverge, so meta-train on the fewest examples you will meet. (Sine waves, mean squared error: trained on 10
        examples and judged on 5, above 1000; trained on 5 and judged on 5, 10 and 20, 0.04, 0.02 and 0.01.)
    first_order : bool, default=False
        Leave out second derivatives (FOMAML, Finn et al. 2017, section 5.2).
    checkpoint : bool, default=False
        Recompute each step when it is differentiated: many steps need the memory of one. This takes 1.3 times as
        long on images and about 3 times as long with a small network. The gradient is the same.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm, which keeps tasks and examples apart. Learner
        "maml_plus_plus" can have batch norm.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017,
    algorithms 1 and 2.
    """

    replayable: ClassVar[bool] = True
    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 5,
        inner_lr: float | Literal["auto"] = "auto",
        learn_lr: bool = True,
        first_order: bool = False,
        checkpoint: bool = False,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.first_order = first_order
        self.checkpoint = checkpoint
        self.strategy = strategy
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``inner_lr`` may change only where it is the step size, not where sizes are learned."""
        fixed: frozenset[str] = frozenset() if self.learn_lr else frozenset({"inner_lr"})
        return frozenset({"steps", "first_order", "checkpoint", "strategy"}) | fixed

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and step sizes."""
        self._check()
        backbone = build_own_backbone(self.backbone, info)
        rate = self._rate(backbone, info.problem_record.has_classes)
        return TaskNetwork(backbone, info, n_rates=self.steps if self.learn_lr else 0, rate=rate)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        assert isinstance(module, TaskNetwork)
        return am.descend(
            module,
            module.start(support),
            support,
            steps=self.steps,
            rates=module.rates_by_name(self._rate(module.backbone, support.is_classification)),
            first_order=self.first_order,
            checkpoint=self.checkpoint,
            strategy=self.strategy,
        )

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def _rate(self, backbone: nn.Module, is_classification: bool) -> float:
        return first_rate(self.inner_lr, backbone, is_classification=is_classification, otherwise=0.03)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'maml'")
        am.check_real("inner_lr", self.inner_lr, above=0, also=("auto",), of="learner 'maml'")
        for name in ("learn_lr", "first_order", "checkpoint"):
            am.check_bool(name, getattr(self, name), of="learner 'maml'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps, their first size and the order of the derivative."""
        return cls(
            steps=trial.suggest_int("steps", 1, 8),
            inner_lr=suggest_rate(trial, info),
            first_order=trial.suggest_categorical("first_order", [False, True]),
        )
