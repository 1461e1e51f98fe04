"""Shapes are checked while tests run: a wrong one is caught in the first calls of every test."""

from __future__ import annotations

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
