"""Commands as processes of their own: what they print where, and how they end when they are told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import optuna
import pytest
from optuna.trial import TrialState

from autometa.cli import main
from autometa.comparison.execution.storage import open_storage

NOISY = """
    import atexit, os, sys
    import autometa as am
    from torch import nn

    print("imported")

    class Noisy(am.Learner):
        default_meta_optimizer = None
        provides = frozenset()

        def build(self, info):
            return nn.Identity()

        def adapt(self, module, support):
            print("a print of a plugin")
            os.write(1, b"a write of a plugin\\n")
            os.system("echo a process of a plugin")
            sys.stdout.close()
            sys.__stdout__.close()
            print("a print after closing")
            return {"x": support.x.flatten(2), "y": support.y.float()}

        def predict(self, module, adapted, x):
            return adapted["y"].mean(1, keepdim=True).expand(-1, x.shape[1], -1)

    @am.hookimpl
    def autometa_learners():
        print("listed")
        return [am.LearnerSpec(name="noisy", factory=Noisy, problems={"regression"})]
"""
SMALL = [
    *("--tasks", "sinusoid", "--trials", "1", "--steps", "2", "--tasks-per-step", "2", "--n-test-tasks", "6"),
    *("--valid-tasks", "3", "--seeds", "1", "--device", "cpu"),
]


def test_a_command_ends_without_a_walk_through_what_it_imported() -> None:
    count = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count()))"
    code = f"{count}; from autometa.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code, "--version"], text=True, capture_output=True, check=True)
    assert int(ended.stdout.splitlines()[-1]) > 1000


@pytest.fixture
def noisy(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which a plugin is installed that prints wherever it can."""
    site = tmp_path / "site"
    metadata = site / "noisy-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "noisy.py").write_text(dedent(NOISY))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[autometa]\nnoisy = noisy\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the plugin writes to files by their numbers")
def test_what_a_plugin_prints_is_no_part_of_the_answer(noisy: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "autometa", "compare", *SMALL, "--learners", "noisy,ridge", "--json", "--quiet"]
    out = subprocess.run(
        [*command, "--output", str(tmp_path / "out")], env=noisy, capture_output=True, text=True, timeout=300
    )
    assert out.returncode == 0, out.stderr
    assert {row["learner"] for row in json.loads(out.stdout)} == {"noisy", "ridge", "sklearn"}
    for said in ("imported", "listed", "a print of a plugin", "a write of a plugin", "a print after closing"):
        assert said in out.stderr, said
    assert "Traceback" not in out.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "autometa", "plugins", "--json"], env=noisy, capture_output=True, text=True, timeout=300
    )
    assert "noisy" in {row["name"] for row in json.loads(listed.stdout)}


def _wait_for_a_running_trial(process: subprocess.Popen[str], journal: Path) -> None:
    deadline = time.monotonic() + 200
    while not (journal.exists() and '"drawn"' in journal.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no trial was begun"
        time.sleep(0.1)


@pytest.mark.thorough
@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_gives_the_slot_back_says_one_line_and_ends_with_143(workers: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    endless = ["--tasks", "sinusoid", "--learners", "ridge", "--steps", "1000000", "--trials", "2", "--device", "cpu"]
    command = [sys.executable, "-m", "autometa", "compare", *endless, "-q", "--workers", str(workers)]
    with subprocess.Popen(
        [*command, "--output", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _wait_for_a_running_trial(process, out / "journal.log")
            process.terminate()
            said, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 143
    assert error == f"Terminated. What is done is kept in {out}; the same command goes on from there.\n"
    assert said == ""
    storage = open_storage(str(out / "journal.log"))
    for name in optuna.get_all_study_names(storage):
        for trial in optuna.load_study(storage=storage, study_name=name).trials:
            assert trial.state != TrialState.RUNNING
            assert "error" not in trial.user_attrs
            assert trial.state == TrialState.COMPLETE or trial.user_attrs["interrupted"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGTERM")
def test_a_handler_for_sigterm_stays_where_the_command_is_called_from_python(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["plugins", "--json"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
