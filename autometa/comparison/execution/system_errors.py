"""Errors of the system: no room, no connection, a broken disk. They say nothing about whatever ran into them."""

from __future__ import annotations

import errno

_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ENFILE", "EMFILE", "ESTALE", "ENOLCK", "ENODEV", "ENXIO")
SYSTEM = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""No room, over quota, larger than a file may be, read-only, a broken disk, too many open files, a share or a device
that is gone."""


def system_error_in(error: BaseException | None) -> OSError | None:
    """Return the error of the system among an error and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in SYSTEM:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
