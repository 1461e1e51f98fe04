"""Posterior sampling for reinforcement learning."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.tabular_actor import Counts, Processes, ProcessFacts, TabularActor


class PSRL(TabularActor):
    """Draw a process from what is believed, and do for an episode what is best in it (Osband et al. 2013).

    An actor decides by probabilities. So several processes are drawn, each is followed with the same probability, and
    what was done in the episode tells which ones it may still be. The prior is that of ``TabularActor``.

    Every planning of a task draws anew, from numbers that follow from a seed and from all states and actions before.
    Tasks in which the same was done and seen draw the same, as all of them do before the first step.

    Parameters
    ----------
    draws : int, default=16
        Processes drawn from the posterior of every task. The more, the less do tasks have in common by chance; the
        mean return is the same.
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

    def supposed(self, module: ProcessFacts, counts: Counts, past: Tensor) -> Processes:
        """Draw processes from the posterior of each task, from numbers of its own."""
        seed = int(module.get_buffer("seed"))
        parameter = (counts.prior + counts.led).cpu().double().numpy()
        chances, arounds = [], []
        for mine, key in zip(parameter, past.tolist(), strict=True):
            generator = np.random.default_rng((seed, key % 2**64))
            arounds.append(generator.standard_normal((self.draws, *mine.shape[:-1])))
            weight = generator.standard_gamma(mine, (self.draws, *mine.shape))
            chances.append(weight[..., :-1] / weight.sum(-1, keepdims=True))
        chance, around = (torch.from_numpy(np.stack(part)).to(counts.led) for part in (chances, arounds))
        return Processes(chance, counts.mean_paid.unsqueeze(1) + around / (1 + counts.told).sqrt().unsqueeze(1))
