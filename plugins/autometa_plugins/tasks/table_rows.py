"""The rows of a table, checked, encoded and sorted by entity and class."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

import autometa as am

Problem = Literal["regression", "classification"]


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
    names : tuple of str
        Name of every entity.
    start, count : array of shape [entities, groups]
        Where the rows of an entity's classes lie; one group for regression.
    n_dropped : int
        Entities too small to be a task.
    """

    x: Tensor
    y: Tensor
    encoder: am.TableEncoder
    entities: dict[str, range]
    names: tuple[str, ...]
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    n_dropped: int

    @property
    def problem(self) -> str:
        """What the target asks for."""
        return str(self.encoder.problem_)

    @property
    def has_classes(self) -> bool:
        """True if targets are classes."""
        return self.encoder.has_classes_


def read_table(data: Any) -> pd.DataFrame:
    """A DataFrame as it is, or the CSV file at a path."""
    if isinstance(data, pd.DataFrame):
        return data
    if not isinstance(data, (str, Path)):
        raise am.InvalidParameter(f"data={data!r} must be a pandas DataFrame or the path of a CSV file.")
    if not Path(data).is_file():
        raise am.MissingData(f"data={str(data)!r} is no file; give the path of a CSV file or a DataFrame.")
    try:
        return pd.read_csv(data)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise am.InvalidData(f"data={str(data)!r} cannot be read as CSV: {error}") from error


def check_columns(frame: pd.DataFrame, task: Any, target: Any) -> None:
    """Refuse a table that lacks the named columns or their values."""
    for argument, name in (("task", task), ("target", target)):
        if name not in frame.columns:
            close = difflib.get_close_matches(str(name), [str(column) for column in frame.columns], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(map(repr, frame.columns[:12]))}."
            raise am.InvalidData(f"{argument}={name!r} is no column of the table; {hint}")
    if task == target:
        raise am.InvalidParameter(f"task and target are both {task!r}; they must be two columns.")
    if frame.shape[1] < 3:
        raise am.InvalidData("the table has no column beside task and target; at least one feature is needed.")
    for argument, name in (("task", task), ("target", target)):
        n_missing = int(frame[name].isna().sum())
        if n_missing:
            raise am.InvalidData(f"{argument} column {name!r} misses {n_missing} values; drop those rows.")
    if frame[target].nunique() < 2:
        value = frame[target].iloc[0] if len(frame) else None
        raise am.InvalidData(f"target column {target!r} is constant ({value!r}); there is nothing to learn.")


def problem_of(target: pd.Series, problem: str) -> Problem:
    """The problem asked for, or, for "auto": numbers with more than two values are a regression."""
    numeric = pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target)
    am.check_choice("problem", problem, ("auto", "regression", "classification"), of="task sampler 'table'")
    if problem == "auto":
        return "regression" if numeric and target.nunique() > 2 else "classification"
    if problem == "classification":
        return "classification"
    if not numeric:
        raise am.InvalidData(
            f"problem='regression' needs numbers, but target column {target.name!r} holds {target.iloc[0]!r}; "
            "use problem='classification'."
        )
    return "regression"


def prepare(
    frame: pd.DataFrame, *, task: Any, target: Any, problem: str, n_shot: int, fractions: tuple[float, float], seed: int
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
    check_columns(frame, task, target)
    kind = problem_of(frame[target], problem)
    entity, names = pd.factorize(frame[task].astype(str), sort=True)
    usable = _usable(entity, len(names), frame[target], kind, n_shot)
    entities, order = _split(np.flatnonzero(usable), fractions, seed, task, n_shot, len(names))
    number = np.full(len(names), -1)
    number[order] = np.arange(len(order))
    frame, entity = frame[usable[entity]], number[entity[usable[entity]]]

    features, targets = frame.drop(columns=[task, target]), frame[target]
    known = np.isin(entity, entities["train"])
    encoder = am.TableEncoder()
    classes = targets.unique().tolist() if kind == "classification" else None
    encoder.fit(features[known], _train_targets(targets[known], kind), problem=kind, classes=classes)
    y = encoder.encode_target(targets)
    group = y if encoder.has_classes_ else np.zeros(len(y), dtype=np.int64)
    rows = np.lexsort((group, entity))
    n_groups = len(encoder.classes_) if encoder.has_classes_ else 1
    count = np.bincount(entity * n_groups + group, minlength=len(order) * n_groups)
    return TableRows(
        x=torch.from_numpy(encoder.transform(features)[rows]),
        y=torch.from_numpy(y[rows] if encoder.has_classes_ else y[rows, None]),
        encoder=encoder,
        entities=entities,
        names=tuple(str(names[i]) for i in order),
        start=(np.cumsum(count) - count).reshape(len(order), n_groups),
        count=count.reshape(len(order), n_groups),
        n_dropped=int((~usable).sum()),
    )


def _usable(
    entity: NDArray[np.int64], n_entities: int, target: pd.Series, kind: Problem, n_shot: int
) -> NDArray[np.bool_]:
    """Entities with more than ``n_shot`` rows and, for classification, two classes, one of which can be split."""
    sizes = np.bincount(entity, minlength=n_entities)
    usable = sizes > n_shot
    if kind == "classification":
        codes, labels = pd.factorize(target)
        counts = np.bincount(entity * len(labels) + codes, minlength=n_entities * len(labels))
        counts = counts.reshape(n_entities, len(labels))
        usable &= ((counts > 0).sum(1) > 1) & (counts.max(1) > 1)
    return np.asarray(usable)


def _split(
    usable: NDArray[np.int64], fractions: tuple[float, float], seed: int, task: Any, n_shot: int, n_all: int
) -> tuple[dict[str, range], NDArray[np.int64]]:
    if len(usable) < 3:
        raise am.InvalidData(
            f"task column {task!r} has {n_all} tasks, of which {len(usable)} can be split into n_shot={n_shot} support "
            "rows and a query (two classes or more for classification); at least 3 are needed, one each to train, "
            "validate and test on. A smaller n_shot may help."
        )
    for name, fraction in zip(("valid_fraction", "test_fraction"), fractions, strict=True):
        am.check_real(name, fraction, above=0, below=1, of="task sampler 'table'")
    n_valid, n_test = (max(1, round(fraction * len(usable))) for fraction in fractions)
    n_train = len(usable) - n_valid - n_test
    if n_train < 1:
        raise am.InvalidParameter(
            f"valid_fraction={fractions[0]} and test_fraction={fractions[1]} leave none of {len(usable)} tasks "
            "to train on; use smaller ones."
        )
    order = usable[np.random.default_rng(am.derive_seed(seed, "entities")).permutation(len(usable))]
    bounds = (0, n_train, n_train + n_valid, len(usable))
    return {split: range(bounds[i], bounds[i + 1]) for i, split in enumerate(am.SPLITS)}, order


def _train_targets(targets: pd.Series, kind: Problem) -> pd.Series:
    if kind == "regression":
        if not np.isfinite(targets.to_numpy(dtype=np.float64)).all():
            raise am.InvalidData(f"target column {targets.name!r} holds infinite values; drop those rows.")
        if targets.nunique() < 2:
            raise am.InvalidData(f"target column {targets.name!r} is constant in all meta-train tasks.")
    return targets
