"""Evolution meta-trains without a derivative: what its steps are, and that they lead somewhere."""

from __future__ import annotations

import copy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.evolution.evolution_strategy import estimate, shaped
from numpy.typing import NDArray
from torch import Tensor, nn

import autometa as am
from autometa.testing.toys import Blobs, Lines
from autometa.training import MetaTraining
from learning import assert_better, assert_lower, judged, training_seed, untrained_and_trained
from tiers import first_by_default
from toy_backbones import Normed
from toy_tasks import Haystack, Offsets

DOUBLE = torch.float64
BATCH = Lines().sample(2, seed=0).to(dtype=DOUBLE)


class Point(am.Learner):
    """A learner whose loss depends on θ alone, whatever the task; θ is a point and an unused number."""

    provides = frozenset()

    def __init__(self, kind: str = "linear", n: int = 3) -> None:
        self.kind = kind
        self.n = n

    def build(self, info: am.TaskInfo) -> nn.Module:
        module = nn.Module()
        module.point = nn.Parameter(torch.ones(self.n, dtype=DOUBLE))
        module.other = nn.Parameter(torch.ones((), dtype=DOUBLE))
        return module

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return self.value(module.point).expand(len(support))

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.view(-1, 1, 1).expand(*x.shape[:2], 1)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs[:, 0, 0]

    def value(self, point: Tensor) -> Tensor:
        if self.kind == "linear":
            return point @ torch.arange(1.0, self.n + 1, dtype=DOUBLE)
        if self.kind == "steps":  # flat nearly everywhere: a gradient says nothing
            return (point.abs() * 4).ceil().sum()
        rotation = torch.linalg.qr(
            torch.randn(self.n, self.n, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
        )[0]
        scales = torch.logspace(0, 4, self.n, dtype=DOUBLE)
        return ((rotation @ (point - 0.5)).square() * scales).sum()


def started(
    meta_optimizer: str,
    learner: am.Learner | None = None,
    info: am.TaskInfo | None = None,
    seed: int = 0,
    **parameters: Any,
) -> am.MetaOptimizer:
    """Make a meta-optimizer and start it; its attribute ``module_`` is θ."""
    learner, info = learner or Point(), info or Lines().info
    optimizer = am.make_meta_optimizer(meta_optimizer, **parameters)
    torch.manual_seed(seed)
    optimizer.start(learner, learner.build(info).train(), info)
    return optimizer


def test_the_expected_step_on_a_linear_fitness_is_its_gradient() -> None:
    optimizer = started(
        "evolution_strategy", optimizer="sgd", lr=1.0, schedule="constant", shaping="none", population=64
    )
    before = optimizer.module_.point.detach().clone()
    for _ in range(60):
        optimizer.step(BATCH)
    moved = (before - optimizer.module_.point.detach()) / 60
    torch.testing.assert_close(moved, torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE), rtol=0.1, atol=0.2)


def test_enough_orthogonal_pairs_give_the_gradient_of_a_quadratic_function_exactly() -> None:
    hessian = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=DOUBLE)
    theta, sigma = torch.tensor([0.3, -0.7], dtype=DOUBLE), 0.1
    noise = 2**0.5 * torch.eye(2, dtype=DOUBLE)
    points = theta + sigma * torch.cat([noise, -noise])
    fitness = ((points @ hessian) * points).sum(dim=1) / 2
    torch.testing.assert_close(estimate(noise, fitness, sigma), hessian @ theta)
    torch.testing.assert_close(estimate(noise, fitness + 100.0, sigma), hessian @ theta)


def test_ranks_keep_the_direction_and_do_not_see_the_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2000, 3, generator=generator, dtype=DOUBLE)
    slope = torch.tensor([1.0, 2.0, -3.0], dtype=DOUBLE)
    fitness = torch.cat([noise, -noise]) @ slope
    found = estimate(noise, shaped(fitness), 1.0)
    assert nn.functional.cosine_similarity(found, slope, dim=0) > 0.99
    torch.testing.assert_close(estimate(noise, shaped(fitness.exp()), 1.0), found)


def test_equal_candidates_share_a_rank_and_what_diverged_is_last() -> None:
    ranks = shaped(torch.tensor([2.0, 1.0, torch.nan, 1.0, 5.0]))
    torch.testing.assert_close(ranks, torch.tensor([0.0, -0.375, 0.5, -0.375, 0.25]))
    assert not shaped(torch.ones(4)).any()


def test_candidates_come_in_mirrored_pairs_around_theta(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer, met = started("evolution_strategy", sigma=0.3, population=200), []
    inner = optimizer.losses_
    monkeypatch.setattr(
        optimizer, "losses_", lambda population, batch: met.append(population) or inner(population, batch)
    )
    theta = optimizer.module_.point.detach().clone()
    optimizer.step(BATCH)
    ahead, behind = (met[0]["point"] - theta).chunk(2)
    torch.testing.assert_close(ahead, -behind)
    assert ahead.std().item() == pytest.approx(0.3, rel=0.15)


@pytest.mark.parametrize("name", ["evolution_strategy", "cmaes"])
def test_parameters_that_are_not_chosen_stay_bit_for_bit(name: str) -> None:
    learner = am.make_learner("ridge", backbone=am.make_backbone("mlp", hidden=(4,)))
    optimizer = started(name, learner, parameters=["backbone.*.bias", "*log_*"])
    before = copy.deepcopy(optimizer.module_.state_dict())
    optimizer.step(BATCH.to(dtype=torch.float32))
    same = {name: torch.equal(value, before[name]) for name, value in optimizer.module_.state_dict().items()}
    assert same == {
        "backbone.layers.0.weight": True,
        "backbone.layers.0.bias": False,
        "population.weights": True,
        "population.level": True,
        "population.log_penalties": False,
    }


@pytest.mark.parametrize("name", ["evolution_strategy", "cmaes"])
def test_running_averages_follow_theta_once_a_step(name: str) -> None:
    learner, batch = am.make_learner("prototypical", backbone=Normed()), Blobs().sample(3, seed=0)
    optimizer = started(name, learner, Blobs().info)
    expected = copy.deepcopy(optimizer.module_)
    am.query_losses(learner, expected, batch)
    optimizer.step(batch)
    for buffer, wanted in zip(optimizer.module_.buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted)


@pytest.mark.parametrize("name", first_by_default(1, ["evolution_strategy", "cmaes"]))
def test_a_run_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(name: str) -> None:
    def training() -> MetaTraining:
        learner = am.make_learner("learned_rule", hidden=(4,), steps=2)
        optimizer = am.make_meta_optimizer(name)
        return MetaTraining(learner, optimizer, Lines(), n_steps=30, tasks_per_step=3, seed=5)

    straight, first, again = training(), training(), training()
    straight.run_to()
    first.run_to(0.5)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    again.run_to()
    for key, value in straight.module.state_dict().items():
        assert torch.equal(value, again.module.state_dict()[key]), key


def test_a_step_that_draws_no_tasks_itself_takes_torchs_random_state() -> None:
    ends = []
    for seed in (1, 1, 2):
        optimizer = started("evolution_strategy")
        torch.manual_seed(seed)
        optimizer.step(BATCH)
        ends.append(optimizer.module_.point.detach().clone())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def ends(name: str, learner: Point, n_steps: int, **parameters: Any) -> NDArray[np.float64]:
    """Run ten seeds and return the value that each ends with."""
    found = []
    for seed in range(10):
        optimizer = started(name, learner, seed=training_seed(seed), **parameters)
        for step in range(n_steps):
            optimizer.progress = step / n_steps
            optimizer.step(BATCH)
        found.append(learner.value(optimizer.module_.point).item())
    return np.array(found)


@pytest.mark.slow
def test_cmaes_solves_a_rotated_ellipsoid_that_the_plain_strategy_does_not() -> None:
    learner = Point("ellipsoid")
    solved = ends("cmaes", learner, 80, parameters=["point"], sigma=0.5)
    unsolved = ends("evolution_strategy", learner, 80, parameters=["point"], population=5)
    assert_lower(np.log10(solved), np.log10(unsolved) - 3)  # a thousand times closer to the least value, zero


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "parameters"), [("evolution_strategy", {"schedule": "constant"}), ("cmaes", {})])
def test_a_fitness_of_steps_has_no_gradient_and_evolves(name: str, parameters: dict[str, str]) -> None:
    learner = Point("steps", n=4)
    start = learner.value(learner.build(Lines().info).point).item()
    assert start == 16.0
    assert_lower(ends(name, learner, 60, **parameters), start / 2)


@pytest.mark.parametrize(
    ("name", "tasks"),
    first_by_default(1, [("maml", Offsets()), ("prototypical", Blobs())]),
    ids=["maml", "prototypical"],
)
def test_the_strategy_meta_trains_networks(name: str, tasks: am.TaskSampler) -> None:
    learner = am.make_learner(name, backbone=am.make_backbone("mlp", hidden=(16,)))
    update = am.make_meta_optimizer("evolution_strategy")
    before, after = untrained_and_trained(learner, update, tasks, n_steps=60, tasks_per_step=4, values="losses")
    assert_lower(after, 0.9 * before)


def test_accuracy_alone_meta_trains_a_classifier() -> None:
    tasks = Haystack(n_features=8, n_telling=2, noise=2.0)
    learner = am.make_learner("prototypical", backbone=am.make_backbone("mlp", hidden=(8,)))
    optimizer = am.make_meta_optimizer("evolution_strategy", fitness="score", lr=0.05, sigma=0.1)
    training = MetaTraining(learner, optimizer, tasks, n_steps=100, tasks_per_step=8, seed=training_seed())
    before = judged(learner, training.module, tasks)
    training.run_to()
    assert_better(judged(learner, training.module, tasks), before + 0.1, tasks.info)
    assert training.history["fitness"].between(0, 1).all()


@pytest.mark.parametrize(
    ("name", "wrong", "error", "message"),
    [
        (
            "evolution_strategy",
            {"population": 0},
            am.InvalidParameter,
            "population=0 of meta-optimizer 'evolution_strategy' must be a positive integer",
        ),
        (
            "evolution_strategy",
            {"sigma": 0.0},
            am.InvalidParameter,
            "sigma=0.0 of meta-optimizer 'evolution_strategy' must be a positive number",
        ),
        (
            "evolution_strategy",
            {"shaping": "rank"},
            am.InvalidParameter,
            "shaping='rank' of meta-optimizer 'evolution_strategy' must be one of 'ranks', 'none'",
        ),
        (
            "evolution_strategy",
            {"fitness": "gain"},
            am.InvalidParameter,
            "fitness='gain' must be one of",
        ),
        ("evolution_strategy", {"lr": -1.0}, am.InvalidParameter, "lr=-1.0 must be a positive number"),
        ("evolution_strategy", {"parameters": ["x*"]}, am.InvalidParameter, r"'x\*' fits none of \['other', 'point'\]"),
        ("cmaes", {"parameters": "point"}, am.InvalidParameter, "parameters='point' must be a sequence"),
        (
            "cmaes",
            {"sigma": -1.0},
            am.InvalidParameter,
            "sigma=-1.0 of meta-optimizer 'cmaes' must be a positive number",
        ),
        (
            "cmaes",
            {"population": 1},
            am.InvalidParameter,
            "population=1 of meta-optimizer 'cmaes' must be an integer of at least 2",
        ),
    ],
)
def test_impossible_parameters_are_named(
    name: str, wrong: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        started(name, **wrong)


def test_cmaes_refuses_large_networks_and_says_what_would_work() -> None:
    with pytest.raises(am.Incompatible, match=r"1000 numbers at most, and 4673 of MAML.*parameters=.*evolution_strat"):
        started("cmaes", am.make_learner("maml", learn_lr=False, backbone=am.make_backbone("mlp", hidden=(64, 64))))
    with pytest.raises(am.Incompatible, match="nothing to evolve"):
        started("evolution_strategy", am.make_learner("prototypical", backbone="identity"), Blobs().info)


def test_without_its_package_cmaes_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(am.MissingData, match="install autometa with the extra 'evolution'"):
        started("cmaes")
