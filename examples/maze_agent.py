"""Meta-train an agent on mazes: in a new one it explores first, then goes straight to the goal.

It sees only how far it may go to each side, not where it is. In meta-training it watches an adviser who draws a map of
what was seen; in held-out mazes its memory is all that it has. Beside it stand a walk at random and the shortest way.
"""

from __future__ import annotations

import argparse

import torch

import autometa as am

N_MAZES = 1000
SHOWN = 2


def main(quick: bool = False) -> None:
    tasks = am.make_tasks("maze")
    agent = am.MetaAgent(
        am.make_learner("imitated", hidden_size=128),
        am.make_meta_optimizer("imitation", trials=200, epochs=2, minibatches=8, lr=0.01),
        max_steps=10 if quick else 150, device="cpu", random_state=0,
    )  # fmt: skip
    agent.meta_fit(tasks)

    mazes = tasks.sample(N_MAZES, split="test", seed=0)  # never met above
    walk = am.make_learner("control/random")
    with torch.no_grad():
        seen = am.judge(agent.learner_, agent.module_, mazes).experience
        at_random = am.judge(walk, walk.build(tasks.info), mazes).experience

    for maze in range(SHOWN):
        for episode in (0, tasks.info.n_episodes - 1):
            print(f"maze {maze}, episode {episode + 1}: the step that first ended in each cell")
            print(mazes.picture_of(seen, maze, episode), end="\n\n")

    print(f"mean steps to the goal in {N_MAZES} held-out mazes, at most {tasks.info.horizon}")
    print("episode          " + "".join(f"{episode + 1:8d}" for episode in range(tasks.info.n_episodes)))
    for name, experience in (("agent", seen), ("walk at random", at_random)):
        print(f"{name:17}" + "".join(f"{value:8.1f}" for value in steps_to_goal(experience).mean(0)))
    shortest = 1 + (1 - mazes.reference["best"]) / 0.04  # a step costs 0.04, but for the one that reaches the goal
    print(f"{'shortest way':17}" + f"{shortest.mean():8.1f}" * tasks.info.n_episodes)


def steps_to_goal(experience: am.Experience) -> torch.Tensor:
    """Steps of every episode, [mazes, episodes]; those that did not reach the goal have as many as there may be."""
    episodes = torch.arange(int(experience.episode[experience.mask].max()) + 1)
    happened = experience.mask.unsqueeze(2) & (experience.episode.unsqueeze(2) == episodes)
    return happened.sum(1).double()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the agent learns little")
    main(**vars(parser.parse_args()))
