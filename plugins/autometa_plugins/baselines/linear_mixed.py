"""A linear mixed model of statsmodels, and the best linear unbiased prediction of a new entity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.linalg import qr
from scipy.optimize import minimize
from torch import Tensor, nn

import autometa as am
from autometa_plugins.baselines.entity_learner import EntityLearner, rows_of
from autometa_plugins.baselines.estimators import Array, array
from autometa_plugins.baselines.extras import needed
from autometa_plugins.baselines.memory import EntityRows, TrainingRows

if TYPE_CHECKING:
    from optuna import Trial

EFFECTS = ("intercept", "slopes")
_LEAST_RATIO = 1e-6
"""Least variance of effects in units of the noise, and the other way round; what is near it is no effect."""
_INDEPENDENT = 1e-7
"""Least part of a column, relative to the largest, that no other columns tell."""


class LinearMixed(EntityLearner):
    """A linear mixed model: ``y = b'x + intercept + u + noise``, with u of each entity Gaussian.

    Fitted to remembered meta-train rows by restricted maximum likelihood (statsmodels, ``MixedLM``; extra ``mixed``).
    What a new entity's few rows tell of its u is the best linear unbiased prediction (Henderson 1975). Several targets
    are independent. A saved model is numbers alone.

    Parameters
    ----------
    effects : {"intercept", "slopes"}, default="intercept"
        What of u varies among entities: the intercept, or also the slopes of all features, independently and with one
        variance for all.
    max_rows : int, default=5000
        Rows remembered at most.

    References
    ----------
    C. R. Henderson: Best linear unbiased estimation and prediction under a selection model. Biometrics 31, 1975.
    S. Seabold, J. Perktold: statsmodels: Econometric and statistical modeling with python. SciPy 2010.
    """

    name: ClassVar[str] = "linear_mixed"
    provides: ClassVar[frozenset[str]] = frozenset({"memory", "distribution", "calibrated"})

    def __init__(self, effects: str = "intercept", max_rows: int = 5000) -> None:
        self.effects = effects
        self.max_rows = max_rows

    def check(self, info: am.TaskInfo) -> None:
        """Refuse an unknown kind of effects, classes, and an installation without statsmodels."""
        if info.problem_record.has_classes:
            raise am.Incompatible("learner 'linear_mixed' is for regression; for classes use 'mixed_effects'.")
        am.check_choice("effects", self.effects, EFFECTS, of="learner 'linear_mixed'")
        needed("statsmodels", learner=self.name, extra="mixed")

    def memory(self, has_classes: bool, n_features: int, n_outputs: int) -> EntityRows:
        """Return an empty memory, and zeros in the place of what will be learned."""
        return _MixedRows(n_features, n_outputs, self.max_rows)

    def learn(self, rows: TrainingRows) -> Mixed:
        """Fit one model for each target."""
        slopes = self.effects == "slopes"
        return Mixed.of([fit_one(rows.x, y, rows.entity, slopes=slopes) for y in rows.targets.T], rows.x.shape[1])

    def settle(self, module: nn.Module) -> None:
        """Fit, keep the numbers, and drop the rows."""
        assert isinstance(module, _MixedRows)
        if len(module):
            module.hold(module.model(self.learn))

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of new observations, each [tasks, n, n_outputs]."""
        assert isinstance(module, EntityRows)
        deviation = module.model(self.learn).deviation(rows_of(x), array(adapted["known"]))
        return self.predict(module, adapted, x), self.like(x, deviation)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> LinearMixed:
        """Search what varies among entities."""
        return cls(effects=trial.suggest_categorical("effects", EFFECTS))


@dataclass(frozen=True, slots=True)
class Mixed:
    """Fixed effects and variances of linear mixed models, one for each target.

    Parameters
    ----------
    coefficients : array of shape [n_outputs, 1 + n_features]
        The intercept comes first.
    variances : array of shape [n_outputs, 3]
        Of the noise, of intercepts and of each slope.
    """

    coefficients: Array
    variances: Array

    @classmethod
    def of(cls, fits: list[tuple[Array, Array]], n_features: int) -> Mixed:
        """Put the fits of all targets together."""
        return cls(
            np.reshape([coefficients for coefficients, _ in fits], (-1, 1 + n_features)),
            np.reshape([variances for _, variances in fits], (-1, 3)),
        )

    def know(self, x: Array, targets: Array) -> Array:
        """Return the effects of an entity, [n_outputs, effects], and their covariance, both as one vector."""
        design = _design(x)
        parts = []
        for beta, (noise, *_), prior, y in zip(
            self.coefficients, self.variances, self._priors(), targets.T, strict=True
        ):
            cross = design * prior
            whole = cross @ design.T + noise * np.eye(len(x))
            solved = np.linalg.solve(whole, np.column_stack([y - design @ beta, cross]))
            parts.append(np.column_stack([cross.T @ solved[:, 0], np.diag(prior) - cross.T @ solved[:, 1:]]))
        return np.concatenate([part.ravel() for part in parts])

    def answer(self, x: Array, known: Array) -> Array:
        """Means, [tasks, n, n_outputs]."""
        return np.asarray(np.einsum("tnf,tof->tno", _design(x), self.coefficients + self._parts(known)[..., 0]))

    def deviation(self, x: Array, known: Array) -> Array:
        """Standard deviations of new observations, [tasks, n, n_outputs]."""
        design = _design(x)
        uncertain = np.einsum("tnf,tofg,tng->tno", design, self._parts(known)[..., 1:], design)
        return np.asarray(np.sqrt(np.maximum(uncertain, 0) + self.variances[:, 0]))

    def _parts(self, known: Array) -> Array:
        n_outputs, n_effects = self.coefficients.shape
        return known.reshape(len(known), n_outputs, n_effects, 1 + n_effects)

    def _priors(self) -> Array:
        """Variance of every effect, [n_outputs, 1 + n_features]."""
        n_features = self.coefficients.shape[1] - 1
        return np.repeat(self.variances[:, 1:], [1, n_features], axis=1)


def fit_one(x: Array, y: Array, entity: Array, *, slopes: bool) -> tuple[Array, Array]:
    """Fit a linear mixed model; return coefficients [1 + n_features] and variances of noise, intercepts and slopes.

    Features that others tell have the coefficient 0. Where rows cannot tell variances apart (no entity has two rows,
    or there is one entity), noise and intercepts have the same.
    """
    n, n_features = x.shape
    coefficients, spread = np.zeros(1 + n_features), np.array([1.0, 1.0, 1.0 / max(1, n_features) if slopes else 0.0])
    if not n:
        return coefficients, spread
    columns = np.r_[0, 1 + _independent(x)]
    design = _design(x)[:, columns]
    coefficients[columns] = np.linalg.lstsq(design, y, rcond=None)[0]
    left = float(np.square(y - design @ coefficients[columns]).sum() / max(1, n - len(columns)))
    if left <= 1e-12 * float(y.var()) + 1e-24 * float(np.square(y).mean()):  # nothing is left but rounding
        return coefficients, np.array([max(left, 1e-12), 0.0, 0.0])
    n_entities = len(np.unique(entity))
    if n_entities < 2 or n_entities == n or n <= len(columns) + 1:
        # Where each entity has one row, what is left is both together.
        return coefficients, left * spread / (2 if n_entities == n else 1)
    scale = np.sqrt(left)
    found, variances = _restricted_maximum(design, y / scale, x, entity, slopes)
    coefficients[columns] = found * scale
    return coefficients, variances * left


def _restricted_maximum(design: Array, y: Array, x: Array, entity: Array, slopes: bool) -> tuple[Array, Array]:
    """Return coefficients, and variances of noise, intercepts and slopes.

    The likelihood of statsmodels is climbed within bounds and without slopes of it, as the ways that it offers leave
    for a flat end of it where entities hardly differ.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMParams, VCSpec

    order = [np.flatnonzero(entity == number) for number in np.unique(entity)]
    names, columns, matrices = ["intercepts"], [[["1"]] * len(order)], [[np.ones((len(own), 1)) for own in order]]
    if slopes:
        names.append("slopes")
        columns.append([[str(j) for j in range(x.shape[1])]] * len(order))
        matrices.append([x[own] for own in order])
    model = MixedLM(y, design, groups=entity, exog_vc=VCSpec(names, columns, matrices))
    model.cov_pen = model.fe_pen = None  # which its own fit sets
    nothing = np.zeros((0, 0))

    def loss(logs: Array) -> float:
        parts = MixedLMParams.from_components(cov_re=nothing, vcomp=np.exp(logs))
        return -float(model.loglike(parts, profile_fe=True)) / len(y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances at the edge, where entities do not differ
        bounds = [(math.log(_LEAST_RATIO), math.log(1 / _LEAST_RATIO))] * len(names)
        ratios = np.exp(minimize(loss, np.zeros(len(names)), method="Powell", bounds=bounds).x)
        coefficients = np.asarray(model.get_fe_params(nothing, ratios)[0])
        noise = float(model.get_scale(coefficients, nothing, ratios))
    ratios[ratios < 2 * _LEAST_RATIO] = 0.0  # only now, as statsmodels divides by them
    return coefficients, np.array([noise, *(noise * ratios), 0.0][:3])


def _independent(x: Array) -> Array:
    """Numbers of columns of x that neither a constant nor the columns before them tell, in order."""
    centred = x - x.mean(0)
    scale = np.sqrt(np.square(centred).mean(0))
    kept = np.flatnonzero(scale > _INDEPENDENT * np.maximum(1.0, np.abs(x).max(0)))
    if not len(kept):
        return kept
    triangle, pivots = qr(centred[:, kept] / scale[kept], mode="r", pivoting=True)
    sizes = np.abs(np.diag(triangle))
    return np.sort(kept[pivots[: len(sizes)][sizes > _INDEPENDENT * sizes[0]]])


def _design(x: Array) -> Array:
    """Rows with a one in front, [..., 1 + n_features]."""
    return np.concatenate([np.ones((*x.shape[:-1], 1)), x], axis=-1)


class _MixedRows(EntityRows):
    """Rows until the model is fitted, and its numbers from then on."""

    coefficients: Tensor
    variances: Tensor
    settled: Tensor

    def __init__(self, n_features: int, n_outputs: int, max_rows: int) -> None:
        super().__init__(False, n_features, n_outputs, max_rows)
        self.register_buffer("coefficients", torch.zeros(n_outputs, 1 + n_features))
        self.register_buffer("variances", torch.zeros(n_outputs, 3))
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool))

    def hold(self, model: Mixed) -> None:
        """Take over the numbers of a model, and drop the rows."""
        self.coefficients.copy_(torch.from_numpy(model.coefficients))
        self.variances.copy_(torch.from_numpy(model.variances))
        self.settled.fill_(True)
        self.clear()

    def keep(self, batch: am.TaskBatch) -> int:
        """Append rows; what was fitted before is forgotten."""
        self.settled.fill_(False)
        return super().keep(batch)

    def model(self, learn: Callable[[TrainingRows], Any]) -> Any:
        """Return the model of the numbers, or of the rows while they come."""
        if not self.settled:
            return super().model(learn)
        return Mixed(*(part.detach().cpu().double().numpy() for part in (self.coefficients, self.variances)))
