"""Logistic regression of many tasks at once, to the optimum."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import autometa as am

_NEWTON_STEPS = 100
_INNER_STEPS = 200
_HALVINGS = 30


@torch.no_grad()
def fit_logistic(
    features: Float[Tensor, "task n feature"], support: am.Examples, *, C: float = 1.0
) -> dict[str, Tensor]:
    """Minimize ``C * cross-entropy + |weight|² / 2`` of every task, the intercept being free.

    The problem of scikit-learn's ``LogisticRegression``, by Newton's method. As there, a task of two classes has one
    weight vector to penalize, not one for each class: its ``C`` counts half here. Each Newton direction is found by
    conjugate gradients, preconditioned by the bound on the curvature that no prediction exceeds (Böhning 1992,
    Multinomial logistic regression algorithm, section 2). Where there are fewer examples than features the weights
    are sought in the examples' span, where the optimum lies. What is returned holds no graph.

    Parameters
    ----------
    features : Tensor of shape [tasks, n, n_features]
    support : Examples
        Classes and mask of the same ``n`` examples.
    C : float, default=1.0
        Inverse strength of the penalty; positive.

    Returns
    -------
    dict of ``weight`` [tasks, n_classes, n_features] and ``bias`` [tasks, n_classes]
        A class that a task lacks has zeros, so has a task without examples.
    """
    # Apple's devices have no double precision.
    exact = features.dtype if features.device.type == "mps" else torch.float64
    mask = support.mask.unsqueeze(-1).to(exact)
    rows = features.to(exact) * mask
    n, n_features = rows.shape[1:]
    span = None
    if n < n_features:
        span, triangle = torch.linalg.qr(rows.mT)
        rows = triangle.mT
    inputs = torch.cat([rows, mask], dim=-1)
    examples = support.with_parts(x=inputs)
    n_present = support.one_hot().any(dim=1).sum(dim=-1)
    strength = torch.where(n_present == 2, C / 2, C).to(exact)
    solution = _Newton(examples, strength[:, None, None]).solve()
    weight, bias = solution[:, :-1], solution[:, -1]
    weight = weight if span is None else span @ weight
    return {"weight": weight.mT.to(features.dtype), "bias": bias.to(features.dtype)}


class _Newton:
    """Newton's method on ``C * cross-entropy + |weight|² / 2``; variables are [tasks, features + 1, classes].

    Parameters
    ----------
    examples : Examples
        Inputs [tasks, n, features + 1], zero where padded; the last column is the mask.
    C : Tensor of shape [tasks, 1, 1]
    """

    def __init__(self, examples: am.Examples, C: Tensor) -> None:
        x: Tensor = examples.x
        self.x, self.loss = x, am.SupportLoss(examples)
        self.present = examples.one_hot().any(dim=1, keepdim=True)
        # The loss is a mean over the examples, here they are summed.
        self.strength = C * x[..., -1:].sum(dim=1, keepdim=True)
        self.pull = self.strength * x.mT
        self.penalty = torch.ones(x.shape[-1], 1, dtype=x.dtype, device=x.device)
        self.penalty[-1] = 0
        bound = C / 2 * (x.mT @ x) + torch.diag_embed(self.penalty.squeeze(1))
        # Without examples the intercept has no curvature at all; any will do, as there is no gradient either.
        bound[:, -1, -1] += (self.strength[:, 0, 0] == 0).to(x.dtype)
        self.bound = torch.linalg.cholesky(bound)

    def solve(self) -> Tensor:
        """Descend until no task has a gradient left above rounding."""
        w = self.x.new_zeros(len(self.x), self.x.shape[-1], self.loss.n_outputs)
        value, p = self._value(w)
        # In this norm no gradient of n examples is longer than sqrt(2 C n).
        longest = (2 * self.strength).sqrt()
        rounding = torch.finfo(w.dtype).eps
        goes_on = torch.ones_like(longest, dtype=torch.bool)
        for _ in range(_NEWTON_STEPS):
            gradient = self._gradient(w, p)
            goes_on = goes_on & (self._length(gradient) > 1e3 * rounding * longest)
            if not goes_on.any():
                break
            direction = self._direction(gradient * goes_on, p)
            slope = _dot(direction, gradient)
            step = goes_on.to(w.dtype)
            for _ in range(_HALVINGS):
                new_value, new_p = self._value(w + step * direction)
                fails = new_value > value + 1e-4 * step * slope + 10 * rounding * value.abs()
                if not fails.any():
                    break
                step = torch.where(fails, step / 2, step)
            goes_on = goes_on & ~fails
            w = torch.where(goes_on, w + step * direction, w)
            value, p = torch.where(goes_on, new_value, value), torch.where(goes_on, new_p, p)
        return w

    def _value(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Objective [tasks, 1, 1], and probabilities."""
        loss, p = self.loss.value_and_predictions(self.x @ w)
        return _dot(self.penalty * w, w) / 2 + self.strength * loss[:, None, None], p

    def _gradient(self, w: Tensor, p: Tensor) -> Tensor:
        gradient = self.pull @ self.loss.gradient(p) + self.penalty * w
        # It sums to zero over classes. What rounding leaves of the sum lies where the intercept has no curvature.
        total, count = gradient.sum(dim=-1, keepdim=True), self.present.sum(dim=-1, keepdim=True).clamp(min=1)
        return gradient - total / count * self.present

    def _curvature(self, v: Tensor, p: Tensor) -> Tensor:
        return self.pull @ self.loss.curvature(p, self.x @ v) + self.penalty * v

    def _length(self, gradient: Tensor) -> Tensor:
        return _dot(gradient, torch.cholesky_solve(gradient, self.bound)).clamp(min=0).sqrt()

    def _direction(self, gradient: Tensor, p: Tensor) -> Tensor:
        """Solve for the Newton direction by conjugate gradients, to a residual far below the gradient."""
        v, residual = torch.zeros_like(gradient), -gradient
        scaled = torch.cholesky_solve(residual, self.bound)
        along, size = scaled, _dot(residual, scaled)
        enough = 1e-8 * size
        for _ in range(_INNER_STEPS):
            go = size > enough
            if not go.any():
                break
            bent = self._curvature(along, p)
            length = torch.where(go, size / _dot(along, bent).clamp(min=torch.finfo(v.dtype).tiny), 0.0)
            v, residual = v + length * along, residual - length * bent
            scaled = torch.cholesky_solve(residual, self.bound)
            new_size = _dot(residual, scaled)
            along = scaled + torch.where(go, new_size / size, 0.0) * along
            size = torch.where(go, new_size, 0.0)
        return v


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2), keepdim=True)
