"""From a user's raw rows to a task sampler's inputs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class RowEncoder(Protocol):
    """What a task sampler of raw rows gives to the estimators; ``autometa.TableEncoder`` is one.

    Attributes
    ----------
    n_features_in_ : int
        Columns of a raw row.
    classes_ : ndarray
        Sorted labels; classification only.
    target_mean_, target_scale_ : float
        What standardises targets; 0 and 1 unless the problem is a regression.
    """

    n_features_in_: int
    classes_: NDArray[Any]
    target_mean_: float
    target_scale_: float

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Encode raw rows, [n, n_features_out]; finite everywhere."""

    def encode_target(self, y: Any) -> NDArray[Any]:
        """Standardised targets (float32) or class indices (int64), [n]."""

    def to_json(self) -> str:
        """Everything learned, as text."""
