"""Where studies are kept: a journal file in the output folder, or any Optuna storage."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from sqlalchemy.exc import NoSuchModuleError

from autometa.checks import check_path
from autometa.comparison.execution.address import check_address, hide_secrets, without_password, without_passwords
from autometa.comparison.execution.database_drivers import missing_driver, with_driver
from autometa.comparison.execution.patient_storage import PatientStorage, insist, is_outage, is_starting
from autometa.errors import InvalidParameter, StorageError

JOURNAL = "journal.log"
_BEGIN = b'{"op_code"'
"""How every line of a journal begins."""


class TemporaryFolder:
    """A temporary folder, deleted with the last reference to this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="autometa-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def prepare_output(output: str | os.PathLike[str] | None) -> Path | None:
    """Make the output folder and check that it can be written to.

    Raises
    ------
    InvalidParameter
        It is no path.
    StorageError
        It cannot be written to.
    """
    if output is None:
        return None
    check_path("output", output, also=(None,))
    folder = Path(output).expanduser().resolve()
    probe = folder / f".autometa-write-test-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StorageError(f"output={str(output)!r} cannot be written to ({error}); choose another folder.") from error
    return folder


def locate_storage(
    storage: str | os.PathLike[str] | BaseStorage | None, output: Path | None
) -> str | BaseStorage | None:
    """Return the storage to use: what was given, else the journal in ``output``, else None (memory)."""
    if storage is None:
        return str(output / JOURNAL) if output is not None else None
    if isinstance(storage, BaseStorage):
        return storage
    if not isinstance(storage, str | os.PathLike):
        (given,) = without_passwords([repr(storage)])
        raise InvalidParameter(
            f"storage={given} must be a database URL, a journal file such as 'runs/journal.log', an Optuna "
            "storage, or None."
        )
    return os.fspath(storage)


def portable_address(where: str | BaseStorage | None, folder: Path) -> str | None:
    """Return the address of a storage for a file in ``folder``: a path in it is relative, a password is hidden.

    None stands for memory, and for an open storage, which has no address.
    """
    if where is None or isinstance(where, BaseStorage):
        return None
    if "://" in where:
        return without_password(where)
    path = Path(where).expanduser().resolve()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def open_storage(where: str | BaseStorage | None, *, wait: bool = False) -> BaseStorage:
    """Open an Optuna storage.

    Parameters
    ----------
    where : str, BaseStorage or None
        An SQLAlchemy URL; the path of a journal file, ending in ``.log`` or ``.journal``; an open storage; None:
        memory.
    wait : bool, default=False
        It was reached before, so that no answer means an outage. A database that says it is starting is always waited
        for.

    Returns
    -------
    BaseStorage
        One that waits while its database does not answer, see :class:`PatientStorage`.

    Raises
    ------
    StorageError
        It cannot be reached.
    """
    if where is None:
        return InMemoryStorage()
    if isinstance(where, InMemoryStorage | PatientStorage):
        return where
    if isinstance(where, BaseStorage):
        return PatientStorage(where, type(where).__name__)
    check_address(where)
    shown = without_password(where)

    def open_it() -> BaseStorage:
        opened = _open(where)
        opened.get_all_studies()
        return opened

    try:
        opened = insist(open_it, shown, is_outage if wait else is_starting)
    except (ImportError, NoSuchModuleError) as error:
        reason = missing_driver(where, error.__cause__ or error)
        raise StorageError(f"storage={shown!r} cannot be used: {hide_secrets(reason, where)}") from error
    except StorageError:
        raise
    except Exception as error:  # drivers and databases raise errors of their own kinds
        reason = f"{type(error).__name__}: {hide_secrets(str(error), where)}"
        raise StorageError(
            f"storage={shown!r} cannot be used ({reason}); give a journal file such as 'runs/journal.log' or a "
            "database URL such as 'postgresql://user@host/db' that this machine "
            "can reach."
        ) from error
    return PatientStorage(opened, shown)


def _open(where: str) -> BaseStorage:
    if "://" not in where:
        if not where.endswith((".log", ".journal")):
            raise ValueError("a file must end in .log or .journal, and anything else be a URL")
        path = Path(where).expanduser().resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open_journal(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_storage(_Database(with_driver(where)))


def _open_journal(path: Path) -> BaseStorage:
    """Open a journal file; one that is damaged is left as it is."""
    if path.exists():
        if not _is_journal(path):
            raise _damaged(path, 1)
        drop_torn_line(path)
    try:
        opened = JournalStorage(JournalFileBackend(str(path), _lock(path)))
    except (ValueError, TypeError, KeyError) as error:
        number = _damaged_line(path)
        if number is None:
            raise
        raise _damaged(path, number) from error
    # Optuna passes over a last line that cannot be read, and never reads what is written after it.
    if path.exists() and not _is_record(_last_line(path)):
        raise _damaged(path, _damaged_line(path) or 1)
    return opened


def _is_journal(path: Path) -> bool:
    """Tell whether a file begins as a journal does; a write that was cut short may have left less."""
    with path.open("rb") as file:
        begin = file.read(len(_BEGIN))
    return _BEGIN.startswith(begin)


def _is_record(line: bytes) -> bool:
    try:
        record = json.loads(line.decode())
    except ValueError:
        return False
    return isinstance(record, dict) and isinstance(record.get("op_code"), int)


def _last_line(path: Path) -> bytes:
    """Return the last whole line; a record where there is none."""
    with path.open("rb") as file:
        size, length = file.seek(0, os.SEEK_END), 2**16
        while True:
            file.seek(max(0, size - length))
            lines = file.read(size).split(b"\n")[:-1]
            if len(lines) > 1 or length >= size:
                return lines[-1] if lines else _BEGIN + b":0}"
            length *= 4


def _damaged_line(path: Path) -> int | None:
    """Return the number of the first whole line that is no record; None if all are."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and not _is_record(line):
                return number
    return None


def _damaged(path: Path, number: int) -> StorageError:
    if number == 1:
        helps = "give another file, or move this one away to begin anew"
    else:
        helps = f"a copy of its first {number - 1} lines in its place keeps what was done before"
    return StorageError(f"journal {str(path)!r} is damaged: line {number} is no record of a study; {helps}.")


class _Database(RDBStorage):
    """Close all connections with the last user, or at once if the database cannot be used; Optuna never does."""

    def __init__(self, url: str) -> None:
        with self._closing():
            super().__init__(url)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        with self._closing():
            super().__setstate__(state)

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if hasattr(self, "engine"):
                self.engine.dispose()
            raise
        weakref.finalize(self, self.engine.dispose)


def drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line, as a power cut leaves it: a line appended to it would be unreadable."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
    lock = _lock(path)
    lock.acquire()  # now no process is writing
    try:
        with path.open("rb+") as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _lock(path: Path) -> JournalFileSymlinkLock | JournalFileOpenLock:
    """Return a lock that the system supports: Windows lets few users make symbolic links."""
    return JournalFileOpenLock(str(path)) if os.name == "nt" else JournalFileSymlinkLock(str(path))
