"""A comparison that goes on computes with the threads it was begun with, or the report says that it did not."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import autometa as am
from autometa.comparison.execution import arm, kept_threads
from autometa.comparison.execution.thread_counts import ThreadCounts, recorded_threads, with_threads

FAST: dict[str, Any] = {
    "n_trials": 3,
    "n_seeds": 1,
    "max_steps": 1,
    "n_test_tasks": 3,
    "n_valid_tasks": 3,
    "tasks_per_step": 2,
    "verbose": 0,
    "baselines": False,
}


@pytest.fixture(autouse=True)
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def begin_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, then: int, n_cores: int
) -> tuple[am.Comparison, list[int]]:
    """Begin a comparison with some threads, cut it in its second trial, and go on with others."""
    real, seen = arm.run_trial, []
    monkeypatch.setattr(kept_threads, "usable_cores", lambda: n_cores)

    def cut(*arguments: Any) -> float:
        seen.append(torch.get_num_threads())
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(arm, "run_trial", cut)
    torch.set_num_threads(first)
    with pytest.warns(UserWarning, match="interrupted"):
        am.compare("sinusoid", "ridge", output=tmp_path / "run", **FAST)
    torch.set_num_threads(then)
    return am.compare("sinusoid", "ridge", output=tmp_path / "run", **FAST), seen


def test_the_threads_it_was_begun_with_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, seen = begin_and_go_on(tmp_path, monkeypatch, first=2, then=1, n_cores=64)
    assert seen == [2] * 4
    assert torch.get_num_threads() == 1
    assert "not the same" not in str(done.environment["threads"])


@pytest.mark.thorough
@pytest.mark.reports
def test_fewer_cores_than_threads_are_said_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="begun with 2.* threads for each process, and here 1 share 1 cores"):
        done, seen = begin_and_go_on(tmp_path, monkeypatch, first=2, then=1, n_cores=1)
    assert seen == [2, 2, 1, 1]
    assert "1" in done.environment["threads"]
    assert "not the same for all runs" in done.environment["threads"]
    assert "not the same for all runs" in (tmp_path / "run" / "report.html").read_text()
    assert "not the same for all runs" in am.Comparison.load(tmp_path / "run").environment["threads"]


def test_threads_are_set_in_the_block_and_restored() -> None:
    torch.set_num_threads(2)
    before = ThreadCounts.here()
    with with_threads(ThreadCounts(1, 1)):
        assert ThreadCounts.here() == ThreadCounts(1, 1)
        assert recorded_threads() == {"threads": (1, 1)}
    assert ThreadCounts.here() == before
    assert recorded_threads() == {}
