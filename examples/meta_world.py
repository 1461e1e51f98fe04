"""Meta-World's ML1: a robot arm that must find out where its goal is, as tasks of one's own for a meta-agent.

Meta-World pins a version of MuJoCo that breaks others, so it gets an environment of its own, with autometa in it:

    python -m venv meta_world && meta_world/bin/pip install metaworld packaging
    meta_world/bin/pip install .
    meta_world/bin/python examples/meta_world.py

The tasks are made from Meta-World's own lists. (``gymnasium.make_vec("Meta-World/ML1-train", ...)`` of version 3.1.1
gives the test tasks in place of the training tasks.) Returns are those of its reward function v2, over 500 steps.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium
import metaworld
import numpy as np
import torch
from torch import Tensor

import autometa as am

N_VALID = 10
"""Of the 50 training goals, those that are kept for validation."""


class ML1(am.TaskSampler):
    """One skill of a robot arm with 50 goals to train on and 50 others to be judged on; the goal is not shown.

    Parameters
    ----------
    skill : str, default="reach-v3"
    goals_seed : int, default=0
        Decides where the goals are.
    steps : int, default=500
        Of an episode, at most 500.
    n_shot : int, default=10
        Episodes before those that are judged.
    n_query : int, default=3
        Episodes that are judged.
    """

    tasks_recur = True

    def __init__(
        self, *, skill: str = "reach-v3", goals_seed: int = 0, steps: int = 500, n_shot: int = 10, n_query: int = 3
    ) -> None:
        self.skill = skill
        self.goals_seed = goals_seed
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn."""
        for name, least, most in (("goals_seed", 0, 2**31), ("steps", 1, 500), ("n_shot", 0, 100), ("n_query", 1, 100)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'ml1'")
        am.check_choice("skill", self.skill, metaworld.ALL_V3_ENVIRONMENTS, of="task sampler 'ml1'")
        return described(self.skill, self.goals_seed, self.steps, self.n_shot, self.n_query)

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Arms:
        """Draw goals of a split."""
        am.check_draw(n_tasks, split, seed)
        info, goals = self.info, goals_of(self.skill, self.goals_seed)[split]
        place = (len(goals) * am.draw_uniform((n_tasks,), seed, split, "goal")).astype(int)
        first = sum(len(held) for name, held in goals_of(self.skill, self.goals_seed).items() if name < split)
        return Arms(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            goal=torch.from_numpy(first + place),
            skill=self.skill,
            goals_seed=self.goals_seed,
        )


@dataclass(frozen=True, kw_only=True)
class Arms(am.GymnasiumEnvironments):
    """Robot arms with a goal each."""

    goal: Tensor
    skill: str
    goals_seed: int

    has_fixed_length = True

    @property
    def hidden(self) -> Tensor:
        """Where goal and objects are."""
        goals = all_goals(self.skill, self.goals_seed)
        places = np.stack([place_of(goals[i]) for i in self.goal.tolist()])
        return torch.from_numpy(places).to(self.place)

    def make(self, task: int) -> gymnasium.Env:
        """Make the arm of row ``task``."""
        return arm(self.skill, all_goals(self.skill, self.goals_seed)[int(self.goal[task])], self.info.horizon)


def arm(skill: str, goal: Any, steps: int) -> gymnasium.Env:
    """Make an arm for a goal."""
    env = metaworld.ALL_V3_ENVIRONMENTS[skill]()
    env.set_task(goal)
    return gymnasium.wrappers.TimeLimit(env, steps)


@cache
def benchmark(skill: str, goals_seed: int) -> metaworld.ML1:
    """Return Meta-World's lists, which it draws from NumPy's global random numbers: those are put back."""
    return metaworld.ML1(skill, seed=goals_seed)


def goals_of(skill: str, goals_seed: int) -> Mapping[str, list[Any]]:
    """Return the goals of each split, in the order of its name."""
    lists = benchmark(skill, goals_seed)
    return {"test": lists.test_tasks, "train": lists.train_tasks[N_VALID:], "valid": lists.train_tasks[:N_VALID]}


def all_goals(skill: str, goals_seed: int) -> list[Any]:
    """Return the goals of all splits."""
    return [goal for held in goals_of(skill, goals_seed).values() for goal in held]


def place_of(goal: Any) -> np.ndarray:
    """Return where Meta-World puts goal and objects."""
    return np.asarray(pickle.loads(goal.data)["rand_vec"], dtype=np.float64)


@cache
def described(skill: str, goals_seed: int, steps: int, n_shot: int, n_query: int) -> am.TaskInfo:
    """Look at one arm."""
    goal = all_goals(skill, goals_seed)[0]
    return am.GymnasiumEnvironments.info_of(
        arm(skill, goal, steps), n_shot=n_shot, n_query=n_query, n_hidden=len(place_of(goal)), horizon=steps
    )


def main() -> None:
    """Meta-train for a few steps, and compare with who is untrained or acts at random; in earnest it takes hours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skill", default="reach-v3")
    parser.add_argument("--steps", type=int, default=500, help="Of an episode.")
    parser.add_argument("--outer-steps", type=int, default=4, help="Of meta-training.")
    parser.add_argument("--trials", type=int, default=16, help="Of each outer step.")
    parser.add_argument("--test-tasks", type=int, default=20)
    arguments = parser.parse_args()
    tasks = ML1(skill=arguments.skill, steps=arguments.steps, n_shot=1, n_query=1)
    began = time.process_time()
    for learner, steps in (("random", 0), ("rl2", 0), ("rl2", arguments.outer_steps)):
        optimizer = am.make_meta_optimizer("policy_gradient", trials=arguments.trials)
        agent = am.MetaAgent(learner, "auto" if learner == "random" else optimizer, max_steps=steps, random_state=0)
        curve = agent.meta_fit(tasks).adaptation_curve(tasks, n_tasks=arguments.test_tasks)
        means = curve.groupby("episode")["return"].agg(["mean", "sem"]).round(0).astype(int)
        print(f"{learner} after {steps} outer steps", means.to_string(), sep="\n")
    print(f"{time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
