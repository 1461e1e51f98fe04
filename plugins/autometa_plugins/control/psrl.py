"""Posterior sampling for reinforcement learning."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.tabular_actor import Counts, Processes, ProcessFacts, TabularActor

_PROPOSALS = 4
"""Numbers that a gamma distribution proposes; all are refused once in 100,000 times."""


class PSRL(TabularActor):
    """Draw a process from what is believed, and do for an episode what is best in it (Osband et al. 2013).

    An actor decides by probabilities. So several processes are drawn, each is followed with the same probability, and
    what was done in the episode tells which ones it may still be. The prior is that of ``TabularActor``.

    Parameters
    ----------
    draws : int, default=16
        Processes drawn from the posterior of every task. The more, the less do episodes and tasks have in common by
        chance; the mean return is the same.
    """

    name: ClassVar[str] = "psrl"

    def __init__(self, *, draws: int = 16) -> None:
        self.draws = draws

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return what is known of the processes, and a seed; see :meth:`TabularActor.build`.

        Raises
        ------
        InvalidParameter
            ``draws`` is not a whole number from 1 to 1,000.
        """
        am.check_int("draws", self.draws, most=1000, of=f"learner {self.name!r}")
        facts = super().build(info)
        facts.register_buffer("seed", torch.randint(2**31, ()))
        return facts

    @property
    def n_processes(self) -> int:
        """Processes that are planned in."""
        return self.draws

    def supposed(self, module: ProcessFacts, counts: Counts) -> Processes:
        """Draw processes from the posterior of each task, from numbers that are the same for all of them."""
        generator = torch.Generator().manual_seed(int(module.get_buffer("seed")))
        shape = (_PROPOSALS, self.draws, *module.nothing.shape)
        normal = torch.randn(shape, generator=generator).to(counts.led)
        wait = torch.empty(shape).exponential_(generator=generator).to(counts.led)
        around = torch.randn(shape[1:-1], generator=generator).to(counts.led)
        parameter = (counts.prior + counts.led).unsqueeze(1)
        weight = gamma(parameter.clamp(min=1), normal, wait) * (parameter > 0)
        reward = counts.mean_paid.unsqueeze(1) + around / (1 + counts.told).sqrt().unsqueeze(1)
        return Processes(weight[..., :-1] / weight.sum(-1, keepdim=True), reward)


def gamma(parameter: Tensor, normal: Tensor, wait: Tensor) -> Tensor:
    """Draw from gamma distributions of scale 1 (Marsaglia & Tsang 2000).

    Parameters
    ----------
    parameter : Tensor
        At least 1.
    normal, wait : Tensor of shape [proposals, ...]
        Standard normal numbers, and waiting times of rate 1, that may be spent on each draw; ``[...]`` broadcasts with
        ``parameter``. Where all proposals are refused, the last one is taken.
    """
    found, is_refused = _proposal(parameter, normal[0], wait[0])
    for more, longer in zip(normal[1:], wait[1:], strict=True):
        places = is_refused.nonzero(as_tuple=True)
        again = (number.expand(found.shape)[places] for number in (parameter, more, longer))
        found[places], is_refused[places] = _proposal(*again)
    return found


def _proposal(parameter: Tensor, normal: Tensor, wait: Tensor) -> tuple[Tensor, Tensor]:
    """Return what may be a draw, and whether it is refused."""
    d = parameter - 1 / 3
    v = (1 + normal / (9 * d).sqrt()) ** 3
    v_positive = v.clamp(min=torch.finfo(v.dtype).tiny)
    return d * v_positive, (v <= 0) | (wait < d * v - d - d * v_positive.log() - normal.square() / 2)
