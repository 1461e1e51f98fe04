"""A race moves trials from learners that are clearly worse to those that are better."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import BaseStorage

import autometa as am
from autometa.cli import main
from autometa.comparison import work
from autometa.comparison.execution import arm, clock, race
from autometa.comparison.execution.arm import open_arms
from autometa.comparison.execution.claims import claim, latest
from autometa.comparison.execution.clock import load_of, seconds_of
from autometa.comparison.execution.leg import Leg
from autometa.comparison.execution.race import MOST, N_NEW, Race, open_races
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import register_plan
from autometa.comparison.execution.trial import RUNGS, run_trial
from autometa.comparison.plan.plan import Plan, make_plan
from autometa.comparison.plan.settings import Settings
from autometa.contracts.plugin_code import OutOfTime, plugin_code
from autometa.engine.pulse import Pulse, step_finished
from learning import STANDARD_ERRORS
from test_comparison import FAST, Hopeless, Mean, Trained
from tiers import first_by_default

RACE: dict[str, Any] = {**FAST, "search": "race", "n_trials": 4, "n_seeds": 1, "n_valid_tasks": 40, "tasks_per_step": 2}


class Far(Trained):
    """A learner that no hyperparameter helps: its answers are far away."""

    def predict(self, module: Any, adapted: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return super().predict(module, adapted, x) + 30.0


LEARNERS = {"trained": Trained(), "far": Far(), "ridge": "ridge", "farther": Far(scale=4.0)}


def plan_of(name: str = "run", **changed: Any) -> Plan:
    numbers = {name: value for name, value in {**RACE, **changed}.items() if name not in ("baselines", "verbose")}
    return make_plan("sinusoid", LEARNERS, Settings(**numbers), name=name, baselines=False)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    output = tmp_path_factory.mktemp("race") / "run"
    return am.compare("sinusoid", LEARNERS, output=output, **RACE), output


@pytest.fixture(autouse=True)
def _own_learners_are_not_saved(recwarn: pytest.WarningsRecorder) -> None:
    """What no plugin offers cannot be saved, of which every comparison here warns."""


def test_the_first_round_is_fair_and_later_ones_go_to_the_better(raced: tuple[am.Comparison, Path]) -> None:
    found = raced[0]
    table = found.race.set_index("learner")
    assert table.loc["far", "rounds"] == 1
    assert table.loc["far", "trials"] == N_NEW
    assert table.loc["far", "state"] in ("finalist", "left after round 1")
    assert table.loc["far", "behind"] > STANDARD_ERRORS * table.loc["far", "behind_error"]
    best = found.race.iloc[0]
    assert best["learner"] in ("trained", "ridge")
    assert best["behind"] == 0.0
    assert best["trials"] > N_NEW
    assert best["rounds"] > 1


def test_a_race_is_no_more_work_than_equal_shares_and_nobody_has_more_than_a_few_shares(
    raced: tuple[am.Comparison, Path],
) -> None:
    runs = raced[0].race["runs"]
    assert runs.sum() <= RACE["n_trials"] * len(LEARNERS)
    assert runs.max() <= MOST * RACE["n_trials"]
    trials = raced[0].trials
    whole, paused = (trials["state"] == "complete").sum(), (trials["state"] == "pruned").sum()
    assert whole * 0.75 + paused * 0.25 == runs.sum(), "what was done is what is told"


def test_the_best_have_finals(raced: tuple[am.Comparison, Path]) -> None:
    found, output = raced
    assert found.complete
    assert set(found.leaderboard["learner"]) == set(found.race.loc[found.race["state"] == "finalist", "learner"])
    assert not (output / "paused").exists()
    assert (output / "race.csv").exists()


@pytest.mark.thorough
def test_a_loaded_race_is_the_same(tmp_path: Path) -> None:
    found = am.compare("sinusoid", ["ridge", "sklearn"], output=tmp_path, **{**RACE, "n_trials": 3, "max_steps": 2})
    again = am.Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(found.race, again.race)
    pd.testing.assert_frame_equal(found.scores, again.scores)
    assert again.complete


@pytest.mark.thorough
def test_equal_races_have_equal_results(raced: tuple[am.Comparison, Path]) -> None:
    again = am.compare("sinusoid", LEARNERS, **RACE)
    pd.testing.assert_frame_equal(raced[0].race, again.race)
    pd.testing.assert_frame_equal(raced[0].scores, again.scores)


@pytest.mark.thorough
def test_learners_without_a_good_trial_leave_and_the_race_goes_on() -> None:
    found = am.compare("sinusoid", {"hopeless": Hopeless(), "ridge": "ridge"}, **RACE)
    table = found.race.set_index("learner")
    assert table.loc["hopeless", "state"] == "no trial succeeded"
    assert table.loc["hopeless", "rounds"] == 1
    assert table.loc["ridge", "rounds"] > 1
    assert list(found.leaderboard["learner"]) == ["ridge"]


@pytest.mark.thorough
def test_the_baseline_is_judged_whatever_its_place() -> None:
    several = {f"mean{k}": Mean(1.0 + k / 100) for k in range(7)}
    found = am.compare("sinusoid", several, **{**RACE, "baselines": True, "n_trials": 1})
    assert "sklearn" in set(found.leaderboard["learner"])
    assert len(found.leaderboard) <= race.FINALISTS + 1


@pytest.mark.parametrize("is_kept", [True, False], ids=["from its file", "from its start"])
def test_a_trial_that_pauses_and_goes_on_ends_as_one_that_does_not(tmp_path: Path, *, is_kept: bool) -> None:
    pair = next(pair for pair in plan_of(max_steps=20).pairs if pair.learner == "ridge")
    study = optuna.create_study(pruner=optuna.pruners.NopPruner())
    device, fixed = torch.device("cpu"), {"slot": 0}

    def run(leg: Leg | None, **attributes: Any) -> optuna.trial.FrozenTrial:
        study.enqueue_trial(dict(pair.space.defaults), user_attrs={**fixed, **attributes})
        trial = study.ask()
        try:
            study.tell(trial, run_trial(pair, pair.candidate.draw(trial), trial, device, leg))
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return study.trials[-1]

    whole = run(None)
    paused = run(Leg(until=0.25, folder=tmp_path))
    assert paused.state == optuna.trial.TrialState.PRUNED
    assert paused.intermediate_values == {0: whole.intermediate_values[0]}
    assert paused.user_attrs["steps"] == 5
    (file,) = tmp_path.iterdir()
    if not is_kept:
        file.write_bytes(file.read_bytes()[:100])
    on = run(Leg(begun_in=0, folder=tmp_path))
    assert on.intermediate_values == whole.intermediate_values
    assert len(on.intermediate_values) == len(RUNGS)
    assert on.value == whole.value
    assert on.user_attrs["steps"] == 20


@pytest.mark.thorough
def test_a_run_that_is_cut_goes_on_and_ends_the_same(
    raced: tuple[am.Comparison, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, real = [], arm.run_trial

    def cut(*arguments: Any) -> float:
        done.append(arguments[0].learner)
        if len(done) in (3, 12):
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(arm, "run_trial", cut)
    for _ in range(2):
        with pytest.warns(UserWarning, match="interrupted"):
            assert not am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **RACE).complete
    found = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **RACE)
    pd.testing.assert_frame_equal(found.race, raced[0].race)
    pd.testing.assert_frame_equal(found.scores, raced[0].scores)
    assert len(done) == len(raced[0].trials) + 2


@pytest.mark.thorough
def test_more_trials_are_more_rounds_and_other_learners_are_refused(tmp_path: Path) -> None:
    few = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **{**RACE, "n_trials": 3})
    more = am.compare("sinusoid", LEARNERS, output=tmp_path / "run", **RACE)
    assert more.race["rounds"].max() > few.race["rounds"].max()
    kept = few.trials.set_index(["learner", "slot"])["value"]
    assert more.trials.set_index(["learner", "slot"])["value"].loc[kept.index].equals(kept)
    with pytest.raises(am.InvalidParameter, match=r"learners .* \(search='race'\)"):
        am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **RACE)


@pytest.mark.slow
def test_two_processes_run_one_race(tmp_path: Path) -> None:
    learners = ["ridge", "maml", "sklearn"]
    found = am.compare("sinusoid", learners, output=tmp_path / "run", n_workers=2, **{**RACE, "max_steps": 2})
    assert found.complete
    assert not found.trials.duplicated(["learner", "slot"]).any()
    assert found.race["runs"].sum() <= RACE["n_trials"] * len(learners)


def test_a_race_that_another_process_began_is_the_same(raced: tuple[am.Comparison, Path], tmp_path: Path) -> None:
    """Whoever opens the studies anew opens the slots that were there, and no others."""
    plan, storage = plan_of(), open_storage(str(raced[1] / "journal.log"))
    arms = open_arms(plan, storage)
    before = [study.n_slots for one in arms for study in one.studies]
    (again,) = open_races(plan, arms, storage)
    assert before == [0, 1] * len(arms)
    assert {one.space.label: one.tuning.n_slots for one in arms} == raced[0].trials.groupby("learner").size().to_dict()
    assert again.finalists is not None


@pytest.fixture(params=["journal", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BaseStorage]:
    """What opens one storage as another process would."""
    where = {"journal": str(tmp_path / "journal.log"), "sqlite": f"sqlite:///{tmp_path}/studies.db"}
    return lambda: open_storage(where[request.param])


def race_in(storage: BaseStorage, plan: Plan) -> Race:
    (found,) = open_races(plan, open_arms(plan, storage), storage)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["before it stores its own", "after"])
def test_of_two_that_decide_at_once_the_second_takes_the_round_of_the_first(
    opener: Callable[[], BaseStorage], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    plan, here, there = plan_of(), opener(), opener()
    register_plan(here, plan, "here")
    others: list[Race] = []

    def decide(race: Race, rounds: Sequence[dict[str, int]]) -> dict[str, int]:
        return dict.fromkeys(race.runners, 1 if race._storage is here else 2)

    def with_another_in_between(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            def other() -> None:
                if not others:
                    others.append(race_in(there, plan))

            if moment != "after":
                other()
            found = write(*arguments, **options)
            other()
            return found

        return call

    monkeypatch.setattr(Race, "_decide", decide)
    for name in ("create_new_trial", "set_study_user_attr"):
        monkeypatch.setattr(here, name, with_another_in_between(getattr(here, name)))
    races = [race_in(here, plan), *others, race_in(opener(), plan)]
    first = 1 if moment == "after" else 2
    for one in races:
        assert one.rounds == [dict.fromkeys(LEARNERS, first)]
        assert {len(runner.arm.legs) for runner in one.runners.values()} == {first}


@pytest.mark.thorough
def test_of_many_that_decide_at_once_all_run_one_race(
    opener: Callable[[], BaseStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of()
    register_plan(opener(), plan, "here")
    barrier, number, races = threading.Barrier(4, timeout=60), iter(range(1, 5)), list[Race]()

    def decide(race: Race, rounds: Sequence[dict[str, int]]) -> dict[str, int]:
        barrier.wait()
        return dict.fromkeys(race.runners, next(number))

    monkeypatch.setattr(Race, "_decide", decide)
    threads = [threading.Thread(target=lambda: races.append(race_in(opener(), plan))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(races) == 4
    (told,) = races[0].rounds
    for one in races:
        assert one.rounds == [told]
        assert {label: len(runner.arm.legs) for label, runner in one.runners.items()} == told


def test_a_damaged_record_of_a_race_is_one_error(tmp_path: Path) -> None:
    plan, storage = plan_of(), open_storage(str(tmp_path / "journal.log"))
    register_plan(storage, plan, "here")
    arms = open_arms(plan, storage)
    study = storage.get_study_id_from_name("run")
    claim(storage, study, "race on sinusoid", {"rounds": 3}, follows={"rounds": [], "finalists": None})
    with pytest.raises(am.StorageError, match="the race on 'sinusoid'"):
        open_races(plan, arms, storage)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90.0), (2.5, 2.5), ("90s", 90.0), ("20S", 20.0), ("30min", 1800.0), ("1h30min", 5400.0),
        ("1H 30m", 5400.0), ("1.5 hours", 5400.0), ("2 Days", 172800.0), (timedelta(minutes=2), 120.0), (None, None),
        ("90", 90.0), (" 2.5 ", 2.5), (".5h", 1800.0),
    ],
)  # fmt: skip
def test_a_time_is_seconds_or_a_text_with_a_unit(
    given: Any, seconds: float | None, recwarn: pytest.WarningsRecorder
) -> None:
    assert seconds_of(given) == seconds
    assert not recwarn


@pytest.mark.parametrize(
    "given",
    ["soon", "", 0, -1, True, float("nan"), "-3min", "3 fortnights", "3mins 5", "1 2", ".", "0", "0s", timedelta(0)],
)
def test_a_time_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(am.InvalidParameter, match="time_budget"):
        am.compare("sinusoid", ["ridge"], time_budget=given, **RACE)


def test_a_time_needs_a_race_and_no_other_limit() -> None:
    with pytest.raises(am.InvalidParameter, match="give one"):
        am.compare("sinusoid", ["ridge"], time_budget=60, budget=10, **RACE)
    with pytest.raises(am.InvalidParameter, match="only a race"):
        am.compare("sinusoid", ["ridge"], time_budget=60, **{**RACE, "search": "separate"})


class FakeTime:
    """A clock that a trial moves on by a second and a final by two."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, real, first = 1e6, time.time, clock._Seconds(training=0.75, look=0.25, rest=0.0)
        for module in (race, clock):
            monkeypatch.setattr(module.time, "time", lambda: self.now)
        assert real is not time.time
        monkeypatch.setattr(clock, "_seconds_of_first", lambda runner: first if runner.best else None)
        monkeypatch.setattr(clock, "seconds_of_final", lambda runner: 2.0 if runner.best else None)
        monkeypatch.setattr(race, "seconds_of_final", lambda runner: 2.0 if runner.best else None)
        monkeypatch.setattr(race, "load_of", lambda runners: self.load)
        self.load, self.final_takes = 1.0, 2.0
        self.trials = self.finals = 0
        run_trial, run_final = arm.run_trial, arm.run_final

        def trial(*arguments: Any) -> float:
            self.now += 1.0 if arguments[-1].begun_in is None else 3.0
            self.trials += 1
            return run_trial(*arguments)

        def final(*arguments: Any) -> float:
            self.now += self.final_takes
            self.finals += 1
            return run_final(*arguments)

        monkeypatch.setattr(arm, "run_trial", trial)
        monkeypatch.setattr(arm, "run_final", final)


@pytest.mark.parametrize("seconds", first_by_default(1, [30.0, 60.0]))
def test_rounds_go_on_as_long_as_there_is_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime(monkeypatch)
    began = fake.now
    found = am.compare("sinusoid", LEARNERS, time_budget=seconds, **{**RACE, "n_trials": 2})
    took = fake.now - began
    closing = clock._CLOSING + clock._SLACK * seconds
    assert took <= seconds - closing, "kept to"
    assert seconds - closing - took < 2.0 * clock._ROOM, "used: not one more final run would fit"
    assert fake.finals == found.leaderboard["n_seeds"].sum() >= 1
    assert found.complete
    assert found.race["runs"].sum() > 2 * len(LEARNERS) or seconds < 60


@pytest.mark.thorough
def test_seconds_that_are_left_are_for_more_final_runs_of_the_finalists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTime(monkeypatch)
    monkeypatch.setattr(Race, "_decide", lambda race, rounds: {} if rounds else dict.fromkeys(race.runners, 1))
    numbers = {**RACE, "n_trials": 2, "n_seeds": 2}
    found = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=19.0, output=tmp_path, **numbers)
    asked, most = 2, 2 * race.MOST
    assert found.leaderboard["n_seeds"].between(asked, most).all()
    assert found.leaderboard["n_seeds"].sum() == 6, "two asked for of each, and one more of each"
    assert found.complete
    loaded = am.Comparison.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.scores, found.scores)
    assert loaded.complete
    again = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=100.0, output=tmp_path, **numbers)
    assert again.leaderboard["n_seeds"].tolist() == [most, most], "and no more than that"


@pytest.mark.thorough
def test_finalists_with_fewer_final_runs_than_asked_for_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTime(monkeypatch).final_takes = 4.0  # longer than anybody expects
    numbers = {**RACE, "n_trials": 1, "n_seeds": 3}
    with pytest.warns(UserWarning, match=r"time_budget=27 seconds were over before .* on sinusoid had all final runs"):
        found = am.compare("sinusoid", LEARNERS, time_budget=27.0, output=tmp_path, **numbers)
    assert found.race["learner"][0] in set(found.leaderboard.loc[found.leaderboard["n_seeds"] == 3, "learner"])
    assert found.leaderboard["n_seeds"].min() < 3
    assert found.complete
    plan, storage = plan_of(tmp_path.name, n_trials=1, n_seeds=3), open_storage(str(tmp_path / "journal.log"))
    arms = open_arms(plan, storage, to_read=True)
    open_races(plan, arms, storage, to_read=True)
    assert all(one.n_done == one.n_slots for one in arms), "and complete whoever reads it"


@pytest.mark.thorough
@pytest.mark.parametrize("cut_in", ["rounds", "finals"])
@pytest.mark.parametrize("seconds", [None, 60.0], ids=["without a time", "with a time"])
def test_a_race_that_is_read_before_its_end_says_what_is_left(
    seconds: float | None,
    cut_in: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Read while it runs, and after its process was killed: nothing of it says that it was."""
    FakeTime(monkeypatch)
    told: list[am.Comparison] = []
    if cut_in == "rounds":
        place, text, real = "run_trial", "is in round 1, and its final runs come after that", arm.run_trial
    else:
        place, text, real = "run_final", "is at its final runs: ridge has had", arm.run_final

    def read(*arguments: Any) -> float:
        if len(told) < 1:
            told.append(am.Comparison.load(tmp_path / "run"))
            assert main(["report", str(tmp_path / "run"), "--format", "md"]) == 0
        return real(*arguments)

    monkeypatch.setattr(arm, place, read)
    numbers = {**RACE, "n_trials": 2, "n_seeds": 2}
    found = am.compare("sinusoid", ["ridge"], time_budget=seconds, output=tmp_path / "run", **numbers)
    (early,) = told
    assert not early.complete
    assert f"The race on sinusoid {text}" in early.left
    shown = capsys.readouterr()
    assert early.left in shown.out
    assert early.left in shown.err
    assert set(early.race["state"]) == ({"in the race"} if cut_in == "rounds" else {"finalist"})
    assert found.complete
    assert found.left == am.Comparison.load(tmp_path / "run").left == ""


def test_a_race_that_was_cut_and_that_another_machine_ended_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*arguments: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    FakeTime(monkeypatch)
    real = arm.run_final
    monkeypatch.setattr(arm, "run_final", press)
    numbers = {**RACE, "n_trials": 1}
    with pytest.warns(UserWarning, match="interrupted"):
        cut = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=60.0, output=tmp_path / "run", **numbers)
    assert cut.left.startswith("The race on sinusoid is at its final runs: ")
    monkeypatch.setattr(arm, "run_final", real)
    assert work(str(tmp_path / "run" / "journal.log"), "run").complete
    found = am.Comparison.load(tmp_path / "run")
    assert found.left == ""
    assert found.complete


def test_what_is_left_is_of_the_learners_that_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[str, str, str]] = []
    real = arm.run_final

    def read(*arguments: Any) -> float:
        found = am.Comparison.load(tmp_path / "run")
        left.append((found.left, found.without("sklearn").left, found.without("ridge").left))
        return real(*arguments)

    monkeypatch.setattr(arm, "run_final", read)
    am.compare("sinusoid", ["ridge", "sklearn"], output=tmp_path / "run", **{**RACE, "n_trials": 1})
    at = "The race on sinusoid is at its final runs: "
    first, second = left
    assert sorted(first[0].removeprefix(at).rstrip(".").split(", ")) == ["ridge has had 0", "sklearn has had 0"]
    assert first[1:] == (f"{at}ridge has had 0.", f"{at}sklearn has had 0.")
    assert sorted(second[1:]) in (["", first[1]], ["", first[2]]), "one of them is complete"


@pytest.mark.thorough
def test_a_race_between_two_rounds_or_whose_call_was_cut_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeTime(monkeypatch)
    numbers = {**RACE, "n_trials": 1}
    am.compare("sinusoid", ["ridge", "sklearn"], time_budget=30.0, output=tmp_path / "run", **numbers)
    storage = open_storage(str(tmp_path / "run" / "journal.log"))
    assert am.Comparison.load(tmp_path / "run").complete
    clock.Clock(until=2e6, seconds=30.0, n_workers=1).set(storage, "run")
    cut = am.Comparison.load(tmp_path / "run")
    assert not cut.complete
    assert cut.left.startswith("The race on sinusoid is at its final runs: ")
    study, key = storage.get_study_id_from_name("run"), "race on sinusoid"
    last = latest(storage, study, key, race._NOTHING)
    claim(storage, study, key, {"rounds": last["rounds"], "finalists": None}, follows=last)
    between = am.Comparison.load(tmp_path / "run")
    assert not between.complete
    assert between.left.startswith(f"The race on sinusoid is in round {len(last['rounds'])}, and its final runs come")


def test_how_many_settings_were_tried_to_the_end_is_told(raced: tuple[am.Comparison, Path]) -> None:
    found = raced[0]
    ended = found.trials[found.trials["state"] == "complete"].groupby("learner").size()
    table = found.race.set_index("learner")
    assert table["complete"].to_dict() == ended.to_dict()
    assert (table["complete"] < table["trials"]).any()
    advice = found.advice("sinusoid")
    assert advice is not None
    for learner in found.leaderboard["learner"]:
        assert f"{learner} {table.loc[learner, 'trials']} ({table.loc[learner, 'complete']})" in advice.sureness


@pytest.mark.thorough
def test_final_runs_stay_that_there_is_no_time_to_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a later call finds a better trial, but has no time for its final runs."""
    fake = FakeTime(monkeypatch)
    numbers = {**RACE, "n_trials": 1}
    begun = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=30.0, output=tmp_path, **numbers)
    old: dict[str, set[int]] = {}

    def outdated(one: arm.Arm) -> list[optuna.trial.FrozenTrial]:
        runs = one.final.trials(optuna.trial.TrialState.COMPLETE)
        numbers = old.setdefault(one.label, {run.number for run in runs})
        return [run for run in runs if run.number in numbers]

    monkeypatch.setattr(arm.Arm, "_outdated", outdated)
    before = fake.finals
    on = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=1.0, output=tmp_path, **numbers)
    assert fake.finals == before > 0
    pd.testing.assert_frame_equal(on.scores, begun.scores)
    assert on.complete


@pytest.mark.thorough
def test_on_a_busy_machine_more_time_is_kept_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {}
    for load in (1.0, 5.0):
        with monkeypatch.context() as patched:
            fake = FakeTime(patched)
            fake.load, began = load, fake.now
            am.compare("sinusoid", ["ridge", "sklearn"], time_budget=40.0, **{**RACE, "n_trials": 2})
            took[load] = fake.now - began
    assert took[5.0] <= 40.0 - 5.0 * clock._CLOSING - clock._SLACK * 40.0
    assert took[1.0] > took[5.0]


def test_how_busy_the_machine_is_follows_from_the_processor_time_of_the_last_runs() -> None:
    ended = [
        SimpleNamespace(
            datetime_complete=datetime.fromtimestamp(number),
            duration=timedelta(seconds=took),
            user_attrs={"processor_seconds": 2.0},
        )
        for number, took in enumerate([100.0] * 5 + [6.0] * clock._RECENT)
    ]
    study = SimpleNamespace(trials=lambda: ended)
    runner: Any = SimpleNamespace(arm=SimpleNamespace(studies=[study]))
    assert load_of([runner]) == 3.0
    ended[:] = ended[:5]
    assert load_of([runner]) == clock._BUSIEST
    ended.clear()
    assert load_of([runner]) == 1.0, "nobody knows"


def test_what_a_final_run_takes_follows_from_parts_of_the_first_trial() -> None:
    """What a process imports for its first trial counts once, and not for every look."""
    settings = SimpleNamespace(n_test_tasks=600, n_valid_tasks=100)
    attributes = {"meta_train_seconds": 2.0, "look_seconds": 0.5, "slot": 0}
    trial = SimpleNamespace(user_attrs=attributes, duration=timedelta(seconds=12.5))
    arm = SimpleNamespace(
        finals=list,
        legs=[Leg(until=0.25)],
        tuning=SimpleNamespace(trials=lambda: [trial], goes_on={}),
        space=SimpleNamespace(domain=SimpleNamespace(settings=settings)),
    )
    runner: Any = SimpleNamespace(arm=arm, first_share=0.25, is_whole=False)
    looks = (clock.CURVE_POINTS + 1) + (600 + clock.CURVE_TASKS + clock.TIMED_TASKS) / 100
    assert clock.seconds_of_final(runner) == pytest.approx(10.0 + 4 * 2.0 + looks * 0.5)
    assert clock.seconds_of_leg(runner) == pytest.approx(12.5)
    arm.tuning.goes_on = {0: 0}
    assert clock.seconds_of_leg(runner) == pytest.approx(10.0 + 3 * 2.5)


def test_a_run_tells_its_processor_time_of_all_threads() -> None:
    study = SlotStudy(optuna.storages.InMemoryStorage(), "run", n_slots=1, higher_is_better=True)
    trial = study.claim()
    assert trial is not None

    def busy() -> None:
        began = time.thread_time()
        while time.thread_time() < began + 0.1:
            pass

    def work(trial: Any) -> float:
        other = threading.Thread(target=busy)
        other.start()
        other.join()
        return 1.0

    study.fill(trial, work)
    (told,) = study.trials()
    assert told.user_attrs["processor_seconds"] >= 0.1


@pytest.mark.thorough
def test_an_ensemble_is_of_the_seeds_of_which_there_is_a_final_run(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTime(monkeypatch).final_takes = 32.0
    numbers = {**RACE, "n_trials": 1, "n_seeds": 3}
    with pytest.warns(UserWarning, match="had all final runs asked for"):
        found = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=27.0, ensemble=True, **numbers)
    assert found.failures.empty
    assert found.complete
    seeds = found.leaderboard.set_index("learner")["n_seeds"]
    assert seeds["ensemble"] == seeds.drop("ensemble").max() < 3


def test_where_time_is_short_the_winner_alone_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime(monkeypatch)
    found = am.compare("sinusoid", LEARNERS, time_budget=6.0, **RACE)
    assert len(found.leaderboard) == fake.finals == 1
    assert found.complete


@pytest.mark.thorough
@pytest.mark.parametrize("then", [60.0, 12.0], ids=["more", "less"])
def test_a_race_goes_on_with_another_time(then: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime(monkeypatch)
    numbers = {**RACE, "n_trials": 2}
    begun = am.compare("sinusoid", LEARNERS, time_budget=30.0, output=tmp_path, **numbers)
    began = fake.now
    on = am.compare("sinusoid", LEARNERS, time_budget=then, output=tmp_path, **numbers)
    assert fake.now - began <= then
    assert on.complete
    assert on.plan == begun.plan, "every run is as long as before"
    kept = begun.trials.set_index(["learner", "slot"])["value"]
    assert on.trials.set_index(["learner", "slot"])["value"].loc[kept.index].equals(kept)
    assert len(on.trials) > len(begun.trials) or then < 30.0


@pytest.mark.thorough
def test_a_race_begun_with_a_time_does_not_go_on_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTime(monkeypatch)
    am.compare("sinusoid", ["ridge"], time_budget=20.0, output=tmp_path / "with", **RACE)
    with pytest.raises(am.InvalidParameter, match="time_budget=20.0 there and None here") as told:
        am.compare("sinusoid", ["ridge"], output=tmp_path / "with", **RACE)
    assert " budget=" not in str(told.value)


def test_that_time_is_over_is_no_error_of_a_plugin() -> None:
    """Whoever catches the errors of plugins in the midst of a run lets it through."""
    pulse = Pulse(seconds=-1.0)
    with pulse.of_this_thread(), pytest.raises(OutOfTime), suppress(Exception), plugin_code("it"):
        step_finished()


def test_a_run_that_is_out_of_time_gives_its_slot_back(tmp_path: Path) -> None:
    pulse = Pulse(seconds=-1.0)
    with pulse.of_this_thread(), pytest.raises(OutOfTime):
        step_finished()
    plan, storage = plan_of(), open_storage(str(tmp_path / "journal.log"))
    register_plan(storage, plan, "here")
    arms = open_arms(plan, storage)
    open_races(plan, arms, storage)
    study = arms[0].tuning
    trial = study.claim()
    assert trial is not None
    study.ends_at = time.time() - 1.0
    study.fill(trial, lambda trial: float(bool(step_finished())))
    assert study.slot_states() == ["open"] * N_NEW
    assert study.claim() is None, "no time for another one"
    study.is_closed = True
    assert study.is_complete
    assert not arms[0].step(torch.device("cpu"), None)


def test_a_preview_of_a_race_tells_no_less_than_it_does() -> None:
    numbers = {name: value for name, value in RACE.items() if name not in ("baselines", "verbose")}
    seen = am.preview("sinusoid", LEARNERS, baselines=False, **numbers)
    assert seen.pairs["trials"].sum() == RACE["n_trials"] * len(LEARNERS)
    timed = am.preview("sinusoid", LEARNERS, baselines=False, time_budget="10min", **numbers)
    assert timed.seconds == 600.0
    assert timed.budget == pytest.approx(0.4 * 600.0 / (1.75 * len(LEARNERS)) * (RACE["n_trials"] + RACE["n_seeds"]))


@pytest.mark.thorough
def test_progress_is_told_of_the_slots_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Display:
        is_due = True

        def start(self, total: int) -> None:
            """As the others."""

        def advance(self, done: int, status: str, left: float | None = None, total: int | None = None) -> None:
            assert total is not None
            told.append((done, total))

        def close(self) -> None:
            """As the others."""

    monkeypatch.setattr(sys.modules["autometa.comparison.compare"], "make_display", lambda verbose: Display())
    am.compare("sinusoid", LEARNERS, **{**RACE, "n_trials": 2, "max_steps": 1})
    assert all(done <= total for done, total in told)
    assert told[0][1] < told[-1][1] == told[-1][0]


def test_the_command_and_the_study_file_take_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--learners", "ridge", "--trials", "1", "--seeds", "1", "--search", "race", "--dry-run"]
    assert main(["compare", "--tasks", "sinusoid", *numbers, "--time-budget", "20s"]) == 0
    study = tmp_path / "study.toml"
    study.write_text('learners = ["ridge"]\nsearch = "race"\ntime_budget = "20s"\n[tasks]\nsinusoid = {}\n')
    assert main(["compare", str(study), "--dry-run"]) == 0
    assert main(["compare", "--tasks", "sinusoid", *numbers, "--time-budget", "soon"]) == 2
    assert "time_budget='soon'" in capsys.readouterr().err.replace("--time-budget", "time_budget")


@pytest.mark.thorough
def test_a_final_that_takes_longer_than_the_time_left_is_done_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner's final is never cut, and so never begun again and again."""
    began, real = [], arm.run_final

    def slow(*arguments: Any) -> float:
        began.append(arguments[2].number)
        assert time.time() < 1e12
        step_finished()
        return real(*arguments)

    monkeypatch.setattr(arm, "run_final", slow)
    monkeypatch.setattr(clock, "_CLOSING", 4.0)  # no time for finals at all
    numbers = {**RACE, "n_trials": 2, "n_seeds": 2, "max_steps": 2}
    with pytest.warns(UserWarning, match="over before ridge on sinusoid had all final runs"):
        found = am.compare("sinusoid", ["ridge"], time_budget=4.0, **numbers)
    assert len(began) == 1
    assert found.leaderboard["n_seeds"].tolist() == [1]
    assert found.complete


@pytest.mark.thorough
def test_a_loaded_race_with_a_time_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeTime(monkeypatch)
    numbers = {**RACE, "n_trials": 2, "max_steps": 2}
    found = am.compare("sinusoid", ["ridge", "sklearn"], time_budget=20.0, output=tmp_path, **numbers)
    again = am.Comparison.load(tmp_path)
    assert found.complete
    assert again.complete
    pd.testing.assert_frame_equal(found.race, again.race)


def test_values_of_the_first_trials_are_given_by_trials_and_not_by_slots() -> None:
    """A slot that goes on with a trial uses up none of them."""
    fixed = {number: {"scale": float(number)} for number in range(3)}
    study = SlotStudy(
        optuna.storages.InMemoryStorage(), "run", n_slots=4, higher_is_better=True, fixed=fixed, sampler=None
    )
    study.goes_on = {1: 0}
    assert [study._fixed_for(slot) for slot in (0, 2, 3)] == [fixed[0], fixed[1], fixed[2]]


def test_who_is_left_out_is_left_out_of_the_race() -> None:
    found = am.compare("sinusoid", {"ridge": "ridge", "mean": Mean()}, **{**RACE, "n_trials": 2})
    assert list(found.without("ridge").race["learner"]) == ["mean"]
    assert found.without("ridge").race["behind"].tolist() == [0.0]
