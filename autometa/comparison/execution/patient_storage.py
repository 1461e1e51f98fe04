"""A storage that waits for a database that does not answer, and whose failures nobody takes for a trial's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from autometa.comparison.execution.system_errors import chain_of, system_error_in
from autometa.errors import StorageError, warn_user

PATIENCE = 300.0
"""Seconds for which a storage that does not answer is asked again."""
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between two tries; the last one counts for all that follow."""
_PERMANENT = (
    *("no such table", "no such column", "has no column", "syntax error", "readonly", "read-only"),
    *("is full", "disk I/O error", "unable to open database file"),
)
"""What SQLite calls an operational error although no waiting helps."""
_STARTING = (
    "is starting up",
    "is shutting down",
    "in recovery mode",
    "not yet accepting connections",
    "is locked",  # SQLite's file, by another program
)
_REMOTE = {
    ("grpc", "RpcError"),
    ("redis", "RedisError"),
    *itertools.product(("psycopg", "psycopg2", "pymysql", "MySQLdb"), ("OperationalError", "InterfaceError")),
}
"""Errors of a connection, by package and class."""
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN")
"""What gRPC says where the server, or the storage behind it, does not answer now."""

Answer = TypeVar("Answer")


class StorageLost(StorageError):
    """A storage failed in the middle of a comparison; what was at work goes on with the next call."""


class SystemFailure(StorageLost):
    """The system failed in the middle of a comparison, and the storage may still be there to be told."""

    NEXT = "no trial is lost but those at work. The same call goes on once that is mended."


class StorageWarning(UserWarning):
    """A storage does not answer and is asked again."""


def _patient(name: str) -> Any:
    def call(self: PatientStorage, *arguments: Any, **options: Any) -> Any:
        return self._insist(name, arguments, options)

    call.__name__ = name
    call.__doc__ = f"Call ``{name}`` of the storage, see ``optuna.storages.BaseStorage``."
    return call


class PatientStorage(BaseStorage):
    """Any other storage, asked again for a while where it does not answer.

    Parameters
    ----------
    inner : optuna.storages.BaseStorage
    where : str
        What to call it in messages.

    Raises
    ------
    StorageLost
        From every method: it did not answer for :data:`PATIENCE` seconds, or failed for good.
    """

    def __init__(self, inner: BaseStorage, where: str) -> None:
        self.inner, self.where = inner, where
        self.patience = PATIENCE
        self.back_at = 0.0
        """Time of the clock at which the storage answered again after an outage; 0: there was none."""

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Do not wait inside of the block."""
        before, self.patience = self.patience, 0.0
        try:
            yield
        finally:
            self.patience = before

    create_new_study = _patient("create_new_study")
    delete_study = _patient("delete_study")
    set_study_user_attr = _patient("set_study_user_attr")
    set_study_system_attr = _patient("set_study_system_attr")
    get_study_id_from_name = _patient("get_study_id_from_name")
    get_study_name_from_id = _patient("get_study_name_from_id")
    get_study_directions = _patient("get_study_directions")
    get_study_user_attrs = _patient("get_study_user_attrs")
    get_study_system_attrs = _patient("get_study_system_attrs")
    get_all_studies = _patient("get_all_studies")
    create_new_trial = _patient("create_new_trial")
    set_trial_param = _patient("set_trial_param")
    get_trial_id_from_study_id_trial_number = _patient("get_trial_id_from_study_id_trial_number")
    get_trial_number_from_id = _patient("get_trial_number_from_id")
    get_trial_param = _patient("get_trial_param")
    set_trial_state_values = _patient("set_trial_state_values")
    set_trial_intermediate_value = _patient("set_trial_intermediate_value")
    set_trial_user_attr = _patient("set_trial_user_attr")
    set_trial_system_attr = _patient("set_trial_system_attr")
    get_trial = _patient("get_trial")
    get_all_trials = _patient("get_all_trials")
    get_n_trials = _patient("get_n_trials")
    get_best_trial = _patient("get_best_trial")
    get_trial_params = _patient("get_trial_params")
    get_trial_user_attrs = _patient("get_trial_user_attrs")
    get_trial_system_attrs = _patient("get_trial_system_attrs")
    remove_session = _patient("remove_session")
    check_trial_is_updatable = _patient("check_trial_is_updatable")

    def _insist(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Call a method until it answers."""
        ask: Callable[..., Any] = getattr(self.inner, name)
        tries = 0

        def once() -> Any:
            nonlocal tries
            tries += 1
            try:
                if tries > 1:
                    self.inner.remove_session()
                    made = self._made_before(name, arguments, options)
                    answer = ask(*arguments, **options) if made is None else made
                    self.back_at = time.time()
                    return answer
                return ask(*arguments, **options)
            except UpdateFinishedTrialError:
                if tries > 1 and self._has_ended_so(name, arguments, options):
                    return True  # the answer of an earlier try was lost, not what it wrote
                raise

        try:
            return insist(once, self.where, is_outage, self.patience)
        except StorageLost:
            raise
        except Exception as error:
            if is_fault(error):
                raise StorageLost(_lost(self.where, error, 0.0)) from error
            raise

    def _made_before(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> int | None:
        """Return the trial that an earlier try made although its answer was lost; None if there is none."""
        template: FrozenTrial | None = options.get("template_trial", arguments[1] if len(arguments) > 1 else None)
        if name != "create_new_trial" or template is None or "token" not in template.user_attrs:
            return None
        study_id: int = options["study_id"] if "study_id" in options else arguments[0]
        for trial in self.inner.get_all_trials(study_id, deepcopy=False):
            if trial.user_attrs.get("token") == template.user_attrs["token"]:
                return trial._trial_id
        return None

    def _has_ended_so(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        """Tell whether the trial has the end that it was to be given."""
        if name != "set_trial_state_values":
            return False
        given = dict(zip(("trial_id", "state", "values"), arguments, strict=False)) | options
        trial = self.inner.get_trial(given["trial_id"])
        state: TrialState = given["state"]
        values = given.get("values")
        return trial.state == state and (values is None or trial.values == [float(value) for value in values])


def insist(
    ask: Callable[[], Answer], where: str, worth_waiting: Callable[[BaseException], bool], patience: float | None = None
) -> Answer:
    """Ask a storage again while it raises what is worth waiting for, at most :data:`PATIENCE` seconds or as given.

    Raises
    ------
    StorageLost
        It did not answer in time. Any other error is raised as it is.
    """
    patience = PATIENCE if patience is None else patience
    began, tries = 0.0, 0
    while True:
        try:
            return ask()
        except Exception as error:
            if not worth_waiting(error):
                raise
            began = began or time.monotonic()
            left = patience - (time.monotonic() - began)
            if left <= 0:
                raise StorageLost(_lost(where, error, patience if tries else 0.0)) from error
            if not tries:
                _tell(where, error, patience)
        tries += 1
        time.sleep(min(left, PAUSES[min(tries, len(PAUSES)) - 1]))


def _lost(where: str, error: Exception, waited: float) -> str:
    gone = f" and did not come back in {waited:.0f} seconds" if waited else ""
    return (
        f"storage={where!r} failed{gone} ({cause_of(error)}); no trial is lost but those at work. The same call goes "
        "on once it can be reached."
    )


def _tell(where: str, error: Exception, patience: float) -> None:
    tell(
        f"storage={where!r} does not answer since {time.strftime('%H:%M:%S')} ({cause_of(error)}); trying again for "
        f"{patience:.0f} seconds."
    )


def tell(text: str) -> None:
    """Warn of a storage.

    Raises
    ------
    StorageLost
        Warnings are errors here, and this one is no trial's.
    """
    try:
        warn_user(text, StorageWarning)
    except StorageWarning as told:  # warnings are errors here
        raise StorageLost(text) from told


def is_fault(error: BaseException) -> bool:
    """Tell whether an error of a storage is the storage's own, and not that of what it was given."""
    real = _real(error)
    if isinstance(real, exc.DataError | exc.IntegrityError):
        return False
    if isinstance(real, exc.StatementError) and not isinstance(real, exc.DBAPIError):
        return False
    return isinstance(real, exc.SQLAlchemyError | StorageInternalError | OSError) or _is_remote(real)


def is_outage(error: BaseException) -> bool:
    """Tell whether a storage may answer if it is asked again later."""
    real = _real(error)
    if isinstance(real, exc.DBAPIError):
        if real.connection_invalidated or isinstance(real, exc.InterfaceError):
            return True
        return isinstance(real, exc.OperationalError) and not any(part in str(real.orig) for part in _PERMANENT)
    broken = exc.PendingRollbackError | exc.DisconnectionError | exc.ResourceClosedError  # Optuna asks once more itself
    if isinstance(real, broken | exc.TimeoutError | ConnectionError | TimeoutError):
        return True
    status = _status(real)
    return _is_remote(real) and (status is None or status in _PASSING)


def is_starting(error: BaseException) -> bool:
    """Tell whether a database is there, and can be used in a moment: it says so, or it broke a connection off."""
    real = _real(error)
    broken_off = isinstance(real, exc.DBAPIError) and real.connection_invalidated
    return is_outage(error) and (broken_off or any(text in str(real) for text in _STARTING))


def _real(error: BaseException) -> BaseException:
    """Return what made Optuna raise an error of its own."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_remote(error: BaseException) -> bool:
    """Tell whether an error is one of a driver, of gRPC or of Redis, which need not be installed."""
    return any((cls.__module__.partition(".")[0], cls.__name__) in _REMOTE for cls in type(error).__mro__)


def cause_of(error: BaseException) -> str:
    """Return what a storage's error says, in one line."""
    real = _real(error)
    status = _status(real)
    details = getattr(real, "details", None)
    told = f"{status}: {details()}" if status is not None and callable(details) else ""
    text = told or str(getattr(real, "orig", None) or real).strip() or type(real).__name__
    return " ".join(text.split())


def _status(error: BaseException) -> str | None:
    """Return the status of an error of gRPC; None for any other."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", None)) if callable(code) and _is_remote(error) else None


def lost_in(error: BaseException | None) -> StorageLost | None:
    """Return the failure of a storage, or of the system, among an error and what led to it."""
    for each in chain_of(error):
        if isinstance(each, StorageLost):
            return each
    failed = system_error_in(error)
    return None if failed is None else SystemFailure(f"the system failed ({cause_of(failed)}); {SystemFailure.NEXT}")
