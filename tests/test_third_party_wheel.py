"""A plugin from a wheel of its own, in a fresh environment beside autometa's wheel, takes part in a comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

import autometa as am
from learning import assert_better, chance

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "third_party_plugin"


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, run without this repository on its path."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AUTOMETA_DISABLED_PLUGINS")
    }
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with both wheels, which borrows the other packages from this one."""
    place = tmp_path_factory.mktemp("third_party")
    for project in (REPOSITORY, EXAMPLE):
        run(
            sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", place / "wheels", project, cwd=place
        )
    wheels = sorted((place / "wheels").glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["autometa", "autometa_nearest_neighbour"]
    run(sys.executable, "-m", "venv", "--without-pip", place / "venv", cwd=place)
    python = place / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", *wheels),
        cwd=place,
    )
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip()
    # A path in a .pth file comes after the environment's own packages, so both wheels go first.
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place


@pytest.mark.thorough
def test_it_is_autometa_from_the_wheel_that_runs(environment: Path) -> None:
    where = run(environment / "venv/bin/python", "-c", "import autometa; print(autometa.__file__)", cwd=environment)
    assert Path(where.strip()).is_relative_to(environment)


@pytest.mark.thorough
def test_the_plugin_is_found(environment: Path) -> None:
    rows = json.loads(run(environment / "venv/bin/autometa", "plugins", "--json", cwd=environment))
    (row,) = [row for row in rows if row["plugin"] == "nearest_neighbour"]
    assert (row["name"], row["distribution"], row["status"]) == (
        "nearest_neighbour",
        "autometa-nearest-neighbour",
        "active",
    )
    assert [r["name"] for r in rows].count("prototypical") == 1


@pytest.mark.slow
def test_it_conforms(environment: Path) -> None:
    rows = json.loads(
        run(environment / "venv/bin/autometa", "plugins", "check", "nearest_neighbour", "--json", cwd=environment)
    )
    assert {row["status"] for row in rows} <= {"passed", "skipped"}


@pytest.mark.slow
def test_it_takes_part_in_a_comparison(environment: Path) -> None:
    board = json.loads(
        run(
            *(environment / "venv/bin/autometa", "compare", "--tasks", "digits:n_way=2,n_shot=1,n_query=5"),
            *("--learners", "nearest_neighbour,prototypical", "--trials", "2", "--steps", "4", "--tasks-per-step", "2"),
            *("--seeds", "1", "--test-tasks", "40", "--valid-tasks", "10", "--output", "run", "--quiet", "--json"),
            cwd=environment,
        )
    )
    rows = board["leaderboard"] if isinstance(board, dict) else board
    assert {row["learner"] for row in rows} >= {"nearest_neighbour", "prototypical"}
    assert (environment / "run" / "leaderboard.csv").is_file()
    scores = pd.read_csv(environment / "run" / "scores.csv")
    info = am.make_tasks("digits", n_way=2).info
    assert_better(scores.score[scores.learner == "nearest_neighbour"].tolist(), chance(info), info)
