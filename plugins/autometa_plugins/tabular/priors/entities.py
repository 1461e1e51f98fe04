"""Related tasks: the entities of one synthetic table, which share a function and depart from it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from sklearn.base import clone
from torch import Tensor

import autometa as am
from autometa_plugins.tabular.priors.draft import Draft, Size, standardise
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.families import RULES, WEIGHTS
from autometa_plugins.tabular.priors.features import encode_cells, feature_kinds
from autometa_plugins.tabular.priors.labels import draw_labels
from autometa_plugins.tabular.priors.marginals import bend_numbers, spoil_columns
from autometa_plugins.tabular.priors.targets import draw_targets

_OF = "task sampler 'prior_entities'"
_PART = {"train": 0.5, "valid": 0.25, "test": 0.25}
_FAMILIES = tuple((family, weight) for family, weight in WEIGHTS if family is not RULES)
_OUTLIERS, _FAR = 0.08, 4.0
"""Share of the entities, in some tables, that depart so many times as far as others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """All entities of a table.

    Parameters
    ----------
    x : Tensor of shape [entities, rows, features], float32
    y : Tensor of shape [entities, rows], int64, or [entities, rows, 1], float32
    """

    x: Tensor
    y: Tensor


class PriorEntities(am.TaskSampler):
    """The entities of one table: a function that all share, and what each adds to it.

    The table is one of the families of ``prior_tables``. To its scores every entity adds a level, slopes and a wave of
    its own, each large or small or absent in all entities alike, so that there are tables whose entities are the same
    and tables whose entities have little in common; in some a few depart much further than the others. Where entities
    differ in their columns, too, rows that are alike in one of them were dealt to the same entity.

    Half of the entities are for meta-training; a quarter each are held out as "valid" and "test".

    Parameters
    ----------
    problem : {"classification", "regression"}, default="classification"
    table : int, default=0
        Which table: the seed of all that it holds.
    n_entities : int, default=80
        In all, at least 8.
    n_columns : int, default=6
    n_categorical : int, default=1
        How many of the columns, the last ones, are categorical.
    n_levels : int, default=3
        Most levels of a categorical column.
    n_classes : int, default=2
        Classification only; they mean the same in every entity.
    n_rows : int, default=20
        Rows of an entity.
    n_shot : int, default=5
        Support rows of an entity, whatever their classes.
    n_query : int, default=15
        Query rows, at most those that are left.
    """

    def __init__(
        self,
        *,
        problem: str = "classification",
        table: int = 0,
        n_entities: int = 80,
        n_columns: int = 6,
        n_categorical: int = 1,
        n_levels: int = 3,
        n_classes: int = 2,
        n_rows: int = 20,
        n_shot: int = 5,
        n_query: int = 15,
    ) -> None:
        self.problem = problem
        self.table = table
        self.n_entities = n_entities
        self.n_columns = n_columns
        self.n_categorical = n_categorical
        self.n_levels = n_levels
        self.n_classes = n_classes
        self.n_rows = n_rows
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Features of the columns, and shared classes or one real target.

        Raises
        ------
        InvalidParameter
            A parameter is not one of its values.
        """
        self._check()
        features = feature_kinds(self.n_columns, self.n_categorical, self.n_levels, False)
        return am.TaskInfo(
            problem=self.problem,
            input_shape=(len(features),),
            n_outputs=self.n_classes if self._has_classes else 1,
            n_shot=self.n_shot,
            n_query=min(self.n_query, self.n_rows - self.n_shot),
            n_base_tasks=len(self._entities("train")),
            shared_classes=self._has_classes,
            feature_kinds=tuple(kind for kind, _ in features),
            feature_columns=tuple(column for _, column in features),
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw entities, with replacement, and which of their rows are the support."""
        am.check_draw(n_tasks, split, seed)
        found, part = self._table(), self._entities(split)
        chance = Draws(seed, split, "rows").uniform(0, 1, n_tasks, 1 + found.x.shape[1])
        ids = part[(chance[:, 0] * len(part)).long()]
        order = chance[:, 1:].argsort(dim=1)
        places = order[:, : self.n_shot], order[:, self.n_shot : self.n_shot + self.n_query]
        support, query = (self._rows(found, ids.unsqueeze(1), rows) for rows in places)
        return am.TaskBatch(support=support, query=query, ids=ids)

    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        """Go through all entities of a part, each with all its rows."""
        self._check()
        found, ids = self._table(), self._entities(split)
        rows = torch.arange(found.x.shape[1])
        support, query = (self._rows(found, ids.unsqueeze(1), part) for part in (rows, rows[:0]))
        yield am.TaskBatch(support=support, query=query, ids=ids)

    def varied(self, seed: int) -> Self:
        """Return the entities of another table, of another size."""
        self._check()
        draws = Draws(seed, "entities")
        n_columns = int(draws.log_number(1.5, 25))
        other: Self = clone(self)
        other.set_params(
            table=draws.count(0, 2**31 - 1),
            n_entities=int(draws.log_number(16, 160)),
            n_columns=n_columns,
            n_categorical=round(n_columns * draws.number(0, 1)) if draws.chance(0.5) else 0,
            n_levels=draws.count(2, 6),
            n_classes=draws.count(2, 4),
            n_shot=(1, 2, 3, 5, 10)[draws.one_of([1, 1, 1, 1, 1])],
            n_rows=25,
        )
        return other

    def describe(self) -> dict[str, Any]:
        """Sizes of the table."""
        return {
            "entities": self.n_entities,
            "columns": self.n_columns,
            "categorical columns": self.n_categorical,
            "rows of an entity": self.n_rows,
        }

    @property
    def _has_classes(self) -> bool:
        return self.problem == "classification"

    def _entities(self, split: str) -> Tensor:
        """Return the numbers of the entities of a part."""
        n_train = int(self.n_entities * _PART["train"])
        n_valid = int(self.n_entities * _PART["valid"])
        bounds = {"train": (0, n_train), "valid": (n_train, n_train + n_valid)}
        return torch.arange(*bounds.get(split, (n_train + n_valid, self.n_entities)))

    def _rows(self, found: Entities, ids: Tensor, rows: Tensor) -> am.Examples:
        n_classes = self.n_classes if self._has_classes else 0
        return am.Examples(found.x[ids, rows], found.y[ids, rows], n_classes=n_classes)

    def _table(self) -> Entities:
        self._check()
        size = Size(
            n_tables=1,
            n_rows=self.n_entities * self.n_rows,
            n_columns=self.n_columns,
            n_categorical=self.n_categorical,
            n_levels=self.n_levels,
            n_classes=self.n_classes if self._has_classes else 0,
            n_each=2,
        )
        return _draw_entities(self.table, self.n_entities, size)

    def _check(self) -> None:
        am.check_choice("problem", self.problem, ("classification", "regression"), of=_OF)
        am.check_int("table", self.table, least=0, most=2**63 - 1, of=_OF)
        am.check_int("n_entities", self.n_entities, least=8, most=100_000, of=_OF)
        am.check_int("n_columns", self.n_columns, most=1000, of=_OF)
        am.check_int("n_categorical", self.n_categorical, least=0, most=self.n_columns, of=_OF)
        am.check_int("n_levels", self.n_levels, least=2, most=100, of=_OF)
        am.check_int("n_classes", self.n_classes, least=2, most=100, of=_OF)
        am.check_int("n_rows", self.n_rows, least=2, most=10_000, of=_OF)
        am.check_int("n_shot", self.n_shot, most=self.n_rows - 1, of=_OF)
        am.check_int("n_query", self.n_query, of=_OF)


@functools.lru_cache(maxsize=4)
def _draw_entities(table: int, n_entities: int, size: Size) -> Entities:
    """Draw a table, and deal its rows to entities."""
    draws = Draws(table, "entities of a table")
    family = _FAMILIES[draws.one_of([weight for _, weight in _FAMILIES])][0]
    draft = family.draw(draws, size)
    felt = standardise(draft.columns)
    alike = draws.normal(size.n_rows)
    if draws.chance(0.4):
        alike = draws.log_number(0.1, 3) * alike + felt[0, :, draws.count(0, size.n_columns - 1)]
    entity = alike.argsort().argsort() * n_entities // size.n_rows
    scores = standardise(draft.scores) + _departures(draws, felt, entity, n_entities, size)
    # Labels that a family draws itself know nothing of entities.
    draft = Draft(columns=draft.columns, scores=scores, labels=None, exact=draft.exact)
    if size.n_classes:
        y: Tensor = draw_labels(draws, draft, size)
    else:
        y = draw_targets(draws, draft, size).float().unsqueeze(-1)
    columns = bend_numbers(draws, spoil_columns(draws, draft.columns, size), size)
    if draft.exact is not None:
        columns = torch.where(draft.exact.unsqueeze(1), draft.columns, columns)
    x = encode_cells(columns, None, size.n_categorical, size.n_levels).float()
    by_entity = entity.argsort(stable=True).reshape(n_entities, -1)[draws.orders(n_entities)]
    return Entities(x=x[0, by_entity], y=y[0, by_entity])


def _departures(draws: Draws, felt: Tensor, entity: Tensor, n_entities: int, size: Size) -> Tensor:
    """Draw what entities add to scores [1, rows, scores]: a level, slopes, and a wave."""

    def spread(probability: float) -> float:
        return draws.log_number(0.05, 3) if draws.chance(probability) else 0.0

    n_scores, n_columns = size.n_scores, size.n_columns
    level = spread(0.7) * draws.normal(n_entities, n_scores)
    slopes = spread(0.5) * draws.normal(n_entities, n_columns, n_scores) / n_columns**0.5
    direction = draws.normal(n_entities, n_columns) / n_columns**0.5
    wave = spread(0.3) * draws.normal(n_entities, n_scores)
    phase = draws.uniform(0, 6.3, n_entities)
    far = torch.ones(n_entities, 1, dtype=torch.float64)
    if draws.chance(0.3):
        far = torch.where(draws.uniform(0, 1, n_entities, 1) < _OUTLIERS, _FAR, far)
    x = felt[0].clamp(-4, 4)
    along = (2 * (x * direction[entity]).sum(dim=-1) + phase[entity]).sin().unsqueeze(-1)
    total = level[entity] + torch.einsum("rc,rcs->rs", x, slopes[entity]) + wave[entity] * along
    departures: Tensor = (far[entity] * total).unsqueeze(0)
    return departures
