"""The shell completes the names of what is installed, at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autometa.cli.compare import DEMO
from autometa.cli.completion import LEARNERS, SAMPLER, TASKS, complete_component, names_of
from autometa.host.catalog import components


def words(completions: list[tuple[str, str]]) -> list[str]:
    return [word for word, _ in completions]


def test_every_installed_name_is_completed_with_what_it_is() -> None:
    for kind in ("learner", "task sampler", "meta-optimizer", "backbone"):
        found = dict(names_of(kind)(""))
        assert {name.rpartition("/")[2] for name in found} == {one.name for one in components(kind)}
        assert all(found.values())
    assert {name.rpartition("/")[2] for name in DEMO} <= set(words(TASKS("")))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("prototyp", ["prototypical"]),
        ("ridge,prototyp", ["ridge,prototypical"]),
        ("ridge,maml:rept", ["ridge,maml:reptile"]),
        ("maml:steps=3,prototyp", ["maml:steps=3,prototypical"]),
        ("maml:steps=", []),
        ("nothing_of_the_kind", []),
    ],
)
def test_the_last_name_of_a_list_is_completed_and_behind_a_learner_its_meta_optimizer(
    typed: str, expected: list[str]
) -> None:
    assert words(LEARNERS(typed)) == expected


def test_a_single_name_is_no_list_and_parameters_are_left_alone() -> None:
    assert words(SAMPLER("omnig")) == ["omniglot"]
    assert words(SAMPLER("glyphs,omnig")) == []
    assert words(SAMPLER("omniglot:n_w")) == []
    assert {"maml", "maze"} <= set(words(complete_component("ma")))


def asked(typed: str, *, shell: str = "bash") -> str:
    """What the command itself answers a shell; it may import nothing heavy for that."""
    code = (
        "import sys\nfrom autometa.cli import main\ncode = main([])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'optuna', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)"
    )
    told = {"_AUTOMETA_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        told |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    else:
        told |= {"_TYPER_COMPLETE_ARGS": typed}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_a_shell_that_asks_is_answered_without_a_heavy_import() -> None:
    assert asked("autometa compare --learners ridge,prototyp").split() == ["ridge,prototypical"]
    assert asked("autometa tasks omnig").split() == ["omniglot"]
    assert "maml\\\\:reptile" in asked("autometa compare --learners maml:rept", shell="zsh")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_what_the_command_shows(tmp_path: Path) -> None:
    command = tmp_path / "autometa"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m autometa "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(autometa --show-completion bash)"\n'
        "COMP_WORDS=(autometa compare --tasks glyphs,sinus); COMP_CWORD=3\n"
        "_autometa_completion autometa\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    places = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=places, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["glyphs,sinusoid"]
