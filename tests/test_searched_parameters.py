"""No searched parameter leaves every prediction as it is: a trial that only changes it would be wasted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial
from sklearn.base import clone
from torch import Tensor

import autometa as am
from autometa.comparison.plan.search_space import Candidate, SearchSpace
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.host.catalog import components
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
    found = []
    for entry in components():
        if entry.kind == "learner" and entry.plugin.name != "baselines" and not entry.spec.needs:
            problem = next(name for name in TOYS if name in entry.spec.problems)
            found.append((entry.full_name, problem))
    return found


def predictions(candidate: Candidate, params: dict[str, Any], tasks: am.TaskSampler) -> Tensor:
    """What is predicted, or done, in the same tasks after a short meta-training with these parameters."""
    drawn = candidate.draw(FixedTrial(params))
    learner, optimizer = drawn.learner, drawn.meta_optimizer
    if optimizer is not None:
        short = {"trials": 50, "lr": 0.01}
        own = {name.removeprefix("meta_optimizer__") for name in params}
        optimizer.set_params(**{key: short[key] for key in short if key in optimizer.get_params() and key not in own})
    run = MetaTraining(learner, optimizer, tasks, n_steps=STEPS, tasks_per_step=4, seed=0)
    run.run_to()
    with torch.no_grad():
        outcome = am.judge(learner, run.module.eval(), tasks.sample(N_TASKS, split="test", seed=0))
    if isinstance(outcome, am.TrialOutcome):
        return outcome.experience.log_prob
    return outcome.outputs.argmax(2) if tasks.info.problem == "classification" else outcome.outputs


@pytest.mark.slow
@pytest.mark.parametrize(("name", "problem"), cases())
def test_every_searched_parameter_changes_some_prediction(name: str, problem: str) -> None:
    tasks = TOYS[problem]
    try:
        learner = resolve_learner(name, problem)
        learner.build(tasks.info)
    except (am.Incompatible, am.MissingData) as reason:
        pytest.skip(str(reason))
    optimizer = resolve_meta_optimizer("auto", learner)
    candidate = Candidate(label=name, learner=clone(learner), meta_optimizer=optimizer, info=tasks.info)
    space = SearchSpace.of(candidate)
    if space.is_empty:
        pytest.skip("nothing is searched")
    defaults = dict(space.defaults)
    idle = []
    for parameter, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            ends = list(distribution.choices)
        else:
            ends = [distribution.low, distribution.high]
        found = [predictions(candidate, defaults | {parameter: end}, tasks) for end in ends]
        if all(one.shape == found[0].shape and torch.equal(one, found[0]) for one in found):
            idle.append(parameter)
    assert [parameter for parameter in idle if (name, parameter) not in KNOWN] == []
