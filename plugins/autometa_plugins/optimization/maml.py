"""MAML (Finn, Abbeel & Levine 2017): learn where a few gradient steps should start."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from sklearn.base import clone
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.per_step_norm import at_step, per_step_parameters, step_weights, with_per_step_norm

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
        Learn the step sizes. They become as large as support sets like those of meta-training bear: on fewer examples,
        or after more steps than meta-trained, they can diverge (sine waves: trained on 10 examples and judged on 5, a
        mean squared error above 1000; trained on 5 and judged on 5, 10 and 20, 0.04, 0.02 and 0.01). Meta-train on the
        fewest examples that will be met.
    first_order : bool, default=False
        Leave out second derivatives (FOMAML, Finn et al. 2017, section 5.2).
    first_order_until : float, default=0.0
        Share of meta-training during which second derivatives are left out all the same: MAML++'s derivative-order
        annealing (Antoniou et al. 2019, section 4), which is faster and steadier at first.
    multi_step_loss : float, default=0.0
        Share of meta-training during which the query losses after every step count, equally at first and by the end
        of it only the last: MAML++'s multi-step loss, which steadies many steps.
    per_step_norm : bool, default=False
        Give the backbone's batch norms gain, bias and running statistics of their own for every step, MAML++'s
        per-step batch norm; all tasks share them. Inner steps normalise a support set by itself. Queries are
        normalised by themselves in meta-training and by its averages afterwards, where MAML++'s code stays with their
        own: predictions are inductive. (Support sets normalised by averages as well adapted to chance.)
    checkpoint : bool, default=False
        Take every step again when it is differentiated: the memory of many steps is that of one, for 1.3
        times the time on images and about 3 times that of a small network; the gradient is the same.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str or Backbone, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm. One running average of batch norm for all
        steps describes no task's own weights (adapting with it stayed at chance), see ``per_step_norm``, which has
        conv4 with batch norm here; batch statistics would be transductive.

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017,
    algorithms 1 and 2.

    A. Antoniou, H. Edwards, A. Storkey: How to train your MAML. ICLR 2019.
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
        first_order_until: float = 0.0,
        multi_step_loss: float = 0.0,
        per_step_norm: bool = False,
        checkpoint: bool = False,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: str | am.Backbone = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.first_order = first_order
        self.first_order_until = first_order_until
        self.multi_step_loss = multi_step_loss
        self.per_step_norm = per_step_norm
        self.checkpoint = checkpoint
        self.strategy = strategy
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """Learned step sizes leave no ``inner_lr`` to change."""
        fixed: frozenset[str] = frozenset() if self.learn_lr else frozenset({"inner_lr"})
        return frozenset({"steps", "first_order", "checkpoint", "strategy"}) | fixed

    @property
    def replayable(self) -> bool:
        """Not while the loss changes in the course of meta-training."""
        return not (self.first_order_until or self.multi_step_loss or self.per_step_norm)

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and step sizes."""
        self._check()
        chosen = self.backbone
        if chosen == "auto" and len(info.input_shape) == 3:
            chosen = am.make_backbone("conv4", norm="batch" if self.per_step_norm else "group")
        backbone = am.build_backbone(chosen, info.input_shape)
        if self.per_step_norm and not with_per_step_norm(backbone, self.steps + 1):
            raise am.InvalidParameter(
                f"per_step_norm=True of maml needs a backbone with inductive batch norm, such as conv4 for images; "
                f"backbone={self.backbone!r} has none for inputs of shape {info.input_shape}."
            )
        return Network(
            backbone,
            n_outputs=1 if info.problem == "classification" else info.n_outputs,
            zero_head=info.problem == "classification",
            n_rates=self.steps if self.learn_lr else 0,
            rate=self.inner_lr,
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        return self._states(module, support, one_by_one=False, first_order=self.first_order)[-1]

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        if self.per_step_norm:
            module = at_step(module, self.steps, is_support=False)
        return am.call_per_task(module, adapted, x, strategy=self._strategy())

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Query losses after adapting; while ``multi_step_loss`` lasts, weighted sums of those after every step."""
        self._check()
        every_step = progress < self.multi_step_loss and self.steps > 0
        states = self._states(
            module,
            batch.support,
            one_by_one=every_step,
            first_order=self.first_order or progress < self.first_order_until,
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
        self, module: nn.Module, support: am.Examples, *, one_by_one: bool, first_order: bool
    ) -> list[dict[str, Tensor]]:
        """Every task's parameters before and after the steps, or between all of them if taken one by one."""
        assert isinstance(module, Network)
        if self.per_step_norm and not support.is_full:
            # Padding would count in the statistics of a support set.
            alone = [support[task : task + 1].select(support.mask[task]) for task in range(len(support))]
            each = [self._states(module, one, one_by_one=one_by_one, first_order=first_order) for one in alone]
            return [
                {name: torch.cat([state[name] for state in states]) for name in states[0]}
                for states in zip(*each, strict=True)
            ]
        one_by_one = one_by_one or self.per_step_norm
        start = am.per_task(module, len(support), module.own)
        if support.is_classification:
            for name in ("head.weight", "head.bias"):
                start[name] = start[name].expand(-1, support.n_classes, *start[name].shape[2:])
        states, n_learned, fixed = [start], len(module.rates), [self.inner_lr] * len(start)
        for first in range(self.steps) if one_by_one and self.steps else (0,):
            rates = module.rates[min(first, n_learned - 1) :].unbind(dim=1) if n_learned else fixed
            after = am.descend(
                at_step(module, first, is_support=True) if self.per_step_norm else module,
                states[-1],
                support,
                steps=min(1, self.steps) if one_by_one else self.steps,
                rates=dict(zip(start, rates, strict=True)),
                first_order=first_order,
                checkpoint=self.checkpoint,
                strategy=self._strategy(),
            )
            states.append(after)
        return states

    def _strategy(self) -> str:
        # Running averages are updated by one task after the other.
        return "loop" if self.per_step_norm and self.strategy == "auto" else self.strategy

    def _check(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise am.InvalidParameter(f"steps={self.steps!r} of maml must be a non-negative integer.")
        if not self.inner_lr > 0:
            raise am.InvalidParameter(f"inner_lr={self.inner_lr!r} of maml must be positive, such as 0.03.")
        for name in ("first_order_until", "multi_step_loss"):
            if not 0 <= getattr(self, name) <= 1:
                raise am.InvalidParameter(
                    f"{name}={getattr(self, name)!r} of maml must be a share of meta-training, from 0 to 1."
                )

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
        shared = per_step_parameters(self)
        self.own = [name for name, _ in self.named_parameters() if name not in shared]
        """Names of the parameters that every task has its own of."""
        self.rates = nn.Parameter(torch.full((n_rates, len(self.own)), rate))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *features] to [n, rows of the head]."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]
