"""The limit for silence: how long is silence, and what ends a process that nothing else can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.trial import Trial

import autometa as am
from autometa.comparison.execution.monitor import _SCRIPT
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.watch import Watch
from autometa.comparison.plan.guarded import guarded
from autometa.engine import pulse
from autometa.engine.pulse import MEDIANS, SILENCE, Pulse, step_finished


def watched(seconds: float) -> SlotStudy:
    storage = optuna.storages.InMemoryStorage()
    return SlotStudy(storage, "s", n_slots=1, higher_is_better=True, watch=Watch(limit=seconds))


@pytest.mark.parametrize(
    ("how", "thread"),
    [
        ("sleep", "main"),
        ("loop", "main"),
        ("loop that hides it", "main"),
        ("loop", "other"),
        pytest.param("sleep", "other", marks=pytest.mark.thorough),
    ],
)
def test_a_trial_that_hangs_is_interrupted_and_has_failed(how: str, thread: str) -> None:
    study = watched(0.2)

    def hangs(trial: Trial) -> float:
        until = time.monotonic() + (1.0 if thread == "other" else 60.0)
        if how == "sleep":
            time.sleep(until - time.monotonic())
        while time.monotonic() < until:
            try:
                sum(range(100))
            except BaseException:
                if how == "loop":
                    raise
                return 1.0
        return 1.0

    def fill() -> None:
        trial = study.claim()
        assert trial is not None
        study.fill(trial, hangs)

    said = pytest.warns(RuntimeWarning, match="no outer step was finished for 0.2 seconds; it has failed")
    with said, ThreadPoolExecutor(1) as pool:
        fill() if thread == "main" else pool.submit(fill).result()
    assert study.trials()[0].user_attrs.get("error") == "TrialTimeout: no outer step was finished for 0.2 seconds"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_trial_whose_steps_are_finished_in_time_may_take_as_long_as_it_will() -> None:
    study = watched(0.4)

    def takes_its_time(trial: Trial) -> float:
        for _ in range(12):
            time.sleep(0.05)
            step_finished()
        return 1.0

    trial = study.claim()
    assert trial is not None
    study.fill(trial, takes_its_time)
    assert study.best() is not None


def test_a_longer_limit_tries_again_what_a_shorter_one_ended() -> None:
    study = watched(0.1)
    trial = study.claim()
    assert trial is not None
    with pytest.warns(RuntimeWarning, match="no outer step was finished"):
        study.fill(trial, lambda trial: time.sleep(60) or 1.0)
    assert study.forgive() == 0
    study.watch = Watch(limit=5.0)
    assert study.forgive() == 1
    trial = study.claim()
    assert trial is not None
    study.watch = Watch(limit=0.1)
    with pytest.warns(RuntimeWarning, match="no outer step was finished"):
        study.fill(trial, lambda trial: time.sleep(60) or 1.0)
    study.watch = Watch()  # ten minutes at least
    assert study.forgive() == 1
    assert not study.is_complete


def test_steps_and_batches_of_an_evaluation_are_signs_of_life() -> None:
    tasks, learner = am.make_tasks("sinusoid"), am.make_learner("ridge")
    seen = Pulse()
    with seen.of_this_thread():
        training = am.training.MetaTraining(
            learner, am.make_meta_optimizer("gradient"), tasks, n_steps=3, tasks_per_step=2, seed=0
        )
        before = seen.count
        training.run_to(1.0)
        assert seen.count - before == 3
        am.training.evaluate(learner, training.module, tasks, split="valid", n_tasks=26, seed=0)
        assert seen.count - before == 5


def test_without_a_limit_slow_steps_may_be_a_hundred_times_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    seen, asked = Pulse(), Pulse(30.0)
    for each in (seen, asked):
        with each.of_this_thread():
            assert each.allowed == (each.limit or SILENCE)
            for _ in range(3):
                clock[0] += 20.0
                step_finished()
            assert each.allowed == (each.limit or 20.0 * MEDIANS)
            for _ in range(4):
                clock[0] += 0.1
                step_finished()
            assert each.allowed == (each.limit or SILENCE)
        assert each.allowed == 0.0


@contextmanager
def victim_and_monitor() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    with subprocess.Popen(["sleep", "60"]) as victim:
        command = [sys.executable, "-I", "-S", "-c", _SCRIPT, str(victim.pid), "it hangs"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as monitor:
            yield victim, monitor
        victim.kill()


def tell(monitor: subprocess.Popen[bytes], seconds: float) -> None:
    assert monitor.stdin is not None
    monitor.stdin.write(f"{seconds}\n".encode())
    monitor.stdin.flush()


def test_the_monitor_ends_what_is_silent_and_says_so() -> None:
    with victim_and_monitor() as (victim, monitor):
        tell(monitor, 0.2)
        assert victim.wait(30) == -signal.SIGKILL
        assert monitor.stderr is not None
        assert monitor.stderr.read() == b"it hangs\n"


@pytest.mark.thorough
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_the_monitor_leaves_a_process_that_is_stopped_and_one_that_expects_no_step() -> None:
    with victim_and_monitor() as (victim, monitor):
        os.kill(victim.pid, signal.SIGSTOP)
        tell(monitor, 0.2)
        time.sleep(0.6)
        tell(monitor, 0.0)
        os.kill(victim.pid, signal.SIGCONT)
        time.sleep(0.4)
        assert victim.poll() is None


def test_code_of_plugins_in_a_plan_is_guarded_too() -> None:
    said = "learner 'x' changed default dtype of the whole process, which was put back"
    with pytest.warns(UserWarning, match=said), guarded("learner 'x'"):
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(am.PluginError, match="learner 'x' raised SystemExit: no GPU"), guarded("learner 'x'"):
        sys.exit("no GPU")


TOLD_OFTEN = """
import time
from autometa.comparison.execution.monitor import monitored
with monitored() as monitor:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        monitor.expect(30.0)
        time.sleep(0.0005)
        monitor.expect(0.0)
        time.sleep(0.0005)
"""


@pytest.mark.slow
def test_a_process_whose_runs_end_all_the_time_is_not_taken_for_one_that_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_OFTEN], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
