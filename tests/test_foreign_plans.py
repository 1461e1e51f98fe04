"""A plan that somebody else wrote leads to no path and no function that its reader did not allow."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison import work
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.plan.foreign import check_allowed_paths, named_by
from autometa.files.description import describe
from autometa.host import get_host
from autometa.host.catalog import components

SMALL = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 6, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}


def unread(component: Any) -> Any:
    """A description for which nothing was read, as somebody may write it by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autometa.files.description._content", lambda *component: {})
        return describe(component)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a comparison that names no path."""
    folder = tmp_path_factory.mktemp("honest") / "out"
    am.compare("sinusoid", ["ridge"], output=folder, **SMALL, baselines=False, verbose=0)
    return folder


@pytest.fixture
def hostile(honest: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a copy of the comparison whose tasks or learner are others."""

    def write(kind: str, component: Any) -> Path:
        folder = tmp_path / "out"
        folder.mkdir()
        for name in ("run.json", "journal.log"):
            (folder / name).write_bytes((honest / name).read_bytes())
        study = optuna.load_study(storage=open_storage(str(folder / "journal.log")), study_name="out")
        plan = study.user_attrs["plan"]
        described = json.loads(json.dumps(unread(component)))
        if kind == "tasks":
            plan["tasks"] = {"sinusoid": described}
        else:
            plan["learners"]["ridge"]["learner"] = described
        study.set_user_attr("plan", plan)
        return folder

    return write


@pytest.fixture
def taken(install: Callable[..., None]) -> None:
    """Install a plugin that offers images too."""
    code = (
        "import autometa as am\n\n@am.hookimpl\ndef autometa_task_samplers():\n"
        "    return [am.TaskSamplerSpec(name='images', factory='no:Where', problems={'classification'})]\n"
    )
    get_host.cache_clear()
    install("stranger", "aaa", code)


@pytest.fixture
def no_touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of which nothing may be listed, read or written."""
    forbidden = tmp_path / "forbidden"
    real = {name: getattr(os, name) for name in ("open", "scandir", "mkdir", "listdir")}

    def guarded(name: str) -> Callable[..., Any]:
        def call(path: Any = ".", *rest: Any, **options: Any) -> Any:
            if isinstance(path, str | os.PathLike):
                assert "forbidden" not in os.fspath(path), f"os.{name}({path!r})"
            return real[name](path, *rest, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, guarded(name))
    return forbidden


def samplers_at(place: Path) -> dict[str, am.TaskSampler]:
    """Task samplers that name a place in each of the ways there are."""
    return {
        "a folder to make": am.make_tasks("omniglot", cache=str(place)),
        "a folder to read": am.make_tasks("omniglot", root=str(place)),
        "photographs": am.make_tasks("cifar_fs", root=str(place), cache=str(place)),
        "runs": am.make_tasks("lake_runs", root=str(place)),
        "a table": am.make_tasks("table", data=str(place / "x.csv"), task="a", target="b"),
        "images": am.make_tasks("images", root=str(place)),
        "one in another": am.make_tasks("augmented_shot", tasks=am.make_tasks("images", root=str(place))),
        "text of another parameter": am.make_tasks("sinusoid").set_params(n_shot=str(place)),
        "a step up": am.make_tasks("images", root=f"a/../../{place.name}"),
    }


@pytest.mark.parametrize("way", samplers_at(Path("x")))
def test_no_path_of_a_plan_is_touched_unless_its_reader_allows_it(
    way: str, no_touch: Path, hostile: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = hostile("tasks", samplers_at(no_touch)[way])
    journal = str(folder / "journal.log")
    for call in (lambda: work(journal, "out"), lambda: work(journal, "out", allowed_paths=[tmp_path / "other"])):
        with pytest.raises(am.InvalidParameter, match=r"names the path '.*forbidden.*--allow-path"):
            call()
    with pytest.raises(am.InvalidParameter, match=r"names the path .*Comparison.load\(..., allowed_paths=\["):
        am.Comparison.load(folder, allowed_paths=())
    elsewhere = ["--allow-path", str(tmp_path / "other")]
    for typed in (["worker", "--storage", journal, "--name", "out"], ["report", str(folder), *elsewhere]):
        assert main(typed) == 2
        assert "--allow-path" in capsys.readouterr().err
    assert not no_touch.exists()


def test_every_parameter_of_a_bundled_sampler_that_takes_a_path_is_known() -> None:
    """A new sampler whose parameter sounds like a place must say so, or a plan could name any."""
    sounds = {"root", "cache", "data", "file", "files", "folder", "path", "directory"}
    for component in components("task sampler"):
        made = component.spec.resolve()()
        given = {name: f"/any/{name}" for name in made.get_params(deep=False) if name in sounds}
        found = {one.parameter for one in named_by(unread(made.set_params(**given)))}
        assert found == given.keys(), component.full_name


def test_links_do_not_lead_out_of_what_is_allowed(tmp_path: Path, hostile: Callable[..., Path]) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    folder = hostile("tasks", am.make_tasks("images", root=str(tmp_path / "data" / "link")))
    with pytest.raises(am.InvalidParameter, match="names the path"):
        work(str(folder / "journal.log"), "out", allowed_paths=tmp_path / "data")


@pytest.mark.slow
def test_a_worker_completes_what_names_paths_that_are_allowed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"school": np.arange(120) % 6, "hours": rng.uniform(0, 9, 120)})
    frame.assign(score=frame["hours"]).to_csv(tmp_path / "x.csv", index=False)
    tasks = am.make_tasks("table", data=str(tmp_path / "x.csv"), task="school", target="score", n_shot=4)
    am.compare({"mine": tasks}, ["ridge"], output=tmp_path / "out", **SMALL, n_workers=2, baselines=False, verbose=0)
    typed = ["--storage", str(tmp_path / "out" / "journal.log"), "--name", "out"]
    assert main(["worker", *typed, "--allow-path", str(tmp_path / "other"), "--allow-path", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path / "out"), "--allow-path", str(tmp_path / "x.csv")]) == 0
    assert main(["report", str(tmp_path / "out")]) == 0  # a folder of one's own


def test_a_worker_calls_no_function_that_its_user_does_not_name(hostile: Callable[..., Path]) -> None:
    folder = hostile("learners", am.make_learner("frozen_features", encoder="os:system"))
    with pytest.raises(am.InvalidParameter, match=r"names 'os:system', code .*--trust os:system"):
        work(str(folder / "journal.log"), "out")


RIDGE = {"kind": "learner", "name": "ridge", "class": "x:Ridge", "params": {}}
HIDDEN: dict[str, Any] = {
    "an entry called params": {"mapping": {"params": "x"}},
    "entries of a component": {"mapping": {**RIDGE, "params": {"mapping": {"a": "x"}}}},
    "a name": {"mapping": {"x": 1}},
    "a name beside params": {"mapping": {"params": {"tuple": []}, "x": 1}},
    "a name in a list": [{"mapping": {"a": {"mapping": {"x": None}}}}],
    "a tuple that is said to be a component": {**RIDGE, "tuple": ["x"]},
    "a mapping that is said to be a component": {**RIDGE, "mapping": {"a": "x"}},
    "params of nothing": {"params": {"a": "x"}},
}


@pytest.mark.parametrize("path", ["/etc/passwd", "there.csv"])
@pytest.mark.parametrize("way", HIDDEN)
def test_a_path_does_not_hide_in_a_value_that_looks_like_something_else(way: str, path: str) -> None:
    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {(path if key == "x" else key): put(item) for key, item in value.items()}
        return [put(item) for item in value] if isinstance(value, list) else path if value == "x" else value

    table = unread(am.make_tasks("table", data="y.csv", task="a", target="b"))
    table["params"]["data"] = put(HIDDEN[way])
    assert path in {one.text for one in named_by({"mine": table})}


def test_a_component_in_a_mapping_counts_by_its_own_parameters() -> None:
    images = unread(am.make_tasks("images", root="there"))
    table = unread(am.make_tasks("table", data="y.csv", task="a", target="b"))
    table["params"]["data"] = {"mapping": {"params": images}}
    assert {one.text for one in named_by({"mine": table})} == {"params", "there"}


def test_a_short_name_of_two_plugins_names_what_the_class_does(taken: None) -> None:
    described = unread(am.make_tasks("tasks/images", root="there"))
    described["name"] = "images"
    assert [(one.kind, one.text) for one in named_by(described)] == [("path", "there")]


@pytest.mark.parametrize("given", [5, None, [5], [""], "", ["a\0b"], {"a": 1}, b"x", ["x" * 300]])
def test_what_is_no_list_of_paths_is_refused(given: Any) -> None:
    with pytest.raises(am.InvalidParameter, match="allowed_paths"):
        check_allowed_paths(given)
