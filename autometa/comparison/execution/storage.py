"""Where studies are kept: a journal file in the output folder, or any Optuna storage."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, get_storage
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, NoSuchModuleError

from autometa.checks import check_path, check_text
from autometa.comparison.execution.address import check_address, hide_secrets, without_password, without_passwords
from autometa.comparison.execution.database_drivers import missing_driver, with_driver
from autometa.comparison.execution.grpc_proxy import SCHEME, open_proxy
from autometa.comparison.execution.journal import open_journal
from autometa.comparison.execution.patient_storage import PatientStorage, cause_of, insist, is_outage, is_starting
from autometa.errors import InvalidParameter, StorageError

JOURNAL = "journal.log"
_RACE = ("already exists", "UNIQUE constraint failed", "duplicate key", "Duplicate entry", "Duplicate key")
"""What databases say where another process makes the same tables at the same moment."""
_RACE_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)


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
    where = os.fspath(storage)
    if isinstance(where, str) and "://" in where:
        check_text("storage", without_password(where))
    else:
        check_path("storage", where)
    return where


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


def kind_of_open(where: str | BaseStorage | None) -> str | None:
    """Return the class of a storage that was given open, as a gRPC proxy is; None for an address and for memory."""
    inner = where.inner if isinstance(where, PatientStorage) else where
    return type(inner).__name__ if isinstance(inner, BaseStorage) and not isinstance(inner, InMemoryStorage) else None


def open_storage(where: str | BaseStorage | None, *, wait: bool = False, make: bool = True) -> BaseStorage:
    """Open an Optuna storage.

    Parameters
    ----------
    where : str, BaseStorage or None
        An SQLAlchemy URL; ``grpc://host:port`` of a proxy; the path of a journal file, ending in ``.log`` or
        ``.journal``; an open storage; None: memory.
    wait : bool, default=False
        It was reached before, so that no answer means an outage. A database that says it is starting, or locked, is
        always waited for.
    make : bool, default=True
        Make a file that is not there.

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
    locate_storage(where, None)
    check_address(where)
    shown = without_password(where)

    def open_it() -> BaseStorage:
        for pause in _RACE_PAUSES:
            try:
                return _opened(where, make=make)
            except DBAPIError as error:
                if not any(text in str(error) for text in _RACE):
                    raise
                time.sleep(pause)
        return _opened(where, make=make)

    reached = wait

    def is_worth_waiting(error: BaseException) -> bool:
        nonlocal reached
        reached = reached or is_starting(error)
        return reached and is_outage(error)

    try:
        opened = insist(open_it, shown, is_worth_waiting)
    except (ImportError, NoSuchModuleError) as error:
        reason = missing_driver(where, error.__cause__ or error)
        raise StorageError(f"storage={shown!r} cannot be used: {hide_secrets(reason, where)}") from error
    except StorageError:
        raise
    except Exception as error:  # drivers and databases raise errors of their own kinds
        raise StorageError(
            f"storage={shown!r} cannot be used ({hide_secrets(cause_of(error), where)}); give a journal file such as "
            "'runs/journal.log' or a database URL such as 'postgresql://user@host/db' that this machine can reach."
        ) from error
    return PatientStorage(opened, shown)


def _opened(where: str, *, make: bool) -> BaseStorage:
    """Open a storage and look into it."""
    opened = _open(where, make=make)
    opened.get_all_studies()
    return opened


def _open(where: str, *, make: bool) -> BaseStorage:
    if where.startswith(SCHEME):
        return open_proxy(where)
    if "://" not in where:
        if not where.endswith((".log", ".journal")):
            raise ValueError("a file must end in .log or .journal, and anything else be a URL")
        return open_journal(Path(where).expanduser().resolve(), make=make)
    url = with_driver(where)
    if not make and _is_missing(url):
        raise FileNotFoundError("there is no such file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_storage(_Database(url))


def _is_missing(url: str) -> bool:
    """Tell whether a database of SQLite has no file, which it would make at once."""
    parts = make_url(url)
    file = parts.database if parts.get_backend_name() == "sqlite" else None
    return file not in (None, "", ":memory:") and not file.startswith("file:") and not Path(file).exists()


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
