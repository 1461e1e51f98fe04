"""Two people with one command at the same moment: their plans agree, or exactly one of them is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

import autometa as am
from autometa.comparison.execution import claims, stored_plan
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import PLAN, register_plan
from autometa.comparison.plan.backbones import offered_backbones
from autometa.comparison.plan.plan import Plan, make_plan
from autometa.comparison.plan.settings import Settings

SETTINGS: dict[str, Any] = {
    "n_trials": 1,
    "budget": None,
    "n_test_tasks": 3,
    "n_valid_tasks": 3,
    "n_seeds": 1,
    "max_steps": 1,
    "tasks_per_step": 2,
    "search": "separate",
    "ensemble": False,
    "random_state": 0,
}


def plan(*learners: str, **changed: Any) -> Plan:
    settings = Settings(**{**SETTINGS, **changed})
    return make_plan("sinusoid", list(learners or ["ridge"]), settings, name="run", baselines=False, test_tasks=None)


@pytest.fixture(params=["journal", "sqlite", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BaseStorage]:
    where = {"journal": str(tmp_path / "journal.log"), "sqlite": f"sqlite:///{tmp_path}/studies.db"}
    if request.param == "memory":
        one = open_storage(None)
        return lambda: one
    return lambda: open_storage(where[request.param])


def stored(storage: BaseStorage) -> Any:
    return optuna.load_study(storage=storage, study_name="run").user_attrs[PLAN]


@pytest.mark.parametrize("moment", ["before it adds its own", "after"])
def test_of_two_plans_at_once_one_wins_and_the_other_is_refused(
    opener: Callable[[], BaseStorage], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    mine, theirs = plan(max_steps=1), plan(max_steps=2)
    here, there = opener(), opener()
    real, looked = claims.successor, 0

    def look(*arguments: Any) -> Any:
        """Let the other process act between two steps of this one."""
        nonlocal looked
        looked += 1
        turn, answer = looked, real(*arguments)
        if turn == (1 if moment == "before it adds its own" else 2):
            monkeypatch.setattr(claims, "successor", real)
            others.append(register(there, theirs))
        return answer

    def register(storage: BaseStorage, of: Plan) -> bool:
        try:
            register_plan(storage, of, "here")
        except am.InvalidParameter:
            return False
        return True

    others: list[bool] = []
    monkeypatch.setattr(claims, "successor", look)
    won = register(here, mine)
    assert [won, *others] == ([False, True] if moment == "before it adds its own" else [True, False])
    assert stored(opener())["settings"]["max_steps"] == (1 if won else 2)


@pytest.mark.thorough
def test_plans_that_agree_are_all_taken(opener: Callable[[], BaseStorage]) -> None:
    for learners in (["ridge"], ["ridge"], ["ridge", "maml"], ["ridge", "maml"]):
        register_plan(opener(), plan(*learners), "here")
        assert list(stored(opener())["learners"]) == learners
    with pytest.raises(am.InvalidParameter, match="learners 'ridge' is there and not here"):
        register_plan(opener(), plan("maml"), "here")
    study = optuna.load_study(storage=opener(), study_name="run")
    assert len(study.trials) == 2  # one for each plan


def test_a_plan_whose_process_died_before_it_was_set_is_found(
    opener: Callable[[], BaseStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as dies:
        dies.setattr(optuna.Study, "set_user_attr", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            register_plan(opener(), plan(max_steps=2), "here")
    assert stored_plan.stored_plan(opener(), "run").settings.max_steps == 2
    with pytest.raises(am.InvalidParameter, match="max_steps=2 there and 1 here"):
        register_plan(opener(), plan(max_steps=1), "here")
    register_plan(opener(), plan(max_steps=2), "here")
    assert stored(opener())["settings"]["max_steps"] == 2


@pytest.mark.thorough
def test_of_many_at_once_one_wins(opener: Callable[[], BaseStorage]) -> None:
    plans = [plan(max_steps=n) for n in range(1, 7)]
    ends: list[int] = []
    barrier = threading.Barrier(len(plans), timeout=20)

    def register(one: Plan) -> None:
        storage = opener()
        barrier.wait()
        try:
            register_plan(storage, one, "here")
        except am.InvalidParameter:
            return
        ends.append(one.settings.max_steps)

    threads = [threading.Thread(target=register, args=(one,)) for one in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [stored(opener())["settings"]["max_steps"]]


def test_a_plan_may_grow_and_not_shrink(opener: Callable[[], BaseStorage]) -> None:
    register_plan(opener(), plan(n_trials=4, n_seeds=2), "here")
    register_plan(opener(), plan(n_trials=6, n_seeds=2, n_test_tasks=5), "here")
    assert stored(opener())["settings"]["n_trials"] == 6
    with pytest.raises(am.InvalidParameter) as told:
        register_plan(opener(), plan(n_trials=4, n_seeds=3, n_test_tasks=3), "here")
    assert "n_trials=6 there and 4 here (which can grow, not shrink); n_test_tasks=5 there and 3 here" in str(
        told.value
    )
    assert "n_seeds" not in str(told.value)
    searched = offered_backbones(accelerator=False)
    asked = {"n_trials": 6, "n_seeds": 2, "n_test_tasks": 5, "backbones": searched}
    grown = {**asdict(Settings(**SETTINGS)), **asked}
    assert stored(opener())["settings"] == grown


def test_with_a_budget_it_grows_where_every_run_keeps_its_seconds(opener: Callable[[], BaseStorage]) -> None:
    register_plan(opener(), plan(n_trials=4, n_seeds=2, budget=60), "here")
    with pytest.raises(
        am.InvalidParameter, match="10 seconds for each run.*7.5 for each .as many as there are budget=80"
    ):
        register_plan(opener(), plan(n_trials=6, n_seeds=2, budget=60), "here")
    with pytest.raises(am.InvalidParameter, match="budget=60 there and None here"):
        register_plan(opener(), plan(n_trials=6, n_seeds=2), "here")
    register_plan(opener(), plan(n_trials=6, n_seeds=2, budget=80), "here")
    assert stored(opener())["settings"]["budget"] == 80
