"""What every actor must do in a small distribution of worlds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.environments import Environments
from autometa.contracts.experience import PER_STEP, Experience
from autometa.contracts.round_actor import RoundActor
from autometa.contracts.tasks import TaskSampler
from autometa.engine.collecting import collect
from autometa.engine.judging import judge
from autometa.engine.random_state import fresh_module
from autometa.host import make_meta_optimizer
from autometa.testing.acts_at_random import ActsAtRandom
from autometa.testing.expectations import (
    clearly_positive,
    copied,
    expect,
    expect_close,
    same_state,
    tensors_of,
    untouched_random_state,
)
from autometa.testing.learner_checks import check_build_is_seeded, check_promises_are_kept
from autometa.testing.search_checks import check_search_space as check_space
from autometa.training.outer_loop import MetaTraining

LOOKS = (20, 40, 80, 160, 320)
"""Steps of the one meta-training after which it is judged; it ends with the first clear success."""
N_JUDGED = 400


@dataclass(frozen=True)
class ActorCase:
    """An actor and the worlds it is checked in."""

    learner: Actor
    tasks: TaskSampler

    def module(self) -> nn.Module:
        """Return a copy of θ in double precision after a step of meta-training, in evaluation mode."""
        return copied(self._started)

    @functools.cached_property
    def _started(self) -> nn.Module:
        training = self.training(1, torch.float64)
        training.run_to()
        return training.module.eval()

    def training(self, n_steps: int, dtype: torch.dtype = torch.float32) -> MetaTraining:
        """Return a meta-training with a fixed seed, and short steps where the meta-optimizer can, not started."""
        name = self.learner.default_meta_optimizer
        made = None if name is None else make_meta_optimizer(name)
        if made is not None:
            short = {"lr": 0.01, "trials": 100}
            made.set_params(**{key: value for key, value in short.items() if key in made.get_params()})
        learner = clone(self.learner)
        return MetaTraining(learner, made, self.tasks, n_steps=n_steps, tasks_per_step=8, seed=0, dtype=dtype)

    def worlds(self, n_tasks: int = 6, seed: int = 0) -> Environments:
        """Return worlds in double precision, in which rounding hides no difference."""
        drawn: Environments = self.tasks.sample(n_tasks, split="valid", seed=seed)
        return drawn.to(dtype=torch.float64)

    def lived(
        self, module: nn.Module, worlds: Environments, memory: Any = None, **options: Any
    ) -> tuple[Experience, Any]:
        """Live through a trial of every task without an autograd graph."""
        info = worlds.info
        with torch.no_grad():
            return collect(
                self.learner,
                module,
                worlds,
                n_episodes=info.n_episodes,
                horizon=info.horizon,
                memory=memory,
                **options,
            )


def check_shapes(case: ActorCase) -> None:
    """Decisions are distributions over the actions of every task, and memories lead with [tasks]."""
    module, worlds, info = case.module(), case.worlds(), case.tasks.info
    with torch.no_grad():
        memory = case.learner.start(module, len(worlds))
        decision, memory = case.learner.act(module, memory, worlds.begin().reset())
    policy = decision.policy
    wanted = (len(worlds), info.n_outputs)
    expect(
        all(tuple(part.shape) == wanted for part in policy),
        f"the policy holds {[tuple(part.shape) for part in policy]}; each must be {wanted}.",
    )
    kind = "Choice" if info.action_bounds is None else "Normal"
    expect(type(policy).__name__ == kind, f"the policy is a {type(policy).__name__}; these actions need a {kind}.")
    expect(all(part.isfinite().all() for part in policy), "the policy holds numbers that are not finite.")
    for leaf in tensors_of(memory):
        expect(isinstance(leaf, Tensor), f"the memory holds a {type(leaf).__name__} among its tensors.")
        expect(
            leaf.dim() and len(leaf) == len(worlds), f"the memory holds {tuple(leaf.shape)}; it must lead with tasks."
        )


def check_acting_is_pure(case: ActorCase) -> None:
    """Acting changes neither θ nor the memory it is given, draws nothing global and builds no graph."""
    module, worlds = case.module(), case.worlds()
    state = copied(module.state_dict())
    with torch.no_grad():
        memory = case.learner.start(module, len(worlds))
    before = [leaf.clone() for leaf in tensors_of(memory)]
    with untouched_random_state("act() or observe()"):
        first, after = case.lived(module, worlds, memory)
        again, _ = case.lived(module, worlds, memory)
    expect(same_state(state, module.state_dict()), "acting changes θ.")
    expect(
        all(torch.equal(old, new) for old, new in zip(before, tensors_of(memory), strict=True)),
        "acting changes the memory that it was given; return another one.",
    )
    expect(torch.equal(first.action, again.action), "in the same worlds it acts otherwise the second time.")
    expect(not any(leaf.requires_grad for leaf in tensors_of(after)), "without gradients, a memory holds a graph.")


def check_tasks_are_independent(case: ActorCase) -> None:
    """Tasks do not influence one another: all together act as one by one."""
    module, worlds = case.module(), case.worlds()
    together, memory = case.lived(module, worlds)
    for task in range(len(worlds)):
        alone, own = case.lived(module, worlds[task : task + 1])
        steps = alone.n_steps
        expect(
            torch.equal(together.action[task, :steps], alone.action[0]), "a task's actions depend on those beside it."
        )
        expect_close(
            together.log_prob[task, :steps], alone.log_prob[0], "a task's probabilities depend on the tasks beside it"
        )
        if not any(leaf.shape[1:] != mine.shape[1:] for leaf, mine in _pairs(memory, own)):
            for leaf, mine in _pairs(memory, own):
                expect_close(leaf[task], mine[0], "a task's memory depends on the tasks beside it")


def _pairs(a: Any, b: Any) -> list[tuple[Tensor, Tensor]]:
    return list(zip(tensors_of(a), tensors_of(b), strict=True))


def check_along_is_acting(case: ActorCase) -> None:
    """Reading what happened decides as acting did, and ends in the same memory."""
    module, worlds = case.module(), case.worlds()
    for blind in (0.0, 1.0):
        experience, memory = case.lived(module, worlds, blind=blind)
        with torch.no_grad():
            decision, after = case.learner.along(module, experience)
        mask = experience.mask
        expect_close(
            decision.policy.log_prob(experience.action)[mask],
            experience.log_prob[mask],
            "along() decides otherwise than act() and observe() did",
        )
        for here, there in _pairs(after, memory):
            expect_close(here, there, "along() ends in another memory than act() and observe()")


def check_memory_lasts(case: ActorCase) -> None:
    """What was read in two parts is what was read at once: memories go on, over episodes too."""
    module, worlds = case.module(), case.worlds()
    experience, _ = case.lived(module, worlds)
    parts = _parts(case, module, experience)
    with torch.no_grad():
        whole, _ = case.learner.along(module, experience)
        memory, read = None, []
        for part in parts:
            decision, memory = case.learner.along(module, part, memory)
            read.append(decision.policy.log_prob(part.action))
    found, wanted = torch.cat(read, 1), whole.policy.log_prob(experience.action)
    mask = torch.cat([part.mask for part in parts], 1)
    for task in range(len(experience)):
        expect_close(
            found[task, mask[task]],
            wanted[task, experience.mask[task]],
            "read in two parts, the same experience leads to other decisions",
        )


def _parts(case: ActorCase, module: nn.Module, experience: Experience) -> list[Experience]:
    """Return two parts of an experience: halves, or the first round and the rest where rounds are not to be cut."""
    if isinstance(case.learner, RoundActor):
        end = min(case.learner.round_size(module), case.tasks.info.n_shot or 1)
        return [experience.episodes(0, end), experience.episodes(end, case.tasks.info.n_episodes)]
    half = experience.n_steps // 2
    return [_part(experience, slice(0, half)), _part(experience, slice(half, None))]


def _part(experience: Experience, steps: slice) -> Experience:
    return replace(experience, **{name: getattr(experience, name)[:, steps] for name in PER_STEP})


def check_untold_rewards(case: ActorCase) -> None:
    """A reward that is not told changes nothing, and an actor survives that none is."""
    module, worlds = case.module(), case.worlds()
    experience, _ = case.lived(module, worlds, blind=1.0)
    untold = replace(experience, told=torch.zeros_like(experience.told))
    other = replace(untold, reward=untold.reward + 1)
    with torch.no_grad():
        (decision, memory), (same, after) = (case.learner.along(module, seen) for seen in (untold, other))
    mask = experience.mask
    expect_close(
        decision.policy.log_prob(experience.action)[mask],
        same.policy.log_prob(experience.action)[mask],
        "rewards that were not told change decisions",
    )
    for here, there in _pairs(memory, after):
        expect_close(here, there, "rewards that were not told change the memory")


def check_hidden_is_for_critics(case: ActorCase) -> None:
    """The hidden parameters of a task reach no decision."""
    module, worlds = case.module(), case.worlds()
    experience, _ = case.lived(module, worlds)
    other = replace(experience, hidden=experience.hidden + 1)
    with torch.no_grad():
        policy, same = (case.learner.along(module, seen)[0].policy for seen in (experience, other))
    for here, there in zip(policy, same, strict=True):
        expect_close(here, there, "the hidden parameters of a task change what is decided")


def check_provides(case: ActorCase) -> None:
    """``"decisions"``: those along what happened are differentiable in θ; ``"policy"``: they have values too.

    A loss of the actor's own has one number for each step.
    """
    if not case.learner.provides & {"decisions", "policy"}:
        raise SkipTest("it provides no policy to improve")
    module, worlds = case.module().train(), case.worlds()
    experience, _ = case.lived(module, worlds)
    decision, _ = case.learner.along(module, experience)
    loss = decision.policy.log_prob(experience.action).sum()
    if "policy" in case.learner.provides:
        expect(decision.value is not None, "along() gives no values; a policy gradient needs a critic.")
        assert decision.value is not None
        expect(decision.value.shape == experience.reward.shape, "values must be [tasks, time].")
        loss = loss + decision.value.sum()
    if decision.auxiliary is not None:
        expect(decision.auxiliary.shape == experience.reward.shape, "a loss of its own must be [tasks, time].")
        loss = loss + decision.auxiliary[experience.mask].sum()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [value.grad for value in module.parameters() if value.grad is not None]
    expect(gradients and all(g.isfinite().all() for g in gradients), "the gradient in θ is missing or not finite.")
    expect(any(g.any() for g in gradients), "the gradient is zero in all of θ.")


def check_state_dict_round_trip(case: ActorCase) -> None:
    """θ loaded into a freshly built module acts the same."""
    module, worlds = case.module(), case.worlds()
    other = fresh_module(clone(case.learner), case.tasks.info, seed=99).double().eval()
    other.load_state_dict(copied(module.state_dict()))
    here, there = (case.lived(one, worlds)[0] for one in (module, other))
    expect(
        torch.equal(here.action, there.action),
        "a freshly built module with the same state_dict acts otherwise; keep all of θ in parameters and buffers.",
    )


def check_learns(case: ActorCase) -> None:
    """After a short meta-training it clearly gets more than acting at random."""
    if case.learner.default_meta_optimizer is None:
        raise SkipTest("it has nothing to meta-train")
    training = case.training(LOOKS[-1])
    worlds = case.tasks.sample(N_JUDGED, split="test", seed=1)
    chance = _random_scores(worlds)
    for n_steps in LOOKS:
        training.run_to(n_steps / LOOKS[-1])
        with torch.no_grad():
            scores = judge(case.learner, copied(training.module).eval(), worlds).scores.double()
        if clearly_positive(scores - chance):
            return
    raise AssertionError(
        f"after {LOOKS[-1]} outer steps it gets {scores.mean():.3f}, and acting at random {chance.mean():.3f}."
    )


def _random_scores(worlds: Environments) -> Tensor:
    """Scores of acting at random in every task."""
    actor = ActsAtRandom()
    with torch.no_grad():
        return judge(actor, actor.build(worlds.info), worlds).scores.double()


def check_search_space(case: ActorCase) -> None:
    """Names are constructor parameters, defaults lie inside, and whatever is drawn can be built and acts."""
    worlds = case.tasks.sample(2, seed=0)
    for learner in check_space(case.learner, case.tasks.info):
        module = fresh_module(learner, case.tasks.info, seed=0).eval()
        with torch.no_grad():
            judge(learner, module, worlds)


Check = Callable[[Any], None]
ACTOR_CHECKS: tuple[Check, ...] = (
    check_promises_are_kept,
    check_build_is_seeded,
    check_shapes,
    check_acting_is_pure,
    check_tasks_are_independent,
    check_along_is_acting,
    check_memory_lasts,
    check_untold_rewards,
    check_hidden_is_for_critics,
    check_provides,
    check_state_dict_round_trip,
    check_learns,
    check_search_space,
)
