"""From the features of a table's rows back to its columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

import autometa as am


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a table: numeric columns first, then categorical ones.

    Parameters
    ----------
    entries : Tensor of shape [tasks, n, columns]
        Numbers, and the number of the level from 1 on; 0 is no level.
    known : Tensor of shape [tasks, n, columns], bool
        False where a value is missing, or of a level that has no feature.
    n_categorical : int
        How many columns are categorical.
    """

    entries: Float[Tensor, "task row column"]
    known: Bool[Tensor, "task row column"]
    n_categorical: int

    def join(self, other: Cells) -> Cells:
        """Return the cells of these rows and of further ones."""
        entries = torch.cat([self.entries, other.entries], dim=1)
        return Cells(entries, torch.cat([self.known, other.known], dim=1), self.n_categorical)

    def part(self, rows: slice) -> Cells:
        """Return some of the rows."""
        return Cells(self.entries[:, rows], self.known[:, rows], self.n_categorical)


class TableColumns(nn.Module):
    """Read cells from features, as ``TaskInfo.feature_kinds`` and ``feature_columns`` describe them.

    A column is numeric or categorical; a categorical one has a feature for each level. Where ``TaskInfo`` tells
    neither, every feature is a numeric column.

    Attributes
    ----------
    n_columns, n_categorical : int
    """

    numeric: Tensor
    absent: Tensor
    categorical: Tensor
    levels: Tensor

    def __init__(self, info: am.TaskInfo) -> None:
        super().__init__()
        n_features = torch.Size(info.input_shape).numel()
        kinds = info.feature_kinds or ("numeric",) * n_features
        sources = info.feature_columns or tuple(range(n_features))
        features = range(n_features)
        numeric = [i for i in features if kinds[i] == "numeric"]
        categorical = [i for i in features if kinds[i] == "categorical"]
        order = [sources[i] for i in numeric]
        n_numeric = len(order)
        order += sorted({sources[i] for i in categorical})
        levels = torch.zeros(len(categorical), len(order) - n_numeric)
        for place, i in enumerate(categorical):
            column = order.index(sources[i], n_numeric) - n_numeric
            levels[place, column] = levels[:, column].max() + 1
        where_missing = {sources[i]: i for i in features if kinds[i] == "missing"}
        self.n_columns, self.n_categorical = len(order), len(order) - n_numeric
        self._never_missing = not where_missing
        # The last place stands for a feature that is always 0.
        absent = [where_missing.get(source, n_features) for source in order]
        for name, value in (("numeric", numeric), ("categorical", categorical), ("absent", absent)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.int64), persistent=False)
        self.register_buffer("levels", levels, persistent=False)

    def read(self, x: Float[Tensor, "task row feature"]) -> Cells:
        """Return the cells of rows."""
        values = x[..., self.numeric]
        if self.n_categorical:
            level = (x[..., self.categorical] @ self.levels.to(x.dtype)).round()
            values = torch.cat([values, level], dim=-1)
        known = torch.ones_like(values, dtype=torch.bool)
        if self.n_categorical:
            known[..., -self.n_categorical :] = values[..., -self.n_categorical :] > 0
        if not self._never_missing:
            known &= nn.functional.pad(x, (0, 1))[..., self.absent] < 0.5
        return Cells(values, known, self.n_categorical)
