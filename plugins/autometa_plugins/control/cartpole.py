"""A pole on a cart, with constants of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.cart_and_pole import has_fallen, pushed, started
from autometa_plugins.control.varied_physics import check_spread, draw_constants, draw_factors

_SURE_SPREAD = 2.0
"""Up to here one linear feedback balances every pole."""
_GRAVITY, _LENGTH, _FORCE, _CART, _POLE = 9.8, 0.5, 10.0, 1.0, 0.1


class CartPole(am.TaskSampler):
    """Balance a pole on a cart (Barto, Sutton & Anderson 1983), as Gymnasium's ``CartPole-v1``, with other constants.

    Gravity (9.8 m/s²), half the length of the pole (0.5 m), the force of a push (10 N) and the masses of cart and pole
    (1 and 0.1 kg) are each multiplied by a factor of the task. A step pays 1; an episode ends where the pole leans by
    more than 12 degrees or the cart is 2.4 m from the middle. The actor sees position (m), speed (m/s), angle (rad) and
    angular speed (rad/s).

    Parameters
    ----------
    spread : float, default=2.0
        Factors are between 1 / ``spread`` and ``spread``, uniform in their logarithm; 1: as in Gymnasium.
    steps : int, default=200
        Most steps of an episode, 0.02 seconds each.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(self, *, spread: float = 2.0, steps: int = 200, n_shot: int = 2, n_query: int = 1) -> None:
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
        check_spread(self.spread, "task sampler 'cartpole'")
        for name, least, most in (("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'cartpole'")
        return am.TaskInfo(
            problem="control",
            input_shape=(4,),
            n_outputs=2,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=5,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Carts:
        """Draw carts, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        factors = draw_factors(n_tasks, info.n_hidden, self.spread, seed, split)
        return Carts(info=info, key=am.draw_keys(n_tasks, seed, split), factors=factors, spread=self.spread)


@dataclass(frozen=True, kw_only=True)
class Carts(am.TensorEnvironments):
    """Carts with a pole each.

    Parameters
    ----------
    factors : Tensor of shape [tasks, 5]
        Of gravity, length, force, mass of the cart and of the pole.
    spread : float
        Largest factor that may be drawn.
    """

    factors: Tensor
    spread: float

    n_start_noise: ClassVar[int | None] = 4

    @property
    def hidden(self) -> Tensor:
        """Logarithms of the factors."""
        return self.factors.log()

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """All steps, where it is known that every pole can be balanced: factors from 0.5 to 2."""
        best = torch.full_like(self.factors[:, 0], float(self.info.horizon))
        return {"best": best} if self.spread <= _SURE_SPREAD else {}

    def picture(self, task: int) -> str:
        """Write down what the constants of Gymnasium's cart are multiplied by."""
        names = ("gravity", "length of the pole", "force", "mass of the cart", "mass of the pole")
        return draw_constants(dict(zip(names, self.factors[task].tolist(), strict=True)))

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Stand in the middle."""
        return {"body": started(noise.to(self.factors))}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show the body."""
        return state["body"]

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Push."""
        gravity, length, force, cart, pole = self.factors.unbind(1)
        body = pushed(
            state["body"],
            (2 * action - 1) * _FORCE * force,
            gravity=_GRAVITY * gravity,
            length=_LENGTH * length,
            cart=_CART * cart,
            pole=_POLE * pole,
        )
        return {"body": body}, torch.ones_like(force), has_fallen(body)
