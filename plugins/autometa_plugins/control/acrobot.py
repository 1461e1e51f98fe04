"""Two links that hang from a bar, with constants of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.varied_physics import check_spread, draw_constants, draw_factors

_TIME_STEP = 0.2
_GRAVITY = 9.8
_FASTEST = (4 * math.pi, 9 * math.pi)


class Acrobot(am.TaskSampler):
    """Swing two links up by the joint between them (Sutton 1996), as Gymnasium's ``Acrobot-v1``, with other constants.

    Masses of both links (1 kg), length of the first (1 m, its centre of mass half-way), place of the second one's
    centre of mass (0.5 m from the joint), moment of inertia of each link (1 kg m²) and the torque at the joint (1 N m)
    are each multiplied by a factor of the task. Actions turn to one side, do nothing, or turn to the other. A step
    costs 1 until the end of the second link, were both 1 m long, is 1 m above the bar: that step costs nothing and ends
    the episode. The actor sees cosine and sine of both angles (of the first link from hanging down, of the second from
    the first), and both angular speeds (rad/s).

    Parameters
    ----------
    spread : float, default=1.5
        Factors are between 1 / ``spread`` and ``spread``, uniform in their logarithm; 1: as in Gymnasium.
    steps : int, default=500
        Most steps of an episode, 0.2 seconds each.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(self, *, spread: float = 1.5, steps: int = 500, n_shot: int = 2, n_query: int = 1) -> None:
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
        check_spread(self.spread, "task sampler 'acrobot'")
        for name, least, most in (("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'acrobot'")
        return am.TaskInfo(
            problem="control",
            input_shape=(6,),
            n_outputs=3,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=6,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Acrobots:
        """Draw acrobots, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        factors = draw_factors(n_tasks, info.n_hidden, self.spread, seed, split)
        return Acrobots(info=info, key=am.draw_keys(n_tasks, seed, split), factors=factors)


@dataclass(frozen=True, kw_only=True)
class Acrobots(am.TensorEnvironments):
    """Pairs of links.

    Parameters
    ----------
    factors : Tensor of shape [tasks, 6]
        Of the masses of the first and the second link, length of the first, place of the centre of mass of the second,
        moments of inertia, and torque.
    """

    factors: Tensor

    n_start_noise: ClassVar[int | None] = 4

    @property
    def hidden(self) -> Tensor:
        """Logarithms of the factors."""
        return self.factors.log()

    def picture(self, task: int) -> str:
        """Write down what the constants of Gymnasium's acrobot are multiplied by."""
        names = ("mass 1", "mass 2", "length 1", "centre of mass 2", "moments of inertia", "torque")
        return draw_constants(dict(zip(names, self.factors[task].tolist(), strict=True)))

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Hang down, almost at rest: angles and speeds within 0.1."""
        return {"links": 0.2 * (noise.to(self.factors) - 0.5)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show both angles by their cosines and sines, and the speeds."""
        first, second, spin_1, spin_2 = state["links"].unbind(1)
        return torch.stack([first.cos(), first.sin(), second.cos(), second.sin(), spin_1, spin_2], 1)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Turn the joint for one time step, by the fourth-order rule of Runge and Kutta."""
        links, step, body = state["links"], _TIME_STEP, Body.of(self.factors)
        torque = (action - 1) * self.factors[:, 5]
        slope_1 = body.slope(links, torque)
        slope_2 = body.slope(links + step / 2 * slope_1, torque)
        slope_3 = body.slope(links + step / 2 * slope_2, torque)
        slope_4 = body.slope(links + step * slope_3, torque)
        after = links + step / 6 * (slope_1 + 2 * (slope_2 + slope_3) + slope_4)
        angles = torch.remainder(after[:, :2] + math.pi, 2 * math.pi) - math.pi
        spins = (after[:, 2 + i].clamp(-fastest, fastest) for i, fastest in enumerate(_FASTEST))
        after = torch.stack([*angles.unbind(1), *spins], 1)
        is_up = -angles[:, 0].cos() - angles.sum(1).cos() > 1
        return {"links": after}, is_up.to(after) - 1, is_up


@dataclass(frozen=True, slots=True)
class Body:
    """What follows from the constants of acrobots, each [tasks]: inertias in kg m², moments of gravity in N m."""

    lever: Tensor
    """Inertia that the second link has for the first when both are in line, beyond that at rest."""
    own: Tensor
    """Inertia of the second link around the joint."""
    whole: Tensor
    """Inertia of both around the bar where the second is at right angles to the first."""
    weight_1: Tensor
    """Largest moment of gravity at the bar by the first link, with the second hung at its end."""
    weight_2: Tensor
    """Largest moment of gravity at the joint."""

    @classmethod
    def of(cls, factors: Tensor) -> Self:
        """Work them out from factors [tasks, 6]."""
        mass_1, mass_2, length, centre_2, inertia, _ = factors.unbind(1)
        centre_1, centre_2 = 0.5 * length, 0.5 * centre_2
        own = mass_2 * centre_2.square() + inertia
        return cls(
            lever=mass_2 * length * centre_2,
            own=own,
            whole=mass_1 * centre_1.square() + mass_2 * length.square() + inertia + own,
            weight_1=_GRAVITY * (mass_1 * centre_1 + mass_2 * length),
            weight_2=_GRAVITY * mass_2 * centre_2,
        )

    def slope(self, links: Tensor, torque: Tensor) -> Tensor:
        """Return how fast angles and speeds change, [tasks, 4], by the equations of Sutton & Barto's book."""
        angle_1, angle_2, spin_1, spin_2 = links.unbind(1)
        inline, across = self.lever * angle_2.cos(), self.lever * angle_2.sin()
        joint, whole = self.own + inline, self.whole + 2 * inline
        fall_2 = self.weight_2 * (angle_1 + angle_2).sin()
        fall_1 = self.weight_1 * angle_1.sin() + fall_2 - across * spin_2 * (spin_2 + 2 * spin_1)
        share = joint / whole
        turn_2 = (torque + share * fall_1 - across * spin_1.square() - fall_2) / (self.own - share * joint)
        turn_1 = -(joint * turn_2 + fall_1) / whole
        return torch.stack([spin_1, spin_2, turn_1, turn_2], 1)
