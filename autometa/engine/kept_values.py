"""What a network keeps beside its parameters, to tell whether a call changed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping
from numbers import Number
from typing import Any

from torch import Tensor, nn

_PARTS = (list, tuple, set, frozenset, deque)
_PLAIN = (Number, str, bytes, type(None))


class Kept:
    """The tensors, numbers and texts in the layers of a network, and in lists, sets and dicts there, at one time.

    Two of them are equal if the network held the same in between and changed no tensor in place. What is kept in other
    objects is not seen.

    Parameters
    ----------
    module : nn.Module
    but : collection of int, optional
        ``id`` of tensors that are left out, as parameters are.
    """

    def __init__(self, module: nn.Module, but: Container[int] = ()) -> None:
        self._found: list[tuple[object, int]] = []
        """Values, and how often a tensor was changed in place or how many parts there are."""
        seen: set[int] = set()
        left: list[Any] = [module]
        while left:
            value = left.pop()
            if isinstance(value, Tensor):
                if id(value) not in but and not isinstance(value, nn.Parameter):
                    self._found.append((value, 0 if value.is_inference() else value._version))
            elif isinstance(value, _PLAIN):
                self._found.append((value, 0))
            elif id(value) not in seen and (parts := _parts(value)) is not None:
                seen.add(id(value))
                self._found.append((type(value), len(parts)))
                left += parts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kept) or len(self._found) != len(other._found):
            return False
        return all(map(_is_same, self._found, other._found))

    __hash__ = None  # type: ignore[assignment]


def _parts(value: object) -> list[Any] | None:
    if isinstance(value, nn.Module):
        value = vars(value)
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, _PARTS) else None


def _is_same(a: tuple[object, int], b: tuple[object, int]) -> bool:
    (one, n), (other, m) = a, b
    if n != m or one is other:
        return n == m
    return type(one) is type(other) and isinstance(one, _PLAIN) and bool(one == other)
