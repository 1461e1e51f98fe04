"""What checks shapes and types in signatures while tests run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, get_args

from beartype import BeartypeConf, beartype

WHOLE_NUMBERS_ARE_REAL = BeartypeConf(is_pep484_tower=True)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check a function's arguments and result.

    Annotations that are for type checkers alone (``Self``, protocols) are left out. So are constructors, which store
    whatever a user gives for others to refuse, and the forward passes of networks, which the inner loop reads by giving
    them stand-ins for tensors.
    """
    if function.__qualname__.endswith((".__init__", ".forward")):
        return function
    function.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if not _is_for_type_checkers(hint)
    }
    return beartype(conf=WHOLE_NUMBERS_ARE_REAL)(function)


def _is_for_type_checkers(hint: Any) -> bool:
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_is_for_type_checkers, hint))
    is_protocol = isinstance(hint, type) and getattr(hint, "_is_protocol", False)
    return hint is Self or is_protocol or any(map(_is_for_type_checkers, get_args(hint)))
