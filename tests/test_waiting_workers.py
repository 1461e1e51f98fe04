"""Workers that have nothing to do but wait leave the storage to those that work."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autometa.comparison.execution import workers
from autometa.comparison.execution.progress_display import NoDisplay
from autometa.comparison.execution.workers import work_through


@dataclass
class Waiting:
    """An arm whose slots other processes fill, and that counts how often it is asked."""

    label: str
    done: list[int]
    """At each look; the last one counts for all that follow."""
    n_slots: int = 2
    asked: int = 0
    studies: tuple[Any, ...] = ()
    space: Any = field(default_factory=lambda: Waiting.Space())

    class Space:
        label = "learner"

    @property
    def opened(self) -> object:
        return self.n_slots

    @property
    def n_done(self) -> int:
        self.asked += 1
        return self.done[min(self.asked, len(self.done)) - 1]

    def step(self, device: torch.device, models: object) -> bool:
        return False


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock on which looks take a second, and what was slept."""
    slept: list[float] = []
    clock = iter(range(10**6))
    monkeypatch.setattr(workers.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(workers.time, "sleep", slept.append)
    return slept


def test_what_is_done_is_not_asked_for_again(pauses: list[float]) -> None:
    over, at_work = Waiting("over", [2]), Waiting("at work", [1] * 50 + [2])
    work_through([over, at_work], torch.device("cpu"), None)  # type: ignore[list-item]
    assert len(pauses) == 50
    assert at_work.asked > 50
    assert over.asked == 2  # at the first look, and once more before the end


def test_what_was_done_and_is_open_again_is_waited_for(pauses: list[float]) -> None:
    again = Waiting("again", [2, 1, 1, 1, 2])
    work_through([again], torch.device("cpu"), None)  # type: ignore[list-item]
    assert again.asked > 5


def test_a_storage_that_answers_slowly_is_asked_less_often(pauses: list[float]) -> None:
    assert workers.pause_after(0.001) == workers.POLL
    assert workers.pause_after(0.1) == pytest.approx(2.0)  # 5% of the time
    assert workers.pause_after(60.0) == workers.LONGEST_POLL
    work_through([Waiting("at work", [0, 0, 2])], torch.device("cpu"), None)  # type: ignore[list-item]
    assert set(pauses) == {workers.LONGEST_POLL}


def test_a_pause_ends_once_another_worker_has_found_that_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(workers.time, "sleep", slept.append)
    is_over, tell_over = multiprocessing.Pipe(duplex=False)
    pause = workers._pause_until(is_over)
    pause(0.0)
    tell_over.close()
    pause(3600.0)
    assert slept == []
    pause(3600.0)
    assert slept == [3600.0], "what another found was wrong, and the storage is not to be asked all the time"


class Idle:
    """A worker that has nothing to do: the first one ends, the others as soon as they are told."""

    n_begun = 0
    process = SimpleNamespace(exitcode=0)
    is_orphan, sentinel = False, None

    def __init__(self, context: object, target: object, arguments: tuple[Any, ...], watch: object) -> None:
        self._is_over = arguments[-1]
        self._is_first = Idle.n_begun == 0
        self._n_looks = 0
        Idle.n_begun += 1

    def start(self) -> None:
        pass

    def lives(self) -> bool:
        self._n_looks += 1
        assert self._n_looks < 5, "nobody tells it"
        return not self._is_first and not self._is_over.poll(0)

    def hangs(self) -> float:
        return 0.0

    def bury(self, arms: object) -> list[Any]:
        return []

    def interrupt(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def give_back(self, arms: object) -> None:
        pass


def test_the_first_worker_that_ends_with_all_done_ends_the_pauses_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "Child", Idle)
    monkeypatch.setattr(workers, "POLL", 0.0)
    monkeypatch.setattr(Idle, "n_begun", 0)
    arms: Any = [Waiting("at work", [1, 2])]
    threads: Any = None
    plan: Any = None
    workers.run_processes(plan, "", 2, "cpu", None, arms, NoDisplay(), threads)
    assert Idle.n_begun == 2
