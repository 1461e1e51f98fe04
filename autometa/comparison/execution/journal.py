"""A journal file: each record is in it whole or not at all, whoever fails or dies while writing.

Every line is a record of Optuna's journal with its own number beside it, so that a line that is missing is found.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from autometa.comparison.execution.journal_lock import lock_of
from autometa.comparison.execution.patient_storage import StorageLost, tell

_BEGIN = b'{"op_code":'
"""How every record begins; inside of a text of a record the quotes are escaped."""
_NUMBER = "line"
"""The field that holds the number of a line, from 1."""


def open_journal(path: Path, *, make: bool = True) -> JournalStorage:
    """Open the storage in a journal file; nothing is written to one that is there.

    Parameters
    ----------
    path : Path
    make : bool, default=True
        Make it if there is none.

    Raises
    ------
    FileNotFoundError
        There is none, and it is not to be made.
    StorageLost
        The file is damaged or no journal; it is left as it is.
    """
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    backend = JournalFile(path)
    try:
        return JournalStorage(backend)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StorageLost):
            raise
        raise backend.damaged(backend.n_read) from error


class JournalFile(BaseJournalBackend):
    """Reads and appends the lines of a journal.

    A write that fails is taken back. What a process left of one that it died in has no line end: it is no record to
    readers, and the next writer removes it.

    Parameters
    ----------
    path : Path
        An empty file, or one whose first line is a record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = lock_of(path)
        self._told: set[int] = set()
        self.n_read, self._offset = 0, 0
        """Lines that were read, and where they end."""
        if not path.is_file():
            raise FileNotFoundError(f"{str(path)!r} is no file")
        with path.open("rb") as file:
            self._check_first(file.readline())

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the records of all whole lines, from one on."""
        if log_number_from != self.n_read:
            self.n_read, self._offset = 0, 0
        with self._open("rb") as file:
            # All that is there now, in one go: what is read piece by piece may be taken back between two pieces.
            for line in BytesIO(self._since(file)):
                if not line.endswith(b"\n"):
                    return
                number = self.n_read + 1
                record = self._record(line, number)
                self.n_read, self._offset = number, self._offset + len(line)
                if number > log_number_from:
                    yield record

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Append records, and return when they are on the disk."""
        try:
            with self._lock.held(), self._open("rb+") as file:
                number, end = self._cut_torn(file)
                numbered = [{**log, _NUMBER: number + i} for i, log in enumerate(logs, start=1)]
                lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in numbered]
                self._write(file, end, "".join(lines).encode())
        except FileNotFoundError as error:  # the folder is gone, and the lock cannot be made in it
            raise self._gone() from error

    def _open(self, mode: str) -> Any:
        def append(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_APPEND)

        try:
            return open(self.path, mode, buffering=0, opener=append if "+" in mode else None)
        except FileNotFoundError as error:
            raise self._gone() from error

    def _since(self, file: Any) -> bytes:
        """Read what lies behind the lines that were read."""
        size = os.fstat(file.fileno()).st_size
        if size < self._offset:
            raise StorageLost(
                f"journal {str(self.path)!r} is shorter than it was: something else wrote to it. The same call goes on "
                "with what is in it."
            )
        file.seek(self._offset)
        data = bytearray()
        while part := file.read(size - self._offset - len(data)):
            data += part
        return bytes(data)

    def _cut_torn(self, file: Any) -> tuple[int, int]:
        """Remove what a process left of its last line; return the number of lines and where they end.

        Whoever calls this holds the lock, so that no other process is at work on that line.
        """
        data = self._since(file)
        whole = data.rfind(b"\n") + 1
        if self._offset + whole == 0:
            self._check_first(data)
        if whole < len(data):
            file.truncate(self._offset + whole)
        return self.n_read + data.count(b"\n"), self._offset + whole

    @staticmethod
    def _write(file: Any, end: int, data: bytes) -> None:
        """Write lines at the end of the file; take back what was written of them if that fails."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException as error:
            # Ctrl-C after the last byte changes nothing: others may have read the lines by now.
            if rest or isinstance(error, OSError):
                with suppress(OSError):  # then the next writer does it
                    file.truncate(end)
            raise

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        """Read a line; pass over what is torn at its begin, which another program wrote its own record behind."""
        record = _parse(line)
        if record is None and (begin := line.rfind(_BEGIN)) > 0:
            record = _parse(line[begin:])
            if record is not None and number not in self._told:
                self._told.add(number)
                tell(
                    f"journal {str(self.path)!r}: line {number} begins with a record that was cut short, which is "
                    "passed over."
                )
        if record is None:
            raise self.damaged(number)
        if record.get(_NUMBER, number) != number:
            raise self.damaged(number, f"says that it is line {record[_NUMBER]}: a line is missing, or twice there")
        return record

    def _check_first(self, line: bytes) -> None:
        """Refuse a file that does not begin as a journal does."""
        if line and (_parse(line) is None if line.endswith(b"\n") else not line.startswith(_BEGIN)):
            raise self.damaged(1)

    def damaged(self, number: int, why: str = "is no record of a study") -> StorageLost:
        """Return the error that names a line."""
        if number <= 1:
            helps = "give another file, or move this one away to begin anew"
        else:
            helps = f"a copy of its first {number - 1} lines in its place keeps what was done before"
        return StorageLost(f"journal {str(self.path)!r} is damaged: line {max(1, number)} {why}; {helps}.")

    def _gone(self) -> StorageLost:
        return StorageLost(
            f"journal {str(self.path)!r} is gone: it was removed or moved while it was in use. Put it back, and the "
            "same call goes on."
        )


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line; None if it is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("op_code"), int) else None
