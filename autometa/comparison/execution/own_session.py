"""What is defined in a session: other processes cannot import it."""

from __future__ import annotations

import pickletools
from collections.abc import Iterator

from autometa.engine.program import has_file


def why_not_imported(pickled: bytes | memoryview) -> str | None:
    """Say what a pickle names that is defined in a session, a notebook or a script on standard input; else None.

    Other processes import the file of a program again, and such a program has none.
    """
    if has_file():
        return None
    named = next((name for module, name in _imported(pickled) if module == "__main__"), None)
    return None if named is None else f"{named!r} is defined in this session, which they cannot import"


def _imported(pickled: bytes | memoryview) -> Iterator[tuple[str | None, str | None]]:
    """Yield module and name of what a pickle imports; both are texts, or stand for texts that were kept before."""
    kept: list[str | None] = []
    pushed: list[str | None] = [None, None]
    last = ""
    for code, given, _ in pickletools.genops(bytes(pickled)):
        if code.name == "STACK_GLOBAL":
            yield pushed[-2], pushed[-1]
        elif code.name == "MEMOIZE":
            kept.append(pushed[-1] if last in _TEXTS else None)
        elif code.name in ("BINGET", "LONG_BINGET"):
            pushed.append(kept[int(given or 0)])
        elif code.name in _TEXTS:
            pushed.append(given)
        last = code.name


_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
