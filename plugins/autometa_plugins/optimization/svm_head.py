"""MetaOptNet (Lee, Maji, Ravichandran & Soatto 2019): a support vector machine on learned features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_INITIAL_SCALE = 7.0
"""Margins are at most 1, and a softmax of those is nearly even: after 200 episodes of 20-way Omniglot the loss was
2.0 from a scale of 1 and 0.5 from 10. Tasks of five classes learn sooner from less."""
_MOST_STEPS = 40
_GAP = 1e-12
"""Duality gap at which the dual counts as solved, relative to the weights' squared norm plus the violations."""
_JITTER = 1e-9
"""Added to the kernel's diagonal, relative to its mean: parts examples that are copies of one another."""


class SVMHead(am.Learner):
    """A linear multi-class support vector machine on learned features, differentiated at its solution.

    MetaOptNet-SVM of Lee et al. 2019, section 3: the machine of Crammer and Singer, without intercept, whose dual is a
    quadratic program of size n_support x n_way. An interior-point method solves it to high accuracy; the derivative
    is that of its optimality conditions there, so no step of the solver is recorded. A meta-learned scale turns the
    outputs into logits.

    Parameters
    ----------
    C : float, default=0.1
        Weight of the support examples' margin violations against the weights' squared norm, as in scikit-learn.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.

    References
    ----------
    K. Lee, S. Maji, A. Ravichandran, S. Soatto: Meta-Learning with Differentiable Convex Optimization. CVPR 2019.

    K. Crammer, Y. Singer: On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines. JMLR 2, 2001.
    """

    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"C"})

    def __init__(self, *, C: float = 0.1, backbone: am.BackboneLike = "auto") -> None:
        self.C = C
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone and the logarithm of the scale of the logits.

        Raises
        ------
        InvalidParameter
            C is not positive.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(f"learner 'svm_head' needs classes; problem={info.problem!r} has none. Try 'ridge'.")
        self._check()
        return _Scaled(am.build_backbone(self.backbone, info.input_shape))

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"weights": [tasks, n_way, n_features]}``; those of a class without examples are zero."""
        self._check()
        assert isinstance(module, _Scaled)
        features = am.apply_per_task(module.backbone, support.x)
        # Complementary numbers differ by many orders of magnitude. Apple's devices have no double.
        exact = features.to(features.dtype if features.device.type == "mps" else torch.float64)
        exact = exact * support.mask.unsqueeze(-1)
        dual = solve_dual(exact @ exact.mT, support.one_hot().to(exact), self.C)
        return {"weights": (dual.mT @ exact).to(features.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return logits, [tasks, n, n_way]."""
        assert isinstance(module, _Scaled)
        outputs: Tensor = am.apply_per_task(module.backbone, x) @ adapted["weights"].mT
        return module.log_scale.exp() * outputs

    def _check(self) -> None:
        am.check_real("C", self.C, above=0, of="learner 'svm_head'", such_as=0.1)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how much violated margins weigh."""
        return cls(C=trial.suggest_float("C", 1e-3, 10.0, log=True))


class _Scaled(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_scale = nn.Parameter(torch.tensor(math.log(_INITIAL_SCALE)))


def solve_dual(kernel: Tensor, one_hot: Tensor, C: float) -> Tensor:
    """Dual variables α that minimize ``½ Σ_k α_kᵀ K α_k - Σ α * one_hot``, differentiable in the kernel once.

    Subject to ``α <= C one_hot`` and ``Σ_k α = 0`` for every example. Rows of ``one_hot`` that are zero (padding) and
    classes that no example has stay at zero.

    Parameters
    ----------
    kernel : Tensor of shape [tasks, n, n]
        Positive semidefinite; zero in the rows and columns of padding.
    one_hot : Tensor of shape [tasks, n, n_way]
    C : float, positive

    Returns
    -------
    Tensor of shape [tasks, n, n_way]
    """
    with torch.no_grad():
        size = kernel.diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=torch.finfo(kernel.dtype).tiny)
        jitter = torch.diag_embed((_JITTER * size).unsqueeze(1).expand(one_hot.shape[:2]))
        dual, system = _interior_point(kernel + jitter, one_hot, C)
    if not (torch.is_grad_enabled() and kernel.requires_grad):
        return dual
    # A change of the kernel moves the stationarity conditions by dK α, which the solution's Newton step undoes.
    return dual + system.solve((kernel.detach() - kernel) @ dual)


class _Newton:
    """The linear system of a Newton step: ``(K + D_k) x_k + ν = r_k`` for every class k, and ``Σ_k x_k = 0``.

    Classes are tied by ν alone, which one system of the examples' number finds: the cost grows with the number of
    classes, not with its cube.

    Parameters
    ----------
    kernel : Tensor of shape [tasks, n, n]
        Zero in the rows and columns of examples that do not count.
    diagonal : Tensor of shape [tasks, n, n_way]
        D, positive.
    live : Tensor of shape [tasks, n, n_way], bool
        Which variables there are; the others are held at zero.
    """

    def __init__(self, kernel: Tensor, diagonal: Tensor, live: Tensor) -> None:
        blocks = kernel.unsqueeze(1).repeat(1, live.shape[2], 1, 1)
        blocks.diagonal(dim1=2, dim2=3).add_(diagonal.mT)
        # Numbers that are not finite pass through, for the loss to tell of them.
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(blocks).L)
        self.live = live.to(kernel)
        classes = self.live.amax(dim=1).unsqueeze(1)
        summed = (classes @ self.inverse.flatten(2)).view_as(kernel)
        summed.diagonal(dim1=1, dim2=2).add_(~live.any(dim=2))
        self.summed = torch.linalg.cholesky_ex(summed).L

    def solve(self, right: Tensor) -> Tensor:
        """Return x [tasks, n, n_way] for r [tasks, n, n_way]."""
        found = self._invert(right)
        for _ in range(2):  # the second time for what rounding left of the sum
            shift = torch.cholesky_solve(found.sum(dim=2, keepdim=True), self.summed)
            found = found - self._invert(shift.expand_as(right))
        return found

    def _invert(self, right: Tensor) -> Tensor:
        return (self.inverse @ (right * self.live).mT.unsqueeze(-1)).squeeze(-1).mT * self.live


def _interior_point(kernel: Tensor, one_hot: Tensor, C: float) -> tuple[Tensor, _Newton]:
    """Mehrotra's predictor-corrector method; returns α and the Newton system there.

    The slack ``C one_hot - α`` and its multiplier stay positive while their product goes to zero. Other conditions are
    linear, and hold at the start and after every step.
    """
    live = (one_hot.any(dim=2, keepdim=True) & one_hot.any(dim=1, keepdim=True)).expand_as(one_hot)
    count = live.sum(dim=(1, 2)).clamp(min=1)
    even = live.to(kernel) / live.sum(dim=2, keepdim=True).clamp(min=1)
    dual = C * (one_hot - even)
    slack = torch.where(live, C * one_hot - dual, 1)
    slope = torch.where(live, kernel @ dual - one_hot, -torch.inf)
    multiplier = torch.where(live, 1 + slope.amax(dim=2, keepdim=True) - slope, 1)

    def gap(slack: Tensor, multiplier: Tensor) -> Tensor:
        """Mean product of slack and multiplier, [tasks, 1, 1]."""
        return ((slack * multiplier * live).sum(dim=(1, 2)) / count).view(-1, 1, 1)

    for _ in range(_MOST_STEPS):
        system = _Newton(kernel, multiplier / slack, live)
        now = gap(slack, multiplier)
        unsolved = now * count.view_as(now) > _GAP * (dual * one_hot).sum(dim=(1, 2)).view_as(now)
        if not unsolved.any():
            break
        descent = one_hot - kernel @ dual
        target = torch.zeros_like(slack)
        for part in ("predictor", "corrector"):
            move = system.solve(descent - target / slack)
            turn = (target + multiplier * move) / slack - multiplier
            length = _longest(slack, -move, multiplier, turn, live)
            if part == "predictor":
                left = gap(slack - length * move, multiplier + length * turn)
                target = (left / now) ** 3 * now + move * turn
        length = 0.995 * length * unsolved
        dual = dual + length * move
        slack = torch.where(live, slack - length * move, 1)
        multiplier = torch.where(live, multiplier + length * turn, 1)
    return dual, system


def _longest(slack: Tensor, move: Tensor, multiplier: Tensor, turn: Tensor, live: Tensor) -> Tensor:
    """The longest step, at most 1, after which both are still not negative, [tasks, 1, 1]."""
    shrink = torch.maximum(-move / slack, -turn / multiplier) * live
    return 1 / shrink.amax(dim=(1, 2), keepdim=True).clamp(min=1)
