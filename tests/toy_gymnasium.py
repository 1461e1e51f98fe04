"""An environment of one's own, which registers itself with Gymnasium where it is imported."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Switches(gymnasium.Env):
    """Of three switches, numbered from 5, one pays ``pays`` and ends the episode; the others cost 0.1.

    It shows how many were pressed, counted from 2; ``shift`` is added to the number of the right switch, as a property
    whose setter works it out.
    """

    observation_space = spaces.Discrete(6, start=2)
    action_space = spaces.Discrete(3, start=5)
    resistance = 1.0

    def __init__(self, pays: float = 1.0, colour: str = "red", fails: str = "never") -> None:
        self.pays, self.colour, self.fails = pays, colour, fails
        self.shift = 0

    @property
    def shift(self) -> int:
        return self._right - 5

    @shift.setter
    def shift(self, value: int) -> None:
        self._right = 5 + value

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.pressed, self.noise = 0, float(self.np_random.random())
        return np.int64(2), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        if self.fails == "raises":
            raise RuntimeError("a fuse blew")
        self.pressed += 1
        right = bool(action == self._right)
        reward = self.pays if right else -0.1 * self.resistance - 1e-3 * self.noise
        shown = 99 if self.fails == "shows" else 2 + min(self.pressed, 5)
        return np.int64(shown), np.nan if self.fails == "pays" else reward, right, False, {}


class Endless(Switches):
    """Is registered without a limit of its steps, and takes real numbers without bounds."""

    action_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)


gymnasium.register("Switches-v0", entry_point=Switches, max_episode_steps=9)
gymnasium.register("Endless-v0", entry_point=Endless)
