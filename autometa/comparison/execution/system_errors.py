"""Errors of the system: no room, no connection, a broken disk. They say nothing about whatever ran into them."""

from __future__ import annotations

import errno
from collections.abc import Iterator

_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EIO", "ENFILE", "ESTALE", "ENOLCK")
SYSTEM = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""No room, over quota, read-only, a broken disk, too many open files in the whole system, a share that is gone.

Too many open files in one process, or a device that is not there, may be the fault of what ran into it.
"""


def system_error_in(error: BaseException | None) -> OSError | None:
    """Return the error of the system among an error and what led to it."""
    for each in chain_of(error):
        if isinstance(each, OSError) and each.errno in SYSTEM:
            return each
    return None


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it, as a traceback tells it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
