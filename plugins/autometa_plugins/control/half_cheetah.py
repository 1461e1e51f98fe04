"""Half-cheetahs of MuJoCo that run to one side, or at one speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

import autometa as am
from autometa_plugins.control.registered import import_gymnasium, make_varied

_WHOSE = "task sampler 'half_cheetah'"
_CONTROL_COST = 0.05
_N_JOINTS, _N_SEEN = 6, 17


class HalfCheetah(am.TaskSampler):
    """Run to one side, or at one speed, that the half-cheetah is not told (Finn et al. 2017, MAML, section 5.3).

    The body is Gymnasium's ``HalfCheetah-v5`` with its 17 observations and 6 torques u in [-1, 1]. A step of 0.05 s at
    the speed v (m/s) pays d v - 0.05 |u|² where the side is d = -1 or 1, and -|v - w| - 0.05 |u|² where the speed is w.
    It needs MuJoCo (extra ``mujoco``).

    Parameters
    ----------
    task : {"direction", "velocity"}
        Sides have the same probability; speeds are uniform.
    fastest : float, default=2.0
        Speeds are from 0 to it: 2 in MAML, 3 in PEARL (Rakelly et al. 2019) and VariBAD (Zintgraf et al. 2020).
    steps : int, default=200
        Of an episode.
    n_shot : int, default=2
        Episodes before those that are judged.
    n_query : int, default=1
        Episodes that are judged.
    """

    def __init__(
        self,
        *,
        task: str | None = None,
        fastest: float = 2.0,
        steps: int = 200,
        n_shot: int = 2,
        n_query: int = 1,
    ) -> None:
        self.task = task
        self.fastest = fastest
        self.steps = steps
        self.n_shot = n_shot
        self.n_query = n_query

    @property
    def tasks_recur(self) -> bool:  # type: ignore[override]
        """True of sides, of which there are two."""
        return self.task == "direction"

    @property
    def info(self) -> am.TaskInfo:
        """Shapes and sizes of the tasks drawn.

        Raises
        ------
        InvalidParameter
            The task is none of the two, or a number is not within its bounds, which the error tells.
        """
        am.check_choice("task", self.task, ("direction", "velocity"), of=_WHOSE)
        am.check_real("fastest", self.fastest, above=0, most=100, of=_WHOSE)
        for name, least, most in (("steps", 1, 100_000), ("n_shot", 0, 1000), ("n_query", 1, 1000)):
            am.check_int(name, getattr(self, name), least=least, most=most, of=_WHOSE)
        return am.TaskInfo(
            problem="control",
            input_shape=(_N_SEEN,),
            n_outputs=_N_JOINTS,
            n_shot=self.n_shot,
            n_query=self.n_query,
            horizon=self.steps,
            action_bounds=((-1.0,) * _N_JOINTS, (1.0,) * _N_JOINTS),
            n_hidden=1,
        )

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> Cheetahs:
        """Draw what is wanted, see :meth:`autometa.TaskSampler.sample`; MuJoCo is needed when they act."""
        am.check_draw(n_tasks, split, seed)
        info = self.info
        uniform = torch.from_numpy(am.draw_uniform((n_tasks,), seed, split, self.task or ""))
        is_side = self.task == "direction"
        wanted = 2.0 * (uniform < 0.5) - 1 if is_side else self.fastest * uniform
        return Cheetahs(info=info, key=am.draw_keys(n_tasks, seed, split), wanted=wanted, is_side=is_side)


@dataclass(frozen=True, kw_only=True)
class Cheetahs(am.GymnasiumEnvironments):
    """Half-cheetahs that are to do what is wanted.

    Parameters
    ----------
    wanted : Tensor of shape [tasks], float64
        Sides, or speeds.
    is_side : bool
    """

    wanted: Tensor
    is_side: bool

    has_fixed_length: ClassVar[bool] = True

    @property
    def hidden(self) -> Tensor:
        """Side or speed."""
        return self.wanted.unsqueeze(1).to(self.place)

    def make(self, task: int) -> Any:
        """Make the half-cheetah of row ``task``."""
        body = make_varied("HalfCheetah-v5", {}, self.info.horizon)
        return _paid_for(body, float(self.wanted[task]), self.is_side)

    def picture(self, task: int) -> str | None:
        """Tell what is wanted."""
        return f"{'side' if self.is_side else 'speed'} {float(self.wanted[task]):.4g}"


def _paid_for(body: Any, wanted: float, is_side: bool) -> Any:
    """Return a wrapper of Gymnasium that pays for a side or a speed."""
    base: Any = import_gymnasium(_WHOSE).Wrapper

    class Paid(base):
        """Pays for what the task wants."""

        def step(self, action: Any) -> Any:
            observation, _, terminated, truncated, facts = self.env.step(action)
            speed = float(facts["x_velocity"])
            gain = wanted * speed if is_side else -abs(speed - wanted)
            reward = gain - _CONTROL_COST * float((action**2).sum())
            return observation, reward, terminated, truncated, facts

    return Paid(body)
