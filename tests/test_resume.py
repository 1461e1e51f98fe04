"""A comparison that is cut at any moment goes on: nothing lost, nothing done twice beyond what was cut."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from optuna.trial import Trial, TrialState

import autometa as am
from autometa.comparison import work
from autometa.comparison.execution import workers
from autometa.comparison.execution.owner import Owner, _started
from autometa.comparison.execution.slot_endings import MOST_DEATHS
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage
from autometa.contracts.plugin_code import one_line

COMPARE = """
import sys
import torch
import autometa as am

torch.set_num_threads(1)


def run(output, max_steps, n_workers=1):
    return am.compare(
        "sinusoid", ["ridge"], n_trials=4, n_test_tasks=20, n_valid_tasks=10, n_seeds=2, max_steps=max_steps,
        tasks_per_step=2, output=output, verbose=0, n_workers=n_workers,
    )


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[str]]:
    file = tmp_path / "run_it.py"
    file.write_text(COMPARE)
    return lambda output, steps, workers=1: [sys.executable, str(file), str(output), str(steps), str(workers)]


def open_study(output: Path, name: str) -> optuna.Study | None:
    if not (output / "journal.log").exists():
        return None
    storage = open_storage(str(output / "journal.log"))
    return optuna.load_study(storage=storage, study_name=name) if name in optuna.get_all_study_names(storage) else None


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the comparison ended before it was to be cut"
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def in_plan_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no clock decide what is done first."""
    monkeypatch.setattr(workers, "in_turn", lambda arms, all_arms: list(arms))


@pytest.mark.slow
def test_after_kill_9_the_same_command_completes_as_if_nothing_had_been(
    tmp_path: Path, script: Callable[..., list[str]]
) -> None:
    steps = 60
    whole, cut = tmp_path / "whole" / "run", tmp_path / "cut" / "run"
    process = subprocess.Popen(script(cut, steps))

    def in_the_third_trial() -> bool:
        study = open_study(cut, "run/sinusoid/ridge")
        return study is not None and [t.state for t in study.trials].count(TrialState.COMPLETE) >= 2

    wait_for(in_the_third_trial, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    call = runpy.run_path(script(cut, steps)[1])["run"]
    with pytest.warns(UserWarning, match="sinusoid/ridge: a process ended or hung in the midst of it"):
        two = call(cut, steps)
    one = call(whole, steps)

    timed = ["meta_train_seconds", "adapt_ms", "predict_ms"]
    pd.testing.assert_frame_equal(one.leaderboard.drop(columns=timed), two.leaderboard.drop(columns=timed))
    pd.testing.assert_frame_equal(one.scores, two.scores)
    for name in ("run/sinusoid/ridge", "run/sinusoid/ridge/final", "run/sinusoid/sklearn"):
        study = open_study(cut, name)
        assert study is not None
        done = [t.user_attrs["slot"] for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        assert len(done) == len(set(done))
        failed = [t for t in study.trials if t.state == TrialState.FAIL]
        assert len(failed) <= 1  # at most the trial that was cut
        retries = [t.user_attrs["retry_of"] for t in study.trials if "retry_of" in t.user_attrs]
        assert retries == [t.number for t in failed]


def test_ctrl_c_ends_cleanly_with_what_is_done_and_the_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_plan_order: None
) -> None:
    import autometa.comparison.execution.arm as arm

    run_trial, begun = arm.run_trial, []

    def interrupted_in_the_third(pair: Any, components: Any, trial: Trial, device: Any) -> float:
        begun.append(trial.user_attrs["slot"])
        value = run_trial(pair, components, trial, device)
        if len(begun) == 5:
            signal.raise_signal(signal.SIGINT)
        return value

    def call() -> am.Comparison:
        return am.compare(
            "sinusoid",
            ["sklearn", "ridge"],
            n_trials=3,
            n_test_tasks=10,
            n_valid_tasks=5,
            n_seeds=1,
            max_steps=2,
            tasks_per_step=2,
            output=tmp_path / "run",
            verbose=0,
        )

    monkeypatch.setattr(arm, "run_trial", interrupted_in_the_third)
    with pytest.warns(UserWarning, match="interrupted: .*The same call goes on"):
        partly = call()
    assert not partly.complete
    assert list(partly.leaderboard["learner"]) == ["sklearn"]
    assert (tmp_path / "run" / "report.html").exists()
    whole = call()
    assert whole.complete
    assert set(whole.leaderboard["learner"]) == {"sklearn", "ridge"}
    assert begun == [0, 1, 2, 0, 1, 1, 2]  # the one that was cut is repeated, nothing else


@pytest.mark.slow
def test_several_processes_share_the_work(tmp_path: Path, script: Callable[..., list[str]]) -> None:
    subprocess.run(script(tmp_path / "run", 4, 2), check=True)
    comparison = am.Comparison.load(tmp_path / "run")
    assert comparison.complete
    assert set(comparison.leaderboard["learner"]) == {"ridge", "sklearn"}
    assert sorted(comparison.trials.query("learner == 'ridge'")["slot"]) == [0, 1, 2, 3]
    study = open_study(tmp_path / "run", "run/sinusoid/ridge")
    assert study is not None
    assert all(t.user_attrs["owner"]["pid"] != os.getpid() for t in study.trials)


def test_another_worker_completes_a_comparison_from_its_storage_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import autometa.comparison.execution.arm as arm

    def stop_at_once(*args: Any, **kwargs: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return 0.0

    url = f"sqlite:///{tmp_path}/studies.db"
    settings: dict[str, Any] = {"n_trials": 2, "n_test_tasks": 10, "n_valid_tasks": 5, "n_seeds": 1, "max_steps": 2}
    tasks = am.make_tasks("sinusoid", n_shot=4)
    with monkeypatch.context() as context:
        context.setattr(arm, "run_trial", stop_at_once)
        with pytest.warns(UserWarning, match="interrupted"):
            am.compare(tasks, [am.make_learner("ridge")], storage=url, name="far", verbose=0, **settings)
    comparison = work(url, "far")
    assert comparison.complete
    assert set(comparison.leaderboard["learner"]) == {"ridge", "sklearn"}
    assert set(comparison.leaderboard["n_shot"]) == {4}
    with pytest.raises(am.InvalidParameter, match="name='near' is no comparison in this storage; it holds .'far'."):
        work(url, "near")


def test_a_worker_refuses_objects_it_cannot_rebuild(tmp_path: Path) -> None:
    from autometa.files.description import describe, restore

    frame = pd.DataFrame({"x": [1.0, 2.0]})
    described = describe(am.make_learner("ridge"))
    assert repr(restore(described, "it")) == repr(am.make_learner("ridge"))
    assert describe({"a": (1, 2)}) == {"mapping": {"a": {"tuple": [1, 2]}}}
    assert restore(describe({"a": (1, [2])}), "it") == {"a": (1, [2])}
    assert describe(frame) == describe(frame.copy())
    assert describe(frame) != describe(frame + 1)
    with pytest.raises(am.Incompatible, match="tasks 't' holds a DataFrame, which no other process can rebuild"):
        restore(describe(frame), "tasks 't'")


# ---------------------------------------------------------------- slots


def slot_study(storage: optuna.storages.BaseStorage | None = None, n_slots: int = 3) -> SlotStudy:
    storage = storage or optuna.storages.InMemoryStorage()
    return SlotStudy(storage, "study", n_slots=n_slots, higher_is_better=True)


def with_owner(study: SlotStudy, trial: Trial, **changes: Any) -> None:
    """Pretend that another process began a trial."""
    trial.set_user_attr("token", "another process's")
    trial.set_user_attr("owner", replace(Owner.here(), **changes).to_json())


DEAD = {"pid": 2**22 - 3}  # above every process id in use


def test_slots_are_claimed_in_order_and_once() -> None:
    study = slot_study()
    other = SlotStudy(study.storage, "study", n_slots=3, higher_is_better=True)
    claimed = [study.claim(), other.claim(), study.claim(), other.claim()]
    assert [trial.user_attrs["slot"] for trial in claimed if trial is not None] == [0, 1, 2]
    assert claimed[3] is None


def test_two_processes_that_claim_one_slot_at_once_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    study = slot_study(n_slots=1)
    other = SlotStudy(study.storage, "study", n_slots=1, higher_is_better=True)
    monkeypatch.setattr(other, "slot_states", lambda: ["open"])  # what it saw before the first claimed
    first, second = study.claim(), other.claim()
    assert first is not None
    assert second is None
    study.fill(first, lambda trial: 1.0)
    assert study.is_complete
    assert [trial.number for trial in study.trials()] == [first.number]


def test_a_dead_process_is_found_at_once_and_its_slot_filled_first() -> None:
    study = slot_study()
    trial = study.claim()
    assert trial is not None
    trial.suggest_float("a", 0, 1)
    trial.set_user_attr("drawn", True)
    with_owner(study, trial, **DEAD)
    assert study.reap() == [trial.number]
    assert study.reap() == []
    retry = study.claim()
    assert retry is not None
    assert retry.user_attrs["slot"] == 0
    assert retry.user_attrs["retry_of"] == trial.number
    assert retry.user_attrs["fixed"] == trial.params


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    study = slot_study()
    trial = study.claim()
    assert trial is not None
    with_owner(study, trial, started="1")
    assert study.reap() == ([trial.number] if Path("/proc").exists() else [])


def test_a_machine_that_restarted_has_no_process_left() -> None:
    assert replace(Owner.here(), boot="earlier").is_dead(time.time())


def test_a_process_elsewhere_is_dead_when_it_gives_no_sign_of_life() -> None:
    elsewhere = replace(Owner.here(), host="another machine", **DEAD)
    assert not elsewhere.is_dead(time.time() - 10)
    assert elsewhere.is_dead(time.time() - 2 * Owner.SILENCE)


def test_a_living_process_is_left_alone() -> None:
    study = slot_study()
    trial = study.claim()
    assert trial is not None
    assert study.reap() == []


def test_deaths_that_nobody_outlives_never_count() -> None:
    study = slot_study(n_slots=1)
    for _ in range(2 * MOST_DEATHS):
        trial = study.claim()
        assert trial is not None
        with_owner(study, trial, **DEAD)
        assert study.reap() == [trial.number]
    assert study.slot_states() == ["open"]
    assert study.needs_a_process


def of_a_child(study: SlotStudy) -> Trial:
    """Claim a slot as a process does that this one has started, and that is gone."""
    trial = study.claim()
    assert trial is not None
    trial.set_user_attr("supervisor", Owner.here().to_json())
    with_owner(study, trial, **DEAD)
    return trial


def bury(study: SlotStudy) -> bool:
    (trial,) = study.of_child(DEAD["pid"])
    return study.bury(trial, "signal SIGKILL")


def test_a_slot_that_ends_a_process_which_others_outlive_again_and_again_has_failed() -> None:
    study = slot_study(n_slots=2)
    for death in range(MOST_DEATHS):
        trial = of_a_child(study)
        assert trial.user_attrs["slot"] == 0
        assert bury(study) == (death == MOST_DEATHS - 1)
    assert study.slot_states() == ["done", "open"]
    assert "died 3 times" in study.trials()[-1].user_attrs["error"]
    of_a_child(study)
    assert bury(study)  # by now it is known
    assert study.is_complete


def test_what_failed_by_deaths_is_tried_again_as_it_was_drawn_with_the_next_call() -> None:
    study = slot_study(n_slots=1)
    for _ in range(MOST_DEATHS):
        trial = of_a_child(study)
        trial.suggest_float("a", 0, 1)
        trial.set_user_attr("drawn", True)
        bury(study)
    assert study.is_complete
    assert study.forgive() == 1
    assert slot_study(study.storage, n_slots=1).slot_states() == ["open"]
    again = study.claim()
    assert again is not None
    assert again.user_attrs["fixed"] == trial.params
    study.fill(again, lambda trial: 1.0)
    assert (study.is_complete, study.forgive()) == (True, 0)


def test_one_who_watches_is_left_to_say_how_a_process_ended() -> None:
    study = slot_study()
    trial = study.claim()
    assert trial is not None
    with_owner(study, trial, **DEAD)
    trial.set_user_attr("supervisor", replace(Owner.here(), pid=os.getppid(), started=_started(os.getppid())).to_json())
    assert study.reap() == []
    trial.set_user_attr("supervisor", replace(Owner.here(), **DEAD).to_json())
    assert study.reap() == [trial.number]


@pytest.mark.parametrize(
    "error", [SystemExit("no GPU"), KeyboardInterrupt(), GeneratorExit(), type("Own", (BaseException,), {})("x")]
)
def test_whatever_a_trial_raises_is_its_own_failure(error: BaseException) -> None:
    study = slot_study(n_slots=1)
    trial = study.claim()
    assert trial is not None

    def raises(trial: Trial) -> float:
        raise error

    study.fill(trial, raises)
    (failed,) = study.trials()
    assert failed.user_attrs["error"] == f"PluginError: it raised {one_line(error)}"
    assert study.is_complete


@pytest.mark.parametrize("hides", [False, True])
def test_a_signal_to_stop_gives_the_slot_back_whatever_the_trial_makes_of_it(hides: bool) -> None:
    study = slot_study(n_slots=1)
    trial = study.claim()
    assert trial is not None

    def is_stopped(trial: Trial) -> float:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not hides:
                raise
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        study.fill(trial, is_stopped)
    assert study.slot_states() == ["open"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_trial_changes_in_the_process_is_put_back_and_stands_in_its_record() -> None:
    study = slot_study(n_slots=2)

    def changes(trial: Trial) -> float:
        torch.set_default_dtype(torch.float64)
        if trial.user_attrs["slot"] == 1:
            raise RuntimeError
        return 1.0

    for _ in range(2):
        trial = study.claim()
        assert trial is not None
        study.fill(trial, changes)
        assert torch.get_default_dtype() == torch.float32
    assert [trial.user_attrs["changed"] for trial in study.trials()] == [["default dtype"]] * 2


def test_where_no_process_can_be_started_the_work_is_done_in_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*what: Any, **how: Any) -> None:
        raise am.errors.ProcessFailed("no process")

    monkeypatch.setattr(importlib.import_module("autometa.comparison.call"), "run_processes", cannot)
    journal = str(tmp_path / "run" / "journal.log")
    cut = SlotStudy(open_storage(journal), "run/sinusoid/ridge", n_slots=1, higher_is_better=False)
    trial = cut.claim()
    assert trial is not None
    with_owner(cut, trial, **DEAD)
    few: dict[str, Any] = {"n_trials": 1, "n_seeds": 1, "max_steps": 2, "n_test_tasks": 5, "n_valid_tasks": 5}
    ended = pytest.warns(UserWarning, match="sinusoid/ridge: a process ended or hung in the midst of it")
    with ended, pytest.warns(UserWarning, match="sinusoid/ridge: no process of its own can work on it .ProcessFailed"):
        comparison = am.compare("sinusoid", "ridge", output=tmp_path / "run", baselines=False, verbose=0, **few)
    assert comparison.complete
    assert len(comparison.leaderboard) == 1


def test_a_final_run_of_what_is_no_longer_the_best_trial_is_run_again() -> None:
    final = slot_study(n_slots=1)

    def run(trial: Trial) -> float:
        trial.set_user_attr("params", {"a": 0.5})
        return 1.0

    trial = final.claim()
    assert trial is not None
    final.fill(trial, run)
    assert final.set_aside(run for run in final.trials() if run.user_attrs["params"] != {"a": 0.5}) == 0
    assert final.set_aside(run for run in final.trials() if run.user_attrs["params"] != {"a": 0.7}) == 1
    assert final.slot_states() == ["open"]
    assert final.claim() is not None


def test_what_two_processes_set_aside_at_once_is_all_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> SlotStudy:
        return SlotStudy(open_storage(str(tmp_path / "journal.log")), "run", n_slots=2, higher_is_better=True)

    one = opened()
    while (trial := one.claim()) is not None:
        one.fill(trial, lambda trial: 1.0)
    first, second = one.trials()
    other, write = opened(), one.study.set_user_attr

    def after_the_other(key: str, value: Any) -> None:
        other.set_aside([second])
        write(key, value)

    monkeypatch.setattr(one.study, "set_user_attr", after_the_other)
    one.set_aside([first])
    assert opened().trials() == []
    assert opened().slot_states() == ["open", "open"]


def test_a_trial_taken_for_dead_does_not_disturb_the_one_that_repeats_it() -> None:
    study = slot_study(n_slots=1)
    trial = study.claim()
    assert trial is not None

    def work_while_another_process_takes_over(trial: Trial) -> float:
        study.study.tell(trial.number, state=TrialState.FAIL)
        trial.report(0.5, 0)
        return 1.0

    study.fill(trial, work_while_another_process_takes_over)
    assert study.slot_states() == ["open"]


def test_a_line_torn_off_by_a_power_cut_does_not_spoil_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    study = slot_study(open_storage(str(path)))
    trial = study.claim()
    assert trial is not None
    study.fill(trial, lambda trial: 1.0)
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "worker_')
    again = slot_study(open_storage(str(path)))
    assert again.n_done == 1
    claimed = again.claim()
    assert claimed is not None
    assert slot_study(open_storage(str(path))).slot_states() == ["done", "running", "open"]


def test_signs_of_life_are_given_while_a_trial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "BEAT", 0.01)
    study = slot_study(open_storage(str(tmp_path / "journal.log")))
    trial = study.claim()
    assert trial is not None
    first = trial.user_attrs["beat"]

    def wait(trial: Trial) -> float:
        end = time.monotonic() + 20
        while study.trials()[0].user_attrs["beat"] == first and time.monotonic() < end:
            time.sleep(0.01)
        return 1.0

    study.fill(trial, wait)
    assert study.trials()[0].user_attrs["beat"] > first
