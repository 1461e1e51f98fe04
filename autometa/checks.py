"""Checks of single parameters: one set, one wording, the culprit always named the same way."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from autometa.errors import InvalidParameter

LARGEST = 10**9
"""The largest count that is taken where no other bound is given: what is larger ends in no memory, or never."""
LARGEST_SEED = 2**63 - 1
"""The largest seed."""
LONGEST_FILE_NAME = 255
"""Bytes of the name of a file or folder that systems take."""
LONGEST_SHOWN = 200
"""Characters of a value that an error shows."""
_NUMPY_BOOLS = ("bool", "bool_")


def check_int(
    name: str, value: Any, *, least: int = 1, most: int | None = None, also: Iterable[Any] = (), of: str = ""
) -> None:
    """Refuse what is not a whole number from ``least`` to ``most``.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given. True and False are no numbers.
    least : int, default=1
    most : int, optional
        None: a billion, more than anything here is counted to.
    also : iterable, optional
        Other values that are allowed, such as ``"auto"`` or None.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.

    Raises
    ------
    InvalidParameter

    Examples
    --------
    >>> import autometa as am
    >>> am.check_int("n_filters", 0, of="backbone 'conv4'")
    Traceback (most recent call last):
    autometa.errors.InvalidParameter: n_filters=0 of backbone 'conv4' must be a positive integer.
    """
    if _is_one_of(value, also):
        return
    if not is_whole(value, least, LARGEST if most is None else most):
        if most is not None or is_whole(value, LARGEST):
            most = LARGEST if most is None else most
            wanted = f"an integer from {least} to {most}"
        else:
            wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise InvalidParameter(_text(name, value, of, wanted, also))


def check_ints(
    name: str,
    value: Any,
    *,
    least: int = 1,
    length: int | None = None,
    may_be_empty: bool = False,
    of: str = "",
    such_as: Sequence[int] | None = None,
) -> None:
    """Refuse what is not a sequence of whole numbers, such as a list or a tuple.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given. True and False are no numbers.
    least : int, default=1
        Of each number; a billion at most.
    length : int, optional
        How many there must be. None: any number of them.
    may_be_empty : bool, default=False
        Where there is no ``length``.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.
    such_as : sequence of int, optional
        A value that works, for the error.

    Raises
    ------
    InvalidParameter

    Examples
    --------
    >>> import autometa as am
    >>> am.check_ints("hidden", (64, 0), of="backbone 'mlp'", such_as=(64, 64))
    Traceback (most recent call last):
    autometa.errors.InvalidParameter: hidden=(64, 0) of backbone 'mlp' must be a sequence of one or more \
positive integers, such as (64, 64).
    """
    listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    fits = listed and (len(value) == length if length is not None else may_be_empty or len(value) > 0)
    if not fits or not all(is_whole(number, least, LARGEST) for number in value):
        count = f"{length} " if length is not None else "" if may_be_empty else "one or more "
        numbers = "positive integers" if least == 1 else f"integers of at least {least}"
        hint = "" if such_as is None else f", such as {such_as!r}"
        raise InvalidParameter(_text(name, value, of, f"a sequence of {count}{numbers}{hint}"))


def check_real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
    also: Iterable[Any] = (),
    of: str = "",
    such_as: float | None = None,
) -> None:
    """Refuse what is not a finite number within bounds.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given. True and False are no numbers.
    above, least, most, below : float, optional
        Bounds; the first and the last are excluded, the others included.
    also : iterable, optional
        Other values that are allowed, such as ``"auto"`` or None.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.
    such_as : float, optional
        A value that works, for the error.

    Raises
    ------
    InvalidParameter

    Examples
    --------
    >>> import autometa as am
    >>> am.check_real("lr", -1, above=0, such_as=0.001)
    Traceback (most recent call last):
    autometa.errors.InvalidParameter: lr=-1 must be a positive number, such as 0.001.
    """
    if _is_one_of(value, also):
        return
    inside = isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    inside = inside and (above is None or value > above)
    inside = inside and (least is None or value >= least) and (most is None or value <= most)
    inside = inside and (below is None or value < below)
    if not inside:
        wanted = _range(above, least, most, below)
        hint = "" if such_as is None else f", such as {such_as}"
        raise InvalidParameter(_text(name, value, of, wanted + hint, also))


def check_bool(name: str, value: Any, *, also: Iterable[Any] = (), of: str = "") -> None:
    """Refuse what is neither True nor False: any text, such as ``"no"``, would count as True.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given. Numbers are refused; True and False of NumPy are not.
    also : iterable, optional
        Other values that are allowed, such as ``"auto"`` or None.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.

    Raises
    ------
    InvalidParameter

    Examples
    --------
    >>> import autometa as am
    >>> am.check_bool("first_order", "no", of="learner 'maml'")
    Traceback (most recent call last):
    autometa.errors.InvalidParameter: first_order='no' of learner 'maml' must be True or False.
    """
    # A scalar of NumPy is told by its class's name: listing components must not import NumPy.
    is_bool = isinstance(value, bool) or (type(value).__module__ == "numpy" and type(value).__name__ in _NUMPY_BOOLS)
    if not is_bool and not _is_one_of(value, also):
        raise InvalidParameter(_text(name, value, of, "True or False", also))


def check_choice(name: str, value: Any, choices: Iterable[Any], *, of: str = "") -> None:
    """Refuse what is not one of ``choices``.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given.
    choices : iterable
        What is allowed.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.

    Raises
    ------
    InvalidParameter

    Examples
    --------
    >>> import autometa as am
    >>> am.check_choice("norm", "bath", ("batch", "layer"), of="backbone 'mlp'")
    Traceback (most recent call last):
    autometa.errors.InvalidParameter: norm='bath' of backbone 'mlp' must be one of 'batch', 'layer'.
    """
    choices = tuple(choices)
    if not _is_one_of(value, choices):
        raise InvalidParameter(_text(name, value, of, f"one of {', '.join(map(repr, choices))}"))


def is_whole(value: Any, least: int, most: int | None = None) -> bool:
    """Tell whether the value is a whole number within bounds; True and False are none."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        return False
    return least <= int(value) and (most is None or int(value) <= most)


def check_text(name: str, value: Any, *, also: Iterable[Any] = (), of: str = "") -> None:
    """Refuse what is no text that can be stored: what is empty, or holds a null character or half a character.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given.
    also : iterable, optional
        Other values that are allowed, such as None.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.

    Raises
    ------
    InvalidParameter
    """
    if _is_one_of(value, also):
        return
    if not isinstance(value, str) or not value.strip():
        raise InvalidParameter(_text(name, value, of, "text that is not empty", also))
    try:
        stored = value.encode()
    except UnicodeEncodeError:
        stored = b"\0"
    if b"\0" in stored:
        raise InvalidParameter(f"{_named(name, value, of)} holds a character that cannot be stored.")


def check_texts(name: str, value: Any, *, of: str = "", such_as: str | None = None) -> None:
    """Refuse what is no list, tuple or set of texts; one text is none, although it can be gone through.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given. It may be empty.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.
    such_as : str, optional
        A text that works, for the error.

    Raises
    ------
    InvalidParameter
    """
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(text, str) for text in value):
        hint = "" if such_as is None else f", such as {[such_as]!r}"
        raise InvalidParameter(_text(name, value, of, f"a list of texts{hint}"))


def check_path(name: str, value: Any, *, also: Iterable[Any] = (), of: str = "") -> None:
    """Refuse what names no file or folder: anything but text and path objects, and text that no system takes.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What was given.
    also : iterable, optional
        Other values that are allowed, such as None.
    of : str, optional
        Whose parameter it is, such as ``"learner 'maml'"``.

    Raises
    ------
    InvalidParameter
    """
    if _is_one_of(value, also):
        return
    path = value.__fspath__() if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path.strip():
        raise InvalidParameter(_text(name, value, of, "a path, as text or a pathlib.Path", also))
    if path.startswith("~") and os.path.expanduser(path).startswith("~"):
        raise InvalidParameter(
            f"{_named(name, value, of)} begins with the home folder of an unknown user; if this is its name, put './' "
            "before it."
        )
    try:
        written = os.fsencode(path)
    except UnicodeEncodeError:
        written = b"\0"
    if b"\0" in written:
        raise InvalidParameter(f"{_named(name, value, of)} holds a character that no path can have.")
    longest = max(map(len, written.replace(os.sep.encode(), b"/").split(b"/")))
    if longest > LONGEST_FILE_NAME:
        raise InvalidParameter(
            f"{_named(name, value, of)} has a name of {longest} bytes in it; systems take {LONGEST_FILE_NAME} at most."
        )


def _range(above: float | None, least: float | None, most: float | None, below: float | None) -> str:
    """Bounds in words, such as "a number above 0 and below 1"."""
    if least is not None and most is not None:
        return f"a number from {least:g} to {most:g}"
    if above == 0 and below is None:
        return "a positive number" if most is None else f"a positive number of at most {most:g}"
    told = (("above", above), ("of at least", least), ("of at most", most), ("below", below))
    bounds = " and ".join(f"{word} {value:g}" for word, value in told if value is not None)
    return f"a number {bounds}".strip()


def _is_one_of(value: Any, choices: Iterable[Any]) -> bool:
    """Tell whether the value is one of a few; an array equals none of them, text of NumPy equals the same text."""
    if isinstance(value, str):
        return any(isinstance(choice, str) and value == choice for choice in choices)
    return any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices)


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _text(name: str, value: Any, of: str, wanted: str, also: Iterable[Any] = ()) -> str:
    others = "".join(f", or {other!r}" for other in also)
    return f"{_named(name, value, of)} must be {wanted}{others}."


def _named(name: str, value: Any, of: str) -> str:
    return f"{name}={_shown(value)}{_whose(of)}"


def _whose(of: str) -> str:
    return f" of {of}" if of else ""


def _shown(value: Any) -> str:
    """A value for an error, on one line and not too long; an object may fail to say what it is."""
    try:
        shown = repr(value)
    except Exception:
        shown = f"<{type(value).__name__}>"
    shown = " ".join(shown.split()) if "\n" in shown else shown
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[: LONGEST_SHOWN - 4]} ..."
