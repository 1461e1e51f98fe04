"""A pendulum to swing up, with constants of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.varied_physics import check_spread, draw_constants, draw_factors

_TIME_STEP = 0.05
_GRAVITY, _MASS, _LENGTH, _TORQUE = 10.0, 1.0, 1.0, 2.0
_FASTEST = 8.0


class Pendulum(am.TaskSampler):
    """Swing a pendulum up and hold it there, as in Gymnasium's ``Pendulum-v1``, with other constants.

    Gravity (10 m/s²), mass (1 kg) and length (1 m) of the rod, and the torque that an action makes (1 N m each unit, of
    2 at most) are each multiplied by a factor of the task. A step costs θ² + 0.1 ω² + 0.001 u²: angle from upright
    (rad), angular speed (rad/s, 8 at most) and action before it. An episode starts at any angle with up to 1 rad/s. The
    actor sees cos θ, sin θ and ω.

    Parameters
    ----------
    spread : float, default=1.5
        Factors are between 1 / ``spread`` and ``spread``, uniform in their logarithm; 1: as in Gymnasium.
    steps : int, default=200
        Of an episode, 0.05 seconds each.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(self, *, spread: float = 1.5, steps: int = 200, n_shot: int = 2, n_query: int = 1) -> None:
        self.spread = spread
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            A number is not within its bounds, which the error tells.
        """
        check_spread(self.spread, "task sampler 'pendulum'")
        for name, least, most in (("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'pendulum'")
        return am.TaskInfo(
            problem="control",
            input_shape=(3,),
            n_outputs=1,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            action_bounds=((-_TORQUE,), (_TORQUE,)),
            n_hidden=4,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Pendulums:
        """Draw pendulums, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        factors = draw_factors(n_tasks, info.n_hidden, self.spread, seed, split)
        return Pendulums(info=info, key=am.draw_keys(n_tasks, seed, split), factors=factors)


@dataclass(frozen=True, kw_only=True)
class Pendulums(am.TensorEnvironments):
    """Rods that turn around one end.

    Parameters
    ----------
    factors : Tensor of shape [tasks, 4]
        Of gravity, mass, length and torque.
    """

    factors: Tensor

    n_start_noise: ClassVar[int | None] = 2
    has_fixed_length: ClassVar[bool] = True

    @property
    def hidden(self) -> Tensor:
        """Logarithms of the factors."""
        return self.factors.log()

    def picture(self, task: int) -> str:
        """Write down what the constants of Gymnasium's pendulum are multiplied by."""
        names = ("gravity", "mass", "length", "torque")
        return draw_constants(dict(zip(names, self.factors[task].tolist(), strict=True)))

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Start at any angle, slowly."""
        angle, spin = (2 * noise.to(self.factors) - 1).unbind(1)
        return {"angle": math.pi * angle, "spin": spin}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the angle by its cosine and sine, and the angular speed."""
        return torch.stack([state["angle"].cos(), state["angle"].sin(), state["spin"]], 1)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Turn by a torque, cut to its bounds."""
        gravity, mass, length, strength = self.factors.unbind(1)
        angle, spin, torque = state["angle"], state["spin"], action[:, 0].clamp(-_TORQUE, _TORQUE)
        from_upright = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = from_upright.square() + 0.1 * spin.square() + 0.001 * torque.square()
        fall = 1.5 * _GRAVITY * gravity / (_LENGTH * length) * angle.sin()
        push = 3 * torque * strength / (_MASS * mass * (_LENGTH * length).square())
        spin = (spin + _TIME_STEP * (fall + push)).clamp(-_FASTEST, _FASTEST)
        return {"angle": angle + _TIME_STEP * spin, "spin": spin}, -cost, torch.zeros_like(cost, dtype=torch.bool)
