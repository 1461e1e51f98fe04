"""A full disk is no learner's failure: the slot is given back, and the same call completes."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import Trial, TrialState

import autometa as am
from autometa.comparison.execution import finals
from autometa.comparison.execution.patient_storage import StorageLost, SystemFailure
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage
from tiers import first_by_default

SMALL: dict[str, Any] = {
    "n_trials": 1,
    "max_steps": 1,
    "n_test_tasks": 3,
    "n_valid_tasks": 2,
    "n_seeds": 2,
    "tasks_per_step": 2,
    "baselines": False,
    "verbose": 0,
}


def study(path: Path) -> SlotStudy:
    return SlotStudy(open_storage(str(path / "journal.log")), "study", n_slots=2, higher_is_better=True)


def fill(slots: SlotStudy, error: BaseException) -> None:
    trial = slots.claim()
    assert trial is not None

    def work(trial: Trial) -> float:
        raise error

    slots.fill(trial, work)


def wrapped(error: OSError) -> Exception:
    """Make of it what code does that catches an error and raises its own."""
    outer = RuntimeError("could not save")
    outer.__cause__ = error
    return outer


NAMES = ["ENOSPC", "EDQUOT", "EROFS", "EIO", "ENFILE", "ESTALE"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", [lambda error: error, wrapped], ids=["bare", "wrapped"])
def test_an_error_of_the_system_gives_the_slot_back(tmp_path: Path, name: str, how: Any) -> None:
    slots = study(tmp_path)
    for _ in range(4):  # however often
        with pytest.raises(SystemFailure, match="the system failed .*The same call goes on once that is mended"):
            fill(slots, how(OSError(getattr(errno, name), "as the system says")))
        assert slots.slot_states() == ["open", "open"]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "none"),
        PermissionError(13, "no"),
        MemoryError(),
        OSError("x"),
        OSError(errno.EMFILE, "too many open files of this process"),
        OSError(errno.ENXIO, "no such device"),
    ],
)
def test_any_other_error_of_a_learners_code_is_its_failure(tmp_path: Path, error: Exception) -> None:
    slots = study(tmp_path)
    fill(slots, error)
    assert slots.slot_states() == ["done", "open"]
    assert type(error).__name__ in slots.trials(TrialState.FAIL)[0].user_attrs["error"]


def test_what_a_learner_says_has_nothing_to_do_with_its_error_has_not(tmp_path: Path) -> None:
    slots = study(tmp_path)
    error = ValueError("not a table")
    error.__context__, error.__suppress_context__ = OSError(errno.EIO, "of a file that was tried first"), True
    fill(slots, error)
    assert slots.slot_states() == ["done", "open"]


@pytest.mark.parametrize("code", first_by_default(1, [errno.ENOSPC, errno.EACCES]))
def test_a_model_that_cannot_be_written_blames_nobody_and_the_same_call_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    whole = am.compare("sinusoid", "ridge", output=tmp_path / "whole" / "run", **SMALL)
    calls = 0

    class Estimator:
        def save(self, path: Path) -> None:
            nonlocal calls
            calls += 1
            raise am.StorageError("cannot be written") from OSError(code, "as the system says")

    with monkeypatch.context() as full:
        full.setattr(finals, "to_estimator", lambda training: Estimator())
        with pytest.raises(StorageLost, match=r"model '.*ridge-0.autometa' cannot be written \(as the system says\)"):
            am.compare("sinusoid", "ridge", output=tmp_path / "cut" / "run", **SMALL)
    assert calls == 1
    cut = am.compare("sinusoid", "ridge", output=tmp_path / "cut" / "run", **SMALL)
    assert cut.complete
    assert len(cut.failures) == 0
    assert cut.scores.equals(whole.scores)


def test_judging_elsewhere_is_not_blamed_on_the_learner_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, judged = finals.meta_test, 0

    def once_full(pair: Any, training: Any, domain: Any, **options: Any) -> dict[str, Any]:
        nonlocal judged
        judged += 1
        if judged == 2:
            raise OSError(errno.EIO, "Input/output error")
        return real(pair, training, domain, **options)

    monkeypatch.setattr(finals, "meta_test", once_full)
    one = {**SMALL, "n_seeds": 1}
    call = lambda: am.compare("sinusoid", "ridge", test_tasks="harmonics", output=tmp_path / "run", **one)  # noqa: E731
    with pytest.raises(StorageLost, match="Input/output error"):
        call()
    done = call()
    assert len(done.failures) == 0
    assert set(done.leaderboard["tasks"]) == {"sinusoid", "harmonics"}
