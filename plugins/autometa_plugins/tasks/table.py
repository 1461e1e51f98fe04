"""One table, a column of which names the task of each row: schools, patients, machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

import autometa as am
from autometa_plugins.tasks.rows_to_label import rows_to_label
from autometa_plugins.tasks.table_rows import TableRows, digest_of, prepare, read_table, support_sizes

_MOST_PLACES = 2**16
"""Places for rows, padding included, in one batch of whole tasks."""


class Table(am.TaskSampler):
    """Tasks from the rows of one table; each entity of the ``task`` column is a task.

    Entities are split into meta-train, meta-valid and meta-test; what turns columns into numbers
    (:class:`autometa.TableEncoder`) is learned from meta-train rows only. Drawing ``n`` tasks walks through
    the entities of a split in random order, and again in another order when all have been met; support and
    query rows are drawn anew each time and share no row. Entities may be of any size: where one has fewer rows
    than asked for, the rest is padding that ``mask`` marks.

    - Regression: ``n_shot`` support rows of each task. Targets are standardised by mean and standard
      deviation of the meta-train rows; ``TaskInfo.target_scale`` tells the latter.
    - Classification: labels mean the same in every task. ``n_shot`` support rows of each class the entity
      has; a class with fewer gives all but one, and a class of one row stands in the support set only.
      With ``stratified=False``, ``n_shot`` rows of the entity, whatever their classes.

    Entities with no more than ``n_shot`` rows, or one class only (if ``stratified``), are left out, unless
    ``every_entity``; :meth:`describe` counts them.

    Parameters
    ----------
    data : DataFrame or path of a CSV file
        A DataFrame of pandas, polars or pyarrow. A file divided by commas, semicolons, tabs or bars, told apart by
        the header; where the separator is no comma, numbers may have decimal commas.
    task : column name
        Which entity a row belongs to. Values of a file are text as they stand there ("007" is not "7", "NA" is a
        name); only an empty cell is missing.
    target : column name
        What to predict. All other columns are features; :class:`autometa.TableEncoder` tells what they may hold.
        Class labels are strings, whole numbers, booleans or dates without a time zone; targets of a regression are
        numbers of any type. In a text target of a file only empty cells are missing: "NA" and "None" are classes.
    n_shot : int or "auto", default=10
        Support rows per task (regression) or per class (classification, if ``stratified``). 0 draws support sets
        without any row, to judge what is answered before a label is known. "auto": half of the rows of the median task
        (of each of its classes, if ``stratified``), between 1 and 10.
    n_query : int, default=20
        Most query rows per task.
    problem : {"auto", "regression", "classification"}, default="auto"
        "auto": numbers of more than two distinct values, or that are not whole, are a regression; all else are
        classes. Text that reads as numbers, most of it or all, is refused with a value and its row; so are numbers of
        a file with zeros in front ("01"), which are numbers for "regression" and text for "classification".
    valid_fraction, test_fraction : float, default=0.2
        Parts of the entities held out, one entity at least; 0 holds out none, and that split has no task to draw.
    split_seed : int, default=0
        Decides which.
    stratified : bool, default=True
        Classification: whether ``n_shot`` counts the rows of each class. False draws a support set as people have
        them: any rows of the entity, perhaps all of one class.
    every_entity : bool, default=False
        Keep the entities that would be left out, if one row can be split from the others. Of the small ones, all rows
        but one are in the support set. With none held out, those that cannot be split (one row; if ``stratified``, one
        row of each class) are kept too: they are never drawn, but :meth:`whole_tasks` gives them, and columns and
        classes are learned from them. :meth:`describe` counts them.
    order : column name, optional
        Numbers or dates, and no feature: the support set then holds the earliest rows of an entity (of each of its
        classes, if ``stratified``), not any rows.

    Examples
    --------
    >>> import numpy as np, pandas as pd, autometa as am
    >>> frame = pd.DataFrame({"school": np.repeat(list("abcdef"), 30), "hours": np.arange(180) % 7})
    >>> frame["score"] = frame["hours"] * 2.0
    >>> tasks = am.make_tasks("table", data=frame, task="school", target="score", n_shot=5)
    >>> tasks.sample(4, seed=0).support.x.shape
    torch.Size([4, 5, 1])
    """

    names_files: ClassVar[frozenset[str]] = frozenset({"data"})

    _prepared: tuple[dict[str, Any], TableRows, str]

    def __init__(
        self,
        *,
        data: Any = None,
        task: Any = None,
        target: Any = None,
        n_shot: int | str = 10,
        n_query: int = 20,
        problem: str = "auto",
        valid_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        stratified: bool = True,
        every_entity: bool = False,
        order: Any = None,
    ) -> None:
        self.data = data
        self.task = task
        self.target = target
        self.n_shot = n_shot
        self.n_query = n_query
        self.problem = problem
        self.valid_fraction = valid_fraction
        self.test_fraction = test_fraction
        self.split_seed = split_seed
        self.stratified = stratified
        self.every_entity = every_entity
        self.order = order

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes; ``n_shot`` as asked for or found, whether or not every task has as many rows.

        Raises
        ------
        InvalidParameter, InvalidData, MissingData
            The table cannot be used; the message names the argument or column.
        """
        rows = self._rows()
        return am.TaskInfo(
            problem=rows.problem,
            input_shape=(rows.x.shape[1],),
            n_outputs=rows.count.shape[1],
            n_shot=rows.n_shot,
            n_query=self.n_query,
            n_base_tasks=len(rows.entities["train"]),
            shared_classes=rows.has_classes,
            feature_kinds=rows.encoder.kinds_,
            feature_columns=rows.encoder.sources_,
            target_scale=rows.encoder.target_scale_,
        )

    @property
    def encoder(self) -> am.TableEncoder:
        """Fitted on the meta-train rows."""
        return self._rows().encoder

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        """Draw tasks; ``ids`` are numbers of entities, meta-train first."""
        am.check_draw(n_tasks, split, seed)
        rows = self._rows()
        if not rows.drawn[split]:
            raise am.InvalidParameter(
                f"split={split!r} has no task: {split}_fraction=0 of task sampler 'table' holds out none."
            )
        entity = _walk(rows.drawn[split], n_tasks, seed, split)
        n_drawn = sum(map(len, rows.drawn.values()))  # whose numbers come first
        starts, counts = rows.start[:n_drawn], rows.count[:n_drawn]
        if not self.stratified:  # the rows of an entity are one group
            starts, counts = starts[:, :1], counts.sum(1, keepdims=True)
        start, count = starts[entity], counts[entity]
        given = support_sizes(counts, rows.n_shot)
        width = max(1, int(given.sum(1).max()))
        n_shot = max(1, rows.n_shot)  # none of which may be given

        # an entity's rows lie together and its classes one after the other, so that a place counts from its first row
        if self.order is None:
            within = am.draw_distinct(np.maximum(count, n_shot), n_shot, seed, split, "support")
        else:  # they lie in order
            within = np.broadcast_to(np.arange(n_shot), (*count.shape, n_shot))
        within = _existing_first(within, within < count[..., None])
        first = start - start[:, :1]
        places = (first[..., None] + within).reshape(n_tasks, -1)
        chosen = (np.arange(n_shot) < given[entity][..., None]).reshape(n_tasks, -1)
        places = np.where(chosen, places, -1)
        support = _existing_first(places, chosen)[:, :width]

        sizes = count.sum(1)
        n_places = width + self.n_query
        drawn = am.draw_distinct(np.maximum(sizes, n_places), n_places, seed, split, "query")
        free = (drawn < sizes[:, None]) & ~(drawn[..., None] == support[:, None]).any(-1)
        n_query = int(min(self.n_query, (counts.sum(1) - given.sum(1)).max()))
        query = _existing_first(np.where(free, drawn, -1), free)[:, :n_query]
        return am.TaskBatch(
            support=_gather(rows, start[:, :1], support),
            query=_gather(rows, start[:, :1], query),
            ids=torch.from_numpy(entity).to(rows.x.device),
        )

    def whole_tasks(self, split: str = "train") -> Iterator[am.TaskBatch]:
        """Give all rows of the entities of a split, some entities at a time."""
        am.check_choice("split", split, am.SPLITS)
        rows = self._rows()
        entities, sizes = np.asarray(rows.entities[split], dtype=np.int64), rows.count.sum(1)
        for chosen in _batches(entities, sizes):
            first, within = rows.start[chosen, :1], np.arange(sizes[chosen].max())
            places = np.where(within < sizes[chosen, None], within, -1)
            yield am.TaskBatch(
                support=_gather(rows, first, places),
                query=_gather(rows, first, places[:, :0]),
                ids=torch.from_numpy(chosen).to(rows.x.device),
            )

    def each_task(self, n_rows: int, *, split: str = "test", seed: int) -> Iterator[am.TaskBatch]:
        """Give every entity of a split once, with rows in the order they get their labels: any, or by ``order``.

        One in five rows of an entity, or those beyond ``n_rows``, stay to be asked for, ``n_query`` at most.
        """
        am.check_int("n_rows", n_rows)
        am.check_draw(1, split, seed)
        rows = self._rows()
        entities, sizes = np.asarray(rows.drawn[split], dtype=np.int64), rows.count.sum(1)
        for chosen in _batches(entities, sizes):
            first = rows.start[chosen, :1]
            times = None if rows.times is None else rows.times[_within(first, sizes[chosen])]
            support, query = rows_to_label(sizes[chosen], n_rows, self.n_query, times, seed, split, int(chosen[0]))
            yield am.TaskBatch(
                support=_gather(rows, first, support),
                query=_gather(rows, first, query),
                ids=torch.from_numpy(chosen).to(rows.x.device),
            )

    def task_names(self) -> tuple[str, ...]:
        """Values of the task column, in the order in which ``ids`` count them."""
        return self._rows().names

    def to(self, device: torch.device | str) -> Self:
        """Return the same sampler with its rows on ``device``, so that tasks are gathered there."""
        rows = self._rows()
        there = copy(self)
        parameters, _, digest = self._prepared
        there._prepared = (parameters, replace(rows, x=rows.x.to(device), y=rows.y.to(device)), digest)
        return there

    def content(self) -> dict[str, str]:
        """See :meth:`autometa.TaskSampler.content`; refuses data that changed since their rows were read.

        Raises
        ------
        InvalidData
            The rows drawn are no longer those of ``data``.
        """
        found = super().content()
        is_file = isinstance(self.data, (str, os.PathLike))
        if not self._is_prepared(self._parameters()) or (is_file and "data" not in found):
            return found
        if digest_of(self.data) != self._prepared[2]:
            what = f"data={str(self.data)!r}" if is_file else "the DataFrame in data"
            raise am.InvalidData(
                f"{what} changed after this sampler read it, so that its tasks are of the rows before; make the "
                "sampler anew."
            )
        return found

    def describe(self) -> dict[str, Any]:
        """Numbers of tasks and rows, tasks left out, and the names of the held-out tasks."""
        rows = self._rows()
        sizes = rows.count.sum(1)
        facts: dict[str, Any] = {
            "tasks": {split: len(entities) for split, entities in rows.entities.items()},
            "tasks left out": rows.n_dropped,
            "tasks never drawn": sum(len(all_) - len(rows.drawn[split]) for split, all_ in rows.entities.items()),
            "rows per task": {"fewest": int(sizes.min()), "median": float(np.median(sizes)), "most": int(sizes.max())},
            "held out": {split: [rows.names[i] for i in rows.entities[split]] for split in ("valid", "test")},
        }
        if rows.has_classes:
            facts["classes"] = [str(label) for label in rows.encoder.classes_]
        return facts

    def _rows(self) -> TableRows:
        parameters = self._parameters()
        if self._is_prepared(parameters):
            return self._prepared[1]
        am.check_int("n_shot", self.n_shot, least=0, also=("auto",), of="task sampler 'table'")
        for name, least in (("n_query", 1), ("split_seed", 0)):
            am.check_int(name, parameters[name], least=least, of="task sampler 'table'")
        for name in ("stratified", "every_entity"):
            am.check_bool(name, parameters[name], of="task sampler 'table'")
        if isinstance(self.data, str | os.PathLike):
            am.check_path("data", self.data, of="task sampler 'table'")
        frame, digest = read_table(self.data, self.task, self.target, self.problem)
        rows = prepare(
            frame,
            task=self.task,
            target=self.target,
            problem=self.problem,
            n_shot=self.n_shot,
            stratified=self.stratified,
            every_entity=self.every_entity,
            order=self.order,
            fractions=(self.valid_fraction, self.test_fraction),
            seed=self.split_seed,
        )
        self._prepared = (parameters, rows, digest or digest_of(self.data))
        return rows

    def _parameters(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name[0] != "_"}

    def _is_prepared(self, parameters: dict[str, Any]) -> bool:
        prepared = vars(self).get("_prepared")
        return prepared is not None and all(prepared[0][name] is value for name, value in parameters.items())

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_prepared", None)
        return state


def _walk(entities: range, n_tasks: int, seed: int, split: str) -> NDArray[np.int64]:
    """Entities in random order, in another one each time all have been met, [n_tasks]."""
    n_rounds = -(-n_tasks // len(entities))
    order = np.argsort(am.draw_uniform((n_rounds, len(entities)), seed, split, "entities"), axis=-1)
    return entities.start + order.ravel()[:n_tasks]


def _batches(entities: NDArray[np.int64], sizes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Cut entities into pieces of neighbours, which padded to one length have no more than ``_MOST_PLACES`` places."""
    begin, longest = 0, 0
    for end, entity in enumerate(entities):
        longest = max(longest, int(sizes[entity]))
        if end > begin and longest * (end - begin + 1) > _MOST_PLACES:
            yield entities[begin:end]
            begin, longest = end, int(sizes[entity])
    if len(entities):
        yield entities[begin:]


def _within(first: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the rows of entities, [entities, longest]; beyond an entity's own stands its last."""
    return first + np.minimum(np.arange(sizes.max()), sizes[:, None] - 1)


def _existing_first(values: NDArray[np.int64], exists: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The values along the last axis, those that exist first, otherwise in the order they had."""
    return np.take_along_axis(values, np.argsort(~exists, axis=-1, kind="stable"), axis=-1)


def _gather(rows: TableRows, first: NDArray[np.int64], places: NDArray[np.int64]) -> am.Examples:
    """Examples at ``places`` [tasks, n], counted from each entity's ``first`` row; -1 is padding."""
    device = rows.x.device
    mask = torch.from_numpy(places >= 0).to(device)
    index = torch.from_numpy(np.where(places >= 0, first + places, 0)).to(device)
    x, y = rows.x[index] * mask[..., None], rows.y[index]
    y = y * (mask if y.dim() == 2 else mask[..., None])
    return am.Examples(x, y, mask, n_classes=rows.count.shape[1] if rows.has_classes else 0)
