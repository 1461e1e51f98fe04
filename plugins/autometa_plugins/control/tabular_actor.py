"""Actors that know they are in a Markov decision process, count what happens in it, and plan by that."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.value_iteration import from_the_last

MOST_WORK = 20_000_000
"""Probabilities that the plans of an episode go through, of each task: a second or so for ten tasks."""
MOST_PLANNED = 250_000
"""Actions that the plans of each task hold: 1 MB."""
_NUMBERS_AT_ONCE = 2**23
"""Probabilities that are held at a time: 32 MiB."""
_ROUNDING = 1e-5
"""Values that differ by less, of their size, count as equal: the choice must not depend on the processor."""
_FACTOR, _TERM = 6364136223846793005, 1442695040888963407
"""Of a linear congruential generator modulo 2**64 (Knuth 1997, section 3.3.4, MMIX)."""


class Counts(NamedTuple):
    """What is known of a process; real numbers."""

    led: Tensor
    """How often an action led from a state to each state or, in the last place, to the end of the episode in the
    world [..., states, actions, states + 1]."""
    told: Tensor
    """How often its reward was told [..., states, actions]."""
    paid: Tensor
    """Sum of these rewards [..., states, actions]."""

    @property
    def prior(self) -> Tensor:
        """Parameters of the Dirichlet distribution before anything is counted: 1 for each state, 0 for the end."""
        prior = torch.ones_like(self.led)
        prior[..., -1] = 0
        return prior

    @property
    def mean_paid(self) -> Tensor:
        """Posterior mean of the rewards, which are normal with deviation 1 around a mean that is itself N(1, 1)."""
        return (1 + self.paid) / (1 + self.told)


class Processes(NamedTuple):
    """Processes that may be those of the tasks, some of each."""

    chance: Tensor
    """Probability of every next state; the rest is that of the end [tasks, some, states, actions, states]."""
    reward: Tensor
    """Mean rewards [tasks, some, states, actions]."""


class ProcessFacts(nn.Module):
    """What is known of processes before the first step.

    Parameters
    ----------
    n_states, n_actions : int
    horizon : int
        Most steps of an episode.
    """

    nothing: Tensor

    def __init__(self, n_states: int, n_actions: int, horizon: int) -> None:
        super().__init__()
        self.n_states, self.n_actions, self.horizon = n_states, n_actions, horizon
        self.register_buffer("nothing", torch.zeros(n_states, n_actions, n_states + 1))


class TabularActor(am.Actor):
    """Plans in one or more processes that may be that of the task; there is nothing to meta-train.

    Where there are several, each is followed with the same probability from one planning to the next: the policy is
    what those say that agree with all that was done since. Subclasses have a ``name``.

    Chances of the next state are uniform on the simplex before anything was seen, and rewards are normal with deviation
    1 around a mean that is normal around 1 with deviation 1. That an action ends the episode in the world is expected
    where it was seen.
    """

    name: ClassVar[str]
    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    @property
    def n_processes(self) -> int:
        """Processes that are planned in."""
        return 1

    @property
    def plans_at_every_step(self) -> bool:
        """Whether it plans anew at every step, or at the first of each episode."""
        return False

    @abstractmethod
    def supposed(self, module: ProcessFacts, counts: Counts, past: Tensor) -> Processes:
        """Return processes to plan in, ``n_processes`` of each task.

        Parameters
        ----------
        module : ProcessFacts
        counts : Counts
            Of some tasks.
        past : Tensor of shape [tasks], int64
            Any number that is another one at every step, and in tasks in which something else was done or seen: who
            draws at random draws by it.
        """

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the processes; there is nothing to learn.

        Raises
        ------
        Incompatible
            The tasks are no processes whose states are seen, or are too large to plan in.
        """
        if not info.tabular or len(info.input_shape) != 1 or info.action_bounds is not None:
            raise am.Incompatible(
                f"learner {self.name!r} is for Markov decision processes whose state is seen; tabular of the tasks' "
                f"info is {info.tabular}."
            )
        states, actions, horizon = info.input_shape[0], info.n_outputs, info.horizon
        plans = self.n_processes * (horizon if self.plans_at_every_step else 1)
        if (work := work_of(states, actions, horizon, plans=plans)) > MOST_WORK:
            raise am.Incompatible(
                f"learner {self.name!r} would go through {work:,} probabilities in an episode of {states} states, "
                f"{actions} actions and {horizon} steps, {MOST_WORK:,} at most; use smaller processes or fewer plans."
            )
        if (size := self.n_processes * horizon * states) > MOST_PLANNED:
            raise am.Incompatible(
                f"learner {self.name!r} would keep {size:,} planned actions of each task ({self.n_processes} plans of "
                f"{horizon} steps in {states} states), {MOST_PLANNED:,} at most; use smaller processes or fewer plans."
            )
        return ProcessFacts(states, actions, horizon)

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        """Nothing has happened."""
        assert isinstance(module, ProcessFacts)
        nothing = module.nothing.expand(n_tasks, -1, -1, -1)
        counts = Counts(nothing, nothing[..., 0], nothing[..., 0])
        plan = nothing.new_zeros(n_tasks, self.n_processes, module.horizon, module.n_states, dtype=torch.int32)
        age = plan.new_zeros(n_tasks, dtype=torch.int64)
        return {**counts._asdict(), "age": age, "past": age, "plan": plan, "agrees": plan[:, :, 0, 0] == 0}

    def act(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor
    ) -> tuple[am.Decision, dict[str, Tensor]]:
        """Decide by the plans, made anew where that is due."""
        assert isinstance(module, ProcessFacts)
        age = memory["age"].clamp(max=module.horizon - 1)
        due = torch.ones_like(age, dtype=torch.bool) if self.plans_at_every_step else memory["age"] == 0
        if bool(due.any()):
            plan, agrees = memory["plan"].clone(), memory["agrees"] | due.unsqueeze(1)
            counts = Counts(*(memory[name][due] for name in Counts._fields))
            plan[due] = self._plans(module, counts, memory["past"][due], age[due])
            memory = {**memory, "plan": plan, "agrees": agrees}
        said = _said(memory["plan"], age, observation)
        share = memory["agrees"].to(module.nothing)
        share = share.new_zeros(len(share), module.n_actions).scatter_add(1, said, share)
        return am.Decision(am.Choice((share / share.sum(1, keepdim=True)).clamp(min=1e-30).log()), None), memory

    def observe(self, module: nn.Module, memory: dict[str, Tensor], transition: am.Transition) -> dict[str, Tensor]:
        """Count what happened, and who had said that."""
        assert isinstance(module, ProcessFacts)
        state, after = transition.observation.argmax(1), transition.next_observation.argmax(1)
        place = torch.arange(len(state), device=state.device), state, transition.action
        after = after.masked_fill(transition.terminated, module.n_states)
        told = transition.told.to(module.nothing)
        counts = {
            "led": memory["led"].index_put((*place, after), torch.ones_like(told), True),
            "told": memory["told"].index_put(place, told, True),
            "paid": memory["paid"].index_put(place, told * transition.reward.to(told), True),
        }
        said = _said(memory["plan"], memory["age"].clamp(max=module.horizon - 1), transition.observation)
        agrees = memory["agrees"] & (said == transition.action.unsqueeze(1))
        agrees = torch.where(agrees.any(1, keepdim=True), agrees, memory["agrees"])  # nobody's choice tells nothing
        age = (memory["age"] + 1).masked_fill(transition.ended, 0)
        happened = (state * module.n_actions + transition.action) * (module.n_states + 1) + after
        past = (memory["past"] + happened) * _FACTOR + _TERM
        return {**memory, **counts, "age": age, "past": past, "agrees": agrees}

    def _plans(self, module: ProcessFacts, counts: Counts, past: Tensor, age: Tensor) -> Tensor:
        """Return the best actions from the steps ``age`` [tasks] on, 0 before, [tasks, processes, horizon, states]."""
        at_once = max(1, _NUMBERS_AT_ONCE // (self.n_processes * module.nothing.numel()))
        first = int(age.min())
        parts = []
        for *part, mine in zip(*(torch.split(values, at_once) for values in (*counts, past)), strict=True):
            found = self.supposed(module, Counts(*part), mine)
            chance, reward = found.chance.flatten(0, 1), found.reward.flatten(0, 1)
            steps = [first_of_best(values) for values in from_the_last(chance, reward, module.horizon - first)]
            steps += [torch.zeros_like(steps[0])] * first
            plan = torch.stack(steps[::-1], 1)
            parts.append(plan.view(-1, self.n_processes, *plan.shape[1:]).int())
        is_past = torch.arange(module.horizon, device=age.device) < age.unsqueeze(1)
        return torch.cat(parts).masked_fill(is_past[:, None, :, None], 0)


def work_of(states: int, actions: int, horizon: int, *, plans: int) -> int:
    """Return how many probabilities so many plans of an episode go through."""
    return plans * horizon * states**2 * actions


def first_of_best(values: Tensor) -> Tensor:
    """Return the action of the largest of ``values`` [..., actions], the first of those that are equal to rounding."""
    best = values.amax(-1, keepdim=True)
    return (values >= best - _ROUNDING * (1 + best.abs())).to(torch.uint8).argmax(-1)


def _said(plan: Tensor, age: Tensor, observation: Tensor) -> Tensor:
    """Return what each process' plan says now, [tasks, processes]."""
    tasks = torch.arange(len(age), device=age.device)
    return plan[tasks, :, age, observation.argmax(1)].long()
