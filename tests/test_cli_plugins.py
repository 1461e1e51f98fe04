"""``autometa plugins`` lists, checks and starts plugins; ``autometa tasks`` shows a distribution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autometa.cli import main
from tiers import first_by_default

BROKEN = "import no_such_module\n"


def test_the_list_as_json_holds_a_row_for_every_component(fresh_host: None, capsys: Any) -> None:
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (row,) = [row for row in rows if row["name"] == "prototypical"]
    assert row | {"summary": ""} == {
        "kind": "learner",
        "name": "prototypical",
        "plugin": "metric",
        "distribution": "autometa",
        "version": "1.0.0",
        "problems": "classification",
        "status": "active",
        "error": "",
        "summary": "",
        "traceback": "",
    }


def test_a_broken_plugin_is_shown_with_its_reason_and_ends_in_exit_code_0(install: Any, capsys: Any) -> None:
    install("faulty-dist", "faulty", BROKEN)
    assert main(["plugins"]) == 0
    text = capsys.readouterr().out
    assert "broken faulty (faulty-dist): ModuleNotFoundError: No module named 'no_such_module'" in " ".join(
        text.split()
    )
    assert "prototypical" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_long_names_are_broken_and_not_cut(install: Any, capsys: Any, monkeypatch: Any, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "a_plugin_with_quite_a_long_name_of_its_own"
    code = (
        "import autometa as am\n\n@am.hookimpl\ndef autometa_learners():\n"
        "    return [am.LearnerSpec(name='a_learner_with_a_long_name', factory='a:B', problems='regression')]\n"
    )
    install("a-distribution-with-a-long-name-too", name, code)
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    assert any(line.startswith("baseline_plus_plus ") for line in lines)


def test_tracebacks_are_shown_when_asked_for(install: Any, capsys: Any) -> None:
    install("faulty-dist", "faulty", BROKEN)
    assert main(["plugins", "-v"]) == 0
    assert "Traceback (most recent call last)" in capsys.readouterr().out
    assert main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert "Traceback" in next(row["traceback"] for row in rows if row["plugin"] == "faulty")


def test_p_no_name_disables_a_plugin(fresh_host: None, capsys: Any) -> None:
    assert main(["-p", "no:metric", "-p", "no:model", "plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["plugin"] for row in rows if row["status"] == "disabled"} == {"metric", "model"}


def test_p_with_anything_else_is_bad_usage(fresh_host: None, capsys: Any) -> None:
    assert main(["-p", "metric", "plugins"]) == 2
    assert "must look like no:NAME" in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_disabling_an_unknown_name_warns_on_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autometa", "-p", "no:metrc", "plugins", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "warning: plugin 'metrc' was to be disabled but is not installed. Did you mean 'metric'?\n"
    assert json.loads(done.stdout)


def test_checking_a_component_reports_every_check(capsys: Any) -> None:
    assert main(["plugins", "check", "identity", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["status"] for row in rows} == {"passed"}
    assert "check_gradient_flows" in {row["check"] for row in rows}


def test_checking_takes_parameters(capsys: Any) -> None:
    assert main(["plugins", "check", "mlp:hidden=[4]", "--kind", "backbone"]) == 0
    assert "0 failed" in capsys.readouterr().out


def test_a_failing_check_ends_in_exit_code_1(install: Any, capsys: Any) -> None:
    install(
        "acme",
        "acme_plugin",
        """
        import autometa as am

        @am.hookimpl
        def autometa_backbones():
            return [am.BackboneSpec(name="plain", factory="autometa_plugins.backbones.identity:Identity")]
        """,
    )
    assert main(["plugins", "check", "plain"]) == 1
    text = capsys.readouterr().out
    assert "the summary must be one line" in text
    assert "1 failed" in text


def test_checking_an_unknown_name_is_bad_usage(capsys: Any) -> None:
    assert main(["plugins", "check", "mamll"]) == 2
    assert "did you mean 'maml'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def new_plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A new plugin of each kind, by its name; all are looked at in the same few processes, which import torch once."""
    folder = tmp_path_factory.mktemp("new")
    sorts = ("learner", "actor", "task-sampler", "environment", "meta-optimizer", "backbone")
    kinds = {f"my_{kind.replace('-', '_')}": kind for kind in sorts}
    for name, kind in kinds.items():
        assert main(["plugins", "new", name, "--kind", kind, "--directory", str(folder)]) == 0
    return {name: folder / name for name in kinds}


def test_a_new_plugin_is_told_where_it_is(tmp_path: Path, capsys: Any) -> None:
    assert main(["plugins", "new", "my_plugin", "--directory", str(tmp_path)]) == 0
    assert f"{tmp_path / 'my_plugin'} is ready" in capsys.readouterr().out


TEST_EACH = """
import sys, pytest
for project in sys.argv[1:]:
    print("PROJECT", project, "ENDS", int(pytest.main(["-q", "-p", "no:cacheprovider", project])), flush=True)
"""


@pytest.mark.slow
def test_a_new_plugin_passes_its_own_test_at_once(new_plugins: dict[str, Path], tmp_path: Path) -> None:
    projects = [str(project) for project in new_plugins.values()]
    done = subprocess.run(
        [sys.executable, "-c", TEST_EACH, *projects],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        check=False,
    )
    ends = [line for line in done.stdout.splitlines() if line.startswith("PROJECT")]
    assert ends == [f"PROJECT {project} ENDS 0" for project in projects], done.stdout + done.stderr


@pytest.mark.thorough
def test_a_new_plugin_is_found_where_it_is_installed(new_plugins: dict[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--no-build-isolation", "--no-index", "--target", str(site), *map(str, new_plugins.values())),
        ],
        check=True,
    )
    listed = subprocess.run(
        [sys.executable, "-m", "autometa", "plugins", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(site)},
        check=True,
    )
    rows = {row["name"]: row for row in json.loads(listed.stdout) if row["plugin"] in new_plugins}
    assert {(row["kind"], row["status"], row["distribution"]) for row in rows.values()} == {
        ("learner", "active", "autometa-my-learner"),
        ("learner", "active", "autometa-my-actor"),
        ("task sampler", "active", "autometa-my-task-sampler"),
        ("task sampler", "active", "autometa-my-environment"),
        ("meta-optimizer", "active", "autometa-my-meta-optimizer"),
        ("backbone", "active", "autometa-my-backbone"),
    }


@pytest.mark.parametrize("name", ["My-Plugin", "class", "autometa", "1st"])
def test_a_new_plugin_needs_a_name_that_a_package_can_have(name: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["plugins", "new", name, "--directory", str(tmp_path)]) == 2
    assert f"name={name!r}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "whose"),
    first_by_default(
        2,
        [
            ("numpy", "an installed package or module"),
            ("json", "an installed package or module"),
            ("sklearn", "a learner of plugin 'baselines'"),
            ("maml", "a learner of plugin 'optimization'"),
            ("digits", "a task sampler of plugin 'tasks'"),
            ("metric", "an installed plugin"),
        ],
    ),
)
def test_a_new_plugin_takes_no_name_that_is_claimed(
    name: str, whose: str, tmp_path: Path, fresh_host: None, capsys: Any
) -> None:
    assert main(["plugins", "new", name, "--directory", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"name={name!r} is the name of {whose}; choose another, such as 'my_{name}'." in said
    assert not list(tmp_path.iterdir())
    assert main(["plugins", "new", f"my_{name}", "--directory", str(tmp_path)]) == 0


def test_a_name_of_a_plugin_of_somebody_else_is_claimed_too(install: Any, tmp_path: Path, capsys: Any) -> None:
    code = """
        import autometa as am

        @am.hookimpl
        def autometa_learners():
            return [am.LearnerSpec(name="my_maml", factory="acme_plugin:Mine", problems={"regression"})]
    """
    install("acme", "acme_plugin", code)
    assert main(["plugins", "new", "my_maml", "--directory", str(tmp_path / "new")]) == 2
    assert "is the name of a learner of plugin 'acme_plugin'" in capsys.readouterr().err
    assert main(["plugins", "new", "maml", "--directory", str(tmp_path / "new")]) == 2
    assert "such as 'my_maml2'" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_new_plugin_names_what_its_test_needs(new_plugins: dict[str, Path]) -> None:
    for project in new_plugins.values():
        described = tomllib.loads((project / "pyproject.toml").read_text())
        assert described["project"]["optional-dependencies"] == {"test": ["pytest"]}


def test_a_new_plugin_never_overwrites(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "my_plugin").mkdir()
    (tmp_path / "my_plugin" / "work.py").write_text("precious")
    assert main(["plugins", "new", "my_plugin", "--directory", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_new_plugin_of_an_unknown_kind_is_bad_usage(tmp_path: Path, capsys: Any) -> None:
    assert main(["plugins", "new", "my_plugin", "--kind", "sampler", "--directory", str(tmp_path)]) == 2
    assert (
        "--kind='sampler' must be one of 'learner', 'actor', 'task-sampler', 'environment'" in capsys.readouterr().err
    )


def test_tasks_of_regression_are_shown_with_their_functions(capsys: Any) -> None:
    assert main(["tasks", "sinusoid:n_shot=7"]) == 0
    text = capsys.readouterr().out
    assert "regression" in text
    assert "[7, 1]" in text
    assert "A sin(x - phase)" in text
    assert "·" in text


@pytest.mark.parametrize(("color", "mark"), [(True, "▀"), (False, "@")])
def test_tasks_of_images_are_shown_as_pictures(color: bool, mark: str, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if color:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["tasks", "digits:n_way=2,n_shot=3", "--split", "test"]) == 0
    text = capsys.readouterr().out
    assert mark in text
    assert "[6, 1, 8, 8]" in text


def test_tasks_as_json(capsys: Any) -> None:
    assert main(["tasks", "digits:n_way=2", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["info"]["n_outputs"] == 2
    assert set(facts["splits"]) == {"train", "valid", "test"}
    assert facts["splits"]["train"]["support"] == [2, 1, 8, 8]


def test_tasks_of_a_folder_of_colour_images(tmp_path: Path, capsys: Any) -> None:
    for label in range(10):
        (tmp_path / f"c{label}").mkdir()
        for number in range(3):
            pixels = np.full((8, 8, 3), 20 * label, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"c{label}" / f"{number}.png")
    assert main(["tasks", f"images:root={tmp_path},n_way=2,n_shot=1,n_query=2,size=8"]) == 0
    assert "[2, 3, 8, 8]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["tasks", "sinusod"], 2, "did you mean 'sinusoid'"),
        (["tasks", "sinusoid:n_shott=3"], 2, "did you mean 'n_shot'"),
        (["tasks", "sinusoid:n_shot=0"], 2, "n_shot=0"),
        (["tasks", "images:root=/no/such/folder"], 1, "/no/such/folder"),
        (["tasks", "digits", "--split", "training"], 2, "split='training'"),
    ],
)
def test_tasks_that_cannot_be_shown_say_why(arguments: list[str], code: int, text: str, capsys: Any) -> None:
    assert main(arguments) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["-n", "0"], "-n=0 must be a positive integer"),
        (["--split", "all"], "--split='all' must be one of"),
        (["--seed", "-1"], "--seed=-1 must be an integer from 0 to"),
    ],
)
def test_errors_about_the_tasks_to_show_name_the_options(typed: list[str], said: str, capsys: Any) -> None:
    assert main(["tasks", "sinusoid", *typed]) == 2
    assert f"error: {said}" in capsys.readouterr().err
