"""Many candidates for θ, judged on the same tasks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from autometa.checks import check_choice
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.environments import Environments
from autometa.contracts.examples import TaskBatch
from autometa.engine.judging import adapt_and_judge
from autometa.engine.other_values import call_with, places_of
from autometa.engine.random_state import seeded
from autometa.engine.running_averages import averages_of

Population = Mapping[str, Tensor]

_NUMBERS_AT_A_TIME = 2**22
"""Candidates go together while their inputs are no more than this many numbers."""
_MOST_ADAPTED = 2**16
"""A candidate that adapts more numbers than this fills the cache of a processor's core by itself."""


class PopulationLosses:
    """Judges candidates for θ by adapting with each of them to the same tasks; nothing is differentiated.

    All candidates meet the same tasks and draw the same random numbers. θ itself is left alone, the running averages
    of batch norm as well: a candidate that updates them updates a copy of its own.

    Parameters
    ----------
    learner : Learner or Actor
    module : nn.Module
        θ; candidates take the place of its parameters.
    fitness : {"loss", "score"}, default="loss"
        What a candidate is judged by; smaller is better. Its loss on the queries, or the score of its answers turned
        round if larger ones are better: the share of wrong classes, or the mean squared error.
    strategy : {"auto", "vmap", "loop"}, default="auto"
        How candidates are run: all in one call, or one after the other; the numbers are the same. "auto": in one call
        if that is possible, which the first call finds out by comparing the first candidates; some layers and all
        that depends on values cannot be. For 16 candidates with a small MLP on 4 tasks that is 2 to 5 times as fast on
        a CPU. Convolutions run one after the other there, and so does what adapts more than 65,536 numbers: each is up
        to 5 times as fast.

    Attributes
    ----------
    strategy : str
        ``"vmap"`` or ``"loop"`` once "auto" has decided, which may be set to go on with what an earlier run decided.

    Raises
    ------
    InvalidParameter
        ``fitness`` or ``strategy`` is not one of these.
    """

    def __init__(
        self, learner: BaseLearner, module: nn.Module, *, fitness: str = "loss", strategy: str = "auto"
    ) -> None:
        check_choice("fitness", fitness, ("loss", "score"))
        check_choice("strategy", strategy, ("auto", "vmap", "loop"))
        self.strategy = strategy
        self._judge = _Judge(learner, module, fitness)

    @torch.no_grad()
    def __call__(self, population: Population, batch: TaskBatch | Environments) -> Float[Tensor, "candidate task"]:
        """Loss, or error, of every candidate on every task.

        Parameters
        ----------
        population : dict of Tensor, each [candidates, *shape]
            By name in ``module``; parameters that are left out stay as they are.
        batch : TaskBatch or Environments
        """
        seed = int(torch.randint(2**62, ()))
        if self.strategy == "auto":
            return self._decide(population, batch, seed)
        return (self._together if self.strategy == "vmap" else self._in_turn)(population, batch, seed)

    def _decide(self, population: Population, batch: TaskBatch | Environments, seed: int) -> Tensor:
        self.strategy = "loop"
        device = _device(population)
        if _count(population) > 1 and not (device.type == "cpu" and _is_convolutional(self._judge.module)):
            # The first ones in turn come first: whatever is measured within is measured as it runs alone.
            first = self._in_turn({name: values[:2] for name, values in population.items()}, batch, seed)
            if device.type == "cpu" and self._judge.n_adapted > _MOST_ADAPTED:
                return self._in_turn(population, batch, seed)
            try:
                with warnings.catch_warnings():
                    # Operations without a rule of their own run one after the other, slowly.
                    warnings.filterwarnings("error", message="There is a performance drop")
                    losses = self._together(population, batch, seed)
            except Exception:
                pass  # something in it cannot be mapped; were it wrong in itself, it had failed in turn
            else:
                tolerance = torch.finfo(losses.dtype).eps ** 0.5
                if torch.allclose(losses[:2], first, rtol=tolerance, atol=tolerance, equal_nan=True):
                    self.strategy = "vmap"
                    return losses
        return self._in_turn(population, batch, seed)

    def _together(self, population: Population, batch: TaskBatch | Environments, seed: int) -> Tensor:
        count, x = _count(population), batch.inputs[-1]
        numbers = sum(part.numel() for part in (x if isinstance(x, tuple) else (x,)))

        def judge(candidate: dict[str, Tensor]) -> Tensor:
            return call_with(self._judge, places, candidate, batch, False)  # type: ignore[no-any-return]

        candidates = self._judge.with_own_statistics(population, count)
        places = places_of(self._judge, candidates)
        size = max(1, _NUMBERS_AT_A_TIME // max(1, numbers))
        # The other kernels of attention have no rule for candidates.
        with seeded(seed, _device(population)), sdpa_kernel(SDPBackend.MATH):
            return torch.vmap(judge, randomness="same", chunk_size=min(size, count))(candidates)

    def _in_turn(self, population: Population, batch: TaskBatch | Environments, seed: int) -> Tensor:
        count, losses = _count(population), []
        candidates = self._judge.with_own_statistics(population, count)
        places = places_of(self._judge, candidates)
        for values in zip(*(value.unbind() for value in candidates.values()), strict=True):
            with seeded(seed, _device(population)):
                losses.append(call_with(self._judge, places, dict(zip(candidates, values, strict=True)), batch))
        return torch.stack(losses)


class _Judge(nn.Module):
    """A learner's whole forward pass as a module, whose parameters can be replaced for one call."""

    def __init__(self, learner: BaseLearner, module: nn.Module, fitness: str) -> None:
        super().__init__()
        self.module = module
        self.learner = learner
        self.fitness = fitness
        self.n_adapted = 0
        """How many numbers the last candidate adapted, of all tasks."""

    def forward(self, batch: TaskBatch | Environments, may_wait: bool = True) -> Tensor:
        """Smaller is better, [tasks]; who may not wait depends on no value if that can be avoided."""
        adapted, outcome = adapt_and_judge(self.learner, self.module, batch, may_wait=may_wait)
        self.n_adapted = sum(leaf.numel() for leaf in pytree.tree_leaves(adapted) if isinstance(leaf, Tensor))
        return outcome.losses if self.fitness == "loss" else outcome.errors

    def with_own_statistics(self, population: Population, count: int) -> dict[str, Tensor]:
        """The candidates by their names here, each with a copy of the running averages that it will change."""
        candidates = {f"module.{name}": values for name, values in population.items()}
        for name, buffer in averages_of(self.module).items():
            candidates[f"module.{name}"] = buffer.expand(count, *buffer.shape).clone()
        return candidates


def _count(population: Population) -> int:
    return len(next(iter(population.values())))


def _device(population: Population) -> torch.device:
    return next(iter(population.values())).device


def _is_convolutional(module: nn.Module) -> bool:
    return any(isinstance(part, _ConvNd) for part in module.modules())
