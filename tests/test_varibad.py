"""VariBAD: its lower bound, whose gradient reaches what, and that its belief means something."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.belief import Belief
from autometa_plugins.control.grid import MOVES, code
from torch import Tensor

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.testing.toy_worlds import Doors
from autometa.training import MetaTraining
from learning import STANDARD_ERRORS, assert_lower, training_seed
from tiers import first_by_default

GRID = am.make_tasks("gridnavi", size=3, steps=4, n_shot=1)


def lived(tasks: am.TaskSampler, n_tasks: int, **params: Any) -> tuple[Any, Any, am.Experience]:
    """A learner, an untrained module in double precision, and trials of it."""
    learner = am.make_learner("varibad", **params)
    module = fresh_module(learner, tasks.info, seed=0).double()
    environments = tasks.sample(n_tasks, seed=1).to(dtype=torch.float64)
    with torch.no_grad():
        seen, _ = am.collect(
            learner, module, environments, n_episodes=tasks.info.n_episodes, horizon=tasks.info.horizon
        )
    return learner, module, seen


def touched(module: Any, loss: Tensor) -> set[str]:
    """Names of the parameters in which a loss has a gradient."""
    module.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}


# ---------------------------------------------------------------- the lower bound


def test_the_divergence_of_beliefs_is_that_of_normal_distributions() -> None:
    torch.manual_seed(0)
    one, other = (Belief(torch.randn(3, 4), torch.randn(3, 4)) for _ in range(2))
    p, q = (torch.distributions.Normal(b.mean, (b.log_variance / 2).exp()) for b in (one, other))
    torch.testing.assert_close(one.divergence(other), torch.distributions.kl_divergence(p, q).sum(-1))
    torch.testing.assert_close(one.entropy, p.entropy().sum(-1))


def test_numbers_that_stand_for_worlds_are_drawn_from_the_belief() -> None:
    torch.manual_seed(0)
    belief = Belief(torch.full((1, 1), 3.0), torch.full((1, 1), math.log(4.0)))
    drawn = belief.drawn(torch.randn(20_000, 1))
    assert abs(float(drawn.mean()) - 3) < STANDARD_ERRORS * 2 / math.sqrt(20_000)
    assert abs(float(drawn.std()) - 2) < STANDARD_ERRORS * 2 / math.sqrt(40_000)


@pytest.mark.parametrize("tasks", first_by_default(1, [GRID, Doors(n_shot=2)]), ids=["full", "padded"])
def test_beliefs_and_steps_drawn_at_random_estimate_the_bound_over_all(tasks: am.TaskSampler) -> None:
    learner, module, seen = lived(tasks, 40, n_beliefs=2, n_told=3)
    with torch.no_grad():
        latent = learner.latent
        module.cell.belief.weight[latent:] = 0
        module.cell.belief.bias[latent:] = -60.0  # certain: what is drawn from the belief is its mean
    belief = learner.believe(module, seen)
    with torch.no_grad():
        gap = module.rewards(belief.mean, seen) - seen.reward.unsqueeze(1)
        spread = seen.reward[seen.mask].var(correction=0)
        assert spread > 0.01
        mask, length = seen.mask, seen.mask.sum(1, keepdim=True)
        error = torch.where(mask.unsqueeze(1), gap.square(), 0).sum(2) / spread / length
    torch.manual_seed(0)
    learner.set_params(bound_weight=1.0, divergence_weight=0.0)
    drawn = torch.stack([learner.along(module, seen)[0].auxiliary.detach() for _ in range(200)])
    found, errors = drawn.mean(0), drawn.std(0) / math.sqrt(len(drawn))
    assert ((found - error)[mask].abs() < 5 * errors[mask]).all()  # 5, as they are many
    assert (drawn >= 0).all()


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_the_unit_of_rewards_does_not_matter(unit: float) -> None:
    learner, module, seen = lived(GRID, 30)
    latent, steps = torch.randn(30, 2, learner.latent).double(), torch.arange(seen.n_steps).expand(30, -1)
    with torch.no_grad():
        error = learner._error(module, latent, seen, steps)
        for value in module.reward.out.parameters():
            value *= unit
        other = learner._error(module, latent, replace(seen, reward=unit * seen.reward), steps)
    torch.testing.assert_close(other, error)


@pytest.mark.parametrize(("reward", "unit"), [(2.0, 0.04), (-1e-3, 1e-8), (0.0, 1.0)])
def test_where_rewards_do_not_vary_an_error_is_finite_and_counts_by_their_size(reward: float, unit: float) -> None:
    learner, module, seen = lived(GRID, 3)
    seen = replace(seen, reward=torch.full_like(seen.reward, reward))
    steps = torch.arange(seen.n_steps).expand(3, -1)
    latent = torch.zeros(3, 1, learner.latent).double()
    with torch.no_grad():
        gap = module.rewards(latent, seen) - seen.reward.unsqueeze(1)
        error = learner._error(module, latent, seen, steps)
    torch.testing.assert_close(error, gap.square().mean(-1) / unit)


def test_a_belief_is_held_to_the_one_before_or_to_the_prior() -> None:
    learner, module, seen = lived(GRID, 3)
    belief = learner.believe(module, seen)
    standard = Belief(torch.zeros_like(belief.mean), torch.zeros_like(belief.mean))
    before = Belief(*(torch.cat([torch.zeros_like(part[:, :1]), part[:, :-1]], 1) for part in belief))
    for from_prior, other in ((False, before), (True, standard)):
        parts = []
        for weight in (0.0, 1.0):
            learner.set_params(bound_weight=1.0, from_prior=from_prior, divergence_weight=weight)
            torch.manual_seed(0)
            parts.append(learner.along(module, seen)[0].auxiliary)
        torch.testing.assert_close(parts[1] - parts[0], belief.divergence(other) / seen.n_steps)


def test_what_is_padded_does_not_count() -> None:
    learner, module, seen = lived(Doors(n_shot=2), 6, tells_observations=True)
    assert not seen.mask.all()
    other = replace(
        seen, reward=torch.where(seen.mask, seen.reward, 1e6), next_observation=torch.where(
            seen.mask.unsqueeze(2), seen.next_observation, 1e6)
    )  # fmt: skip
    found = []
    for experience in (seen, other):
        torch.manual_seed(0)
        found.append(learner.along(module, experience)[0].auxiliary[seen.mask])
    assert torch.equal(*found)


def test_a_decoder_of_observations_adds_its_own_error() -> None:
    learner, module, seen = lived(GRID, 4, tells_observations=True)
    names = touched(module, learner.along(module, seen)[0].auxiliary.mean())
    assert {"next.out.weight", "reward.out.weight"} <= names
    assert module.observations(torch.zeros(4, 2, 5).double(), seen).shape == (4, 2, 8, 6)


# ---------------------------------------------------------------- whose gradient reaches what


def test_the_loss_of_the_policy_changes_nothing_that_reads() -> None:
    learner, module, seen = lived(GRID, 4)
    (policy, value, auxiliary), _ = learner.along(module, seen)
    acts = touched(module, policy.log_prob(seen.action).sum() + value.sum())
    believes = touched(module, auxiliary.sum())
    assert {name.partition(".")[0] for name in acts} == {"layer", "policy", "value"}
    assert {name.partition(".")[0] for name in believes} == {"cell", "reward"}
    assert {"cell.belief.weight", "cell.cell.network.weight_hh_l0"} <= believes


def test_the_policy_sees_the_belief() -> None:
    learner, module, seen = lived(GRID, 4)
    with torch.no_grad():
        module.policy.weight.normal_()
        before = learner.along(module, seen)[0].policy.logits
        module.cell.belief.bias += 1
        after = learner.along(module, seen)[0].policy.logits
    assert not torch.allclose(before, after)


def test_there_is_no_loss_of_its_own_without_gradients_and_nothing_is_drawn() -> None:
    learner, module, seen = lived(GRID, 4)
    state = torch.get_rng_state()
    with torch.no_grad():
        assert learner.along(module, seen)[0].auxiliary is None
    assert torch.equal(state, torch.get_rng_state())


# ---------------------------------------------------------------- meta-training


@pytest.mark.parametrize("name", ["policy_gradient", "imitation"])
def test_meta_training_adds_the_loss_of_the_actors_own_over_steps_that_exist(name: str) -> None:
    tasks = Doors(n_shot=2) if name == "policy_gradient" else GRID
    learner, module, seen = lived(tasks, 6)
    optimizer = am.make_meta_optimizer(name)
    optimizer.start(learner, module, tasks.info)
    some = torch.zeros_like(seen.reward)

    def loss() -> Tensor:
        torch.manual_seed(0)
        if name == "imitation":
            return optimizer._loss(seen, seen.action)
        return optimizer._loss(seen, some, some)[0]

    whole = loss()
    torch.manual_seed(0)
    own = learner.along(module, seen)[0].auxiliary[seen.mask].mean()
    along = learner.along
    learner.along = lambda *given: (along(*given)[0]._replace(auxiliary=None), None)
    torch.testing.assert_close(whole, loss() + own)


def test_a_run_follows_from_its_seed() -> None:
    states = []
    for _ in range(2):
        optimizer = am.make_meta_optimizer("policy_gradient", trials=20)
        run = MetaTraining(am.make_learner("varibad"), optimizer, GRID, n_steps=3, tasks_per_step=4, seed=0)
        run.run_to()
        states.append(run.module.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert "auxiliary_loss" in run.history


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"latent": 0}, "latent=0"),
        ({"n_told": "all"}, "n_told='all'"),
        ({"divergence_weight": -1.0}, "divergence_weight=-1.0"),
    ],
)
def test_parameters_that_cannot_be_are_named(params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of learner 'varibad'"):
        am.make_learner("varibad", **params).build(GRID.info)


# ---------------------------------------------------------------- what the belief means

SMALL = am.make_tasks("gridnavi", size=3, steps=8, n_shot=1)


def goals_told(module: Any, latent: Tensor, worlds: am.Environments) -> Tensor:
    """Whether staying on the goal is told to pay more than staying on any other cell, by task."""
    cells = code(torch.tensor([(x, y) for x in range(3) for y in range(3)]), 3).to(latent)
    places = cells.expand(len(latent), -1, -1)
    nothing = torch.zeros(len(latent), 9).to(latent)
    steps = am.Experience(
        observation=places,
        next_observation=places,
        action=torch.full_like(nothing, MOVES.index((0, 0)), dtype=torch.int64),
        reward=nothing,
        terminated=nothing > 0,
        truncated=nothing > 0,
        told=nothing > 0,
        log_prob=nothing,
        episode=nothing.long(),
        mask=nothing == 0,
        hidden=worlds.hidden,
    )
    best = module.rewards(latent.unsqueeze(1), steps)[:, 0].argmax(1)
    return (cells[best] == worlds.hidden).all(1)


@pytest.mark.slow
def test_the_belief_tells_the_goal_once_it_was_found_and_is_then_surer() -> None:
    learner = am.make_learner("varibad", rewards_from="next", bound_weight=0.1)
    optimizer = am.make_meta_optimizer("policy_gradient", trials=200)
    run = MetaTraining(learner, optimizer, SMALL, n_steps=60, tasks_per_step=16, seed=training_seed())
    untrained = copy.deepcopy(run.module).eval()
    run.run_to()
    module = run.module.eval()
    worlds = SMALL.sample(1000, split="test", seed=1)
    with torch.no_grad():
        seen, _ = am.collect(learner, module, worlds, n_episodes=2, horizon=8)
        found = seen.reward > 0
        first = found.int().argmax(1)
        rows = (found.any(1) & (first < seen.n_steps - 1)).nonzero()[:, 0]
        assert len(rows) >= 100
        told = {}
        for name, network in (("trained", module), ("untrained", untrained)):
            belief = learner.believe(network, seen)
            after = belief.mean[rows, first[rows] + 1]
            told[name] = goals_told(network, after, worlds[rows]).double()
        belief = learner.believe(module, seen)
    assert_lower(told["untrained"], told["trained"])
    assert_lower(0.5, told["trained"])  # right more often than wrong
    assert_lower(belief.entropy[rows, first[rows] + 1], belief.entropy[rows, first[rows]])
