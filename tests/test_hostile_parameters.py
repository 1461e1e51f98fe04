"""Whatever a parameter is given, it works or is refused by one error of autometa: every parameter of every component.

Components and parameters are found by looking, so that a new one is covered by itself.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from autometa_plugins.tasks import omniglot_files

import autometa as am
import shape_checks
from autometa.comparison import preview, work
from autometa.comparison.call import Call
from autometa.comparison.execution.storage import open_storage
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.host.catalog import Component, components, make
from autometa.training import MetaTraining
from test_cifar_fs import photographs
from test_images import characters
from tiers import representatives_by_default

HOSTILE = {
    "text": "5", "a float": 5.0, "True": True, "None": None, "nan": float("nan"), "negative": -1, "zero": 0,
    "huge": 10**12,
    "a list": [], "an object": object(), "a null": "a\0b", "half": "\ud800", "no text": "", "long": "x" * 300,
    "infinity": float("inf"),
}  # fmt: skip
TABLE = pd.DataFrame(
    {"school": np.repeat(list("abcdefgh"), 6), "hours": np.arange(48.0), "score": np.arange(48.0) ** 0.5}
)
GIVEN: dict[str, dict[str, Any]] = {
    "tasks/table": {"data": TABLE, "task": "school", "target": "score", "n_shot": 2, "n_query": 2},
    "tasks/cifar_fs": {"n_way": 2, "n_query": 2},
    "tasks/images": {"root": "cifar_fs", "n_way": 2, "n_query": 2},
    "tasks/omniglot": {"split": "alphabet", "n_way": 2, "n_query": 2},
    "tasks/glyphs": {"size": 8, "n_way": 2, "n_query": 2},
    "control/gymnasium": {"env": "CartPole-v1", "vary": {"gravity": (5.0, 15.0)}},
    "control/half_cheetah": {"task": "velocity"},
    "ensemble/ensemble": {"members": ["ridge"]},
}
"""What a component needs, or is quick with."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the samplers that read any, a few images each."""
    folder = tmp_path_factory.mktemp("files")
    photographs(folder / "cifar_fs", packed=False)
    characters(folder / "omniglot", packed=False)
    return folder


@pytest.fixture(autouse=True)
def as_users_have_it(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check no signature, which would refuse in the place of what users have; have few files and no network."""
    monkeypatch.setattr(shape_checks, "CALLS", 0)
    monkeypatch.setattr(omniglot_files, "urlopen", no_network)
    monkeypatch.setenv("AUTOMETA_DATA", str(files))
    monkeypatch.setenv("XDG_CACHE_HOME", str(files / "cache"))
    monkeypatch.chdir(files)


def no_network(*what: Any, **named: Any) -> Any:
    raise URLError("no network in a test")


@cache
def tasks(problem: str) -> am.TaskSampler:
    if problem == "regression":
        return am.make_tasks("sinusoid", n_shot=2, n_query=2)
    if problem == "control":
        return am.make_tasks("gridnavi", size=3, steps=3, n_shot=1)
    return am.make_tasks("glyphs", size=8, n_way=2, n_shot=1, n_query=1)


def use(component: Component, made: Any) -> None:
    """Set up what was made, up to the first work."""
    kind, problems = component.spec.kind, component.spec.problems
    if kind == "task sampler":
        made.sample(1, split="train", seed=0)
        return
    if kind == "backbone":
        made.build((3, 16, 16) if component.name in ("conv4", "resnet12") else (5,))
        return
    problem = "regression" if "regression" in problems and kind == "learner" else "classification"
    problem = problem if problem in problems else "control"
    teacher = "control/rl2" if problem == "control" else "optimization/maml"
    learner = resolve_learner(made if kind == "learner" else teacher, problem)
    optimizer = resolve_meta_optimizer(made if kind == "meta-optimizer" else "auto", learner)
    MetaTraining(learner, optimizer, tasks(problem), n_steps=1, tasks_per_step=1, seed=0)


@pytest.mark.parametrize(
    "component", representatives_by_default([pytest.param(c, id=c.full_name) for c in components()])
)
def test_every_parameter_takes_or_refuses_whatever_it_is_given(component: Component) -> None:
    given = GIVEN.get(component.full_name, {})
    raw = []
    for name in inspect.signature(component.spec.resolve()).parameters:
        for what, value in HOSTILE.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    use(component, make(component.spec.kind, component.full_name, **{**given, name: value}))
            except am.AutometaError:
                continue
            except Exception as error:
                raw.append(f"{name}={what}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


class NothingMade(BaseException):
    """All checks have passed, and work would begin."""


def stop(*what: Any) -> None:
    raise NothingMade


def hostile_calls() -> Iterator[Any]:
    """Calls of public functions, each with one hostile argument, that must end before any work is done."""
    few = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 2, "n_valid_tasks": 2, "n_seeds": 1, "verbose": 0}
    names = [name for name in inspect.signature(am.compare).parameters if name != "learners"]
    for name in (*names, "learners"):
        for what, value in HOSTILE.items():
            arguments = {"tasks": "sinusoid", "learners": "ridge", **few, name: value}
            yield pytest.param(lambda arguments=arguments: am.compare(**arguments), id=f"compare-{name}-{what}")
    for name in inspect.signature(am.preview).parameters:
        for what, value in HOSTILE.items():
            arguments = {"tasks": "sinusoid", "learners": "ridge", "max_steps": 1, "n_valid_tasks": 2, name: value}
            yield pytest.param(lambda arguments=arguments: am.preview(**arguments), id=f"preview-{name}-{what}")
    for name in ("storage", "name", "device", "verbose", "allowed_paths", "trusted"):
        for what, value in HOSTILE.items():
            arguments = {"storage": "nothing.log", "name": "x", name: value}
            yield pytest.param(lambda arguments=arguments: work(**arguments), id=f"work-{name}-{what}")
    for name in ("output", "storage", "trusted", "allowed_paths"):
        for what, value in HOSTILE.items():
            arguments = {"output": "nothing", name: value}
            yield pytest.param(lambda arguments=arguments: am.Comparison.load(**arguments), id=f"read-{name}-{what}")
    for name in ("path", "trusted"):
        for what, value in HOSTILE.items():
            arguments = {"path": "nothing", name: value}
            yield pytest.param(lambda arguments=arguments: am.load(**arguments), id=f"load-{name}-{what}")
    for function in (am.make_tasks, am.make_learner, am.make_meta_optimizer, am.make_backbone, am.check_plugin):
        for what, value in HOSTILE.items():
            yield pytest.param(lambda f=function, value=value: f(value), id=f"{function.__name__}-{what}")


@pytest.mark.parametrize("call", list(hostile_calls()))
def test_every_argument_of_a_function_is_taken_or_refused(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Call, "go", stop)
    monkeypatch.setattr(preview, "_measure", stop)
    done = None
    try:
        call()
    except (am.AutometaError, NothingMade) as error:
        done = error
    assert len(str(done)) < 1500


@pytest.mark.thorough
@pytest.mark.parametrize("estimator", [am.FewShotClassifier, am.FewShotRegressor, am.MetaAgent])
def test_every_parameter_of_an_estimator_is_taken_or_refused(estimator: type) -> None:
    problem = estimator.problem
    quick = {"max_steps": 1, "tasks_per_step": 1, "learner": "optimization/maml", "device": "cpu"}
    if problem == "control":
        optimizer = am.make_meta_optimizer("policy_gradient", trials=2, epochs=1)
        quick |= {"learner": "control/rl2", "meta_optimizer": optimizer}
    raw = []
    for name in inspect.signature(estimator).parameters:
        for what, value in HOSTILE.items():
            try:
                estimator(**{**quick, name: value}).meta_fit(tasks(problem))
            except am.AutometaError:
                continue
            except Exception as error:
                raw.append(f"{name}={what}: {type(error).__name__}: {error}")
    assert not raw, "\n".join(raw)


def test_a_storage_is_never_made_of_text_that_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("", " ", "a\0.log", "\ud800.log", "x" * 300 + ".log"):
        with pytest.raises(am.AutometaError):
            open_storage(value)
    assert not list(tmp_path.iterdir())
