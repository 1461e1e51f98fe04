"""What meta-training leaves: numbers in buffers, and the rows of training entities as far as they are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from autometa_plugins.tabular.effects.choice import choose
from autometa_plugins.tabular.effects.episodes import SHOTS
from autometa_plugins.tabular.effects.estimators import ESTIMATORS, fit_named
from autometa_plugins.tabular.effects.kernels import EffectColumns
from autometa_plugins.tabular.effects.memory import Rows
from autometa_plugins.tabular.effects.newcomers import Model
from autometa_plugins.tabular.effects.pools import Answer, Pool
from autometa_plugins.tabular.effects.remembered import Index
from autometa_plugins.tabular.effects.training_rows import TrainingRows

_POOLS = ("pool", "population")
_PLAIN = (10.0, 3.0, 10.0)
"""Variances of intercept, all slopes and all curves where nothing is known of other tasks, and targets have variance 1;
in units of the noise."""
_PLAIN_NOISE, _PLAIN_DEGREES = 0.1, 4.0


@dataclass(slots=True)
class _Kept:
    """A model made once for all copies of a module, and what finds the rows it was made of."""

    model: Model | None = None
    index: Index | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Kept:
        return self

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()  # a pickle makes the model again of rows and numbers, as a file does


class Effects(nn.Module):
    """Rows to choose a model by, then the model chosen.

    While rows come, a model is made of them when one is asked for, and kept until the next rows. Copies share it.

    Parameters
    ----------
    columns : EffectColumns
    n_features, n_outputs : int
    has_classes : bool
    pool : str or estimator
    max_rows : int
    """

    settled: Tensor
    noise: Tensor
    pool_coefficients: Tensor

    def __init__(
        self,
        columns: EffectColumns,
        n_features: int,
        n_outputs: int,
        has_classes: bool,
        pool: str | BaseEstimator,
        max_rows: int,
    ) -> None:
        super().__init__()
        self.columns, self.has_classes, self.pool_wanted = columns, has_classes, pool
        self.memory = Rows(n_features, n_outputs, max_rows)
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool))
        self.register_buffer("weights", torch.zeros(columns.n_kernels))
        self.register_buffer("mixed_weights", torch.zeros(columns.n_kernels))
        self.register_buffer("noise", torch.ones(n_outputs))
        self.register_buffer("degrees", torch.ones(()))
        self.register_buffer("calibration", torch.ones(len(SHOTS)))
        for pool_name in _POOLS:
            self.register_buffer(f"{pool_name}_coefficients", torch.zeros(1 + n_features, n_outputs))
            self.register_buffer(f"{pool_name}_estimator", torch.zeros((), dtype=torch.int64))
            for name in ("share", "temperature"):
                self.register_buffer(f"{pool_name}_{name}", torch.zeros(()))
        self._kept = _Kept()

    def reopen(self) -> None:
        """Forget the model, as further rows come."""
        self.settled.fill_(False)
        self._kept = _Kept()

    def settle(self) -> None:
        """Choose the model, keep its numbers, and drop the rows unless a pool has to be fitted to them again."""
        if not len(self.memory):
            return
        model = choose(self._training_rows(), self.pool_wanted)
        for name in ("weights", "mixed_weights", "noise", "degrees", "calibration"):
            self._set(name, getattr(model, name))
        for name in _POOLS:
            pool: Pool = getattr(model, name)
            self._set(f"{name}_coefficients", pool.coefficients)
            self._set(f"{name}_estimator", ESTIMATORS.index(pool.kind))
            self._set(f"{name}_share", pool.share)
            self._set(f"{name}_temperature", pool.temperature)
        self.settled.fill_(True)
        fitted = {pool.kind: pool.estimator for pool in (model.pool, model.population)}
        if not any(fitted.values()):
            self.memory.clear()
        elif model.told is not None:
            self.memory.keep_answers(model.told)
        self._kept = _Kept(self._from_buffers(fitted))

    def model(self) -> Model:
        """Return what new entities are answered with."""
        if self._kept.model is None:
            if bool(self.settled):
                self._kept.model = self._from_buffers({})
            elif len(self.memory):
                self._kept.model = choose(self._training_rows(), self.pool_wanted)
            else:
                self._kept.model = self._plain()
        return self._kept.model

    def remembered(self, x: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a pool that has not seen the entity answers for rows [tasks, n], and which rows have that."""
        told = self.memory.told.cpu().double()
        if not len(told):
            return torch.zeros_like(targets), torch.zeros_like(mask)
        if self._kept.index is None:
            self._kept.index = self.memory.index()
        places = self._kept.index.find(x, targets, mask)
        return told[places.clamp_min(0)], places >= 0

    def _set(self, name: str, value: Any) -> None:
        getattr(self, name).copy_(torch.as_tensor(value))

    def _training_rows(self) -> TrainingRows:
        x, targets, entity = self.memory.in_order()
        return TrainingRows(x=x, targets=targets, entity=entity, columns=self.columns, has_classes=self.has_classes)

    def _from_buffers(self, fitted: Mapping[str | None, Answer | None]) -> Model:
        number = {name: buffer.cpu().double() for name, buffer in self.named_buffers() if "." not in name}
        known = dict(fitted)

        def pool(name: str) -> Pool:
            kind = ESTIMATORS[int(number[f"{name}_estimator"])]
            if kind is not None and kind not in known:
                known[kind] = fit_named(kind, self._training_rows(), number["mixed_weights"], self.pool_wanted)
            return Pool(
                coefficients=number[f"{name}_coefficients"].numpy(),
                share=float(number[f"{name}_share"]),
                kind=kind,
                estimator=known.get(kind),
                temperature=float(number[f"{name}_temperature"]),
                has_classes=self.has_classes,
            )

        return Model(
            pool=pool("pool"),
            population=pool("population"),
            weights=number["weights"],
            mixed_weights=number["mixed_weights"],
            noise=number["noise"],
            degrees=float(number["degrees"]),
            calibration=number["calibration"],
            columns=self.columns,
            has_classes=self.has_classes,
        )

    def _plain(self) -> Model:
        n = max(1, len(self.columns))
        intercept, slopes, curves = _PLAIN
        weights = torch.tensor([intercept, *[slopes / n] * n, *[curves / n] * n], dtype=torch.float64)
        nothing = Pool(coefficients=self.pool_coefficients.cpu().double().numpy(), has_classes=self.has_classes)
        return Model(
            pool=nothing,
            population=nothing,
            weights=weights,
            mixed_weights=weights,
            noise=torch.full(self.noise.shape, _PLAIN_NOISE, dtype=torch.float64),
            degrees=_PLAIN_DEGREES,
            calibration=torch.ones(len(SHOTS), dtype=torch.float64),
            columns=self.columns,
            has_classes=self.has_classes,
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = self.noise.dtype
        applied = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if torch.finfo(self.noise.dtype).bits < torch.finfo(before).bits:
            self._kept = _Kept()  # as its numbers were rounded
        return applied

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._kept = _Kept()
        super()._load_from_state_dict(*arguments)
