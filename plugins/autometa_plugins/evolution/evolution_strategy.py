"""Evolution strategies (Salimans et al. 2017): follow the fitness of candidates around θ, without a derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.evolution.genome import Genome

if TYPE_CHECKING:
    from optuna import Trial


class EvolutionStrategy(am.MetaOptimizer):
    """Step along random directions in which candidates for θ do better than their mirror images.

    Salimans et al. 2017, algorithm 1 with mirrored sampling and fitness shaping (section 2.1); with a learner that
    adapts by gradient steps this is ES-MAML (Song et al. 2020, algorithm 3). Nothing is differentiated, so any learner
    with parameters can be meta-trained, by any fitness. All candidates of a step see the same tasks (common random
    numbers) and run together where the learner allows it, see :class:`autometa.PopulationLosses`. Candidates use batch
    norm by the examples given and do not touch its running averages, which follow θ, once a step.

    Parameters
    ----------
    population : int, default=16
        Pairs of candidates θ + σε and θ - σε of a step. More pairs, a less noisy step.
    sigma : float, default=0.05
        Standard deviation σ of the candidates' distance from θ.
    lr : float, default=0.02
    optimizer : str, default="adam"
        Any class of ``torch.optim`` that needs nothing but a learning rate.
    schedule : {"constant", "cosine", "step"}, default="cosine"
        Of the learning rate over meta-training, as in meta-optimizer "gradient".
    weight_decay : float, default=0.0
    fitness : {"loss", "score"}, default="loss"
        "loss": the mean query loss after adapting. "score": the mean share of wrong classes, which has no gradient;
        for real targets the squared error.
    shaping : {"ranks", "none"}, default="ranks"
        "ranks": count candidates by their centred ranks, so that outliers do not matter. "none": count their fitness,
        which estimates the gradient of the smoothed fitness.
    parameters : sequence of str, optional
        Names of the parameters to evolve, in which ``*`` stands for anything; the others stay. None: all.
    strategy : {"auto", "vmap", "loop"}, default="auto"
        How candidates are run; the numbers are the same.

    References
    ----------
    T. Salimans, J. Ho, X. Chen, S. Sidor, I. Sutskever: Evolution Strategies as a Scalable Alternative to
    Reinforcement Learning. arXiv 1703.03864.

    X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano, Y. Tang: ES-MAML: Simple Hessian-Free Meta Learning.
    ICLR 2020.
    """

    shares_tasks: ClassVar[bool] = True

    def __init__(
        self,
        *,
        population: int = 16,
        sigma: float = 0.05,
        lr: float = 0.02,
        optimizer: str = "adam",
        schedule: Literal["constant", "cosine", "step"] = "cosine",
        weight_decay: float = 0.0,
        fitness: Literal["loss", "score"] = "loss",
        shaping: Literal["ranks", "none"] = "ranks",
        parameters: Sequence[str] | None = None,
        strategy: Literal["auto", "vmap", "loop"] = "auto",
    ) -> None:
        self.population = population
        self.sigma = sigma
        self.lr = lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.fitness = fitness
        self.shaping = shaping
        self.parameters = parameters
        self.strategy = strategy

    def start(self, learner: am.Learner | am.Actor, module: nn.Module, info: am.TaskInfo) -> None:
        """Take over ``module``."""
        whose = "meta-optimizer 'evolution_strategy'"
        am.check_int("population", self.population, of=whose)
        am.check_real("sigma", self.sigma, above=0, of=whose, such_as=0.05)
        am.check_choice("shaping", self.shaping, ("ranks", "none"), of=whose)
        self.learner_: Any = learner
        self.module_ = module
        self.genome_ = Genome(module, self.parameters)
        self.losses_ = am.PopulationLosses(learner, module, fitness=self.fitness, strategy=self.strategy)
        self.seed_: int | None = None
        self.update_ = am.ParameterUpdate(
            module,
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )

    def draw(self, sampler: am.TaskSampler, n_tasks: int, seed: int) -> am.TaskBatch | am.Environments:
        """Draw the batch for one step, and the seed of its candidates, which all processes share."""
        self.seed_ = am.derive_seed(seed, "candidates")
        batch: am.TaskBatch | am.Environments = super().draw(sampler, n_tasks, seed)
        return batch

    def step(self, batch: am.TaskBatch | am.Environments) -> dict[str, Tensor]:
        """Take one step; record the mean query loss of θ before it, and the candidates' mean fitness."""
        with torch.no_grad():
            loss = am.judge(self.learner_, self.module_, batch).losses.mean()
            noise = self._noise()
            offsets = self.sigma * torch.cat([noise, -noise])
            fitness = self.losses_(self.genome_.named(self.genome_.read() + offsets), batch).mean(dim=1)
            if self.average is not None:
                (fitness,) = self.average([fitness])
            slope = estimate(noise, shaped(fitness) if self.shaping == "ranks" else fitness, self.sigma)
        self.update_.step([self.genome_.along(slope)], self.progress)
        return {"loss": loss, "fitness": fitness.mean()}

    def _noise(self) -> Tensor:
        """Standard normal directions [pairs, n]."""
        seed = int(torch.randint(2**62, ())) if self.seed_ is None else self.seed_
        self.seed_ = None
        theta = self.genome_.read()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(self.population, len(theta), generator=generator, dtype=theta.dtype)
        return noise.to(theta.device)

    def state_dict(self) -> dict[str, Any]:
        """State of the torch optimizer, and how candidates are run."""
        return {"update": self.update_.state_dict(), "strategy": self.losses_.strategy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.update_.load_state_dict(state["update"])
        self.losses_.strategy = state["strategy"]

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the candidates' distance and the learning rate."""
        return cls(
            sigma=trial.suggest_float("sigma", 0.01, 0.3, log=True),
            lr=trial.suggest_float("lr", 1e-3, 0.1, log=True),
        )


def shaped(fitness: Tensor) -> Tensor:
    """Ranks of the candidates [candidates], from -0.5 for the smallest to 0.5; equal ones share their mean rank.

    What is not a number counts as the largest.
    """
    fitness = fitness.nan_to_num(nan=torch.inf, posinf=torch.inf)
    less = (fitness.unsqueeze(0) < fitness.unsqueeze(1)).sum(dim=1)
    equal = (fitness.unsqueeze(0) == fitness.unsqueeze(1)).sum(dim=1)
    return (less + (equal - 1) / 2).to(fitness.dtype) / max(1, len(fitness) - 1) - 0.5


def estimate(noise: Tensor, fitness: Tensor, sigma: float) -> Tensor:
    """Gradient [n] of the fitness, from directions [pairs, n] and what was found there and opposite [2 pairs]."""
    ahead, behind = fitness.chunk(2)
    return (ahead - behind) @ noise / (2 * sigma * len(noise))
