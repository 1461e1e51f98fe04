"""Shapes are checked while tests run: a wrong one is caught in the first calls of every test."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

import autometa as am
import shape_checks


def scaled(rows: Float[Tensor, "rows columns"], weights: Float[Tensor, " columns"]) -> Float[Tensor, "rows columns"]:
    return (rows * weights).squeeze()


@pytest.mark.parametrize(
    ("rows", "weights"),
    [((2, 3), (2,)), ((3,), (3,)), ((1, 3), (3,))],
    ids=["another size", "an axis too few", "the result"],
)
def test_a_wrong_shape_is_caught(rows: tuple[int, ...], weights: tuple[int, ...]) -> None:
    checked = shape_checks.checked(scaled)
    checked(torch.ones(2, 3), torch.ones(3))
    with pytest.raises(TypeCheckError):
        checked(torch.ones(rows), torch.ones(weights))


def test_first_calls_are_checked_and_those_of_the_next_test_again() -> None:
    wrong = torch.ones(1, 3), torch.ones(3)
    for _ in range(shape_checks.CALLS):
        with pytest.raises(TypeCheckError):
            shape_checks.checked(scaled)(*wrong)
    assert shape_checks.checked(scaled)(*wrong).shape == (3,)
    shape_checks.calls.clear()
    with pytest.raises(TypeCheckError):
        shape_checks.checked(scaled)(*wrong)


def test_functions_of_the_package_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        am.judge(None, None, None)  # type: ignore[arg-type]


def scaling(weights: Tensor) -> Callable[[Tensor], Tensor]:
    @shape_checks.checked
    def scale(rows: Float[Tensor, "row feature"]) -> Float[Tensor, " feature"]:
        return (rows * weights).sum(0)

    return scale


def test_a_function_inside_another_is_checked_with_what_it_holds_and_its_check_is_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    real = shape_checks.check_all_calls
    monkeypatch.setattr(shape_checks, "check_all_calls", lambda *a, **named: made.append(a) or real(*a, **named))
    for weight in (2.0, 3.0):
        assert scaling(torch.full((3,), weight))(torch.ones(2, 3)).tolist() == [2 * weight] * 3
    with pytest.raises(TypeCheckError, match="scale"):
        scaling(torch.ones(3))(torch.ones(3))
    with pytest.raises(TypeCheckError, match="return"):
        scaling(torch.ones(2, 2, 3))(torch.ones(2, 3))
    assert len(made) == 1


@pytest.mark.thorough
def test_a_check_keeps_nothing_alive() -> None:
    weights = torch.ones(3)
    scaling(weights)(torch.ones(2, 3))
    held = weakref.ref(weights)
    del weights
    gc.collect()
    assert held() is None
