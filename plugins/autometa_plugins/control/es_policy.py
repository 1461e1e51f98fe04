"""ES-MAML's policy: it adapts without a derivative, by trying neighbours of its weights."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.bounded import Bounded

if TYPE_CHECKING:
    from optuna import Trial

_SHARPNESS = 30.0
"""Outputs of so much less than 1 decide firmly: a real action is at its bound, a choice has odds of e to one."""
_SPREAD = 1e-3
"""Standard deviation of real actions, as a share of half the way between their bounds."""
_DISTINCT_ROUNDS = 64
"""Rounds after which directions recur."""


class ESPolicy(am.RoundActor):
    """A small deterministic policy, whose weights climb by what their neighbours got in an episode each.

    Song et al. 2020, ES-MAML, section 3: hill climbing or a gradient by evolution as the adaptation, and evolution as
    the meta-training, so that nothing is differentiated. Episode ``i`` of round ``r`` acts with the weights moved by
    ``step * decay ** r`` along a direction of its own, which is random, fixed, and the same in all tasks and for all
    candidates of the evolution. A world with fewer episodes to adapt in than ``candidates`` has one shorter round; with
    one episode there is nothing to compare, and nothing is learned.

    Parameters
    ----------
    method : {"climb", "gradient"}, default="climb"
        "climb": go on with the best of the weights tried, the present ones among them. "gradient": try pairs of
        opposite neighbours, and step towards those that got more, by returns that are standardised in each round.
    candidates : int, default=5
        Episodes of a round, 2 to 100, each with weights of its own.
    step : float, default=0.1
        How far weights are tried along each axis in the first round: the standard deviation. An output of 1/30 is at
        the bound of a real action. Meta-training starts from here if it learns steps.
    decay : float, default=0.6
        Factor of the step from each round to the next, above 0 and at most 1.
    rounds : int, default=4
        Rounds after which the step begins anew.
    learn_step : bool, default=True
        Whether meta-training learns ``step`` and ``decay`` too.
    hidden_size : int, default=0
        Units of the hidden layer; 0: the policy is linear.

    References
    ----------
    X. Song, W. Gao, Y. Yang, K. Choromanski, A. Pacchiano, Y. Tang: ES-MAML: Simple Hessian-Free Meta Learning.
    ICLR 2020.
    """

    name: ClassVar[str] = "es_policy"
    default_meta_optimizer: ClassVar[str | None] = "evolution/evolution_strategy"
    provides: ClassVar[frozenset[str]] = frozenset()
    learns_from_others: ClassVar[bool] = False
    greedy = True

    def __init__(
        self,
        *,
        method: Literal["climb", "gradient"] = "climb",
        candidates: int = 5,
        step: float = 0.1,
        decay: float = 0.6,
        rounds: int = 4,
        learn_step: bool = True,
        hidden_size: int = 0,
    ) -> None:
        self.method = method
        self.candidates = candidates
        self.step = step
        self.decay = decay
        self.rounds = rounds
        self.learn_step = learn_step
        self.hidden_size = hidden_size

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``step`` and ``decay`` may change only where they are not learned."""
        fixed: frozenset[str] = frozenset() if self.learn_step else frozenset({"step", "decay"})
        return frozenset({"method", "rounds"}) | fixed

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the weights to start from, directions to try, and steps if they are learned."""
        self._check()
        am.check_int("candidates", self.candidates, least=2, most=100, of="learner 'es_policy'")
        am.check_int("hidden_size", self.hidden_size, least=0, most=1024, of="learner 'es_policy'")
        return ClimbingPolicy(
            info, self.hidden_size, self.candidates, (self.step, self.decay) if self.learn_step else None
        )

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        """Start from θ: ``weights`` [tasks, n], and ``round`` [tasks]."""
        assert isinstance(module, ClimbingPolicy)
        weights = module.start()
        number = torch.zeros(n_tasks, dtype=torch.int64, device=weights.device)
        return {"weights": weights.expand(n_tasks, -1), "round": number}

    def round_size(self, module: nn.Module) -> int:
        """Return the candidates."""
        assert isinstance(module, ClimbingPolicy)
        return module.directions.shape[1]

    def decide(
        self, module: nn.Module, memory: dict[str, Tensor], observation: Tensor, episode: Tensor | None = None
    ) -> am.Decision:
        """Decide by the weights, or while exploring by those of the episode; see :meth:`RoundActor.decide`."""
        assert isinstance(module, ClimbingPolicy)
        weights = memory["weights"].unsqueeze(1)
        if episode is not None:
            number = memory["round"].unsqueeze(1)
            weights = weights + self._offsets(module, number, episode)
        return am.Decision(module.decide(weights, observation), None)

    @torch.no_grad()
    def adapt(self, module: nn.Module, memory: dict[str, Tensor], experience: am.Experience) -> dict[str, Tensor]:
        """Move the weights of every task by the returns of a round.

        An episode counts if it was lived through and all its rewards were told.
        """
        assert isinstance(module, ClimbingPolicy)
        self._check()
        returns, counts = _returns(experience, self.round_size(module))
        number = memory["round"].unsqueeze(1)
        if self.method == "climb":
            best = torch.where(counts, returns, -torch.inf).argmax(1, keepdim=True)  # the first one if none counts
            move = self._offsets(module, number, best).squeeze(1)
        else:
            n_pairs = returns.shape[1] // 2
            move = _slope(returns[:, : 2 * n_pairs], counts[:, : 2 * n_pairs])
            ahead = torch.arange(0, 2 * n_pairs, 2, device=number.device).expand(len(number), -1)
            move = (move.unsqueeze(2) * self._offsets(module, number, ahead)).sum(1) / n_pairs**0.5
        return {"weights": memory["weights"] + move, "round": memory["round"] + 1}

    def _offsets(self, module: ClimbingPolicy, number: Tensor, episode: Tensor) -> Tensor:
        """Return how far from the present weights those of episodes [tasks, n] are; ``number`` [tasks, 1] of rounds."""
        step, decay = module.steps() or (self.step, self.decay)
        size = step * decay ** (number % self.rounds).to(module.directions)
        number = number % _DISTINCT_ROUNDS
        if self.method == "climb":
            return size.unsqueeze(2) * module.directions[number, episode]
        # Pairs of opposite directions; an episode without a partner has the present weights.
        sign = 1 - 2 * (episode % 2)
        sign = torch.where(episode < module.directions.shape[1] // 2 * 2, sign, 0)
        return (size * sign).unsqueeze(2) * module.directions[number, episode // 2 + 1]

    def _check(self) -> None:
        whose = "learner 'es_policy'"
        am.check_choice("method", self.method, ("climb", "gradient"), of=whose)
        am.check_real("step", self.step, above=0, of=whose, such_as=0.1)
        am.check_real("decay", self.decay, above=0, most=1, of=whose, such_as=0.6)
        am.check_int("rounds", self.rounds, of=whose)
        am.check_bool("learn_step", self.learn_step, of=whose)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the step, the hidden layer and the candidates."""
        return cls(
            step=trial.suggest_float("step", 0.01, 0.3, log=True),
            hidden_size=trial.suggest_categorical("hidden_size", [0, 16]),
            candidates=trial.suggest_categorical("candidates", [5, 10]),
        )


class ClimbingPolicy(Bounded):
    """A policy to start from, and the directions in which it is tried.

    Parameters
    ----------
    info : TaskInfo
    hidden_size : int
        0: the policy is linear.
    candidates : int
    steps : (step, decay), optional
        Learned from there on; None: not learned.
    """

    directions: Tensor
    """Standard normal [rounds, candidates, weights]; the first candidate of each round stays where it is."""

    def __init__(
        self, info: am.TaskInfo, hidden_size: int, candidates: int, steps: tuple[float, float] | None = None
    ) -> None:
        super().__init__(info)
        sizes = [math.prod(info.input_shape), *([hidden_size] if hidden_size else []), info.n_outputs]
        layers: list[nn.Module] = []
        for width, out in itertools.pairwise(sizes):
            layers += [nn.Linear(width, out), nn.Tanh()]
        self.policy = nn.Sequential(*layers[:-1])
        for parameter in self.policy[-1].parameters():
            nn.init.zeros_(parameter)  # whatever is tried is tried from no opinion
        self.learned = None if steps is None else nn.Parameter(torch.tensor(steps).log())
        n_weights = sum(parameter.numel() for parameter in self.policy.parameters())
        uniform = torch.from_numpy(am.draw_uniform((_DISTINCT_ROUNDS, candidates, n_weights), 0, "es_policy"))
        directions = math.sqrt(2) * (2 * uniform.clamp(min=1e-12) - 1).erfinv()
        directions[:, 0] = 0
        # The same in every process: nothing that a file has to hold.
        self.register_buffer("directions", directions.to(torch.get_default_dtype()), persistent=False)

    def start(self) -> Tensor:
        """Return the weights to start from, [n]."""
        return torch.cat([parameter.flatten() for parameter in self.policy.parameters()])

    def steps(self) -> tuple[Tensor, Tensor] | None:
        """Return the learned step and its decay, or None."""
        if self.learned is None:
            return None
        step, decay = self.learned.exp()
        return step, decay

    def decide(self, weights: Tensor, observation: Tensor) -> am.Choice | am.Normal:
        """Return what weights [tasks, n or 1, weights] decide for observations [tasks, n, *observation]."""
        x, place = observation.flatten(2), 0
        for layer in self.policy:
            if not isinstance(layer, nn.Linear):
                x = layer(x)
                continue
            width, out = layer.in_features, layer.out_features
            matrix = weights[..., place : place + width * out].reshape(*weights.shape[:-1], out, width)
            bias = weights[..., place + width * out : place + (width + 1) * out]
            x, place = (matrix * x.unsqueeze(-2)).sum(-1) + bias, place + (width + 1) * out
        if self.is_choice:
            return self.decided(_SHARPNESS * x, None)
        return self.decided((_SHARPNESS * x).clamp(-1, 1), (_SPREAD * self.reach).log())


def _returns(experience: am.Experience, n_episodes: int) -> tuple[Tensor, Tensor]:
    """Return what every episode of a round got, and whether it counts, each [tasks, episodes]."""
    number = experience.episode.clamp(max=n_episodes - 1)
    zeros = experience.reward.new_zeros(len(experience), n_episodes)
    lived = zeros.scatter_add(1, number, experience.mask.to(zeros))
    untold = zeros.scatter_add(1, number, (experience.mask & ~experience.told).to(zeros))
    return experience.returns(n_episodes), (lived > 0) & (untold == 0)


def _slope(returns: Tensor, counts: Tensor) -> Tensor:
    """Return by how many standard deviations the first of every pair is ahead of the middle of both, [tasks, pairs].

    Pairs that are not complete count as level.
    """
    ahead, behind = returns[:, 0::2], returns[:, 1::2]
    whole = counts[:, 0::2] & counts[:, 1::2]
    n = 2 * whole.sum(1, keepdim=True).clamp(min=1)
    mean = ((ahead + behind) * whole).sum(1, keepdim=True) / n
    variance = (((ahead - mean).square() + (behind - mean).square()) * whole).sum(1, keepdim=True) / n
    return torch.where(whole, (ahead - behind) / 2, 0.0) / (variance.sqrt() + 1e-8)
