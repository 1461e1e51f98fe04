"""Any registered environment of Gymnasium, whose parameters or attributes differ from task to task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.registered import make_varied, spec_of
from autometa_plugins.control.varied import Varied, read_vary

_WHOSE = "task sampler 'gymnasium'"


class GymnasiumTasks(am.TaskSampler):
    """Environments of Gymnasium (Towers et al. 2024) that are made, for each task, with values of its own.

    A name in ``vary`` is a parameter of the environment's constructor, or else an attribute of ``env.unwrapped``, which
    is set before the first episode. What a constructor works out from an attribute does not follow by itself: of the
    classic environments it is known (mass and moment of CartPole's pole, bounds of the actions of Pendulum and of the
    continuous MountainCar); an environment of your own takes such values in its constructor, or as a property whose
    setter works out the rest. Attributes of a model of MuJoCo are reached by neither.

    Every episode is seeded from the task's key. It is cut off by the environment's own time limit. Observations and
    actions are Box or Discrete; bounds of actions are finite, and the same in all tasks. Environments are made anew for
    every trial, as many as there are tasks, so what is slow to make asks for few tasks at once.

    Parameters
    ----------
    env : str
        An id, such as ``"CartPole-v1"``; ``"module:Name-v0"`` imports a module that registers it, in every process.
    vary : mapping from str to (low, high) or list, optional
        A pair, or ``{"low": ..., "high": ...}`` where a file knows no pairs: uniform real numbers. A list: its items,
        numbers, texts, True or False, with the same probability.
    steps : int, optional
        Most steps of an episode, at most 100,000. None: as the environment is registered.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.

    Examples
    --------
    >>> import autometa as am
    >>> tasks = am.make_tasks("gymnasium", env="CartPole-v1", vary={"gravity": (5.0, 15.0), "length": [0.5, 1]})
    >>> tasks.info.horizon, tasks.info.input_shape, tasks.info.n_outputs
    (500, (4,), 2)
    >>> tasks.sample(2, seed=0).hidden.shape
    torch.Size([2, 2])
    """

    names_code: ClassVar[frozenset[str]] = frozenset({"env"})

    def __init__(
        self,
        *,
        env: str | None = None,
        vary: Mapping[str, Any] | None = None,
        steps: int | None = None,
        n_shot: int = 2,
        n_query: int = 1,
    ) -> None:
        self.env = env
        self.vary = vary
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def tasks_recur(self) -> bool:  # type: ignore[override]
        """True unless a number is drawn from a range."""
        return all(one.choices for one in read_vary(self.vary, _WHOSE))

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            The environment is not registered, has nothing of a name in ``vary``, or no limit of its steps; or a number
            is not within its bounds, which the error tells.
        Incompatible
            A space is neither Box nor Discrete, a bound of actions is infinite, or tasks differ in spaces.
        MissingData
            Gymnasium, or what the environment needs, is not installed.
        """
        for name, least, most in (("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of=_WHOSE)
        am.check_int("steps", self.steps, most=100_000, also=(None,), of=_WHOSE)
        varied = read_vary(self.vary, _WHOSE)
        spec = spec_of(self.env)
        told = (spec, varied, self.steps, self.n_shot, self.n_query)
        seen = getattr(self, "_seen", None)
        if seen is None or seen[0] != repr(told):
            self._seen = seen = (repr(told), self._look(varied))
        return seen[1]

    def _look(self, varied: tuple[Varied, ...]) -> am.TaskInfo:
        """Make two environments to see what they show and take."""
        first = self._info_with({one.name: one.first for one in varied}, varied)
        last = self._info_with({one.name: one.last for one in varied}, varied)
        for name in ("input_shape", "n_outputs", "action_bounds"):
            ours, theirs = getattr(first, name), getattr(last, name)
            if ours != theirs:
                raise am.Incompatible(
                    f"vary={self.vary!r:.200} of {_WHOSE} changes what all tasks have in common: {name} is {ours} in "
                    f"one and {theirs} in another."
                )
        return first

    def _info_with(self, values: Mapping[str, Any], varied: tuple[Varied, ...]) -> am.TaskInfo:
        made = make_varied(str(self.env), values, self.steps)
        try:
            if self.steps is None and made.spec.max_episode_steps is None:
                raise am.InvalidParameter(
                    f"steps=None of {_WHOSE} must be a number: {self.env} is registered without a limit of its steps."
                )
            n_hidden = sum(one.width for one in varied)
            return am.GymnasiumEnvironments.info_of(
                made, n_shot=self.n_shot, n_query=self.n_query, n_hidden=n_hidden, horizon=self.steps
            )
        finally:
            made.close()

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> VariedEnvironments:
        """Draw the values of tasks, see :meth:`autometa.TaskSampler.sample`; nothing is made yet."""
        am.check_draw(n_tasks, split, seed)
        info, varied = self.info, read_vary(self.vary, _WHOSE)
        columns = [one.drawn(am.draw_uniform((n_tasks,), seed, split, "vary", one.name)) for one in varied]
        numbers = torch.zeros(n_tasks, len(varied), dtype=torch.float64)
        for i, column in enumerate(columns):
            numbers[:, i] = torch.from_numpy(column)
        return VariedEnvironments(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            numbers=numbers,
            env=str(self.env),
            varied=varied,
            steps=self.steps,
        )


@dataclass(frozen=True, kw_only=True)
class VariedEnvironments(am.GymnasiumEnvironments):
    """Environments that are registered under one id.

    Parameters
    ----------
    numbers : Tensor of shape [tasks, values], float64
        Values of ranges, and places of choices in their lists.
    env : str
    varied : tuple of Varied
    steps : int, optional
    """

    numbers: Tensor
    env: str
    varied: tuple[Varied, ...]
    steps: int | None

    @property
    def hidden(self) -> Tensor:
        """What differs: numbers as they are, choices that are no numbers one-hot."""
        coded = [one.coded(self.numbers[:, i]) for i, one in enumerate(self.varied)]
        return torch.cat(coded, 1).to(self.place) if coded else self.place.new_zeros(len(self), 0)

    def make(self, task: int) -> Any:
        """Make the environment of row ``task``."""
        row = self.numbers[task].tolist()
        values = {one.name: one.value(number) for one, number in zip(self.varied, row, strict=True)}
        return make_varied(self.env, values, self.steps)

    def picture(self, task: int) -> str | None:
        """Tell the values of a task."""
        row = self.numbers[task].tolist()
        texts = [f"{one.name} = {_told(one.value(number))}" for one, number in zip(self.varied, row, strict=True)]
        return "\n".join(texts) or None


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
