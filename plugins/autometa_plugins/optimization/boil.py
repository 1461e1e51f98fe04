"""BOIL (Oh et al. 2021): gradient steps on the body alone, towards a head that stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.task_network import build_own_backbone, trainable

if TYPE_CHECKING:
    from optuna import Trial


class BOIL(am.Learner):
    """MAML whose inner loop leaves the head alone: the body's features move to where the head wants them.

    Oh et al. 2021, section 3. Only the outer loop learns the head. In classification every class of a task needs a row
    of its own to move towards: there are as many learned rows as the widest meta-train task has classes. Further
    classes get rows of the same mean length in fixed pseudo-random directions, so a task may have any number of
    classes. Rows belong to labels: the order of a task's classes can change its result a little.

    Parameters
    ----------
    steps : int, default=1
        Gradient steps. Steps beyond those meta-trained reuse the last learned size.
    inner_lr : float or "auto", default="auto"
        Step size; learned sizes start from it. "auto": 0.5 for classes, as in the paper, and 0.03
        for real targets.
    learn_lr : bool, default=True
        Learn one size for every step and parameter tensor (Antoniou et al. 2019, section 4). The paper's is fixed.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 with group norm, which keeps tasks and examples apart. A
        backbone without weights, such as "identity", gets a linear layer to adapt, at first the identity.

    References
    ----------
    J. Oh, H. Yoo, C. Kim, S. Yun: BOIL: Towards Representation Change for Few-shot Learning. ICLR 2021.
    """

    replayable: ClassVar[bool] = True
    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "inner_gradient"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(
        self,
        *,
        steps: int = 1,
        inner_lr: float | Literal["auto"] = "auto",
        learn_lr: bool = True,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.strategy = strategy
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``inner_lr`` may change only where it is the step size, not where sizes are learned."""
        return frozenset({"steps", "strategy"}) | (frozenset() if self.learn_lr else frozenset({"inner_lr"}))

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return body, head and step sizes."""
        self._check()
        is_classification = info.problem_record.has_classes
        return _FixedHead(
            build_own_backbone(self.backbone, info),
            n_outputs=info.n_outputs,
            one_bias=is_classification,
            n_rates=self.steps if self.learn_lr else 0,
            rate=self._rate(is_classification),
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own body, and the head's bias as it is, by name in ``module``."""
        self._check()
        assert isinstance(module, _FixedHead)
        n_outputs = support.n_classes if support.is_classification else module.head.out_features
        bias = module.head.bias.expand(len(support), n_outputs).clone()
        head, loss = {"weight": module.rows(n_outputs), "bias": bias}, am.loss_on(support)
        start = am.per_task(module.backbone, len(support), module.own)
        rates = module.rates.unbind(1) if len(module.rates) else [self._rate(support.is_classification)] * len(start)
        body = am.descend(
            module.backbone,
            start,
            support,
            steps=self.steps,
            rates=dict(zip(start, rates, strict=True)),
            loss=lambda features: loss(am.apply_head(head, features)),
            strategy=self.strategy,
        )
        return {f"backbone.{name}": value for name, value in body.items()} | {"head.bias": bias}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of the head for the features of every task's own body."""
        assert isinstance(module, _FixedHead)
        body = {name.removeprefix("backbone."): value for name, value in adapted.items() if name != "head.bias"}
        bias = adapted["head.bias"]
        features = am.call_per_task(module.backbone, body, x, strategy=self.strategy)
        return am.apply_head({"weight": module.rows(bias.shape[1]), "bias": bias}, features)

    def _rate(self, is_classification: bool) -> float:
        return self.inner_lr if self.inner_lr != "auto" else 0.5 if is_classification else 0.03

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'boil'")
        am.check_real("inner_lr", self.inner_lr, above=0, also=("auto",), of="learner 'boil'")
        am.check_bool("learn_lr", self.learn_lr, of="learner 'boil'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps."""
        return cls(steps=trial.suggest_int("steps", 1, 5))


class _FixedHead(nn.Module):
    def __init__(self, backbone: nn.Module, *, n_outputs: int, one_bias: bool, n_rates: int, rate: float) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone if trainable(backbone) else _with_weights(backbone, n_features)
        self.own = trainable(self.backbone)
        self.head = nn.Linear(n_features, n_outputs)
        if one_bias:
            self.head.bias = nn.Parameter(torch.zeros(1))
        self.rates = nn.Parameter(torch.full((n_rates, len(self.own)), float(rate)))

    def rows(self, n: int) -> Tensor:
        """Rows of the head for ``n`` outputs, [n, n_features]."""
        weight = self.head.weight
        if n <= len(weight):
            return weight[:n]
        length = weight.norm(dim=1).mean()
        further = torch.stack([_direction(number, weight.shape[1]) for number in range(len(weight), n)])
        return torch.cat([weight, length * further.to(weight)])


def _with_weights(backbone: nn.Module, n_features: int) -> nn.Module:
    layer = nn.Linear(n_features, n_features)
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(backbone, layer)


def _direction(number: int, n_features: int) -> Tensor:
    """A direction in feature space, the same on every machine."""
    generator = torch.Generator().manual_seed(number)
    return nn.functional.normalize(torch.randn(n_features, generator=generator, dtype=torch.float64), dim=0)
