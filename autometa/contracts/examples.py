"""Labelled examples of many tasks at once, and batches of tasks made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from autometa.contracts.problems import Problem, find_problem, problem_of_targets
from autometa.errors import InvalidData

Inputs: TypeAlias = Any
"""A Tensor; for control tasks a tuple of Tensors. Type checkers cannot know which a learner was made for."""


def map_inputs(function: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    """Apply a function to every tensor of the inputs (control tasks have a tuple of them)."""
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs and targets of ``tasks`` tasks, padded to the longest.

    Parameters
    ----------
    x : Tensor of shape [tasks, n, *features], or a tuple of such tensors
        Inputs.
    y : Tensor of shape [tasks, n] or [tasks, n, n_outputs]
        Class indices within the task (int64), or real targets.
    mask : Tensor of shape [tasks, n], bool, optional
        True where an example exists; all True when left out. Padded places hold zeros.
    n_classes : int, default=0
        Classification: number of classes of the widest task. 0 counts them from ``y``.
    problem : str, optional
        Name of the problem where ``y`` does not tell it: class indices are classification, real numbers regression.
    """

    x: Inputs
    y: Tensor
    mask: Tensor = field(default=None)  # type: ignore[assignment]
    n_classes: int = 0
    problem: str | None = field(default=None, kw_only=True)
    _full: bool | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        self._check_kinds()
        shapes = [tuple(part.shape[:2]) for part in (self.x if isinstance(self.x, tuple) else (self.x,))]
        if any(shape != tuple(self.y.shape[:2]) for shape in shapes):
            raise InvalidData(f"x {shapes} and y {tuple(self.y.shape)} must agree in their first two axes [tasks, n].")
        if self.mask is None:
            object.__setattr__(self, "mask", torch.ones(self.y.shape[:2], dtype=torch.bool, device=self.y.device))
            object.__setattr__(self, "_full", True)
        elif self.mask.shape != self.y.shape[:2]:
            raise InvalidData(
                f"mask {tuple(self.mask.shape)} must have the shape [tasks, n] of y {tuple(self.y.shape)}."
            )
        if self.n_classes == 0 and not self.y.is_floating_point():
            object.__setattr__(self, "n_classes", self._largest_class() + 1)

    def _check_kinds(self) -> None:
        """Refuse what is no tensor, or one of other numbers; look at no value, which would wait for the device."""
        inputs = self.x if isinstance(self.x, tuple) else (self.x,)
        given = {"x": inputs, "y": (self.y,), "mask": () if self.mask is None else (self.mask,)}
        for name, parts in given.items():
            for part in parts:
                if not isinstance(part, Tensor):
                    raise InvalidData(f"{name} of Examples is a {type(part).__name__}; it must be a torch.Tensor.")
        if not self.y.is_floating_point() and self.y.dtype != torch.int64:
            raise InvalidData(
                f"y of Examples is {self.y.dtype}; class indices are torch.int64, as y.long() makes them."
            )
        if self.y.dim() not in ((2, 3) if self.y.is_floating_point() else (2,)):
            raise InvalidData(
                f"y of Examples has the shape {tuple(self.y.shape)}; class indices are [tasks, n], real targets "
                "[tasks, n] or [tasks, n, n_outputs]."
            )
        if self.mask is not None and self.mask.dtype != torch.bool:
            raise InvalidData(f"mask of Examples is {self.mask.dtype}; it must be torch.bool, as mask.bool() makes it.")

    def _largest_class(self) -> int:
        """Return the largest class index, -1 where there is none."""
        if not self.y.numel():
            return -1
        least, most = map(int, self.y.aminmax())
        if least < 0:
            raise InvalidData(f"y of Examples holds the class {least}; class indices begin with 0, padded places too.")
        return most

    def __len__(self) -> int:
        return self.y.shape[0]

    def __getitem__(self, tasks: slice | Tensor) -> Examples:
        x = map_inputs(lambda t: t[tasks], self.x)
        return replace(self, x=x, y=self.y[tasks], mask=self.mask[tasks], _full=self._full or None)

    @property
    def problem_record(self) -> Problem:
        """What sets the problem of these examples apart: its score, loss, default learner and estimator."""
        return problem_of_targets(self.y) if self.problem is None else find_problem(self.problem)

    @property
    def is_full(self) -> bool:
        """True if nothing is padded; where that is not known yet, finding out waits for the device."""
        if self._full is None:
            object.__setattr__(self, "_full", bool(self.mask.all()))
        return bool(self._full)

    @property
    def is_known_to_be_full(self) -> bool:
        """True if nothing is padded and that is known without looking, which never waits for the device."""
        return self._full is True

    @property
    def is_classification(self) -> bool:
        """True if the targets are class indices."""
        return not self.y.is_floating_point()

    def one_hot(self) -> Tensor:
        """Class membership as numbers of the inputs' type, [tasks, n, n_classes]; zero rows where padded."""
        x = self.x[0] if isinstance(self.x, tuple) else self.x
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        try:
            classes = torch.nn.functional.one_hot(self.y, self.n_classes).to(dtype)
        except RuntimeError as error:
            if not self._holds_classes():
                raise InvalidData(
                    f"y of Examples holds no class indices below n_classes={self.n_classes}: {error}"
                ) from error
            raise  # such as for want of memory
        return classes if self._full else classes * self.mask.unsqueeze(-1)

    def _holds_classes(self) -> bool:
        """Tell whether the targets are indices of classes that there are."""
        return self.n_classes > 0 and bool(((self.y >= 0) & (self.y < self.n_classes)).all())

    def targets(self) -> Tensor:
        """Real targets [tasks, n, n_outputs]; zero where padded. One-hot classes for classification."""
        if self.is_classification:
            return self.one_hot()
        y = self.y if self.y.dim() == 3 else self.y.unsqueeze(-1)
        return y if self._full else y * self.mask.unsqueeze(-1)

    def with_parts(
        self, *, x: Inputs = None, y: Tensor | None = None, mask: Tensor | None = None, n_classes: int | None = None
    ) -> Examples:
        """Return examples of the same tasks and problem with other inputs, targets, mask or number of classes."""
        return replace(
            self,
            x=self.x if x is None else x,
            y=self.y if y is None else y,
            mask=self.mask if mask is None else mask,
            n_classes=self.n_classes if n_classes is None else n_classes,
            _full=self._full if mask is None else None,
        )

    def select(self, rows: Tensor | slice | list[int]) -> Examples:
        """The same examples ``rows`` (indices along n) of every task."""
        x = map_inputs(lambda t: t[:, rows], self.x)
        return replace(self, x=x, y=self.y[:, rows], mask=self.mask[:, rows], _full=self._full or None)

    def join(self, other: Examples) -> Examples:
        """Both sets of examples of every task, one after the other."""
        if isinstance(self.x, tuple):
            x: Inputs = tuple(torch.cat(pair, dim=1) for pair in zip(self.x, other.x, strict=True))
        else:
            x = torch.cat([self.x, other.x], dim=1)
        return replace(
            self,
            x=x,
            y=torch.cat([self.y, other.y], dim=1),
            mask=torch.cat([self.mask, other.mask], dim=1),
            n_classes=max(self.n_classes, other.n_classes),
            _full=(self._full and other._full) or None,
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Examples:
        """Move to a device and cast floating-point inputs and targets."""

        def move(t: Tensor) -> Tensor:
            return t.to(device=device, dtype=dtype if t.is_floating_point() else None)

        full = self.is_full if self.mask.device.type == "cpu" else self._full
        mask = self.mask.to(device=device)
        return replace(self, x=map_inputs(move, self.x), y=move(self.y), mask=mask, _full=full)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBatch:
    """Several tasks drawn together.

    Parameters
    ----------
    support, query : Examples
        To adapt on, and to be judged on.
    classes : Tensor of shape [tasks, n_way], int64, optional
        Global ids of the classes behind the task's labels 0 .. n_way-1, for pooled training; -1 where a task
        has fewer classes. None where labels mean the same in every task, and for regression.
    ids : Tensor of shape [tasks], int64, optional
        Which entity (school, patient, machine) each task is about. None when every drawn task is a new one.
    """

    support: Examples
    query: Examples
    classes: Tensor | None = None
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.support) != len(self.query):
            raise InvalidData(
                f"support has {len(self.support)} tasks and query has {len(self.query)}; they must agree."
            )

    def __len__(self) -> int:
        return len(self.support)

    @property
    def inputs(self) -> tuple[Inputs, Inputs]:
        """Inputs of the support and the query sets."""
        return self.support.x, self.query.x

    def __getitem__(self, tasks: slice | Tensor) -> TaskBatch:
        return TaskBatch(
            support=self.support[tasks],
            query=self.query[tasks],
            classes=None if self.classes is None else self.classes[tasks],
            ids=None if self.ids is None else self.ids[tasks],
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TaskBatch:
        """Move to a device and cast floating-point inputs and targets."""
        return TaskBatch(
            support=self.support.to(device, dtype),
            query=self.query.to(device, dtype),
            classes=None if self.classes is None else self.classes.to(device),
            ids=None if self.ids is None else self.ids.to(device),
        )
