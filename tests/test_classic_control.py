"""Poles, carts and pendulums: Gymnasium's own physics, with constants of every task's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.cart_and_pole import has_fallen, pushed
from torch import Tensor

import autometa as am

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


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "params", "text"),
    [("cartpole_flip", {"steps": 0}, "steps=0"), ("cartpole_flip", {"steps": 10_001}, "steps=10001")],
)
def test_sizes_that_cannot_be_are_named(name: str, params: dict[str, Any], text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{text} of task sampler '{name}' must be"):
        am.make_tasks(name, **params).sample(1, seed=0)
