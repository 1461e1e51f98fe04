"""Which parameters of a test stay in the default suite, where all of them would take long; the others are thorough.

    @pytest.mark.parametrize("name", first_by_default(2, NAMES))
    @pytest.mark.parametrize("learner", representatives_by_default(LEARNERS))

Nothing is left out: the thorough ones run before a change lands.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

REPRESENTATIVES = frozenset(
    {
        *("gradient", "maml", "ridge"),
        *("prototypical", "cnp", "learned_rule", "multitask", "fine_tune"),
        *("pooled", "sklearn", "ensemble"),
        *("rl2", "thompson", "gridnavi", "bandit"),
        *("glyphs", "sinusoid", "prior_entities", "conv4", "mlp"),
    }
)
"""Components that stand for all where the same is asked of every one: a few of each kind and of each plugin."""


def is_representative(*values: Any) -> bool:
    """Return whether a component among the values, itself or its name, short or full, is a representative."""
    names = (getattr(value, "name", value) for value in values)
    return any(name.rpartition("/")[2] in REPRESENTATIVES for name in names if isinstance(name, str))


def representatives_by_default(parameters: Iterable[Any]) -> list[Any]:
    """Mark all parameters as thorough but those of representatives."""
    return thorough_unless(is_representative, parameters)


def first_by_default(n: int, parameters: Iterable[Any]) -> list[Any]:
    """Mark all parameters as thorough but the first ``n``."""
    places = itertools.count()
    return thorough_unless(lambda *values: next(places) < n, parameters)


def thorough_unless(stays: Callable[..., bool], parameters: Iterable[Any]) -> list[Any]:
    """Mark all parameters as thorough but those whose values stay in the default suite."""
    marked = []
    for parameter in map(_as_param, parameters):
        values, *_ = parameter
        marks = [] if stays(*values) else [pytest.mark.thorough]
        marked.append(parameter._replace(marks=[*parameter.marks, *marks]))
    return marked


def _as_param(parameter: Any) -> Any:
    if hasattr(parameter, "marks"):
        return parameter
    return pytest.param(*parameter) if isinstance(parameter, tuple) else pytest.param(parameter)
