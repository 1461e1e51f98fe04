"""What every sampler of environments must do."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor

from autometa.contracts.environments import Environments, StepResult
from autometa.contracts.experience import Experience
from autometa.contracts.keys import draw_keys, uniform
from autometa.contracts.printable import printable
from autometa.contracts.tasks import SPLITS, TaskInfo, TaskSampler
from autometa.engine.collecting import collect
from autometa.testing.acts_at_random import ActsAtRandom
from autometa.testing.expectations import expect, untouched_random_state
from autometa.testing.sampler_checks import check_describe, check_refuses_bad_arguments, check_same_in_another_process

N_STEPS = 12
"""Most steps that a check takes."""


def actions_at(info: TaskInfo, key: Tensor, time: int) -> Tensor:
    """Return an action of each task that depends on its key alone: any choice, or numbers within the bounds."""
    if info.action_bounds is None:
        return (info.n_outputs * uniform(key, time, "act", 1)[:, 0]).long().clamp(max=info.n_outputs - 1)
    low, high = torch.tensor(info.action_bounds)
    found: Tensor = low + (high - low) * uniform(key, time, "act", info.n_outputs)
    return found


def lived(environments: Environments, n_steps: int) -> list[StepResult]:
    """Return what happens under the same actions, episode after episode."""
    worlds = environments.begin()
    first = worlds.reset()
    nothing = torch.zeros_like(environments.key, dtype=torch.bool)
    found = [StepResult(first.clone(), torch.zeros(len(environments)), nothing, nothing)]
    for time in range(n_steps):
        action = actions_at(environments.info, environments.key, time)
        result = worlds.step(action.to(first.dtype) if action.is_floating_point() else action)
        found.append(StepResult(*(part.clone() for part in result)))
        ended = result.terminated | result.truncated
        if ended.any():
            worlds.reset(ended)
    return found


def _same(a: list[StepResult], b: list[StepResult], rows: slice = slice(None)) -> bool:
    return all(
        torch.equal(one[rows], other)
        for left, right in zip(a, b, strict=True)
        for one, other in zip(left, right, strict=True)
    )


def check_info(tasks: TaskSampler) -> None:
    """``info`` says what is drawn, without drawing."""
    info = tasks.info
    for name, least in (("n_outputs", 1), ("n_shot", 0), ("n_query", 1), ("horizon", 1), ("n_hidden", 0)):
        value = getattr(info, name)
        expect(isinstance(value, int) and value >= least, f"info.{name}={value!r} must be an integer, {least} or more.")
    shape = info.input_shape
    expect(
        isinstance(shape, tuple) and shape and all(isinstance(n, int) and n > 0 for n in shape),
        f"info.input_shape={shape!r} must be a tuple of positive integers.",
    )
    if info.action_bounds is not None:
        low, high = info.action_bounds
        right = len(low) == len(high) == info.n_outputs and all(a < b for a, b in zip(low, high, strict=True))
        expect(right, f"info.action_bounds={info.action_bounds!r} must be n_outputs lower and as many upper bounds.")
    expect(tasks.info == info, "info changes from one look to the next.")


def check_shapes(tasks: TaskSampler) -> None:
    """Observations, rewards and ends have the shapes and types of the contract, in every split."""
    info = tasks.info
    for split in SPLITS:
        drawn = tasks.sample(3, split=split, seed=0)
        expect(isinstance(drawn, Environments), f"sample() returned a {type(drawn).__name__}, not Environments.")
        expect(len(drawn) == 3, f"sample(3) returned {len(drawn)} tasks.")
        expect(drawn.info == info, "the environments tell of other tasks than the sampler: info differs.")
        expect(drawn.key.shape == (3,) and drawn.key.dtype == torch.int64, "key must be int64 [tasks].")
        expect(drawn.hidden.shape == (3, info.n_hidden), f"hidden is {tuple(drawn.hidden.shape)}, not [3, n_hidden].")
        for result in lived(drawn, min(N_STEPS, info.horizon)):
            shape, dtype = tuple(result.observation.shape), result.observation.dtype
            expect(shape == (3, *info.input_shape), f"observations are {shape}, info says {info.input_shape}.")
            expect(dtype == torch.float32, f"observations are {dtype}; environments show float32.")
            one_hot = result.observation.sort(-1, descending=True)[0] == torch.eye(shape[-1])[0]
            expect(not info.tabular or one_hot.all(), "info.tabular says that states are seen, one-hot; others are.")
            expect(result.reward.shape == (3,), f"rewards are {tuple(result.reward.shape)}, not [tasks].")
            for name in ("terminated", "truncated"):
                end = getattr(result, name)
                expect(end.dtype == torch.bool and end.shape == (3,), f"{name} must be bool [tasks].")
            finite = result.observation.isfinite().all() and result.reward.isfinite().all()
            expect(finite, f"an observation or reward of split {split!r} is not finite.")


def check_seeded(tasks: TaskSampler) -> None:
    """A seed decides all that happens: the same one the same, another one something else; nothing global is used."""
    with untouched_random_state("sample(), or acting,"):
        first = lived(tasks.sample(6, seed=7), N_STEPS)
    expect(_same(first, lived(clone(tasks).sample(6, seed=7), N_STEPS)), "the same seed leads to other worlds.")
    expect(not torch.equal(tasks.sample(6, seed=7).key, tasks.sample(6, seed=8).key), "another seed has the same keys.")


def check_prefix(tasks: TaskSampler) -> None:
    """What happens in a task does not depend on how many are drawn."""
    many, few = tasks.sample(11, seed=5), tasks.sample(3, seed=5)
    expect(_same(lived(many, N_STEPS), lived(few, N_STEPS), slice(3)), "a task depends on how many tasks are drawn.")


def check_tasks_are_independent(tasks: TaskSampler) -> None:
    """A task taken out of its batch goes on as it did in it."""
    batch = tasks.sample(5, seed=2)
    whole = lived(batch, N_STEPS)
    for rows in (slice(1, 2), slice(3, 5)):
        expect(_same(whole, lived(batch[rows], N_STEPS), rows), "a task depends on the tasks beside it.")


def check_acting_changes_nothing(tasks: TaskSampler) -> None:
    """Acting leaves the environments as they are: what begins again is the same."""
    batch = tasks.sample(4, seed=3)
    first = lived(batch, N_STEPS)
    expect(_same(first, lived(batch, N_STEPS)), "begin() goes on where somebody acted before.")


def check_masked_reset(tasks: TaskSampler) -> None:
    """A reset of some tasks leaves the others where they are, and the length of their episodes counts from it."""
    batch = tasks.sample(4, seed=1)
    worlds, mask = batch.begin(), torch.tensor([True, False, True, False])
    worlds.reset()
    before = worlds.step(actions_at(tasks.info, batch.key, 0)).observation.clone()
    after = worlds.reset(mask)
    expect(torch.equal(after[~mask], before[~mask]), "a masked reset changes tasks outside of the mask.")


def check_ends(tasks: TaskSampler) -> None:
    """An episode ends once: in the world, or cut off at the horizon; as long as promised where that is fixed."""
    info = tasks.info
    if info.horizon > 2000:
        raise SkipTest("episodes are too long to be lived to their end here")
    batch = tasks.sample(8, seed=0)
    worlds = batch.begin()
    worlds.reset()
    open_ones = torch.ones(8, dtype=torch.bool)
    for time in range(info.horizon):
        result = worlds.step(actions_at(info, batch.key, time))
        both = result.terminated & result.truncated & open_ones
        expect(not both.any(), "an episode ended in the world is called cut off too; truncated must be False then.")
        ended = (result.terminated | result.truncated) & open_ones
        if batch.has_fixed_length and time + 1 < info.horizon:
            expect(
                not ended.any(), f"an episode ends after {time + 1} steps, and has_fixed_length says {info.horizon}."
            )
        open_ones &= ~ended
    expect(not open_ones.any(), f"an episode goes on after info.horizon={info.horizon} steps.")


def check_splits_are_disjoint(tasks: TaskSampler) -> None:
    """Meta-train, meta-valid and meta-test tasks share no parameters, unless the sampler says that they recur."""
    drawn = {split: tasks.sample(30, split=split, seed=0) for split in SPLITS}
    for a, b in combinations(SPLITS, 2):
        expect(not set(drawn[a].key.tolist()) & set(drawn[b].key.tolist()), f"splits {a!r} and {b!r} share keys.")
        if tasks.tasks_recur or tasks.info.n_hidden == 0:
            continue
        ours, theirs = ({tuple(row) for row in drawn[split].hidden.tolist()} for split in (a, b))
        expect(not ours & theirs, f"splits {a!r} and {b!r} share tasks; say tasks_recur = True if there are so few.")


def check_casts(tasks: TaskSampler) -> None:
    """In double precision the same happens, in numbers of that type."""
    batch = tasks.sample(3, seed=0)
    single, double = lived(batch, 3), lived(batch.to(dtype=torch.float64), 3)
    for one, other in zip(single, double, strict=True):
        expect(other.observation.dtype == torch.float64, "to(dtype) leaves observations in another precision.")
        close = torch.allclose(one.observation.double(), other.observation, rtol=1e-3, atol=1e-3)
        expect(close, "in double precision something else is seen.")


def check_references(tasks: TaskSampler) -> None:
    """Known returns: ``random`` is what acting at random gets, and ``best`` is no less."""
    batch = tasks.sample(400, seed=0)
    known = batch.reference
    if not known:
        raise SkipTest("no returns are known of these tasks")
    for name, values in known.items():
        expect(name in ("random", "best"), f"reference has {name!r}; 'random' and 'best' are known names.")
        expect(values.shape == (400,) and values.isfinite().all(), f"reference {name!r} must be finite, [tasks].")
    if {"random", "best"} <= set(known):
        expect((known["best"] >= known["random"] - 1e-5).all(), "the best return is below that of acting at random.")
    if "random" not in known or tasks.info.action_bounds is not None:
        return
    worlds = batch.begin()
    worlds.reset()
    total, active = torch.zeros(400), torch.ones(400, dtype=torch.bool)
    for time in range(tasks.info.horizon):
        result = worlds.step(actions_at(tasks.info, draw_keys(400, 99), time))
        total += result.reward * active
        active &= ~(result.terminated | result.truncated)
    gap = total - known["random"]
    clear = gap.mean().abs() > 5 * gap.std() / 20 + 1e-6
    expect(not clear, f"acting at random gets {gap.mean():+.3g} more than reference['random'] says.")


def check_advice(tasks: TaskSampler) -> None:
    """Advice is an action at every step; it follows from what came before, and from each task alone."""
    info = tasks.info
    if info.adviser is None:
        raise SkipTest("nobody can tell what to do in these tasks")
    batch = tasks.sample(5, seed=4)
    seen = _acted_in(batch, N_STEPS)
    advice = batch.advice(seen)
    wanted = (5, seen.n_steps) if info.action_bounds is None else (5, seen.n_steps, info.n_outputs)
    expect(tuple(advice.shape) == wanted, f"advice is {tuple(advice.shape)}; it must be {wanted}.")
    if info.action_bounds is None:
        inside = advice.dtype == torch.int64 and ((advice >= 0) & (advice < info.n_outputs)).all()
        expect(inside, f"advice must hold choices, int64, from 0 to {info.n_outputs - 1}.")
    else:
        low, high = torch.tensor(info.action_bounds).to(advice)
        expect(((advice >= low) & (advice <= high)).all(), f"advice leaves the bounds {info.action_bounds}.")
    expect(torch.equal(batch.advice(seen), advice), "asked a second time it gives other advice.")
    expect(
        torch.equal(batch[1:3].advice(seen[1:3]), advice[1:3]), "the advice for a task depends on the tasks beside it."
    )
    last = seen.n_steps // 2
    reward = seen.reward.clone()
    reward[:, last:] += 1
    later = replace(seen, reward=reward, told=seen.told & (torch.arange(seen.n_steps) < last))
    before = batch.advice(later)[:, : last + 1]
    expect(torch.equal(before, advice[:, : last + 1]), "the advice for a step depends on what that step leads to.")
    untold = replace(seen, told=torch.zeros_like(seen.told))
    same = torch.equal(batch.advice(untold), batch.advice(replace(untold, reward=untold.reward + 1)))
    expect(same, "the advice depends on rewards that nobody told.")


def check_demonstrations(tasks: TaskSampler) -> None:
    """Trials that the adviser shows are whole ones of each task alone, and in them he does what he advises."""
    batch = tasks.sample(5, seed=4)
    shown = batch.demonstrations()
    if shown is None:
        raise SkipTest("nobody shows how to act in these tasks")
    expect(tasks.info.adviser is not None, "somebody acts, and info names no adviser.")
    does = torch.equal(batch.advice(shown)[shown.mask], shown.action[shown.mask])
    expect(does, "he who shows how to act does not do what he advises.")
    for slips in (0.0, 0.5):
        _check_shown(tasks, batch, slips)


def _check_shown(tasks: TaskSampler, batch: Environments, slips: float) -> None:
    """Trials that are shown are whole, the same every time, and each of its task alone."""
    shown, again, alone = (some.demonstrations(slips) for some in (batch, batch, batch[1:3]))
    if shown is None or again is None or alone is None:
        raise AssertionError(f"demonstrations({slips}) are shown of some tasks and not of others.")
    expect(len(shown) == 5, f"trials of {len(shown)} tasks are shown, not of 5.")
    mask, last = shown.mask, shown.mask.sum(1, keepdim=True) - 1
    expect(mask.sum() == (torch.arange(shown.n_steps) <= last).sum(), "padded steps must come last.")
    ends = (shown.ended & mask).sum(1)
    whole = (ends == tasks.info.n_episodes).all() and shown.ended.gather(1, last).all()
    expect(whole, f"the trials shown must be of {tasks.info.n_episodes} episodes, the last one lived to its end.")
    expect(torch.equal(again.action[again.mask], shown.action[mask]), "asked a second time he acts in another way.")
    expect(shown.log_prob[mask].isnan().all(), "log_prob of what is shown must be NaN: nobody drew these actions.")
    same = torch.equal(alone.action[alone.mask], shown.action[1:3][mask[1:3]])
    expect(same, "what is shown in a task depends on the tasks beside it.")


def check_pictures(tasks: TaskSampler) -> None:
    """Pictures are printable text or none; they show their task and episode, whatever stands beside them."""
    batch = tasks.sample(3, seed=6)
    seen = _acted_in(batch, N_STEPS)
    pictures = {"picture()": batch.picture(1)}
    expect(batch[1:2].picture(0) == pictures["picture()"], "picture() depends on the tasks beside it.")
    for episode in range(int(seen.episode[1][seen.mask[1]].max()) + 1):
        pictures[f"picture_of() episode {episode}"] = found = batch.picture_of(seen, 1, episode)
        alone = batch[1:2].picture_of(seen[1:2], 0, episode)
        expect(alone == found, "picture_of() depends on the tasks beside it.")
    for name, picture in pictures.items():
        if picture is None:
            continue
        expect(isinstance(picture, str), f"{name} returned a {type(picture).__name__}; it must be text, or None.")
        expect(printable(picture, lines=True) == picture, f"{name} has characters that cannot be printed.")


def _acted_in(environments: Environments, n_steps: int) -> Experience:
    """Return what happens at random in a few episodes of at most so many steps."""
    info, actor = environments.info, ActsAtRandom()
    experience, _ = collect(
        actor, actor.build(info), environments, n_episodes=min(info.n_episodes, 3), horizon=min(info.horizon, n_steps)
    )
    return experience


ENVIRONMENT_CHECKS = (
    check_info,
    check_shapes,
    check_seeded,
    check_prefix,
    check_tasks_are_independent,
    check_acting_changes_nothing,
    check_same_in_another_process,
    check_masked_reset,
    check_ends,
    check_splits_are_disjoint,
    check_casts,
    check_references,
    check_advice,
    check_demonstrations,
    check_pictures,
    check_refuses_bad_arguments,
    check_describe,
)
