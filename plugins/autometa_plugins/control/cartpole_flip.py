"""A pole on a cart whose two buttons may be swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.cart_and_pole import EDGE, LARGEST_ANGLE, has_fallen, pushed, started
from autometa_plugins.control.varied_physics import draw_constants

_CART, _POLE = 1.0, 0.1


class CartPoleFlip(am.TaskSampler):
    """Balance a pole when it is not known which action pushes to which side; a fall costs 1, and the pole stands again.

    The sides are swapped in half of the tasks. Half the length of the pole is uniform on [0.25, 1] m, gravity on
    [5, 15] m/s², the force of a push on [5, 15] N; cart and pole weigh 1 and 0.1 kg (Barto, Sutton & Anderson 1983).
    Who does not remember what its actions did falls about ten times in 200 steps; who knows the sides does not fall.

    The actor sees position and angle as shares of the largest ones, both speeds (m/s, rad/s), and whether it fell just
    now.

    Parameters
    ----------
    steps : int, default=200
        Of an episode, 0.02 seconds each.
    n_shot : int, default=0
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(self, *, steps: int = 200, n_shot: int = 0, n_query: int = 1) -> None:
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            A size is not a whole number within its bounds, which the error tells.
        """
        for name, least, most in (("steps", 1, 10_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of="task sampler 'cartpole_flip'")
        return am.TaskInfo(
            problem="control",
            input_shape=(5,),
            n_outputs=2,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            n_hidden=4,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> SwappedCarts:
        """Draw carts, see :meth:`autometa.TaskSampler.sample`."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        uniform = torch.from_numpy(am.draw_uniform((n_tasks, 4), seed, split, "physics")).float()
        return SwappedCarts(
            info=info,
            key=am.draw_keys(n_tasks, seed, split),
            right=(uniform[:, 0] < 0.5).float() * 2 - 1,
            length=0.25 + 0.75 * uniform[:, 1],
            gravity=5 + 10 * uniform[:, 2],
            force=5 + 10 * uniform[:, 3],
        )


@dataclass(frozen=True, kw_only=True)
class SwappedCarts(am.TensorEnvironments):
    """Carts with a pole each.

    Parameters
    ----------
    right : Tensor of shape [tasks]
        1 where action 1 pushes to the right, -1 where action 0 does.
    length, gravity, force : Tensor of shape [tasks]
        Half the length of the pole (m), gravity (m/s²), force of a push (N).
    """

    right: Tensor
    length: Tensor
    gravity: Tensor
    force: Tensor

    n_noise: ClassVar[int] = 4
    has_fixed_length: ClassVar[bool] = True

    @property
    def hidden(self) -> Tensor:
        """Side, length, gravity and force, each from -1 to 1."""
        return torch.stack([self.right, (self.length - 0.625) / 0.375, self.gravity / 5 - 2, self.force / 5 - 2], 1)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Who knows the task never falls."""
        return {"best": torch.zeros_like(self.right)}

    def picture(self, task: int) -> str:
        """Write down which way action 1 pushes, and the constants."""
        names = ("length", "gravity", "force")
        way = "right" if self.right[task] > 0 else "left"
        constants = {name: float(getattr(self, name)[task]) for name in names}
        return f"action 1 pushes to the {way}\n{draw_constants(constants, '')}"

    def initial(self, noise: Tensor) -> dict[str, Tensor]:
        """Stand in the middle."""
        return {"body": started(noise.to(self.right)), "fell": torch.zeros_like(self.right)}

    def observation(self, state: dict[str, Tensor]) -> Tensor:
        """Show body and fall, in numbers of like size."""
        place, speed, angle, spin = state["body"].unbind(1)
        return torch.stack([place / EDGE, speed, angle / LARGEST_ANGLE, spin, state["fell"]], 1)

    def change(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Push; whoever falls stands in the middle again."""
        force = self.right * self.force * (2 * action - 1)
        body = pushed(state["body"], force, gravity=self.gravity, length=self.length, cart=_CART, pole=_POLE)
        fell = has_fallen(body)
        body = torch.where(fell.unsqueeze(1), started(noise.to(body)), body)
        return {"body": body, "fell": fell.to(body)}, -fell.to(body), torch.zeros_like(fell)
