"""What plugins print goes to standard error: standard output holds the command's own answer and nothing else."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def plugins_on_stderr() -> Iterator[None]:
    """Send to standard error what the block prints, by ``print`` or past Python, and the processes it starts.

    Afterwards standard output is as it was, whatever the block did to it, closing it included.
    """
    before, own, error = sys.stdout, sys.__stdout__, sys.stderr
    saved = _copy_of(before)
    # Both names: closed, the file's number would go to the next file that is opened.
    sys.stdout = sys.__stdout__ = _Borrowed(error)  # type: ignore[assignment,misc]
    if saved is not None:
        os.dup2(2, saved.number)
    try:
        yield
    finally:
        if sys.stderr is not error or error.closed:
            sys.stderr = error if not error.closed else io.TextIOWrapper(io.FileIO(2, "w", closefd=False))
        sys.stdout, sys.__stdout__ = before, own  # type: ignore[misc]
        if saved is not None:
            os.dup2(saved.copy, saved.number)
            os.close(saved.copy)
            if before.closed:
                again = io.FileIO(saved.number, "w", closefd=False)
                sys.stdout = io.TextIOWrapper(again, before.encoding, before.errors, line_buffering=True)


class _Saved:
    """The file of standard output and a copy of it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.copy = os.dup(number)


def _copy_of(stdout: TextIO) -> _Saved | None:
    """Copy the file that a stream writes to; None where it is none of the process's own two."""
    with suppress(OSError, ValueError, AttributeError):  # a notebook's or a test's
        stdout.flush()
        if stdout.fileno() == 1:
            os.fstat(2)
            return _Saved(1)
    return None


class _Borrowed(io.TextIOBase):
    """Writes to another stream, and leaves that one open."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write to the other stream."""
        return self._stream.write(text)

    def close(self) -> None:
        """Stay open: what is printed after a plugin closed its output still has a place."""

    def flush(self) -> None:
        """Flush the other stream, unless somebody closed it."""
        if not self._stream.closed:
            self._stream.flush()

    def fileno(self) -> int:
        """Number of the other stream's file."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Tell whether the other stream is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Say yes."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the other stream."""
        return str(getattr(self._stream, "encoding", "utf-8"))
