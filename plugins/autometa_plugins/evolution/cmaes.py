"""CMA-ES (Hansen & Ostermeier 2001): candidates from a normal distribution whose shape is learned with its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.evolution.genome import Genome

if TYPE_CHECKING:
    from cmaes import CMA  # type: ignore[import-untyped]
    from optuna import Trial

MOST = 1000
"""Numbers beyond which the covariance matrix takes longer to keep than it saves."""


class CMAES(am.MetaOptimizer):
    """Evolve a few hundred numbers by covariance matrix adaptation; θ is the distribution's mean.

    Hansen 2016, figure 6, by the package ``cmaes``. Nothing is differentiated. Unlike "evolution_strategy" it learns
    step sizes and correlations of the numbers. It is for learners with few parameters, or with a few of them chosen by
    ``parameters``. All candidates of a step see the same tasks; they treat batch norm and run as in
    "evolution_strategy".

    Parameters
    ----------
    sigma : float, default=0.1
        First standard deviation of the candidates.
    population : int or "auto", default="auto"
        Candidates of a step. "auto": 4 + 3 log n, rounded down, for n numbers.
    fitness : {"loss", "score"}, default="loss"
        "loss": the mean query loss after adapting. "score": the mean share of wrong classes, which has no gradient;
        for real targets the squared error.
    parameters : sequence of str, optional
        Names of the parameters to evolve, in which ``*`` stands for anything; the others stay. None: all.
    strategy : {"auto", "vmap", "loop"}, default="auto"
        How candidates are run; the numbers are the same.

    References
    ----------
    N. Hansen, A. Ostermeier: Completely Derandomized Self-Adaptation in Evolution Strategies. Evolutionary
    Computation 9(2), 2001.

    N. Hansen: The CMA Evolution Strategy: A Tutorial. arXiv 1604.00772.

    M. Nomura, M. Shibata: cmaes: A Simple yet Practical Python Library for CMA-ES. arXiv 2402.01373.
    """

    def __init__(
        self,
        *,
        sigma: float = 0.1,
        population: int | Literal["auto"] = "auto",
        fitness: Literal["loss", "score"] = "loss",
        parameters: Sequence[str] | None = None,
        strategy: Literal["auto", "vmap", "loop"] = "auto",
    ) -> None:
        self.sigma = sigma
        self.population = population
        self.fitness = fitness
        self.parameters = parameters
        self.strategy = strategy

    def start(self, learner: am.Learner | am.Actor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``.

        Raises
        ------
        MissingData
            The package ``cmaes`` is not installed.
        Incompatible
            There is nothing to evolve, or too much.
        """
        try:
            from cmaes import CMA
        except ImportError:
            raise am.MissingData(
                "meta-optimizer 'cmaes' needs the package cmaes; install autometa with the extra 'evolution'."
            ) from None
        am.check_real("sigma", self.sigma, above=0, of="meta-optimizer 'cmaes'", such_as=0.1)
        am.check_int("population", self.population, least=2, also=("auto",), of="meta-optimizer 'cmaes'")
        self.learner_: Any = learner
        self.module_ = module
        self.genome_ = Genome(module, self.parameters)
        if len(self.genome_) > MOST:
            raise am.Incompatible(
                f"meta-optimizer 'cmaes' is for {MOST} numbers at most, and {len(self.genome_)} of "
                f"{type(learner).__name__} are to evolve; choose some by parameters=[...], of which there are "
                f"{[name for name, _ in module.named_parameters()]}, or use meta_optimizer='evolution_strategy'."
            )
        self.losses_ = am.PopulationLosses(learner, module, fitness=self.fitness, strategy=self.strategy)
        self.seed_: int | None = None
        size = None if self.population == "auto" else self.population
        mean = self.genome_.read().double().cpu().numpy()
        self.distribution_ = _plain(CMA(mean, self.sigma, population_size=size))

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.TaskBatch | am.Environments:
        """Draw the batch for one step, and the seed of its candidates."""
        self.seed_ = am.derive_seed(seed, "candidates")
        batch: am.TaskBatch | am.Environments = super().draw(sampler, n_tasks, seed)
        return batch

    def step(self, batch: am.TaskBatch | am.Environments) -> dict[str, Tensor]:
        """Take one step; record the mean query loss of θ before it, and the candidates' mean fitness."""
        theta, cma = self.genome_.read(), _made(self.distribution_)
        seed = int(torch.randint(2**62, ())) if self.seed_ is None else self.seed_
        self.seed_ = None
        cma.reseed_rng(seed % 2**32)
        candidates = [cma.ask() for _ in range(cma.population_size)]
        with torch.no_grad():
            loss = am.judge(self.learner_, self.module_, batch).losses.mean()
            vectors = torch.from_numpy(np.stack(candidates)).to(theta)
            fitness = self.losses_(self.genome_.named(vectors), batch).mean(dim=1)
        values = fitness.nan_to_num(nan=torch.inf, posinf=torch.inf).tolist()
        cma.tell(list(zip(candidates, values, strict=True)))
        self.genome_.write(torch.from_numpy(cma.mean).to(theta))
        self.distribution_ = _plain(cma)
        return {"loss": loss, "fitness": fitness.mean()}

    def state_dict(self) -> dict[str, Any]:
        """The distribution, and how candidates are run."""
        return {"distribution": dict(self.distribution_), "strategy": self.losses_.strategy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.distribution_ = dict(state["distribution"])
        self.losses_.strategy = state["strategy"]

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the first standard deviation."""
        return cls(sigma=trial.suggest_float("sigma", 0.01, 1.0, log=True))


def _plain(cma: CMA) -> dict[str, Any]:
    """What the package would pickle, as tensors and numbers: all but its random state.

    Every step starts from this, so that one that goes on from a checkpoint starts from the same bits.
    """
    plain: dict[str, Any] = {}
    for name, value in cma.__getstate__().items():
        if isinstance(value, np.generic):
            value = value.item()
        plain[name] = torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
    return plain


def _made(plain: dict[str, Any]) -> CMA:
    from cmaes import CMA

    cma = CMA.__new__(CMA)
    cma.__setstate__({k: v.numpy().copy() if isinstance(v, Tensor) else v for k, v in plain.items()})
    return cma
