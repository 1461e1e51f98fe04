"""MAML (Finn, Abbeel & Levine 2017): learn where a few gradient steps should start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class MAML(am.Learner):
    """Gradient steps on the support loss, from a start and with step sizes that meta-training learns.

    Classification has one learned head row that all classes of a task start from (UNICORN-MAML, Ye & Chao 2022,
    section 5), so a task may have any number of classes and its result does not depend on their order. Step sizes
    are one per step and parameter tensor (MAML++, Antoniou et al. 2019, section 4). Without meta-training and with
    the identity backbone this is logistic regression by a few gradient steps from zero.

    Parameters
    ----------
    steps : int, default=5
        Gradient steps. Steps beyond those meta-trained reuse the last learned size.
    inner_lr : float, default=0.03
        Step size; where sizes are learned, what they start from.
    learn_lr : bool, default=True
        Learn the step sizes.
    first_order : bool, default=False
        Leave out second derivatives (FOMAML, Finn et al. 2017, section 5.2).
    checkpoint : bool, default=False
        Take every step again when it is differentiated: the memory of many steps is that of one, for about a third
        more time; the gradient is the same.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str or Backbone, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm. Running averages of batch norm describe no
        task's own weights (adapting with them stayed at chance); batch statistics would be transductive.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017,
    algorithms 1 and 2.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 5,
        inner_lr: float = 0.03,
        learn_lr: bool = True,
        first_order: bool = False,
        checkpoint: bool = False,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: str | am.Backbone = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.first_order = first_order
        self.checkpoint = checkpoint
        self.strategy = strategy
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:  # type: ignore[override]
        """Learned step sizes leave no ``inner_lr`` to change."""
        fixed: frozenset[str] = frozenset() if self.learn_lr else frozenset({"inner_lr"})
        return frozenset({"steps", "first_order", "checkpoint", "strategy"}) | fixed

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and step sizes."""
        self._check()
        is_image = len(info.input_shape) == 3
        chosen = am.make_backbone("conv4", norm="group") if self.backbone == "auto" and is_image else self.backbone
        return Network(
            am.build_backbone(chosen, info.input_shape),
            n_outputs=1 if info.problem == "classification" else info.n_outputs,
            zero_head=info.problem == "classification",
            n_rates=self.steps if self.learn_lr else 0,
            rate=self.inner_lr,
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        assert isinstance(module, Network)
        start = am.per_task(module, len(support))
        del start["rates"]
        if support.is_classification:
            for name in ("head.weight", "head.bias"):
                start[name] = start[name].expand(-1, support.n_classes, *start[name].shape[2:])
        rates = module.rates.unbind(dim=1) if len(module.rates) else [self.inner_lr] * len(start)
        return am.descend(
            module,
            start,
            support,
            steps=self.steps,
            rates=dict(zip(start, rates, strict=True)),
            first_order=self.first_order,
            checkpoint=self.checkpoint,
            strategy=self.strategy,
        )

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def _check(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise am.InvalidParameter(f"steps={self.steps!r} of maml must be a non-negative integer.")
        if not self.inner_lr > 0:
            raise am.InvalidParameter(f"inner_lr={self.inner_lr!r} of maml must be positive, such as 0.03.")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps, their first size and the order of the derivative."""
        return cls(
            steps=trial.suggest_int("steps", 1, 8),
            # Squared errors of raw targets are steep: from 0.1 on, a few steps diverge.
            inner_lr=trial.suggest_float("inner_lr", 1e-3, 1.0 if info.problem == "classification" else 0.1, log=True),
            first_order=trial.suggest_categorical("first_order", [False, True]),
        )


class Network(nn.Module):
    """A backbone with a linear head, and the step size of every step and parameter tensor.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_outputs : int
        1 where all classes share the head's row.
    zero_head : bool
        Start the head at zero.
    n_rates : int
        Steps with sizes of their own; 0 for none.
    rate : float
        What the sizes start from.
    """

    def __init__(self, backbone: nn.Module, *, n_outputs: int, zero_head: bool, n_rates: int, rate: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(int(backbone.n_features), n_outputs)  # type: ignore[arg-type]
        if zero_head:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.rates = nn.Parameter(torch.full((n_rates, len(list(self.parameters()))), rate))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *features] to [n, rows of the head]."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]
