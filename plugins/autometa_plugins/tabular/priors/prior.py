"""What all priors of tables share: sizes, and the way from a family of functions to tasks."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import torch
from sklearn.base import clone
from torch import Tensor

import autometa as am
from autometa_plugins.tabular.priors.draft import Family, Size, pick_rows
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.ease import find_ease
from autometa_plugins.tabular.priors.features import encode_cells, feature_kinds
from autometa_plugins.tabular.priors.labels import draw_labels
from autometa_plugins.tabular.priors.marginals import bend_numbers, spoil_columns
from autometa_plugins.tabular.priors.missing import draw_missing
from autometa_plugins.tabular.priors.rows import choose_as_they_come, choose_by_class
from autometa_plugins.tabular.priors.sizes import draw_sizes
from autometa_plugins.tabular.priors.targets import draw_targets

BLOCK = 4
"""Tables drawn together: a block depends on the seed and its number alone, and so does each of its tables."""
_CANDIDATES, _ROUNDS = 8, 4
"""Tables among which a block's are chosen by ease: so many at a time, at most so many times."""
_KEPT, _KEPT_BY_EASE, _POWER = 0.03, 2.0, 2.0
"""A table is kept with the probability _KEPT + _KEPT_BY_EASE · ease to the _POWER, at most 1."""
_LEAST_ROWS = 96
_SPARE = 1.7
"""Rows that are drawn for each that is used, where classes have to be filled."""


class TablePrior(am.TaskSampler):
    """Tables of one size, each with a function, marginals and noise of its own.

    The columns of a table are skewed, heavy-tailed, stepped or binary, more so in some tables than in others; some
    repeat others or tell nothing. Features are laid out as ``TableEncoder`` lays out a real table, so a learner that
    reads tables reads these. Tables that a simple kernel cannot predict are mostly dropped, as few real ones are so
    hard.

    Parameters
    ----------
    problem : {"classification", "regression"}, default="classification"
    n_columns : int, default=8
        Columns of a table.
    n_categorical : int, default=2
        How many of them, the last ones, are categorical.
    n_levels : int, default=4
        Most levels of a categorical column; each level is a feature.
    n_classes : int, default=3
        Classification only.
    n_shot : int, default=5
        Support rows of each class if ``stratified``, else of a task.
    n_query : int, default=10
        Query rows, likewise.
    stratified : bool, default=True
        Whether classes have equally many rows. If not, rows are drawn as they come, with uneven classes, and one of
        each class in the support at least. Classification only.
    missing : bool, default=False
        Whether cells are missing, from 1% to 50% of them: at random, by the value of another column, or by their own.
    """

    name: ClassVar[str] = "prior"
    """What errors call it."""

    def __init__(
        self,
        *,
        problem: str = "classification",
        n_columns: int = 8,
        n_categorical: int = 2,
        n_levels: int = 4,
        n_classes: int = 3,
        n_shot: int = 5,
        n_query: int = 10,
        stratified: bool = True,
        missing: bool = False,
    ) -> None:
        self.problem = problem
        self.n_columns = n_columns
        self.n_categorical = n_categorical
        self.n_levels = n_levels
        self.n_classes = n_classes
        self.n_shot = n_shot
        self.n_query = n_query
        self.stratified = stratified
        self.missing = missing

    @property
    def info(self) -> am.TaskInfo:
        """Features of the columns, and classes drawn anew or one real target.

        Raises
        ------
        InvalidParameter
            A parameter is not one of its values.
        """
        self._check()
        features = feature_kinds(self.n_columns, self.n_categorical, self.n_levels, self.missing)
        return am.TaskInfo(
            problem=self.problem,
            input_shape=(len(features),),
            n_outputs=self.n_classes if self._has_classes else 1,
            n_shot=self.n_shot,
            n_query=self.n_query,
            feature_kinds=tuple(kind for kind, _ in features),
            feature_columns=tuple(column for _, column in features),
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tables; inputs [tasks, n, features], float32, classes [tasks, n] or targets [tasks, n, 1]."""
        am.check_draw(n_tasks, split, seed)
        self._check()
        blocks = [self._draw_block(Draws(seed, split, "block", i)) for i in range(-(-n_tasks // BLOCK))]
        parts = [torch.cat(tensors)[:n_tasks] for tensors in zip(*blocks, strict=True)]
        x, y, query_x, query_y = parts
        n_classes = self.n_classes if self._has_classes else 0
        return am.TaskBatch(
            support=am.Examples(x, y, n_classes=n_classes), query=am.Examples(query_x, query_y, n_classes=n_classes)
        )

    def varied(self, seed: int) -> Self:
        """Return the same prior with other sizes: those of tables as people have them, a few rows mostly."""
        self._check()
        other: Self = clone(self)
        other.set_params(**draw_sizes(self.problem, seed))
        return other

    def describe(self) -> dict[str, Any]:
        """Sizes of a table."""
        groups = self._groups
        return {
            "columns": self.n_columns,
            "categorical columns": self.n_categorical,
            "support rows": groups * self.n_shot,
            "query rows": groups * self.n_query,
            "cells are missing": bool(self.missing),
        }

    @abstractmethod
    def _choose(self, draws: Draws) -> Family:
        """Return the family of the tables of one block."""

    @property
    def _has_classes(self) -> bool:
        return self.problem == "classification"

    @property
    def _groups(self) -> int:
        """Return how many times ``n_shot`` and ``n_query`` count."""
        return self.n_classes if self._has_classes and self.stratified else 1

    def _size(self, n_tables: int) -> Size:
        each = self.n_shot + self.n_query
        if self._groups > 1:
            n_rows = max(int(_SPARE * self._groups * each), _LEAST_ROWS)
        else:
            n_rows = max(each + 20, _LEAST_ROWS)
        return Size(
            n_tables=n_tables,
            n_rows=n_rows,
            n_columns=self.n_columns,
            n_categorical=self.n_categorical,
            n_levels=self.n_levels,
            n_classes=self.n_classes if self._has_classes else 0,
            n_each=each if self._groups > 1 else 2,
        )

    def _draw_block(self, draws: Draws) -> list[Tensor]:
        """Return x and y of the support, x and y of the query, of a block of tasks."""
        family = self._choose(draws)
        size = self._size(_CANDIDATES if family.by_ease else BLOCK)
        columns = torch.empty(0, size.n_rows, size.n_columns, dtype=torch.float64)
        y = torch.empty(0, size.n_rows, dtype=torch.int64 if self._has_classes else torch.float64)
        for i in range(_ROUNDS):
            drawn, targets = _draw_tables(draws, family, size)
            if family.by_ease and i + 1 < _ROUNDS:
                probability = _KEPT + _KEPT_BY_EASE * find_ease(drawn, targets, size) ** _POWER
                kept = draws.uniform(0, 1, size.n_tables) < probability
                drawn, targets = drawn[kept], targets[kept]
            columns, y = torch.cat([columns, drawn])[:BLOCK], torch.cat([y, targets])[:BLOCK]
            if len(y) == BLOCK:
                break
        return self._split(draws, columns, y, self._size(BLOCK))

    def _split(self, draws: Draws, columns: Tensor, y: Tensor, size: Size) -> list[Tensor]:
        missing = draw_missing(draws, columns, size) if self.missing else None
        x = encode_cells(columns, missing, size.n_categorical, size.n_levels)
        if self._groups > 1:
            places = choose_by_class(draws, y, size.n_classes, self.n_shot, self.n_query)
        else:
            labels = y if self._has_classes else None
            places = choose_as_they_come(draws, labels, size.n_rows, BLOCK, self.n_shot, self.n_query)
        if not self._has_classes:
            y = y.unsqueeze(-1)
        return [
            part.float() if part.is_floating_point() else part
            for chosen in places
            for part in (pick_rows(x, chosen), pick_rows(y, chosen))
        ]

    def _check(self) -> None:
        of = f"task sampler {self.name!r}"
        am.check_choice("problem", self.problem, ("classification", "regression"), of=of)
        am.check_int("n_columns", self.n_columns, most=10_000, of=of)
        am.check_int("n_categorical", self.n_categorical, least=0, most=self.n_columns, of=of)
        am.check_int("n_levels", self.n_levels, least=2, most=1000, of=of)
        am.check_bool("stratified", self.stratified, of=of)
        am.check_bool("missing", self.missing, of=of)
        am.check_int("n_query", self.n_query, most=100_000, of=of)
        least = 1
        if self._has_classes:
            am.check_int("n_classes", self.n_classes, least=2, most=1000, of=of)
            least = 1 if self.stratified else self.n_classes
        am.check_int("n_shot", self.n_shot, least=least, most=100_000, of=of)


def _draw_tables(draws: Draws, family: Family, size: Size) -> tuple[Tensor, Tensor]:
    """Return the cells and targets of a block of tables."""
    draft = family.draw(draws, size)
    y = draw_labels(draws, draft, size) if size.n_classes else draw_targets(draws, draft, size)
    columns = bend_numbers(draws, spoil_columns(draws, draft.columns, size), size)
    return columns if draft.exact is None else torch.where(draft.exact.unsqueeze(1), draft.columns, columns), y
