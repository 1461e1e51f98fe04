"""The scripts in ``examples/`` run as they are and say something that a reader can check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {"meta_world": "metaworld"}
"""Packages that an example has in an environment of its own."""
QUICK = {"maze_agent": ["--quick"]}
"""Arguments with which a script that takes minutes takes seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs_without_a_warning(script: Path, tmp_path: Path) -> None:
    if script.stem in NEEDS:
        pytest.importorskip(NEEDS[script.stem])
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *QUICK.get(script.stem, [])],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert any(character.isdigit() for character in done.stdout)
    assert not list(tmp_path.iterdir())  # an example leaves nothing behind


def test_the_readme_names_every_example() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert SCRIPTS
    assert [script.name for script in SCRIPTS if f"examples/{script.name}" not in readme] == []


@pytest.mark.thorough
def test_the_table_of_the_demo_is_the_one_that_the_example_makes(tmp_path: Path) -> None:
    written = tmp_path / "schools.csv"
    subprocess.run([sys.executable, str(ROOT / "examples" / "schools.py"), str(written)], check=True)
    assert written.read_text() == (ROOT / "examples" / "schools.csv").read_text()
