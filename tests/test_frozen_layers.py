"""Layers of one's own backbone that are frozen: neither tasks nor meta-training move them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.host.catalog import components
from autometa.testing.toys import Blobs, Doors, Lines
from autometa.training import MetaTraining
from tiers import representatives_by_default
from toy_backbones import Blind

TOYS: dict[str, am.TaskSampler] = {
    "classification": Blobs(n_way=3, n_shot=2),
    "regression": Lines(),
    "control": Doors(n_shot=10),
}
MOVES_ALL = {"steps": 3, "tune": "all", "adapted": "all"}


def cases() -> list[tuple[str, str]]:
    return [
        (entry.full_name, problem)
        for entry in components("learner")
        if not entry.spec.needs and "backbone" in am.make_learner(entry.full_name).get_params()
        for problem in TOYS
        if problem in entry.spec.problems
    ]


def meta_training(name: str, optimizer: str | None, tasks: am.TaskSampler) -> MetaTraining:
    learner = am.make_learner(name, backbone=Blind())
    learner.set_params(**{key: value for key, value in MOVES_ALL.items() if key in learner.get_params()})
    try:
        learner.build(tasks.info)
    except am.Incompatible as reason:
        pytest.skip(str(reason))
    optimizer = optimizer or learner.default_meta_optimizer
    chosen = am.make_meta_optimizer(optimizer) if optimizer else None
    return MetaTraining(learner, chosen, tasks, n_steps=3, tasks_per_step=2, seed=0)


def frozen(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.named_parameters() if not value.requires_grad}


def assert_blind_after(run: MetaTraining, tasks: am.TaskSampler) -> None:
    before = frozen(run.module)
    assert before
    run.run_to()
    after = dict(run.module.named_parameters())
    assert all(torch.equal(after[key], value) for key, value in before.items())
    batch = tasks.sample(4, split="test", seed=0)
    with torch.no_grad():
        outcome = am.judge(run.learner, run.module.eval(), batch)
    if isinstance(outcome, am.Outcome):
        torch.testing.assert_close(outcome.outputs, outcome.outputs[:, :1].expand_as(outcome.outputs))
        adapted = run.learner.adapt(run.module, batch.support)
        own = set(adapted) if isinstance(adapted, dict) else set()
        assert not before.keys() & (own | {f"own.{name}" for name in own})


@pytest.mark.parametrize(("name", "problem"), representatives_by_default(cases()))
def test_tasks_and_meta_training_leave_them(name: str, problem: str) -> None:
    assert_blind_after(meta_training(name, None, TOYS[problem]), TOYS[problem])


@pytest.mark.parametrize("optimizer", ["reptile", "implicit", "evolution_strategy"])
def test_meta_optimizers_leave_them(optimizer: str) -> None:
    tasks = TOYS["regression"]
    assert_blind_after(meta_training("imaml" if optimizer == "implicit" else "maml", optimizer, tasks), tasks)


@pytest.mark.parametrize("name", ["maml_policy", "scratch", "fine_tuned_policy"])
def test_policies_of_tasks_leave_them(name: str) -> None:
    module = am.make_learner(name, backbone=Blind()).build(TOYS["control"].info)
    assert not set(module.own) & set(frozen(module))
    assert any(name.startswith("backbone.") for name in module.own)


def test_norms_of_every_step_stay_frozen() -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[1].requires_grad_(False)
    module = am.make_learner("maml_plus_plus", backbone=network).build(Blobs().info)
    assert frozen(module).keys() == {"backbone.network.1.weight", "backbone.network.1.bias"}
    assert module.get_parameter("backbone.network.1.weight").dim() == 2


def test_what_is_frozen_belongs_to_no_task_unless_it_is_named() -> None:
    network = Blind().build((3,))
    assert list(am.per_task(network, 2)) == ["2.weight", "2.bias"]
    assert list(am.per_task(network, 2, ["0.weight"])) == ["0.weight"]
    assert am.per_task(network, 2, []) == {}
    with pytest.raises(am.InvalidParameter, match="no parameter that requires a gradient; give names="):
        am.per_task(network.requires_grad_(False), 2)
    with pytest.raises(am.InvalidParameter, match=r"names='nope' is no parameter of Sequential, whose are: 0\.weight"):
        am.per_task(network, 2, ["nope"])


@pytest.mark.parametrize("optimizer", [None, "reptile"])
def test_a_network_that_is_frozen_after_its_training_adapts_as_before(optimizer: str | None) -> None:
    tasks = TOYS["classification"]
    run = meta_training("maml", optimizer, tasks)
    run.run_to()
    batch = tasks.sample(4, split="test", seed=0)
    with torch.no_grad():
        before = am.judge(run.learner, run.module.eval(), batch)
        after = am.judge(run.learner, run.module.requires_grad_(False), batch)
    assert torch.equal(before.outputs, after.outputs)
