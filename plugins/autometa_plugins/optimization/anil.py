"""ANIL (Raghu et al. 2020): gradient steps on the head alone, on features that all tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.optimization.task_network import first_rate, linear_head, suggest_rate, with_row_per_class

if TYPE_CHECKING:
    from optuna import Trial


class ANIL(am.Learner):
    """MAML whose inner loop leaves the body alone: a few gradient steps on a linear head.

    Raghu et al. 2020, section 4: MAML's changes of the body hardly matter, so the features of a task are computed once
    and only the head adapts, with exact derivatives. The body is one network for all tasks, so inductive batch norm
    suits it. In classification all classes of a task start from one learned row of the head (Ye & Chao 2022, section
    5), so a task may have any number of classes, in any order.

    Parameters
    ----------
    steps : int, default=5
        Gradient steps. Steps beyond those meta-trained reuse the last learned size.
    inner_lr : float or "auto", default="auto"
        Step size; learned sizes start from it. "auto": 0.1, or 0.4 for classes if the backbone has no weights
        (backbone "identity").
    learn_lr : bool, default=True
        Learn one size for every step, of weight and bias apart (Antoniou et al. 2019, section 4). The paper's are
        fixed.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.

    References
    ----------
    A. Raghu, M. Raghu, S. Bengio, O. Vinyals: Rapid Learning or Feature Reuse? Towards Understanding the
    Effectiveness of MAML. ICLR 2020.
    """

    replayable: ClassVar[bool] = True
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    def __init__(
        self,
        *,
        steps: int = 5,
        inner_lr: float | Literal["auto"] = "auto",
        learn_lr: bool = True,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.backbone = backbone

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``inner_lr`` may change only where it is the step size, not where sizes are learned."""
        return frozenset({"steps"}) if self.learn_lr else frozenset({"steps", "inner_lr"})

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, head and step sizes."""
        self._check()
        backbone = am.build_backbone(self.backbone, info.input_shape)
        rate = self._rate(backbone, info.problem_record.has_classes)
        return _SharedBody(backbone, info, rates=torch.full((self.steps if self.learn_lr else 0, 2), float(rate)))

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's head, ``head.0.weight`` [tasks, n_outputs, n_features] and ``head.0.bias``."""
        self._check()
        assert isinstance(module, _SharedBody)
        features = am.apply_per_task(module.backbone, support.x)
        names = ("0.weight", "0.bias")
        start = with_row_per_class(am.per_task(module.head, len(support), names), names, support)
        fixed = self._rate(module.backbone, support.is_classification)
        rates = module.rates.unbind(dim=1) if len(module.rates) else (fixed, fixed)
        head = am.descend(
            module.head,
            start,
            support.with_parts(x=features),
            steps=self.steps,
            rates=dict(zip(start, rates, strict=True)),
            strategy="bmm",
        )
        return {f"head.{name}": value for name, value in head.items()}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's head on the shared features."""
        assert isinstance(module, _SharedBody)
        head = {name.removeprefix("head."): value for name, value in adapted.items()}
        return am.call_per_task(module.head, head, am.apply_per_task(module.backbone, x), strategy="bmm")

    def _rate(self, backbone: nn.Module, is_classification: bool) -> float:
        return first_rate(self.inner_lr, backbone, is_classification=is_classification, otherwise=0.1)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'anil'")
        am.check_real("inner_lr", self.inner_lr, above=0, also=("auto",), of="learner 'anil'")
        am.check_bool("learn_lr", self.learn_lr, of="learner 'anil'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and their first size."""
        return cls(
            steps=trial.suggest_int("steps", 1, 10),
            inner_lr=suggest_rate(trial, info),
        )


class _SharedBody(nn.Module):
    def __init__(self, backbone: nn.Module, info: am.TaskInfo, *, rates: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(linear_head(backbone, info))
        self.rates = nn.Parameter(rates)
