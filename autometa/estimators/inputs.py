"""From the rows a user gives to the inputs a learner takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autometa.errors import InvalidData


def flat_rows(X: Any, input_shape: tuple[int, ...]) -> Any:
    """Lay out examples of ``input_shape`` as rows [n, n_features]; what is a plain table already stays as it is.

    Parameters
    ----------
    X : array of shape [n, *input_shape], [n, height, width] for images of one channel, or [n, n_features]
        Integer images 0 .. 255 (uint8) are scaled to [0, 1], as samplers of images do.

    Raises
    ------
    InvalidData
        Another shape.
    """
    shape = np.shape(X) if not hasattr(X, "shape") else tuple(X.shape)
    is_image = len(input_shape) == 3
    if is_image and getattr(X, "dtype", None) == np.uint8:
        X = np.asarray(X) / 255.0
    if len(shape) <= 2:
        return X
    given = tuple(shape[1:])
    if given != input_shape and not (is_image and input_shape[0] == 1 and given == input_shape[1:]):
        takes = " or ".join(str(("n", *s)).replace("'", "") for s in _layouts(input_shape))
        raise InvalidData(f"X has the shape {tuple(shape)}; this estimator was meta-trained on {takes}.")
    return np.asarray(X).reshape(shape[0], -1)


def n_features(input_shape: tuple[int, ...]) -> int:
    """Number of values of one example."""
    return math.prod(input_shape)


def shaped(rows: NDArray[Any], input_shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows [n, n_features] as [n, *input_shape]."""
    return rows.reshape(len(rows), *input_shape)


def _layouts(input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    layouts = [input_shape]
    if len(input_shape) == 3 and input_shape[0] == 1:
        layouts.append(input_shape[1:])
    if len(input_shape) > 1:
        layouts.append((n_features(input_shape),))
    return layouts
