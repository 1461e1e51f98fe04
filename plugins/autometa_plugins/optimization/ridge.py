"""Ridge regression as a differentiable head."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_INITIAL_SCALE = 5.0


class Ridge(am.Learner):
    """Ridge regression on learned features, solved in closed form and differentiated through.

    R2-D2 of Bertinetto et al. 2019, section 3.2: the weights of a task are eq. 5, or by the Woodbury identity eq. 6
    where there are fewer support examples than features. Classes are regressed as one-hot targets, whose outputs
    a meta-learned scale turns into logits. The regularization λ is meta-learned as well. Beyond the paper the
    regression has an intercept (not penalized); the paper's bias shared by all classes is left out, for no softmax
    sees it.

    Parameters
    ----------
    backbone : str or Backbone, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    regularization : float, default=1.0
        Multiplies the meta-learned λ, which starts at 1: what λ is before meta-training, and a way to
        regularize a task more or less than was meta-learned.
    """

    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"regularization"})

    def __init__(self, backbone: str | am.Backbone = "auto", regularization: float = 1.0) -> None:
        self.backbone = backbone
        self.regularization = regularization

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone, log λ and, for classes, the scale of the logits.

        Raises
        ------
        InvalidParameter
            The regularization is not positive.
        """
        self._check()
        return _RidgeHead(am.build_backbone(self.backbone, info.input_shape), scaled=info.problem == "classification")

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"weights": [tasks, n_features, n_outputs], "intercept": [tasks, 1, n_outputs]}``."""
        self._check()
        assert isinstance(module, _RidgeHead)
        features = am.apply_per_task(module.backbone, support.x)
        penalty = self.regularization * module.log_penalty.exp()
        # Solved in double precision: a small λ beside large features leaves few digits of single precision.
        # Apple's devices have no double.
        exact = features.dtype if features.device.type == "mps" else torch.float64
        weights, intercept = solve_ridge(
            features.to(exact), support.targets().to(exact), support.mask.to(exact), penalty.to(exact)
        )
        return {"weights": weights.to(features.dtype), "intercept": intercept.to(features.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _RidgeHead)
        outputs: Tensor = am.apply_per_task(module.backbone, x) @ adapted["weights"] + adapted["intercept"]
        return outputs if module.scale is None else module.scale * outputs

    def _check(self) -> None:
        if not self.regularization > 0:
            raise am.InvalidParameter(f"regularization={self.regularization!r} of learner 'ridge' must be positive.")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Ridge:
        """Search the initial regularization."""
        return cls(regularization=trial.suggest_float("regularization", 1e-2, 1e2, log=True))


class _RidgeHead(nn.Module):
    def __init__(self, backbone: nn.Module, scaled: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_penalty = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.tensor(_INITIAL_SCALE)) if scaled else None


def solve_ridge(x: Tensor, y: Tensor, mask: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and intercept that minimize ``|x w + b - y|² + penalty |w|²`` over the unmasked rows of every task.

    Parameters
    ----------
    x : Tensor of shape [tasks, n, n_features]
    y : Tensor of shape [tasks, n, n_outputs]
    mask : Tensor of shape [tasks, n], of the dtype of ``x``
        1 where a row counts, else 0.
    penalty : scalar Tensor, positive

    Returns
    -------
    weights : Tensor of shape [tasks, n_features, n_outputs]
    intercept : Tensor of shape [tasks, 1, n_outputs]
    """
    counts = mask.sum(1).clamp(min=1)[:, None, None]
    mask = mask.unsqueeze(-1)
    x_mean, y_mean = ((t * mask).sum(1, keepdim=True) / counts for t in (x, y))
    x, y = (x - x_mean) * mask, (y - y_mean) * mask
    xt = x.transpose(1, 2)
    n, n_features = x.shape[1:]
    penalties = penalty * torch.eye(min(n, n_features), dtype=x.dtype, device=x.device)
    if n < n_features:
        weights = xt @ torch.linalg.solve(x @ xt + penalties, y)
    else:
        weights = torch.linalg.solve(xt @ x + penalties, xt @ y)
    return weights, y_mean - x_mean @ weights
