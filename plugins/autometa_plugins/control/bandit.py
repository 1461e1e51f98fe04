"""Bandits: which arm pays best?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.bandit_actor import counts_before
from autometa_plugins.control.gittins import MOST_PULLS, indices

_BAR = 40
"""Characters of the longest bar in a picture."""
_MOST_SHOWN = 200
"""Pulls that a picture has room for."""


class Bandit(am.TaskSampler):
    """Arms that pay by distributions of their own; one episode of pulls, in which to find the best arm.

    What is best, for an actor that has to find out, follows from Bayes' rule: 6.660 for 5 arms and 10 pulls
    (``autometa_plugins.control.bandit_optimum``).

    Parameters
    ----------
    arms : int, default=5
    pulls : int, default=10
        Length of the episode. Up to 200, Gittins indices tell what to pull (``advice``).
    rewards : {"bernoulli", "gaussian"}, default="bernoulli"
        Bernoulli: an arm pays 1 with a probability that is uniform on [0, 1]. Gaussian: a normal number of deviation 1
        around a mean that is standard normal.
    """

    def __init__(
        self, *, arms: int = 5, pulls: int = 10, rewards: Literal["bernoulli", "gaussian"] = "bernoulli"
    ) -> None:
        self.arms = arms
        self.pulls = pulls
        self.rewards = rewards

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            There are not 2 to 1,000 arms, not 1 to 10,000 pulls, or the kind of rewards is not known.
        """
        whose = "task sampler 'bandit'"
        am.check_int("arms", self.arms, least=2, most=1000, of=whose)
        am.check_int("pulls", self.pulls, most=10_000, of=whose)
        am.check_choice("rewards", self.rewards, ("bernoulli", "gaussian"), of=whose)
        return am.TaskInfo(
            problem="control",
            input_shape=(1,),
            n_outputs=self.arms,
            n_shot=0,
            n_query=1,
            horizon=self.pulls,
            n_hidden=self.arms,
            adviser="finite-horizon Gittins index" if self.pulls <= MOST_PULLS else None,
            arms=self.rewards,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Arms:
        """Draw bandits, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        uniform = torch.from_numpy(am.draw_uniform((n_tasks, self.arms), seed, split, "arms"))
        is_bernoulli = self.rewards == "bernoulli"
        # Half a step of the generator from 0, whose inverse would be infinite.
        mean = uniform if is_bernoulli else math.sqrt(2) * (2 * (uniform + 2**-54) - 1).erfinv()
        kind = BernoulliArms if is_bernoulli else GaussianArms
        return kind(info=info, key=am.draw_keys(n_tasks, seed, split), mean=mean.float())


@dataclass(frozen=True, kw_only=True)
class Arms(am.TensorEnvironments):
    """Bandits with means of their arms, [tasks, arms]; what an arm pays is for subclasses."""

    mean: Tensor

    n_noise: ClassVar[int] = 1
    has_fixed_length: ClassVar[bool] = True
    picture_key: ClassVar[str] = (
        "From left to right, one pull after the other: + paid more than nothing, - did not. Before it the mean of the "
        "arm, with a star at the best one."
    )

    @property
    def hidden(self) -> Tensor:
        """Means of the arms."""
        return self.mean

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of pulling at random, and of pulling the best arm."""
        pulls = self.info.horizon
        return {"random": self.mean.mean(1) * pulls, "best": self.mean.amax(1) * pulls}

    def advice(self, experience: am.Experience) -> Tensor:
        """Tell the arms of the largest Gittins index by what was known, the first of several.

        Raises
        ------
        Incompatible
            There are more than 200 pulls.
        """
        if self.info.adviser is None or self.info.arms is None:
            raise am.Incompatible(
                f"nobody can tell which arm to pull in {self.info.horizon} pulls; Gittins indices are known for "
                f"{MOST_PULLS} at most."
            )
        known = counts_before(experience, self.mean.shape[1])
        return indices(self.info.arms, self.info.horizon, known).argmax(-1)

    def picture(self, task: int) -> str:
        """Write down the mean of every arm, with a bar from the smallest; a star is at the best one."""
        means = self.mean[task].tolist()
        low, high = min([0.0, *means]), max([1.0, *means])
        bars = ["=" * round(_BAR * (value - low) / (high - low)) for value in means]
        return "\n".join(f"{name} {bar}".rstrip() for name, bar in zip(self._names(task), bars, strict=True))

    def picture_of(self, experience: am.Experience, task: int, episode: int) -> str | None:
        """Show when each arm was pulled and what it paid: + more than nothing, - nothing or less; None: too many pulls.

        Before that stands its mean, with a star at the best one.
        """
        steps = experience.of_episode(task, episode)
        pulls = list(zip(steps.action.tolist(), steps.reward.tolist(), strict=True))
        if len(pulls) > _MOST_SHOWN:
            return None
        rows = [
            "".join(" " if arm != other else "+" if paid > 0 else "-" for other, paid in pulls)
            for arm in range(self.mean.shape[1])
        ]
        return "\n".join(f"{name} |{row}|" for name, row in zip(self._names(task), rows, strict=True))

    def _names(self, task: int) -> list[str]:
        """Name the arms by number and mean, the best one with a star."""
        means = self.mean[task].tolist()
        wide = len(str(len(means) - 1))
        return [f"arm {arm:>{wide}} {mean:5.2f}{'*' if mean == max(means) else ' '}" for arm, mean in enumerate(means)]

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Nothing changes in a bandit."""
        return {}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show 1, always."""
        return self.mean.new_ones(len(self), 1)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Pull an arm."""
        mean = self.mean.gather(1, action.unsqueeze(1)).squeeze(1)
        return state, self.pay(mean, noise[:, 0].to(mean)), torch.zeros_like(action, dtype=torch.bool)

    def pay(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Return what arms of these means pay, [tasks], from uniform numbers."""
        raise NotImplementedError


class BernoulliArms(Arms):
    """Arms that pay 1 or nothing."""

    def pay(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Return 1 with the probability of the arm."""
        return (noise < mean).to(mean)


class GaussianArms(Arms):
    """Arms that pay normal numbers."""

    def pay(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Return a number around the mean."""
        return mean + math.sqrt(2) * (2 * noise - 1).erfinv()
