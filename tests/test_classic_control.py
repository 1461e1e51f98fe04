"""Poles, carts and pendulums: Gymnasium's own physics, with constants of every task's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.cart_and_pole import has_fallen, pushed
from torch import Tensor

import autometa as am
from autometa.contracts.keys import uniform
from tiers import first_by_default

gymnasium = pytest.importorskip("gymnasium")


def reals(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in double precision."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# ---------------------------------------------------------------- cart and pole


def cart_of_gymnasium(body: Tensor, action: int, **constants: float) -> tuple[Tensor, bool]:
    """One step of CartPole-v1 with other constants, in double precision."""
    world = gymnasium.make("CartPole-v1").unwrapped
    for name, value in constants.items():
        setattr(world, name, value)
    world.total_mass, world.polemass_length = world.masscart + world.masspole, world.masspole * world.length
    world.reset(seed=0)
    world.state = body.numpy()
    _, _, terminated, _, _ = world.step(action)
    return torch.from_numpy(np.array(world.state)), terminated


@pytest.mark.parametrize("action", [0, 1])
def test_a_cart_moves_as_that_of_gymnasium_whatever_its_constants(action: int) -> None:
    bodies = reals(20, 4) * torch.tensor([1.2, 1.0, 0.1, 1.0])
    constants = 0.5 + reals(20, 5, seed=1).abs()
    gravity, length, force, cart, pole = constants.unbind(1)
    found = pushed(bodies, (2 * action - 1) * force, gravity=gravity, length=length, cart=cart, pole=pole)
    names = ("gravity", "length", "force_mag", "masscart", "masspole")
    ends = []
    for body, after, row in zip(bodies, found, constants.tolist(), strict=True):
        expected, fell = cart_of_gymnasium(body, action, **dict(zip(names, row, strict=True)))
        torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)
        ends.append(fell)
    assert has_fallen(found).tolist() == ends
    assert 0 < sum(ends) < 20


# ---------------------------------------------------------------- cartpole_flip


def falls(environments: am.Environments, sides: Tensor) -> Tensor:
    """Falls of who balances by feedback and believes that action 1 pushes to ``sides``."""
    worlds = environments.begin()
    seen, total = worlds.reset(), torch.zeros(len(environments))
    gains = torch.tensor([0.12, 0.1, 0.21, 0.3, 0.0])  # shares of the largest place and angle
    for _ in range(environments.info.horizon):
        to_right = (seen @ gains > 0) == (sides > 0)
        result = worlds.step(to_right.long())
        assert not result.terminated.any()
        seen, total = result.observation, total - result.reward
    return total


def test_who_knows_the_sides_of_a_cart_never_falls_and_who_guesses_falls_about_ten_times() -> None:
    environments = am.make_tasks("cartpole_flip").sample(400, split="test", seed=0)
    assert falls(environments, environments.right).sum() == 0 == environments.reference["best"].sum()
    guessed = falls(environments, torch.ones(400))
    assert (guessed[environments.right > 0] == 0).all()
    assert (guessed[environments.right < 0] > 5).all()
    assert 8 < float(guessed.mean()) < 13


def test_swapped_sides_are_the_other_action() -> None:
    drawn = am.make_tasks("cartpole_flip").sample(50, seed=0)
    state, noise = drawn.initial(torch.rand(50, 4)), torch.rand(50, 4)
    swapped = type(drawn)(**{**vars(drawn), "right": -drawn.right})
    action = (torch.arange(50) % 2).long()
    one, other = drawn.change(state, action, noise), swapped.change(state, 1 - action, noise)
    assert torch.equal(one[0]["body"], other[0]["body"])
    assert 0.35 < float((drawn.right > 0).float().mean()) < 0.65


def test_a_fall_costs_one_and_the_pole_stands_again() -> None:
    drawn = am.make_tasks("cartpole_flip").sample(3, seed=0)
    body = torch.tensor([[0.0, 0.0, 0.209, 1.0], [-2.39, -1.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.0]])
    noise = torch.tensor([[0.0, 0.5, 1.0, 0.75]]).expand(3, 4)
    state, reward, terminated = drawn.change({"body": body, "fell": torch.zeros(3)}, torch.tensor([0, 1, 1]), noise)
    assert reward.tolist() == [-1, -1, 0]
    torch.testing.assert_close(state["body"][:2], torch.tensor([[-0.05, 0.0, 0.05, 0.025]]).expand(2, 4))
    assert drawn.observation(state)[:, 4].tolist() == [1, 1, 0]
    assert not terminated.any()
    assert drawn.observation(drawn.change(state, torch.tensor([0, 0, 0]), noise)[0])[:, 4].sum() == 0


# ---------------------------------------------------------------- the same steps as Gymnasium's

PEERS = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1", "acrobot": "Acrobot-v1"}


def peer(name: str, factors: list[float]) -> Any:
    """A world of Gymnasium whose constants are multiplied by the factors of a task."""
    world: Any = gymnasium.make(PEERS[name]).unwrapped
    world.reset(seed=0)

    def multiply(factor: float, *attributes: str) -> None:
        for attribute in attributes:
            setattr(world, attribute, getattr(world, attribute) * factor)

    if name == "cartpole":
        for factor, attribute in zip(factors, ("gravity", "length", "force_mag", "masscart", "masspole"), strict=True):
            multiply(factor, attribute)
        world.total_mass, world.polemass_length = world.masscart + world.masspole, world.masspole * world.length
    elif name == "pendulum":
        for factor, attribute in zip(factors[:3], ("g", "m", "l"), strict=True):
            multiply(factor, attribute)
        multiply(1 / factors[3], "m")  # a light rod turns as one that is turned strongly
    else:
        attributes = (("LINK_MASS_1",), ("LINK_MASS_2",), ("LINK_LENGTH_1", "LINK_COM_POS_1"), ("LINK_COM_POS_2",))
        for factor, group in zip(factors[:5], (*attributes, ("LINK_MOI",)), strict=True):
            multiply(factor, *group)
        world.AVAIL_TORQUE = [-factors[5], 0.0, factors[5]]
    return world


def numbers(state: dict[str, Tensor]) -> Tensor:
    """All that changes in worlds, [tasks, numbers]."""
    return torch.cat([value.flatten(1) if value.dim() > 1 else value.unsqueeze(1) for value in state.values()], 1)


@pytest.mark.parametrize("spread", first_by_default(1, [1.0, 1.5]), ids=["as registered", "varied"])
@pytest.mark.parametrize("name", PEERS)
def test_a_world_does_what_that_of_gymnasium_does_step_by_step(name: str, spread: float) -> None:
    drawn = am.make_tasks(name, spread=spread).sample(6, seed=0).to(dtype=torch.float64)
    assert (drawn.factors == 1).all() == (spread == 1)
    noise = torch.from_numpy(np.random.default_rng(0).random((6, 4)))
    state, ended = drawn.initial(noise[:, : drawn.n_start_noise]), torch.zeros(6, dtype=torch.bool)
    peers = [peer(name, row) for row in drawn.factors.tolist()]
    for world, row in zip(peers, numbers(state), strict=True):
        world.state = row.numpy().copy()
    for draw in np.random.default_rng(1).random((80, 6)):
        if drawn.info.action_bounds is None:
            theirs = (drawn.info.n_outputs * draw).astype(int)
            action = torch.from_numpy(theirs)
        else:
            theirs = (6 * draw - 3)[:, None]  # beyond the bounds, too
            action = torch.from_numpy(theirs)
        state, reward, terminated = drawn.change(state, action, noise)
        seen = drawn.observation(state)
        for i in (~ended).nonzero().flatten().tolist():
            observation, pay, over, _, _ = peers[i].step(theirs[i])
            np.testing.assert_allclose(numbers(state)[i], peers[i].state, rtol=1e-7, atol=1e-9)
            np.testing.assert_allclose(seen[i], observation, rtol=1e-5, atol=1e-6)
            assert float(reward[i]) == pytest.approx(float(pay), abs=1e-8)
            assert bool(terminated[i]) == over
        ended |= terminated
    assert ended.any() == (name == "cartpole")


def test_an_acrobot_that_is_up_has_ended_and_its_last_step_costs_nothing() -> None:
    """Pushing with the spin of the second link swings it up, as in Gymnasium."""
    drawn = am.make_tasks("acrobot", spread=1.0).sample(4, seed=0).to(dtype=torch.float64)
    world, state = peer("acrobot", [1.0] * 6), drawn.initial(torch.rand(4, 4))
    world.state = state["links"][0].numpy().copy()
    for _ in range(500):
        action = 1 + state["links"][:, 3].sign().long()
        state, reward, terminated = drawn.change(state, action, torch.zeros(4, 4))
        _, pay, over, _, _ = world.step(int(action[0]))
        assert (bool(terminated[0]), float(reward[0])) == (over, pay)
        if over:
            break
    assert over
    assert reward[0] == 0


def test_worlds_start_where_those_of_gymnasium_do() -> None:
    for name, largest in (("cartpole", [0.05] * 4), ("pendulum", [np.pi, 1.0]), ("acrobot", [0.1] * 4)):
        drawn = am.make_tasks(name).sample(4000, seed=0)
        first = numbers(drawn.initial(uniform(drawn.key, 0, "reset", drawn.n_start_noise)))
        bounds = torch.tensor(largest, dtype=torch.float32)
        assert (first.abs() <= bounds).all()
        torch.testing.assert_close(first.amax(0), bounds, rtol=0.01, atol=0)
        torch.testing.assert_close(first.mean(0) / bounds, torch.zeros(len(largest)), rtol=0, atol=0.04)


@pytest.mark.parametrize("name", PEERS)
def test_factors_are_spread_evenly_on_a_logarithmic_scale(name: str) -> None:
    drawn = am.make_tasks(name, spread=3.0).sample(4000, seed=0)
    logs = drawn.hidden / np.log(3)
    assert logs.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(logs.mean(0), torch.zeros(logs.shape[1]), rtol=0, atol=0.04)
    torch.testing.assert_close(logs.var(0), torch.full((logs.shape[1],), 1 / 3), rtol=0, atol=0.03)


def test_every_pole_can_be_balanced() -> None:
    drawn = am.make_tasks("cartpole").sample(400, split="test", seed=0)
    worlds = drawn.begin()
    seen, total = worlds.reset(), torch.zeros(len(drawn))
    for _ in range(drawn.info.horizon):
        seen, reward, terminated, truncated = worlds.step((seen @ torch.tensor([0.05, 0.1, 1.0, 0.3]) > 0).long())
        assert not terminated.any()
        total = total + reward
    assert truncated.all()
    assert torch.equal(total, drawn.reference["best"])
    assert not am.make_tasks("cartpole", spread=3.0).sample(2, seed=0).reference


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [
        ("cartpole_flip", {"steps": 0}, "steps=0"),
        ("cartpole_flip", {"steps": 10_001}, "steps=10001"),
        ("cartpole", {"spread": 0.5}, "spread=0.5"),
        ("pendulum", {"spread": 11}, "spread=11"),
        ("acrobot", {"n_query": 0}, "n_query=0"),
    ],
)
def test_sizes_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of task sampler '{name}' must be"):
        am.make_tasks(name, **params).sample(1, seed=0)
