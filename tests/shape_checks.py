"""What checks shapes and types in signatures while tests run."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable
from functools import wraps
from types import CodeType, FunctionType
from typing import Any, Self, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

CALLS = 4
STAND_IN = "_Value"
"""Name of the class of what stands in for tensors while a network is read."""
WHOLE_NUMBERS_ARE_REAL = BeartypeConf(is_pep484_tower=True)

check_all_calls = jaxtyping.jaxtyped
calls: Counter[int] = Counter()
strict: dict[int, Callable[..., Any]] = {}
"""Checks by the ``id`` of the code of what they check: code itself takes three times as long to look up. A function
inside another one is made anew by every call; its code is not."""
codes: dict[int, CodeType] = {}
"""Keeps codes alive, so that no other one ever has the ``id`` of one that is gone."""


class Running(threading.local):
    """The function that a check is to call."""

    function: Callable[..., Any]


running = Running()


def install(packages: list[str]) -> None:
    """Check the first `CALLS` calls of each function of ``packages``; `calls.clear` begins to count again.

    A meta-training calls a function thousands of times alike, and a check costs more than what it checks.
    """
    jaxtyping.jaxtyped = checked
    jaxtyping.install_import_hook(packages, None)


def checked(function: Any = None, *, typechecker: object = None) -> Any:
    """Check a function's arguments and result, in place of ``jaxtyping.jaxtyped``.

    Annotations that are for type checkers alone (``Self``, protocols) are left out. So are constructors, which store
    whatever a user gives for others to refuse, and the forward passes of networks and what they call while the inner
    loop reads them by giving them stand-ins for tensors.
    """
    if function is None:
        return checked
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(checked(function.__func__))
    if isinstance(function, property):
        return property(checked(function.fget))
    if isinstance(function, type) or function.__qualname__.endswith((".__init__", ".forward")):
        return function
    code = id(function.__code__)
    codes[code] = function.__code__

    @wraps(function)
    def first_calls_checked(*arguments: Any, **named: Any) -> Any:
        if calls[code] == CALLS or any(type(argument).__name__ == STAND_IN for argument in arguments):
            return function(*arguments, **named)
        calls[code] += 1
        if code not in strict:
            strict[code] = check_all_calls(_stand_in(function), typechecker=_with_beartype)
        running.function = function
        return strict[code](*arguments, **named)

    return first_calls_checked


def _stand_in(function: FunctionType) -> FunctionType:
    """Make a function of the same signature that calls `running.function` and keeps nothing of ``function`` alive."""
    now = running

    def call(*arguments: Any, **named: Any) -> Any:
        function = now.function
        del now.function
        return function(*arguments, **named)

    made = FunctionType(call.__code__, function.__globals__, function.__name__, closure=call.__closure__)
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    made.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return made


def _with_beartype(function: Any) -> Any:
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if not _is_for_type_checkers(hint)
    }
    return beartype(conf=WHOLE_NUMBERS_ARE_REAL)(function)


def _is_for_type_checkers(hint: Any) -> bool:
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_is_for_type_checkers, hint))
    is_protocol = isinstance(hint, type) and getattr(hint, "_is_protocol", False)
    return hint is Self or is_protocol or any(map(_is_for_type_checkers, get_args(hint)))
