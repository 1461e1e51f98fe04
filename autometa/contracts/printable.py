"""Text of others as it can be printed: nothing in it moves the cursor, changes colours or hides what follows."""

from __future__ import annotations

import unicodedata

_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of characters that are written as escapes: controls, half characters, separators of lines."""
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text behind them."""


def printable(value: object, *, lines: bool = False) -> str:
    r"""Return text in which control characters are seen as escapes, such as ``\x1b``.

    Parameters
    ----------
    value : object
    lines : bool, default=False
        Ends of lines and tabs stay as they are.
    """
    text = str(value)
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or not _is_unseen(c) else c.encode("unicode_escape").decode() for c in text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or character in _TURNING
