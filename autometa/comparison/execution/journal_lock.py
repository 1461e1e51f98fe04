"""The lock of a journal file. It says who holds it, so that nobody waits for a process that is gone."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from itertools import count
from pathlib import Path

from optuna.storages.journal import JournalFileOpenLock

from autometa.comparison.execution import patient_storage
from autometa.comparison.execution.owner import OWNER, Owner
from autometa.comparison.execution.patient_storage import StorageLost, tell
from autometa.schema import misfit, read_json

GRACE = 30.0
"""Seconds after which a lock that does not change is taken from a holder of whom nothing is known."""
TELL_AFTER = 1.0
"""Seconds of waiting after which the user is told whom for."""
_LONGEST_PAUSE = 0.25
_count = count()
_held: set[str] = set()
"""Marks of the locks that this process holds or waits for. Another one of its own was left there by a Ctrl-C."""


class JournalLock:
    """A symbolic link beside the journal, whose target names the process that holds it.

    Making a link is atomic on every file system, those of networks among them. A holder of this machine that died is
    known to be dead, and its lock is removed at once; one that lives is waited for. Of a holder elsewhere nothing is
    known: its lock is removed when it has not changed for :data:`GRACE` seconds. So is a file in the place of the link,
    which is the lock of a program that makes no links, as Windows has it.

    Parameters
    ----------
    journal : Path
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.file = journal.with_name(journal.name + ".lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside of the block.

        Raises
        ------
        StorageLost
            Another process holds it and does not let go.
        """
        mark = f"{_mark_of(os.getpid())}{next(_count)}"
        _held.add(mark)
        try:
            self._acquire(mark)
            yield
        finally:
            try:
                self._release(mark)
            finally:
                _held.discard(mark)

    def _acquire(self, mark: str) -> None:
        unchanged_since = time.monotonic()
        seen: tuple[str, int] | None = None
        pause, told = 0.001, False
        while True:
            if self._make(mark):
                return
            found = self._found()
            if found is None:
                continue
            now = time.monotonic()
            if found != seen:
                seen, unchanged_since = found, now
            holder = _holder(found[0])
            is_left = found[0].startswith(_mark_of(os.getpid())) and found[0] not in _held
            if is_left or (holder is not None and holder.is_dead(time.time())):
                self._remove(found)
                continue
            if (holder is None or not holder.is_here()) and now - unchanged_since > GRACE:
                tell(f"the lock {str(self.file)!r} has not changed for {GRACE:.0f} seconds and is removed.")
                self._remove(found)
                continue
            who = f"by {holder}" if holder is not None else f"({str(self.file)!r})"
            waited = now - unchanged_since  # a lock that goes from hand to hand is no fault, however many want it
            if waited > patient_storage.PATIENCE:
                raise StorageLost(
                    f"journal {str(self.journal)!r} is locked {who} for {waited:.0f} seconds; end that process, "
                    "and the same call goes on."
                )
            if waited > TELL_AFTER and not told:
                told = True
                tell(f"journal {str(self.journal)!r} is locked {who}; waiting for it.")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _make(self, mark: str) -> bool:
        """Make the lock; False if there is one."""
        try:
            os.symlink(mark, self.file)
        except FileExistsError:
            return False
        except OSError as error:  # whose text would show the mark
            raise OSError(error.errno, error.strerror, str(self.file)) from None
        return True

    def _found(self) -> tuple[str, int] | None:
        """Return the mark of the lock that is there and when it was made; None if there is none."""
        try:
            return self._read(), os.lstat(self.file).st_mtime_ns
        except FileNotFoundError:
            return None

    def _read(self) -> str:
        """Return the mark of the lock that is there; empty for a file, which has none."""
        try:
            return os.readlink(self.file)
        except OSError as error:
            mode = os.lstat(self.file).st_mode  # of a link, where one was made in the meantime
            if error.errno != errno.EINVAL or not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                raise
            return ""

    def _release(self, mark: str) -> None:
        with suppress(FileNotFoundError):
            if self._read() == mark:
                os.unlink(self.file)

    def _remove(self, found: tuple[str, int]) -> None:
        """Remove a lock whose holder is gone, unless another process did so and holds its own by now."""
        with self._alone(), suppress(FileNotFoundError):
            if self._found() == found:
                os.unlink(self.file)

    def _alone(self) -> AbstractContextManager[object]:
        """Keep other processes of this machine from removing the lock meanwhile."""
        try:
            import fcntl

            file = self.journal.open("rb+")
        except (ImportError, OSError):
            return nullcontext()
        with suppress(OSError):  # a file system without locks of its own
            fcntl.flock(file, fcntl.LOCK_EX)
        return file


class WindowsLock:
    """The lock of Optuna's that needs no symbolic links, which Windows lets few users make."""

    def __init__(self, journal: Path) -> None:
        self._lock = JournalFileOpenLock(str(journal))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside of the block."""
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()


def lock_of(journal: Path) -> JournalLock | WindowsLock:
    """Return a lock that the system supports."""
    return WindowsLock(journal) if os.name == "nt" else JournalLock(journal)


def _holder(mark: str) -> Owner | None:
    """Return the process that made a lock; None for one that some other program made."""
    try:
        written = read_json(mark.rpartition(" ")[0])
    except ValueError:
        return None
    return Owner.from_json(written) if misfit(written, OWNER) is None else None


@cache
def _mark_of(pid: int) -> str:
    """Return how the marks of this process begin; a number tells its own apart."""
    return json.dumps(Owner.here().to_json()) + " "
