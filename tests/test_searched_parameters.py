"""No searched parameter leaves every prediction as it is: a trial that only changes it would be wasted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial
from sklearn.base import clone
from torch import Tensor

import autometa as am
from autometa.comparison.plan.backbones import networks_of, offered_backbones
from autometa.comparison.plan.search_space import Candidate, SearchSpace
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.host.catalog import Component, components
from autometa.testing.meta_optimizer_checks import case_for
from autometa.testing.toys import Blobs, Doors, Lines
from autometa.training import MetaTraining

TOYS: dict[str, am.TaskSampler] = {
    "classification": Blobs(n_way=5, n_shot=1),
    "regression": Lines(),
    "control": Doors(n_shot=10),
}
STEPS = 30
N_TASKS = 64

KNOWN: dict[tuple[str, str], str] = {}
"""Parameters by learner and name that change nothing here, and why they matter elsewhere."""


def cases() -> list[tuple[str, str]]:
    return [
        (entry.full_name, next(name for name in TOYS if name in entry.spec.problems))
        for entry in components("learner")
        if entry.plugin.name != "baselines" and not entry.spec.needs
    ]


def provides(entry: Component, needed: frozenset[str]) -> bool:
    return not entry.spec.needs and needed <= am.make_learner(entry.full_name).provides


def predictions(candidate: Candidate, params: dict[str, Any], tasks: am.TaskSampler, steps: int = STEPS) -> Tensor:
    """What is predicted, or done, in the same tasks after a short meta-training with these parameters."""
    drawn = candidate.draw(FixedTrial(params))
    optimizer = drawn.meta_optimizer
    if optimizer is not None:
        short = {"trials": 50, "lr": 0.01}
        own = {name.removeprefix("meta_optimizer__") for name in params}
        optimizer.set_params(**{key: short[key] for key in short if key in optimizer.get_params() and key not in own})
    run = MetaTraining(drawn.learner, optimizer, drawn.tasks or tasks, n_steps=steps, tasks_per_step=4, seed=0)
    run.run_to()
    with torch.no_grad():
        outcome = am.judge(drawn.learner, run.module.eval(), tasks.sample(N_TASKS, split="test", seed=0))
    if isinstance(outcome, am.TrialOutcome):
        return outcome.experience.log_prob
    return outcome.outputs.argmax(2) if tasks.info.problem == "classification" else outcome.outputs


def idle(candidate: Candidate, prefix: str, tasks: am.TaskSampler, *, steps: int = STEPS, **chosen: Any) -> list[str]:
    """Parameters beginning with ``prefix`` that leave all predictions as they are, from end to end of their range."""
    space = SearchSpace.of(candidate)
    start = {name: value for name, value in candidate.starting_values().items() if name in space.opened}
    start = start | dict(space.defaults) | chosen
    found = []
    for parameter, distribution in {**space.distributions, **space.opened}.items():
        if not parameter.startswith(prefix):
            continue
        if isinstance(distribution, CategoricalDistribution):
            ends = list(distribution.choices)
        else:
            ends = [distribution.low, distribution.high]
        seen = [predictions(candidate, start | {parameter: end}, tasks, steps) for end in ends]
        if all(one.shape == seen[0].shape and torch.equal(one, seen[0]) for one in seen):
            found.append(parameter)
    return found


def candidate_of(name: str, tasks: am.TaskSampler) -> Candidate:
    learner = resolve_learner(name, tasks.info.problem)
    try:
        learner.build(tasks.info)
    except (am.Incompatible, am.MissingData) as reason:
        pytest.skip(str(reason))
    optimizer = resolve_meta_optimizer("auto", learner)
    return Candidate(label=name, learner=clone(learner), meta_optimizer=optimizer, info=tasks.info)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "problem"), cases())
def test_every_searched_parameter_changes_some_prediction(name: str, problem: str) -> None:
    tasks = TOYS[problem]
    found = idle(candidate_of(name, tasks), "learner__", tasks)
    assert [parameter for parameter in found if (name, parameter) not in KNOWN] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.full_name for entry in components("meta-optimizer")])
def test_every_searched_parameter_of_a_meta_optimizer_changes_some_prediction(name: str) -> None:
    optimizer = am.make_meta_optimizer(name)
    problem = next(
        problem
        for problem in TOYS
        if any(problem in c.spec.problems and provides(c, optimizer.requires) for c in components("learner"))
    )
    case = case_for(optimizer, problem, None, None)
    candidate = Candidate(label=name, learner=case.learner, meta_optimizer=optimizer, info=case.tasks.info)
    assert idle(candidate, "meta_optimizer__", case.tasks) == []


SMALL = am.make_tasks("glyphs", size=8, n_query=5)
"""Small images, of many classes."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [entry.full_name for entry in components("backbone")])
def test_every_searched_parameter_of_a_backbone_changes_some_prediction(name: str) -> None:
    candidate = candidate_of("metric/prototypical", SMALL)
    offered = offered_backbones(accelerator=True)
    networks = [one for one in networks_of(candidate.learner, SMALL.info, offered) if name.endswith(f"/{one.label}")]
    assert (len(networks) == 1) == (name in offered.split())
    for network in networks:
        prefix = f"learner__backbone__{network.label}__"
        searched = replace(candidate, networks=networks)
        assert idle(searched, prefix, SMALL, steps=3, learner__backbone=network.label) == []


@pytest.mark.slow
def test_every_searched_parameter_of_a_sampler_changes_some_prediction() -> None:
    candidate = replace(candidate_of("metric/prototypical", SMALL), tasks=SMALL)
    searched = SearchSpace.of(candidate).distributions
    assert sum(name.startswith("tasks__") for name in searched) == 6
    assert idle(candidate, "tasks__", SMALL, steps=3) == []
