"""A stranger's plugin may offer any name: what autometa itself refers to stays what it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison.plan.entrants import with_baselines
from autometa.files.description import as_stored, describe, restore, same_description
from autometa.host import components, find, get_host
from tiers import first_by_default


@pytest.fixture
def taken(install: Callable[..., None]) -> None:
    """Install a plugin that offers every bundled name of every kind."""
    hooks = {
        "learners": ("LearnerSpec", "learner"),
        "task_samplers": ("TaskSamplerSpec", "task sampler"),
        "meta_optimizers": ("MetaOptimizerSpec", "meta-optimizer"),
        "backbones": ("BackboneSpec", "backbone"),
    }
    code = "import autometa as am\n"
    for hook, (spec, kind) in hooks.items():
        names = [c.name for c in components(kind)]
        code += (
            f"\n@am.hookimpl\ndef autometa_{hook}():\n"
            f"    return [am.{spec}(name=n, factory='no:Where', problems={{'classification', 'regression'}}) "
            f"for n in {names}]\n"
        )
    get_host.cache_clear()
    install("stranger", "aaa", code)


@pytest.mark.thorough
def test_estimators_and_every_default_of_the_bundled_plugins_work(taken: None) -> None:
    X = np.random.default_rng(0).normal(size=(12, 4))
    y = np.arange(12) % 3
    am.FewShotClassifier().fit(X, y).predict(X)
    am.FewShotRegressor().fit(X, y.astype(float)).predict(X)
    table = am.FewShotRegressor(max_steps=1, random_state=0).meta_fit(
        np.tile(X, (8, 1)), np.tile(y, 8).astype(float), task=np.arange(96) % 5, n_shot=4
    )
    assert table.fit(X, y.astype(float)).predict(X).shape == (12,)
    for component in components("learner"):
        if component.plugin.name == "aaa":
            continue
        learner = am.make_learner(component.full_name)
        if learner.default_meta_optimizer is not None:
            assert am.make_meta_optimizer(learner.default_meta_optimizer)
    for images in (am.make_tasks("tasks/augmented_shot"), am.make_tasks("tasks/augmented_shot", tasks="glyphs")):
        assert len(images.sample(1, seed=0).support.x) == 1


@pytest.mark.parametrize(
    "learner",
    first_by_default(1, ["metric/relation", "evolution/learned_rule", "model/meta_lstm", "optimization/boil"]),
)
def test_default_backbones_are_the_bundled_ones(taken: None, learner: str) -> None:
    for name in ("tasks/glyphs", "tasks/gaussian_process"):
        sampler = am.make_tasks(name)
        if sampler.info.problem in find("learner", learner).spec.problems:
            am.make_learner(learner).build(sampler.info)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:.* No learner will be tried with it:UserWarning")  # the command prints it
def test_a_comparison_with_the_defaults_works(taken: None, tmp_path: Path) -> None:
    small = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 6, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}
    with pytest.warns(UserWarning, match="'no:Where'.* No learner will be tried with it"):  # the stranger's backbones
        compared = am.compare("tasks/digits", "metric/prototypical", output=tmp_path / "out", **small)
    assert set(compared.leaderboard["learner"]) == {"prototypical", "sklearn"}
    arguments = "compare --learners metric/prototypical --trials 1 --steps 1 --n-test-tasks 6 --valid-tasks 4 --seeds 1"
    assert main([*arguments.split(), "--output", str(tmp_path / "demo"), "-q"]) == 0
    assert json.loads((tmp_path / "demo" / "run.json").read_text())["plan"]["tasks"].keys() == {
        "glyphs", "digits", "sinusoid"
    }  # fmt: skip
    assert with_baselines({"sklearn": "baselines/sklearn"}, [am.make_tasks("tasks/sinusoid").info]) == {
        "sklearn": "baselines/sklearn"
    }


@pytest.mark.parametrize(
    ("make", "name"),
    first_by_default(
        1,
        [
            (am.make_learner, "prototypical"),
            (am.make_backbone, "conv4"),
            (am.make_meta_optimizer, "gradient"),
            (am.make_tasks, "sinusoid"),
        ],
    ),
)
def test_a_short_name_that_the_user_gives_stays_ambiguous(
    taken: None, make: Callable[[str], object], name: str
) -> None:
    with pytest.raises(am.NameClash, match=f"say 'aaa/{name}' or '[a-z]+/{name}'"):
        make(name)


def test_what_was_kept_before_the_other_plugin_came_still_loads(taken: None, tmp_path: Path) -> None:
    stored = as_stored(describe(am.make_learner("metric/prototypical", temperature=2.0)))
    assert stored["name"] == "metric/prototypical"
    short = stored | {"name": "prototypical"}
    assert restore(short, "a plan").temperature == 2.0
    assert same_description(short, stored)
    assert not same_description(short | {"params": stored["params"] | {"temperature": 3.0}}, stored)
    X = np.random.default_rng(0).normal(size=(6, 4))
    am.FewShotClassifier().fit(X, [0, 1, 2] * 2).save(tmp_path / "m")
    am.FewShotClassifier(am.make_learner("metric/prototypical")).fit(X, [0, 1, 2] * 2).save(tmp_path / "n")
    assert am.load(tmp_path / "n").predict(X).shape == am.load(tmp_path / "m").predict(X).shape
