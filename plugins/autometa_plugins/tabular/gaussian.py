"""A Gaussian for each class and column."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

_MEAN_ROWS, _VARIANCE_ROWS, _VARIANCE_SUM = 0.5, 3.0, 1.8
"""Mean and variance are shrunk as if there were half a row at 0 and three rows of the variance 0.6."""


def gaussian_classes(
    rows: Float[Tensor, "task row column"],
    support: Float[Tensor, "task support column"],
    members: Float[Tensor, "task support way"],
    speaks: Bool[Tensor, "task 1 column"],
    own: Float[Tensor, "task row way"] | None = None,
) -> Float[Tensor, "task row way"]:
    """Sum over the columns the log density of each class's Gaussian, mean and variance shrunk (naive Bayes).

    Parameters
    ----------
    rows, support : Tensor of shape [tasks, n, columns]
        asinh z.
    members : Tensor of shape [tasks, n_support, n_way]
        One-hot classes of the support rows, zero where padded.
    speaks : Tensor of shape [tasks, 1, columns], bool
        The columns of numbers; others do not count.
    own : Tensor of shape [tasks, n, n_way], optional
        One-hot classes of the rows where they are support rows themselves, to be left out of their own densities.
    """
    x = rows.unsqueeze(2)
    counts = members.sum(dim=1)[:, None, :, None]
    first, second = ((members.mT @ power).unsqueeze(1) for power in (support, support.square()))
    if own is not None:
        left = own.unsqueeze(-1)
        counts, first, second = counts - left, first - left * x, second - left * x.square()
    mean = first / (counts + _MEAN_ROWS)
    scatter = (second - 2 * mean * first + counts * mean.square()).clamp(min=0)
    variance = (scatter + _VARIANCE_SUM) / (counts + _VARIANCE_ROWS)
    log_density = -((x - mean).square() / variance + variance.log()) / 2
    return (log_density * speaks.unsqueeze(2)).sum(dim=-1)
