"""The README's snippets run, in order, as a reader would type them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import autometa as am

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


REBOUND = {"X", "y"}


def snippets(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def with_fewer(snippet):
    """A snippet with fewer steps and tasks."""
    fewer = re.sub(
        r"\b(max_steps|n_test_tasks|n_tasks)=(\d+)", lambda found: f"{found[1]}={min(3, int(found[2]))}", snippet
    )
    return fewer.replace("n_test_tasks=3", "n_test_tasks=3, n_valid_tasks=3")


@pytest.mark.parametrize("typed", [with_fewer, pytest.param(str, marks=pytest.mark.slow)], ids=["few", "as typed"])
def test_the_python_snippets_run_from_top_to_bottom_in_an_empty_folder_and_do_what_they_say(
    tmp_path, monkeypatch, typed
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    ran = [snippet for snippet in snippets("python") if not snippet.startswith("# ")]
    assert len(ran) == 14
    bound: dict[str, int] = {}
    for number, snippet in enumerate(ran):
        for name in re.findall(r"^(\w+) = ", snippet, flags=re.MULTILINE):
            assert name in REBOUND or bound.setdefault(name, number) == number, f"{name} means two things"
        exec(compile(typed(snippet), "README.md", "exec"), names)
    assert (tmp_path / "digits.autometa").exists()
    best = names["best"]
    assert isinstance(best, am.FewShotRegressor)
    x = np.linspace(-5, 5, 10).reshape(-1, 1)
    assert best.fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])) > 0
    assert isinstance(names["tasks"], am.TaskSampler)
    assert names["std"].shape == names["mean"].shape
    assert (names["std"] > 0).all()


def test_the_plugin_is_found_and_passes_the_conformance_kit(tmp_path, monkeypatch, fresh_host):
    files = {text[2 : text.index("\n")]: text for text in snippets("python") if text.startswith("# ")}
    assert set(files) == {"nearest/__init__.py", "nearest/learner.py"}
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    ((group, entries),) = tomllib.loads(snippets("toml")[0])["project"]["entry-points"].items()
    metadata = tmp_path / "nearest-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nearest\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    monkeypatch.syspath_prepend(tmp_path)

    checks = am.check_plugin("nearest")
    assert set(checks["status"]) <= {"passed", "skipped"}, checks.to_string()
    assert (checks["status"] == "passed").sum() > 15


@pytest.mark.parametrize("command", ["plugins", "plugins new", "plugins check", "compare", "pretrain"])
def test_the_commands_it_names_are_there(command):
    from autometa.cli import build_app

    assert f"autometa {command}" in README
    result = CliRunner().invoke(build_app(), [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output


def test_the_two_commands_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\$ make (\w+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
