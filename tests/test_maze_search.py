"""Who looks for the goal of a maze with a map of what was seen: advice, own trials, and what is learned from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from autometa_plugins.control.maze_search import Searcher, search_maze

import autometa as am
from autometa.training import MetaTraining
from learning import assert_lower, training_seed


def drawn(n_tasks: int = 300, **params: int) -> Any:
    return am.make_tasks("maze", **params).sample(n_tasks, split="test", seed=0)


def wandered(mazes: Any) -> am.Experience:
    """Trials at random."""
    actor = am.make_learner("control/random")
    return am.judge(actor, actor.build(mazes.info), mazes).experience


def test_from_the_second_episode_on_the_adviser_gets_what_nobody_can_beat() -> None:
    mazes = drawn()
    shown = mazes.demonstrations()
    returns, best = shown.returns(3), mazes.reference["best"]
    assert ((shown.terminated & shown.mask).sum(1) == 3).all()  # every goal is found
    for episode in (1, 2):
        torch.testing.assert_close(returns[:, episode], best, atol=1e-5, rtol=0)
    assert_lower(returns[:, 0], best)
    assert_lower(mazes.reference["random"], returns[:, 0])


@pytest.mark.parametrize("size", [4, 8])
def test_mazes_of_other_sizes_are_searched_too(size: int) -> None:
    mazes = drawn(40, size=size, steps=4 * size**2, n_shot=1)
    torch.testing.assert_close(mazes.demonstrations().returns(2)[:, 1], mazes.reference["best"], atol=1e-4, rtol=0)


@pytest.mark.thorough
def test_who_slips_now_and_then_goes_on_from_there() -> None:
    mazes = drawn()
    shown = mazes.demonstrations(0.2)
    slipped = (mazes.advice(shown) != shown.action)[shown.mask]
    assert 0.13 < slipped.float().mean() < 0.17  # one in four of what is random is what is advised
    assert_lower(mazes.demonstrations(0.2).returns(3)[:, 1], mazes.reference["best"])
    assert_lower(mazes.reference["random"], shown.returns(3)[:, 1])


@pytest.mark.thorough
def test_the_adviser_knows_what_was_seen_and_nothing_of_the_maze() -> None:
    mazes, others = drawn(20), am.make_tasks("maze").sample(20, seed=5)
    seen = wandered(mazes)
    assert torch.equal(others.advice(seen), mazes.advice(seen))
    untold = replace(seen, hidden=torch.zeros_like(seen.hidden), reward=torch.zeros_like(seen.reward))
    assert torch.equal(search_maze(untold, 5), mazes.advice(seen))


def test_nobody_is_sent_into_a_wall() -> None:
    mazes = drawn(50)
    seen = wandered(mazes)
    far = seen.observation[..., :4].gather(2, mazes.advice(seen).unsqueeze(2))[..., 0]
    assert (far[seen.mask] > 0).all()


def test_who_sees_the_goal_is_sent_there() -> None:
    mazes = drawn(100)
    seen = wandered(mazes)
    sees = seen.observation[..., 4:] > 0
    way = sees.int().argmax(2)
    assert torch.equal(mazes.advice(seen)[sees.any(2) & seen.mask], way[sees.any(2) & seen.mask])


def test_a_map_knows_the_shortest_ways_between_the_cells_that_were_seen() -> None:
    mazes = drawn(30)
    seen = wandered(mazes)
    searcher = Searcher(mazes.key, 5)
    for time in range(seen.n_steps):
        searcher.advise(seen.at(time).observation)
        searcher.follow(seen.at(time))
    known = searcher.map
    assert 0.5 < known.seen.float().mean() < 1
    far = torch.full((30, 25, 25), 99)
    far[:, torch.arange(25), torch.arange(25)] = 0
    for _ in range(25):
        for way in range(4):
            far = torch.minimum(far, 1 + far.gather(1, mazes.after[:, :, way, None].expand(-1, -1, 25)))
    both = known.seen[:, :, None] & known.seen[:, None, :]
    assert torch.equal(known.steps.long()[both], far[both])
    first = mazes.after.gather(2, known.first.long())
    nearer = far.gather(1, first) == far - 1
    assert (nearer | (far == 0))[both].all()


def test_imitation_begins_with_the_adviser_and_ends_without_him() -> None:
    tasks = am.make_tasks("maze", size=4, steps=6, n_shot=1)
    optimizer = am.make_meta_optimizer("imitation", trials=10, minibatches=2, demonstrated=0.5, slips=0)
    run = MetaTraining(
        am.make_learner("imitated", hidden_size=4), optimizer, tasks, n_steps=8, tasks_per_step=4, seed=0
    )
    run.run_to()
    followed = run.history["followed"].to_numpy()
    assert (followed[:4] == 1).all()
    assert (followed[4:] < 0.7).all()
    alone = am.make_meta_optimizer("imitation", trials=10, minibatches=2, demonstrated=0)
    run = MetaTraining(am.make_learner("imitated", hidden_size=4), alone, tasks, n_steps=2, tasks_per_step=4, seed=0)
    run.run_to()
    assert run.history["followed"].iloc[0] < 0.7


@pytest.mark.parametrize("name", ["demonstrated", "slips"])
def test_a_share_that_is_none_is_refused(name: str) -> None:
    optimizer = am.make_meta_optimizer("imitation", **{name: 1.5})
    with pytest.raises(am.InvalidParameter, match=rf"{name}=1.5 of meta-optimizer 'imitation' must be"):
        MetaTraining(am.make_learner("imitated"), optimizer, am.make_tasks("maze"), n_steps=1, tasks_per_step=4, seed=0)


@pytest.mark.slow
def test_an_agent_explores_a_maze_it_never_saw_and_is_faster_from_then_on() -> None:
    tasks = am.make_tasks("maze")
    optimizer = am.make_meta_optimizer("imitation", trials=200, minibatches=8, epochs=2, lr=0.01)
    learner = am.make_learner("imitated", hidden_size=128)
    run = MetaTraining(learner, optimizer, tasks, n_steps=60, tasks_per_step=16, seed=training_seed())
    run.run_to()
    mazes = tasks.sample(1000, split="test", seed=0)
    with torch.no_grad():
        returns = am.judge(learner, run.module.eval(), mazes).returns
    assert_lower(returns[:, 0], returns[:, 2])
    assert_lower(mazes.reference["random"], returns[:, 0])
    assert_lower(mazes.reference["random"] + 1, returns[:, 2])
