"""A block of tables in the making: sizes, columns and targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from autometa_plugins.tabular.priors.draws import Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Sizes of a block of tables.

    Parameters
    ----------
    n_tables, n_rows, n_columns : int
    n_categorical : int
        The last columns are categorical.
    n_levels : int
        Most levels of a categorical column.
    n_classes : int
        0 for real targets.
    n_each : int
        Fewest rows of a class.
    """

    n_tables: int
    n_rows: int
    n_columns: int
    n_categorical: int
    n_levels: int
    n_classes: int
    n_each: int

    @property
    def n_numeric(self) -> int:
        """Columns of numbers."""
        return self.n_columns - self.n_categorical

    @property
    def n_scores(self) -> int:
        """Scores of a row, from which its class or target is made."""
        return max(self.n_classes, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Rows of a block of tables before marginals are bent and cells go missing.

    Parameters
    ----------
    columns : Tensor of shape [tables, rows, columns], float64
        Numbers, then the levels of categorical columns, counted from 0.
    scores : Tensor of shape [tables, rows, n_scores], float64
        What targets are made from.
    labels : Tensor of shape [tables, rows], int64, optional
        Classes, where the family draws them itself.
    exact : Tensor of shape [tables, columns], bool, optional
        Columns whose values must stay as they are, because a rule depends on each.
    """

    columns: Float[Tensor, "table row column"]
    scores: Float[Tensor, "table row score"]
    labels: Int[Tensor, "table row"] | None = None
    exact: Bool[Tensor, "table column"] | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of relation between columns and target.

    Parameters
    ----------
    draw : callable
        Draws a block of tables.
    by_ease : bool, default=True
        Whether tables that a simple kernel cannot predict are mostly dropped.
    """

    draw: Callable[[Draws, Size], Draft]
    by_ease: bool = True


def standardise(x: Tensor) -> Tensor:
    """Shift and scale every column of every table to mean 0 and deviation 1; constant columns become 0."""
    centred = x - x.mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True).sqrt() + 1e-6)


def pick_columns(x: Tensor, places: Tensor) -> Tensor:
    """Select columns by their places in every table, [tables, n]."""
    return x.gather(2, places.unsqueeze(1).expand(-1, x.shape[1], -1))


def pick_rows(x: Tensor, places: Tensor) -> Tensor:
    """Select rows by their places in every table, [tables, n]."""
    if x.dim() == 2:
        return x.gather(1, places)
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[2]))
