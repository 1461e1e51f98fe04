"""Few-shot classification as a scikit-learn estimator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets

from autometa.contracts.encoder import TableEncoder
from autometa.errors import InvalidData
from autometa.estimators.base import FewShotEstimator
from autometa.estimators.state import Affine, MetaTrained


class FewShotClassifier(ClassifierMixin, FewShotEstimator):
    problem: ClassVar[str] = "classification"

    def fit(self, X: Any, y: Any) -> Self:
        rows = self._rows(X, reset=True)
        y = self._checked_y(X, y, multi_output=False, numeric=False)
        check_classification_targets(y)
        meta: MetaTrained | None = getattr(self, "_meta", None)
        inputs = Affine.standardising(rows) if meta is None else None
        rows = rows if inputs is None else inputs.encode(rows)
        encoder = None if meta is None or not meta.info.shared_classes else meta.encoder
        if encoder is not None:
            return self._fit_shared(rows, y, encoder)
        classes, coded = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InvalidData(_ONE_CLASS.format(classes[0]))
        fitted = self._adapt(rows, coded, len(classes), inputs=inputs, targets=None)
        self.classes_ = classes
        self._hold(fitted)
        return self

    def _fit_shared(self, rows: NDArray[Any], y: NDArray[Any], encoder: TableEncoder) -> Self:
        """Fit labels that mean what they meant in meta-training."""
        coded = encoder.encode_target(y)
        seen = np.unique(coded)
        learner = self._learner_now()
        if len(seen) < 2 and not learner.predicts_unseen_classes:
            raise InvalidData(_ONE_CLASS.format(encoder.classes_[seen[0]]))
        fitted = self._adapt(rows, coded, len(encoder.classes_), inputs=None, targets=None)
        columns = None if learner.predicts_unseen_classes else seen
        self.classes_ = encoder.classes_ if columns is None else encoder.classes_[columns]
        self._hold(replace(fitted, columns=columns))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        return softmax(self._outputs(X), axis=1)  # type: ignore[no-any-return]

    def predict(self, X: Any) -> NDArray[Any]:
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = self._means_nothing_yet()
        return tags


_ONE_CLASS = "y holds one class only, {!r}; a classifier needs rows of at least 2 classes."
