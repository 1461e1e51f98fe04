"""Ridge regression as a differentiable head."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_INITIAL_SCALE = 20.0
"""Outputs lie around 0 and 1, and a softmax of those is nearly even: after 200 episodes of 20-way Omniglot the loss
was 1.2 from a scale of 5 and 0.7 from 20."""


class Ridge(am.Learner):
    """Ridge regression on learned features, solved in closed form and differentiated through.

    R2-D2 of Bertinetto et al. 2019, section 3.2: the weights of a task are eq. 5, or by the Woodbury identity eq. 6
    where there are fewer support examples than features. Classes are regressed as one-hot targets; a meta-learned
    scale turns the outputs into logits. The regularization λ is meta-learned as well. Unlike in the paper there is an
    intercept, not penalized, and no bias shared by all classes, which would not change a softmax.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    regularization : float, default=1.0
        Multiplies the meta-learned λ, which starts at 1. Change it after meta-training to regularize a task more or
        less.
    """

    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"regularization"})

    def __init__(self, backbone: am.BackboneLike = "auto", regularization: float = 1.0) -> None:
        self.backbone = backbone
        self.regularization = regularization

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone, log λ and, for classes, the logarithm of the scale of the logits.

        Raises
        ------
        InvalidParameter
            The regularization is not positive.
        """
        self._check()
        return _RidgeHead(am.build_backbone(self.backbone, info.input_shape), scaled=info.problem_record.has_classes)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"weights": [tasks, n_features, n_outputs], "intercept": [tasks, 1, n_outputs]}``."""
        self._check()
        assert isinstance(module, _RidgeHead)
        features = am.apply_per_task(module.backbone, support.x)
        penalty = self.regularization * module.log_penalty.exp()
        # Solved in double precision: a small λ beside large features leaves few digits of single precision.
        # Apple's devices have no double.
        exact = features.dtype if features.device.type == "mps" else torch.float64
        weights, intercept = am.solve_ridge(
            features.to(exact), support.targets().to(exact), support.mask.to(exact), penalty.to(exact)
        )
        return {"weights": weights.to(features.dtype), "intercept": intercept.to(features.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _RidgeHead)
        outputs: Tensor = am.apply_per_task(module.backbone, x) @ adapted["weights"] + adapted["intercept"]
        return outputs if module.log_scale is None else module.log_scale.exp() * outputs

    def _check(self) -> None:
        am.check_real("regularization", self.regularization, above=0, of="learner 'ridge'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Ridge:
        """Search the initial regularization."""
        return cls(regularization=trial.suggest_float("regularization", 1e-2, 1e2, log=True))


class _RidgeHead(nn.Module):
    def __init__(self, backbone: nn.Module, scaled: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_penalty = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE))) if scaled else None
