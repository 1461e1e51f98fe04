"""The rows of a table, checked, encoded and sorted by entity and class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am
from autometa_plugins.tasks.table_file import UNNAMED, read_csv

_LARGEST_SCALE = 1e150
"""Its square, a mean squared error, is still a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """A table ready to be drawn from.

    Parameters
    ----------
    x : Tensor of shape [rows, width], float32
        Encoded features, sorted by entity and class.
    y : Tensor of shape [rows, 1] float32, or [rows] int64
        Standardised targets, or class indices.
    encoder : TableEncoder
        Fitted on the meta-train rows.
    entities : dict of {"train", "valid", "test"} to range
        Numbers of the entities of each split.
    drawn : dict of {"train", "valid", "test"} to range
        Those of them that can be split into support and query.
    names : tuple of str
        Name of every entity.
    start, count : array of shape [entities, groups]
        Where the rows of an entity's classes lie; one group for regression.
    times : array of shape [rows], optional
        What tells which row is earlier, where a column does.
    n_shot : int
        Support rows of each group, as asked for or found; the most that any can give, if that is less.
    n_dropped : int
        Entities that are left out, as they are too small to be split.
    """

    x: Tensor
    y: Tensor
    encoder: am.TableEncoder
    entities: dict[str, range]
    drawn: dict[str, range]
    names: tuple[str, ...]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    times: NDArray[np.float64] | None
    n_shot: int
    n_dropped: int

    @property
    def problem(self) -> str:
        """What the target asks for."""
        return str(self.encoder.problem_)

    @property
    def has_classes(self) -> bool:
        """True if targets are classes."""
        return self.encoder.has_classes_


def read_table(data: Any, task: Any, target: Any, problem: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of a DataFrame, of pandas or another library, or of the CSV file at a path.

    Beside them stands the digest of the file that they were read from; of a DataFrame, nothing.
    """
    if isinstance(data, (str, os.PathLike)):
        before = am.content_of(data) if os.path.isfile(os.path.expanduser(data)) else ""
        frame = read_csv(data, task, target, problem)
        if digest_of(data) != before:
            raise am.InvalidData(f"data={str(data)!r} changed while it was read; try again when it is complete.")
        return frame, before
    if data is None or not (hasattr(data, "columns") or hasattr(data, "__dataframe__")):
        raise am.InvalidParameter(f"data={data!r} must be a DataFrame or the path of a CSV file.")
    return data if isinstance(data, pd.DataFrame) else am.as_frame(data), ""


def digest_of(data: Any) -> str:
    """Return a digest of what a file or a DataFrame holds now."""
    if isinstance(data, (str, os.PathLike)):
        return am.content_of(data)
    frame = data if isinstance(data, pd.DataFrame) else am.as_frame(data)
    digest = sha256(repr([(str(name), str(dtype)) for name, dtype in frame.dtypes.items()]).encode())
    for i, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, i]
        is_plain = isinstance(dtype, np.dtype) and dtype.kind in "biuf"
        values = column.to_numpy() if is_plain else pd.util.hash_pandas_object(column, index=False).to_numpy()
        digest.update(values.tobytes())
    return digest.hexdigest()


def check_columns(frame: pd.DataFrame, task: Any, target: Any) -> None:
    """Refuse a table that lacks the named columns or their values."""
    for argument, name in (("task", task), ("target", target)):
        am.check_column(argument, name, frame, of="the table")
    if task == target:
        raise am.InvalidParameter(f"task and target are both {task!r}; they must be two columns.")
    if frame.shape[1] < 3:
        raise am.InvalidData("the table has no column beside task and target; at least one feature is needed.")
    am.as_frame(frame.drop(columns=[task, target]))
    for argument, name in (("task", task), ("target", target)):
        if not isinstance(frame[name], pd.Series):
            raise am.InvalidData(f"the table has the {argument} column {name!r} twice.")
        am.as_frame(frame[[name]])
        n_missing = int(frame[name].isna().sum())
        if n_missing:
            raise am.InvalidData(f"{argument} column {name!r} misses {n_missing} values; drop those rows.")


def read_order(frame: pd.DataFrame, order: Any, task: Any, target: Any) -> NDArray[np.float64]:
    """Return a column as numbers that tell which row is earlier, [n]."""
    am.check_column("order", order, frame, of="the table")
    if order in (task, target):
        raise am.InvalidParameter(f"order={order!r} is the task or the target; it must be a column of its own.")
    times = frame[[order]]
    n_missing = int(times.isna().to_numpy().sum())
    if n_missing:
        raise am.InvalidData(f"order column {order!r} misses {n_missing} values; drop those rows.")
    encoder = am.TableEncoder().fit(times)
    if encoder.columns_[0].kind not in ("numeric", "datetime", "timedelta"):
        raise am.InvalidData(f"order column {order!r} is neither of numbers nor of dates; convert it (pd.to_datetime).")
    return np.asarray(encoder.transform(times, dtype=np.float64)[:, 0])


def warn_of_row_names(features: pd.DataFrame) -> None:
    """Warn of a column without a name that counts the rows, as pandas writes its index to a file."""
    for name in features.columns:
        values = features[name]
        if not (isinstance(name, str) and UNNAMED.fullmatch(name) and pd.api.types.is_integer_dtype(values.dtype)):
            continue
        if values.is_unique:
            am.warn_user(
                f"column {name!r} is taken as a feature, but seems to be the row names of a DataFrame that was written "
                "with its index; drop it, or write with index=False."
            )


def read_targets(target: pd.Series, problem: str) -> tuple[str, pd.Series]:
    """Return the problem asked for, or that the values suggest, and the values as numbers or labels."""
    am.check_choice("problem", problem, ("auto", "regression", "classification"), of="task sampler 'table'")
    kind, values = am.read_target(target, problem, what=f"target column {target.name!r}")
    read = pd.Series(values, index=target.index, name=target.name)
    if read.nunique() < 2:
        what = f"is constant ({target.iloc[0]})" if len(target) else "has no rows"
        raise am.InvalidData(f"target column {target.name!r} {what}; there is nothing to learn.")
    return kind, read


def read_entities(task: pd.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Number the tasks in the order of their names; return the number of each row's task, and the names."""
    try:
        code, found = pd.factorize(task)
    except TypeError as error:
        raise am.InvalidData(f"task column {task.name!r} holds {task.iloc[0]!r}, which names no task.") from error
    names = [str(value) for value in found]
    order = np.argsort(np.asarray(names, dtype=object), kind="stable")
    for i, j in pairwise(order):
        if names[i] == names[j]:
            raise am.InvalidData(
                f"task column {task.name!r} holds {found[i]!r} and {found[j]!r}, which read the same; make all of one "
                "type, as .astype(str) does."
            )
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.arange(len(order))
    return number[code], [names[i] for i in order]


def prepare(
    frame: pd.DataFrame,
    *,
    task: Any,
    target: Any,
    problem: str,
    n_shot: int | str,
    stratified: bool,
    every_entity: bool,
    order: Any,
    fractions: tuple[float, float],
    seed: int,
) -> TableRows:
    """Check a table, split its entities, encode its rows.

    Parameters
    ----------
    fractions : (float, float)
        Parts of the entities for meta-valid and meta-test.

    Raises
    ------
    InvalidData
        Columns, targets or entities that cannot be used.
    """
    times = np.zeros(len(frame)) if order is None else read_order(frame, order, task, target)
    frame = frame if order is None else frame.drop(columns=order)
    check_columns(frame, task, target)
    frame = frame.reset_index(drop=True)
    kind, targets = read_targets(frame[target], problem)
    entity, names = read_entities(frame[task])
    by_class = targets if kind == "classification" and stratified else None
    n_shot = half_of_the_median(entity, by_class) if isinstance(n_shot, str) else n_shot
    usable = _usable(entity, len(names), by_class, min(1, n_shot) if every_entity else n_shot, 1 if every_entity else 2)
    drawn, kept = _split(np.flatnonzero(usable), fractions, seed, task, n_shot, len(names))
    entities = drawn
    if every_entity and not any(fractions):
        kept = np.concatenate([kept, np.flatnonzero(~usable)])
        entities = {**drawn, "train": range(len(kept))}
    number = np.full(len(names), -1)
    number[kept] = np.arange(len(kept))
    own = number[entity] >= 0
    times, frame, targets, entity = times[own], frame[own], targets[own], number[entity[own]]

    features = frame.drop(columns=[task, target])
    warn_of_row_names(features)
    known = np.isin(entity, entities["train"])
    encoder = am.TableEncoder()
    classes = targets.unique().tolist() if kind == "classification" else None
    _check_train_targets(targets[known], kind)
    encoder.fit(features, targets, problem=kind, classes=classes, rows=known)
    _check_scale(target, encoder.target_scale_)
    y = encoder.encode_target(targets)
    group = y if encoder.has_classes_ else np.zeros(len(y), dtype=np.int64)
    rows = np.lexsort((times, group, entity) if stratified else (times, entity))
    n_groups = len(encoder.classes_) if encoder.has_classes_ else 1
    count = np.bincount(entity * n_groups + group, minlength=len(kept) * n_groups).reshape(len(kept), n_groups)
    n_drawn = sum(map(len, drawn.values()))  # whose numbers come first
    n_shot = _at_most(n_shot, count[:n_drawn] if stratified else count[:n_drawn].sum(1, keepdims=True))
    return TableRows(
        x=torch.from_numpy(encoder.transform(features)[rows]),
        y=torch.from_numpy(y[rows] if encoder.has_classes_ else y[rows, None]),
        encoder=encoder,
        entities=entities,
        drawn=drawn,
        names=tuple(str(names[i]) for i in kept),
        start=np.cumsum(count).reshape(count.shape) - count,
        count=count,
        times=None if order is None else times[rows],
        n_shot=n_shot,
        n_dropped=len(names) - len(kept),
    )


def support_sizes(count: NDArray[np.int64], n_shot: int) -> NDArray[np.int64]:
    """Support rows of every group: ``n_shot``, or all but one, or the only one."""
    return np.minimum(np.minimum(count, n_shot), np.maximum(count - 1, 1))


def _at_most(n_shot: int, count: NDArray[np.int64]) -> int:
    """Return ``n_shot``, or the most rows that any group of rows can give, which a warning tells."""
    most = int(support_sizes(count, n_shot).max(initial=0))
    if not count.size or most == n_shot:
        return n_shot
    am.warn_user(f"n_shot={n_shot} is more than any task can give: {most} is the most, which is taken.")
    return most


def half_of_the_median(entity: NDArray[np.int64], target: pd.Series | None) -> int:
    """Half of the rows of the median entity, of each of its classes if there is a ``target``; between 1 and 10."""
    sizes = np.bincount(entity).astype(np.float64)
    if target is not None:
        sizes = sizes / target.groupby(entity).nunique().to_numpy(dtype=np.float64)
    return int(min(10, max(1, np.median(sizes) // 2)))


def _usable(
    entity: NDArray[np.int64], n_entities: int, target: pd.Series | None, n_shot: int, n_classes: int
) -> NDArray[np.bool_]:
    """Entities with more than ``n_shot`` rows; of a ``target`` at least ``n_classes``, one of which can be split."""
    usable = np.bincount(entity, minlength=n_entities) > n_shot
    if target is not None:
        codes, labels = pd.factorize(target)
        counts = np.bincount(entity * len(labels) + codes, minlength=n_entities * len(labels))
        counts = counts.reshape(n_entities, len(labels))
        usable &= ((counts > 0).sum(1) >= n_classes) & (counts.max(1) > 1)
    return np.asarray(usable)


def _split(
    usable: NDArray[np.int64], fractions: tuple[float, float], seed: int, task: Any, n_shot: int, n_all: int
) -> tuple[dict[str, range], NDArray[np.int64]]:
    for name, fraction in zip(("valid_fraction", "test_fraction"), fractions, strict=True):
        am.check_real(name, fraction, least=0, below=1, of="task sampler 'table'")
    uses = ["train", *(use for use, fraction in zip(("validate", "test"), fractions, strict=True) if fraction > 0)]
    if len(usable) < len(uses):
        what = f"at least {len(uses)} are needed, one each to {', '.join(uses)} on" if uses[1:] else "one is needed"
        raise am.InvalidData(
            f"task column {task!r} has {n_all} tasks, of which {len(usable)} can be split into n_shot={n_shot} support "
            f"rows and a query (two classes or more for classification); {what}. A smaller n_shot may help."
        )
    n_valid, n_test = (max(1, round(fraction * len(usable))) if fraction > 0 else 0 for fraction in fractions)
    n_train = len(usable) - n_valid - n_test
    if n_train < 1:
        raise am.InvalidParameter(
            f"valid_fraction={fractions[0]} and test_fraction={fractions[1]} leave none of {len(usable)} tasks "
            "to train on; use smaller ones."
        )
    order = usable[np.random.default_rng(am.derive_seed(seed, "entities")).permutation(len(usable))]
    bounds = (0, n_train, n_train + n_valid, len(usable))
    return {split: range(bounds[i], bounds[i + 1]) for i, split in enumerate(am.SPLITS)}, order


def _check_train_targets(targets: pd.Series, kind: str) -> None:
    if kind == "regression" and targets.nunique() < 2:
        raise am.InvalidData(f"target column {targets.name!r} is constant in all meta-train tasks.")


def _check_scale(target: Any, scale: float) -> None:
    """Refuse a scale whose square, by which errors are told in the target's units, no float holds."""
    if not 1 / _LARGEST_SCALE < scale < _LARGEST_SCALE:
        raise am.InvalidData(
            f"target column {target!r} has a standard deviation of {scale:.3g}, whose square is beyond all floats; "
            f"rescale it, such as data[{target!r}] / {scale:.0e}."
        )
