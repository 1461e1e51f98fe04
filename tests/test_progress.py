"""How far a comparison is, how long the rest takes, and what is done first."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

import autometa as am
from autometa.comparison.execution import slot_times, workers
from autometa.comparison.execution.arm import Arm, open_arms
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.progress_display import BarDisplay, LineDisplay, NoDisplay, left_text, make_display
from autometa.comparison.execution.sealed import SEAL, checksum
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.slot_times import at_work, in_turn, seconds_left
from autometa.comparison.plan.plan import make_plan
from autometa.comparison.plan.settings import Settings
from test_comparison import FAST, Mean

TIMED = ["meta_train_seconds", "adapt_ms", "predict_ms"]


def test_without_a_terminal_a_line_is_written_at_most_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    display = LineDisplay(clock=lambda: now[0])
    display.start(100)
    for seconds, done in ((0, 0), (1, 2), (59, 9), (60, 12), (100, 13), (119.9, 14), (500, 60)):
        now[0] = 1000.0 + seconds
        display.advance(done, "maml on glyphs", None if done == 0 else 10.0 * (100 - done))
    display.close()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "done 0/100, maml on glyphs",
        "done 12/100, maml on glyphs, about 15 min left",
        "done 60/100, maml on glyphs, about 7 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, ""),
        (20, "less than a minute left"),
        (420, "about 7 min left"),
        (3 * 3600, "about 3 h left"),
        (5 * 86400, "about 5 days left"),
    ],
)
def test_time_left_is_told_as_people_do(seconds: float | None, text: str) -> None:
    assert left_text(seconds) == text


def test_a_terminal_has_a_bar_and_whoever_asks_for_silence_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(make_display(0), NoDisplay)
    assert isinstance(make_display(1), LineDisplay)
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    display = make_display(1)
    assert isinstance(display, BarDisplay)
    display.start(4)
    display.advance(1, "ridge on sinusoid", 200.0)
    display.close()
    assert "about 3 min left" in capsys.readouterr().err
    am.compare("sinusoid", [Mean()], **{**FAST, "n_trials": 1})
    assert capsys.readouterr().err == ""


def arms_of(learners: Mapping[str, Any], tasks: Sequence[str] = ("sinusoid",), n_trials: int = 4) -> list[Arm]:
    settings = Settings(n_trials=n_trials, n_seeds=2, n_test_tasks=3, n_valid_tasks=3, max_steps=1, tasks_per_step=1)
    plan = make_plan(list(tasks), learners, settings, name="run", baselines=False)
    return open_arms(plan, optuna.storages.InMemoryStorage())


def fill(study: SlotStudy, *seconds: float | None) -> None:
    """Let slots be over that took so many seconds, or be at work where they have none yet."""
    begun = datetime.now() - timedelta(seconds=100)
    for took in seconds:
        slot = len(study.trials())
        owner = {"owner": Owner.here().to_json(), "token": "", "beat": time.time()}
        if took is None:
            trial = create_trial(state=TrialState.RUNNING, user_attrs={"slot": slot, **owner})
        else:
            trial = create_trial(state=TrialState.COMPLETE, value=0.0, user_attrs={"slot": slot, "params": {}})
            trial.datetime_complete = begun + timedelta(seconds=took)
            trial.user_attrs = {**trial.user_attrs, SEAL: checksum(trial)}
        trial.datetime_start = begun
        study.study.add_trial(trial)


def labels(arms: Sequence[Arm]) -> list[str]:
    return [arm.label for arm in arms]


def test_the_shortest_are_first_and_before_them_what_was_not_measured() -> None:
    arms = arms_of({"slow": Mean(), "quick": Mean(), "new": Mean()})
    assert set(labels(in_turn(arms, arms))) == set(labels(arms))
    fill(arms[0].tuning, 30.0, 30.0, 30.0, 30.0)
    fill(arms[1].tuning, 20.0, 24.0)
    assert labels(in_turn(arms, arms)) == ["sinusoid/new", "sinusoid/quick", "sinusoid/slow"]
    fill(arms[2].tuning, None)  # at work for 100 seconds
    assert labels(in_turn(arms, arms)) == ["sinusoid/quick", "sinusoid/slow", "sinusoid/new"]


def test_a_learner_that_was_slow_elsewhere_waits_here() -> None:
    arms = arms_of({"slow": Mean(), "quick": Mean()}, ["sinusoid", "harmonics"])
    fill(arms[0].tuning, 30.0)
    fill(arms[1].tuning, 1.0)
    order = ["sinusoid/quick", "harmonics/quick", "sinusoid/slow", "harmonics/slow"]
    assert labels(in_turn(arms, arms)) == order


def test_processes_end_together() -> None:
    arms = arms_of({"quick": Mean(), "other": Mean(), "slow": Mean()})
    fill(arms[0].tuning, 1.0)
    fill(arms[1].tuning, 2.0)
    fill(arms[2].tuning, 30.0)
    shortest = ["sinusoid/quick", "sinusoid/other", "sinusoid/slow"]
    assert labels(in_turn(arms, arms)) == shortest  # one process does all of it, in whatever order
    fill(arms[0].tuning, None)
    longest = shortest[::-1]
    assert labels(in_turn(arms, arms)) == longest  # 5 slots of 30 seconds are more than half of the rest
    assert labels(in_turn(arms[:2], arms)) == shortest[:2]  # those of the quick ones are not
    fill(arms[2].tuning, 30.0, 30.0, 30.0)
    fill(arms[2].final, 30.0, None)
    assert labels(in_turn(arms[:2], arms)) == ["sinusoid/other", "sinusoid/quick"]  # where nothing else is to begin


def test_more_processes_than_learners_have_an_order_before_any_trial_is_over() -> None:
    arms = arms_of({"a": Mean(), "b": Mean()})
    for arm in arms:
        fill(arm.tuning, None)
    assert set(labels(in_turn(arms, arms))) == set(labels(arms))


def test_the_time_left_is_that_of_the_open_slots_as_measured() -> None:
    arms = arms_of({"a": Mean(), "b": Mean()})
    assert seconds_left(arms, 1) is None
    fill(arms[0].tuning, 10.0, 20.0)
    # Two trials of a, its two final runs, and all six slots of b, which was not measured: 15 seconds each.
    assert seconds_left(arms, 1) == pytest.approx(10 * 15.0)
    assert seconds_left(arms, 2) == pytest.approx(5 * 15.0)
    fill(arms[0].tuning, 15.0, 15.0)
    fill(arms[0].final, 45.0)
    fill(arms[1].tuning, 1.0)
    # A final run takes three times as long as a trial.
    assert seconds_left(arms, 1) == pytest.approx(45.0 + 3 * 1.0 + 2 * 3.0)
    assert at_work(arms) is arms[0]
    fill(arms[0].final, 45.0)
    assert at_work(arms) is arms[1]
    fill(arms[1].tuning, 1.0, 1.0, 1.0)
    fill(arms[1].final, 2.0, 2.0)
    assert seconds_left(arms, 1) == 0.0
    assert at_work(arms) is None


def test_a_slow_learner_does_not_hold_up_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    from autometa.comparison.execution import arm

    begun: list[str] = []
    measured = slot_times._seconds_of_trials
    run_trial, run_final = arm.run_trial, arm.run_final

    def trial(pair: Any, *rest: Any) -> float:
        begun.append(pair.learner)
        return run_trial(pair, *rest)

    def final(pair: Any, *rest: Any) -> float:
        begun.append(f"{pair.learner} final")
        return run_final(pair, *rest)

    def on_an_idle_machine(arms: Sequence[Arm]) -> dict[str, float]:
        return {label: 9.0 if label.endswith("slow") else 1.0 for label in measured(arms)}

    monkeypatch.setattr(arm, "run_trial", trial)
    monkeypatch.setattr(arm, "run_final", final)
    monkeypatch.setattr(slot_times, "_seconds_of_trials", on_an_idle_machine)
    am.compare("sinusoid", {"slow": Mean(), "quick": Mean()}, **{**FAST, "n_trials": 2, "n_seeds": 1})
    assert begun == ["slow", "quick", "quick", "quick final", "slow", "slow final"]


@pytest.mark.thorough
def test_the_order_of_studies_changes_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = {"ridge": "ridge", "mean": Mean(), "maml": "maml"}
    settings = {**FAST, "n_trials": 3, "max_steps": 2}
    usual = am.compare(["sinusoid", "harmonics"], learners, **settings)
    turn = [0]

    def another(arms: Sequence[Arm], all_arms: Sequence[Arm]) -> list[Arm]:
        turn[0] += 1
        first = turn[0] % len(arms)
        return [*arms[first:], *arms[:first]][::-1]

    monkeypatch.setattr(workers, "in_turn", another)
    other = am.compare(["sinusoid", "harmonics"], learners, **settings)
    assert turn[0] > 5 * 3
    pd.testing.assert_frame_equal(usual.scores, other.scores)
    pd.testing.assert_frame_equal(usual.trials.drop(columns="seconds"), other.trials.drop(columns="seconds"))
    pd.testing.assert_frame_equal(usual.leaderboard.drop(columns=TIMED), other.leaderboard.drop(columns=TIMED))
