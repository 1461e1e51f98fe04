"""The conformance kit catches actors and environments that are wrong, each by the check that is about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.control.rl2 import RL2
from torch import Tensor, nn

import autometa as am
from autometa.testing import checks_of
from autometa.testing.toy_worlds import DoorEnvironments, Doors


def failed(component: Any, check: str, **options: Any) -> str:
    """What a check says of a component; all must be there and this one must fail."""
    (found,) = [one for one in checks_of(component, **options) if one.name.partition("[")[0] == check]
    with pytest.raises(AssertionError) as failure:
        found()
    return str(failure.value)


# ---------------------------------------------------------------- actors


class Peeking(RL2):
    """Decides by what only critics may see in training."""

    def along(self, module: nn.Module, experience: am.Experience, memory: Any = None) -> Any:
        decision, after = super().along(module, experience, memory)
        logits = decision.policy.logits + experience.hidden.unsqueeze(1)
        return am.Decision(am.Choice(logits), decision.value), after


class Eavesdropping(RL2):
    """Reads rewards that nobody told."""

    def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
        return super().observe(module, memory, transition._replace(told=torch.ones_like(transition.told)))

    def along(self, module: nn.Module, experience: am.Experience, memory: Any = None) -> Any:
        return super().along(module, replace(experience, told=torch.ones_like(experience.told)), memory)


class Uncritical(RL2):
    """Promises a policy that can be improved, and has no critic."""

    along = am.Actor.along


class Forgetting(RL2):
    """Begins anew whatever memory it is given to read on from."""

    def along(self, module: nn.Module, experience: am.Experience, memory: Any = None) -> Any:
        return super().along(module, experience, None)


class Writing(RL2):
    """Writes into the memory that it was given."""

    def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
        memory["last"].copy_(module.told(transition))
        return memory


class Mixing(RL2):
    """Lets the tasks of a batch influence one another."""

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> Any:
        return super().act(module, memory, observation - observation.mean(0))


class Blurting(RL2):
    """Acts otherwise than it reads."""

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> Any:
        decision, after = super().act(module, memory, observation)
        return am.Decision(am.Choice(decision.policy.logits * 1.5 + torch.arange(3.0)), None), after


@pytest.mark.parametrize(
    ("actor", "check", "text"),
    [
        (Peeking(), "check_hidden_is_for_critics", "hidden parameters of a task change what is decided"),
        (Eavesdropping(), "check_untold_rewards", "not told change"),
        (Forgetting(), "check_memory_lasts", "read in two parts"),
        (Writing(), "check_acting_is_pure", "changes the memory that it was given"),
        (Mixing(), "check_tasks_are_independent", "depend"),
        (Blurting(), "check_along_is_acting", "decides otherwise than act"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RL2) else None,
)
def test_an_actor_that_is_wrong_is_found(actor: am.Actor, check: str, text: str) -> None:
    assert text in failed(actor, check)


def test_an_actor_without_a_critic_is_told_so() -> None:
    (found,) = [one for one in checks_of(Uncritical()) if one.name == "check_shapes[control]"]
    with pytest.raises(am.PluginError, match=r"along\(\) of actor Uncritical gives no values"):
        found()


def test_an_actor_has_checks_of_its_behaviour_whatever_it_claims() -> None:
    names = {check.name for check in checks_of(Peeking())}
    assert {"check_along_is_acting[control]", "check_learns[control]"} <= names


# ---------------------------------------------------------------- environments


class Sampled(Doors):
    """Doors with environments of another class."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return drawn

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> DoorEnvironments:
        return self.made(super().sample(n_tasks, split=split, seed=seed), n_tasks)


class Counted(Sampled):
    """Tasks that depend on how many there are."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return replace(drawn, way_out=drawn.way_out.roll(n_tasks, 1))


@dataclass(frozen=True, kw_only=True)
class _Shared(DoorEnvironments):
    def change(self, state: Any, action: Tensor, noise: Tensor) -> Any:
        after, reward, out = super().change(state, action, noise)
        return after, reward + reward.mean(), out


class Shared(Sampled):
    """Rewards that depend on the tasks beside."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return _Shared(info=drawn.info, key=drawn.key, way_out=drawn.way_out)


class Endless(Sampled):
    """Episodes longer than the horizon that is told."""

    @property
    def info(self) -> am.TaskInfo:
        return replace(super().info, horizon=2)

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return _Long(info=drawn.info, key=drawn.key, way_out=0 * drawn.way_out)


class _LongWorlds:
    def __init__(self, worlds: Any) -> None:
        self._worlds = worlds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worlds, name)

    def step(self, action: Tensor) -> am.StepResult:
        result = self._worlds.step(action)
        return result._replace(truncated=torch.zeros_like(result.truncated))


@dataclass(frozen=True, kw_only=True)
class _Long(DoorEnvironments):
    def begin(self) -> Any:
        return _LongWorlds(super().begin())


class _BothWorlds(_LongWorlds):
    def step(self, action: Tensor) -> am.StepResult:
        result = self._worlds.step(action)
        return result._replace(truncated=result.terminated | result.truncated)


@dataclass(frozen=True, kw_only=True)
class _Both(DoorEnvironments):
    def begin(self) -> Any:
        return _BothWorlds(super().begin())


class Both(Sampled):
    """Says of episodes that ended in the world that they were cut off."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return _Both(info=drawn.info, key=drawn.key, way_out=drawn.way_out)


class _AllWorlds(_LongWorlds):
    def reset(self, mask: Tensor | None = None) -> Tensor:
        return self._worlds.reset()


@dataclass(frozen=True, kw_only=True)
class _All(DoorEnvironments):
    def begin(self) -> Any:
        return _AllWorlds(super().begin())


class All(Sampled):
    """Resets all tasks whatever the mask."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return _All(info=drawn.info, key=drawn.key, way_out=drawn.way_out)


@dataclass(frozen=True, kw_only=True)
class _Boasting(DoorEnvironments):
    @property
    def reference(self) -> dict[str, Tensor]:
        return {"random": self.way_out.sum(1) * 3, "best": self.way_out.sum(1) * 4}


class Boasting(Sampled):
    """Tells returns that nobody gets."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        return _Boasting(info=drawn.info, key=drawn.key, way_out=drawn.way_out)


class Advised(Sampled):
    """Doors whose adviser is another."""

    def __init__(self, advice: Any = None, *, patience: int = 4, n_shot: int = 1, n_query: int = 1) -> None:
        super().__init__(patience=patience, n_shot=n_shot, n_query=n_query)
        self.advice = advice

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        kind = type("Other", (DoorEnvironments,), {"advice": self.advice})
        found: DoorEnvironments = kind(info=drawn.info, key=drawn.key, way_out=drawn.way_out)
        return found


def for_each_task(here: DoorEnvironments, seen: am.Experience) -> Tensor:
    return here.way_out.argmax(1)


def beyond_the_choices(here: DoorEnvironments, seen: am.Experience) -> Tensor:
    return seen.action + 1


def foreseeing(here: DoorEnvironments, seen: am.Experience) -> Tensor:
    return torch.where(seen.told & (seen.reward > 0), seen.action, 0)


def eavesdropping(here: DoorEnvironments, seen: am.Experience) -> Tensor:
    paid = seen.reward.cumsum(1) - seen.reward
    return (paid > 0.5).long()


def of_the_batch(here: DoorEnvironments, seen: am.Experience) -> Tensor:
    return torch.full_like(seen.action, int(len(here) > 2))


class Drawn(Advised):
    """Doors whose pictures, or the adviser's own trials, are others."""

    def made(self, drawn: DoorEnvironments, n_tasks: int) -> DoorEnvironments:
        kind = type("Other", (DoorEnvironments,), {self.advice.__name__: self.advice})
        found: DoorEnvironments = kind(info=drawn.info, key=drawn.key, way_out=drawn.way_out)
        return found


def picture(here: DoorEnvironments, task: int) -> str:
    return f"{len(here)} doors"


def picture_of(here: DoorEnvironments, seen: am.Experience, task: int, episode: int) -> str:
    return "\x1b[2J"


def demonstrations(here: DoorEnvironments, slips: float = 0.0) -> am.Experience:
    actor = am.make_learner("control/random")
    return am.collect(actor, actor.build(here.info), here, n_episodes=here.info.n_episodes, horizon=here.info.horizon)[
        0
    ]


def few_episodes(here: DoorEnvironments, slips: float = 0.0) -> am.Experience:
    actor = am.make_learner("control/random")
    seen, _ = am.collect(actor, actor.build(here.info), here, n_episodes=1, horizon=here.info.horizon)
    return replace(seen, action=here.advice(seen))


few_episodes.__name__ = "demonstrations"


def as_if_drawn(here: DoorEnvironments, slips: float = 0.0) -> am.Experience:
    """Say with what probability actions were drawn that nobody drew."""
    seen = demonstrations(here)
    return replace(seen, action=here.advice(seen))


as_if_drawn.__name__ = "demonstrations"


class Recurring(Sampled):
    """Few tasks, which recur in all splits, and does not say so."""

    tasks_recur = False


@pytest.mark.parametrize(
    ("tasks", "check", "text"),
    [
        (Counted(), "check_prefix", "depends on how many tasks are drawn"),
        (Shared(), "check_tasks_are_independent", "depends on the tasks beside it"),
        (Endless(), "check_ends", "goes on after info.horizon=2 steps"),
        (Both(), "check_ends", "is called cut off too"),
        (All(), "check_masked_reset", "changes tasks outside of the mask"),
        (Boasting(), "check_references", "than reference['random'] says"),
        (Recurring(), "check_splits_are_disjoint", "say tasks_recur = True"),
        (Advised(for_each_task), "check_advice", "advice is (5,); it must be (5, 8)"),
        (Advised(beyond_the_choices), "check_advice", "must hold choices, int64, from 0 to 2"),
        (Advised(foreseeing), "check_advice", "depends on what that step leads to"),
        (Advised(eavesdropping), "check_advice", "depends on rewards that nobody told"),
        (Advised(of_the_batch), "check_advice", "depends on the tasks beside it"),
        (Drawn(demonstrations), "check_demonstrations", "does not do what he advises"),
        (Drawn(few_episodes), "check_demonstrations", "must be of 2 episodes"),
        (Drawn(as_if_drawn), "check_demonstrations", "log_prob of what is shown must be NaN"),
        (Drawn(picture), "check_pictures", "picture() depends on the tasks beside it"),
        (Drawn(picture_of), "check_pictures", "cannot be printed"),
    ],
    ids=lambda value: getattr(value, "advice", type(value)).__name__ if isinstance(value, Doors) else None,
)
def test_environments_that_are_wrong_are_found(tasks: am.TaskSampler, check: str, text: str) -> None:
    assert text in failed(tasks, check)


@am.parametrize_with_plugin_checks(Doors())
def test_the_toy_itself_passes(check: Any) -> None:
    check()


# ---------------------------------------------------------------- a plugin of somebody else

THIRD_PARTY = """
from dataclasses import dataclass

import autometa as am
import torch
from torch import Tensor


class Lever(am.TaskSampler):
    '''Pull to the left or to the right by a real number; the reward is its distance to a place of the task.

    Parameters
    ----------
    steps : int
        Of the only episode.
    '''

    def __init__(self, *, steps: int = 4) -> None:
        self.steps = steps

    @property
    def info(self):
        return am.TaskInfo(problem="control", input_shape=(1,), n_outputs=1, n_shot=0, n_query=1, horizon=self.steps,
                           action_bounds=((-1.0,), (1.0,)), n_hidden=1)

    def sample(self, n_tasks, *, split="train", seed):
        am.check_draw(n_tasks, split, seed)
        place = 2 * torch.from_numpy(am.draw_uniform((n_tasks, 1), seed, split)).float() - 1
        return Levers(info=self.info, key=am.draw_keys(n_tasks, seed, split), place=place)


@dataclass(frozen=True, kw_only=True)
class Levers(am.TensorEnvironments):
    place: Tensor
    has_fixed_length = True

    @property
    def hidden(self):
        return self.place

    def initial(self, noise):
        return {"last": torch.zeros_like(self.place)}

    def change(self, state, action, noise):
        return {"last": action}, -(action - self.place).abs()[:, 0], torch.zeros(len(self), dtype=torch.bool)

    def observation(self, state):
        return state["last"]


@am.hookimpl
def autometa_task_samplers():
    yield am.TaskSamplerSpec(name="lever", factory="lever_plugin:Lever", problems={"control"}, summary="A lever.")
"""


@pytest.mark.thorough
def test_environments_of_another_plugin_are_checked_acted_in_and_compared(install: Any, tmp_path: Any) -> None:
    install("lever", "lever_plugin", THIRD_PARTY)
    table = am.check_plugin("lever")
    wrong = table[table["status"] == "failed"]
    assert set(wrong["check"]) <= {"check_light_import"}, wrong.to_string()
    optimizer = am.make_meta_optimizer("policy_gradient", trials=20)
    found = am.compare(
        "lever", [("rl2", optimizer), "random"], n_trials=1, n_seeds=1, n_test_tasks=20, max_steps=2, baselines=False,
        output=tmp_path, verbose=0, device="cpu",
    )  # fmt: skip
    assert set(found.leaderboard["learner"]) == {"rl2:policy_gradient", "random"}
    assert np.isfinite(found.leaderboard["score"]).all()
