"""A learned learning rule (Bengio et al. 1990): how weights change is meta-trained, and not where they start."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.evolution.small_network import Signals, outputs_of, propagate

if TYPE_CHECKING:
    from optuna import Trial

TERMS = ("err·pre", "trace", "post·pre", "err·post·pre", "err", "post", "err·post", "pre", "w", "1")
"""What a weight's change is a weighted sum of."""

RATE_TERMS = ("agreement", "size", "shift", "1")
"""What the change of a weight's log step size is a weighted sum of."""

MOST_SHIFT = 3.0
"""A weight's step size stays within this factor, in logarithms, of where all of them start."""


class LearnedRule(am.Learner):
    """A network whose update rule is meta-trained, a formula with 16 coefficients; its first weights are random.

    Every weight w moves by Δw = η Σ c_k term_k. The terms are the activity before the weight ("pre") and behind it
    ("post", for outputs a class's probability or the tanh of a real value), the back-propagated error behind it
    ("err"), products of these, the weight itself, and a fading trace of earlier err·pre; each a mean over the support
    examples. The step size adapts by a rule of the same kind, Δ log η = Σ d_k term_k, from the agreement of err·pre
    with its trace (their product over their mean square), the size of err·pre (its decimal logarithm), the shift of log
    η so far, and a constant. One rule serves all weights and biases (whose "pre" is 1). It starts as gradient descent,
    c = -1 for err·pre and 0 for all else; :func:`describe_rule` prints it.

    Only the coefficients are meta-trained: few enough for meta-optimizer "cmaes", and differentiable too. The weights
    are drawn once, and every task starts from them; in classification the output rows start at zero, so a task may
    have any number of classes in any order.

    Parameters
    ----------
    steps : int, default=5
        Applications of the rule to the support set.
    inner_lr : float, default=0.1
        η, where its meta-training starts.
    hidden : sequence of int, default=(32, 32)
        Widths of the hidden layers, of tanh units; inputs are flattened.

    References
    ----------
    Y. Bengio, S. Bengio, J. Cloutier: Learning a Synaptic Learning Rule. Technical report 751, Université de
    Montréal 1990.

    J. Schmidhuber: Evolutionary Principles in Self-Referential Learning. Diploma thesis, TU München 1987.

    B. Confavreux, F. Zenke, E. Agnes, T. Lillicrap, T. Vogels: A meta-learning approach to (re)discover plasticity
    rules that carry a desired function into a neural network. NeurIPS 2020, eq. 2.

    L. Metz, N. Maheswaranathan, B. Cheung, J. Sohl-Dickstein: Meta-Learning Update Rules for Unsupervised
    Representation Learning. ICLR 2019.
    """

    default_meta_optimizer: ClassVar[str | None] = "evolution/evolution_strategy"
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(self, *, steps: int = 5, inner_lr: float = 0.1, hidden: Sequence[int] = (32, 32)) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.hidden = hidden

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the rule, with the weights that every task starts from as buffers."""
        self._check()
        is_classification = info.problem_record.has_classes
        widths = [math.prod(info.input_shape), *map(int, self.hidden), 1 if is_classification else info.n_outputs]
        return Rule(widths, zero_outputs=is_classification, rate=self.inner_lr)

    def adapt(self, module: nn.Module, support: am.Examples) -> list[Tensor]:
        """Return every task's own weights, one tensor [tasks, n_out, n_in + 1] a layer, the biases last."""
        self._check()
        assert isinstance(module, Rule)
        weights = module.start(support)
        traces, shifts = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        for _ in range(self.steps):
            signals = propagate(weights, support)
            for layer, signal in enumerate(signals):
                weights[layer], traces[layer], shifts[layer] = module(
                    weights[layer], traces[layer], shifts[layer], signal
                )
        return weights

    def predict(self, module: nn.Module, adapted: list[Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return outputs_of(adapted, x)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'learned_rule'")
        am.check_real("inner_lr", self.inner_lr, above=0, of="learner 'learned_rule'")
        am.check_ints("hidden", self.hidden, may_be_empty=True, of="learner 'learned_rule'", such_as=(32, 32))

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and their first size."""
        return cls(
            steps=trial.suggest_int("steps", 1, 10),
            inner_lr=trial.suggest_float("inner_lr", 1e-2, 1.0, log=True),
        )


class Rule(nn.Module):
    """How the weights of one layer change in one step, and what all tasks start from.

    Parameters
    ----------
    widths : sequence of int
        Of the network, from inputs to outputs; one output that all classes share in classification.
    zero_outputs : bool
    rate : float
        η before meta-training.
    """

    def __init__(self, widths: Sequence[int], *, zero_outputs: bool, rate: float) -> None:
        super().__init__()
        sgd = torch.zeros(len(TERMS))
        sgd[0] = -1.0
        self.change = nn.Parameter(sgd)
        self.rate_change = nn.Parameter(torch.zeros(len(RATE_TERMS)))
        self.log_rate = nn.Parameter(torch.tensor(math.log(rate)))
        self.trace_logit = nn.Parameter(torch.tensor(2.0))
        self.n_layers = len(widths) - 1
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            linear = nn.Linear(n_in, n_out)
            weight = torch.cat([linear.weight, linear.bias.unsqueeze(1)], dim=1).detach()
            is_last = layer == self.n_layers - 1
            self.register_buffer(f"start_{layer}", torch.zeros_like(weight) if is_last and zero_outputs else weight)

    def start(self, support: am.Examples) -> list[Tensor]:
        """Weights before adapting, each [tasks, n_out, n_in + 1]."""
        weights = [self.get_buffer(f"start_{layer}") for layer in range(self.n_layers)]
        if support.is_classification:
            weights[-1] = weights[-1].expand(support.n_classes, -1)
        return [weight.expand(len(support), *weight.shape) for weight in weights]

    def forward(self, weight: Tensor, trace: Tensor, shift: Tensor, signals: Signals) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [tasks, n_out, n_in + 1] of a layer, their traces and the shifts of their log η after a step."""
        error = signals.err_pre()
        alike, sized, shifted, constant = self.rate_change.unbind()
        squares = error * error + 1e-8
        agreement = error * trace / (squares + trace * trace)
        # Twice the product over the sum of squares, and half the logarithm of the square.
        shift = (1 + shifted) * shift + 2 * alike * agreement + 0.5 * sized * squares.log10() + constant
        shift = shift.clamp(-MOST_SHIFT, MOST_SHIFT)
        trace = error.lerp(trace, self.trace_logit.sigmoid())
        change = self._products(signals) + self.change[1] * trace + self.change[8] * weight
        return weight + (self.log_rate + shift).exp() * change, trace, shift

    def _products(self, signals: Signals) -> Tensor:
        """The terms that are products of something behind a weight and something before it, in one matrix product."""
        c = self.change.unbind()
        pre, post, err, share = signals.pre, signals.post, signals.err, signals.share
        both = err * post
        behind = (c[0] * err + c[2] * post + c[3] * both) * share
        # Of the terms without "pre" and those with nothing else, the other factor is 1.
        alone = ((c[4] * err + c[5] * post + c[6] * both) * share).sum(dim=1, keepdim=True) + c[9]
        before = c[7] * (share.mT @ pre)
        behind = torch.cat([behind, alone, torch.ones_like(alone)], dim=1)
        before = torch.cat([pre, torch.ones_like(before), before], dim=1)
        return behind.mT @ before


def describe_rule(module: nn.Module, digits: int = 2) -> str:
    """Print the rule: Δw, Δ log η and what they start from; terms that round to nothing are left out.

    Examples
    --------
    >>> import autometa as am
    >>> describe_rule(am.make_learner("learned_rule").build(am.make_tasks("linear").info))
    'Δw = η (-1.00 err·pre); Δ log η = 0; η starts at 0.1'
    """
    assert isinstance(module, Rule)
    change, rate_change = module.change.tolist(), module.rate_change.tolist()
    text = f"Δw = η ({_sum(change, TERMS, digits)}); Δ log η = {_sum(rate_change, RATE_TERMS, digits)}"
    text += f"; η starts at {module.log_rate.exp().item():.3g}"
    if any(round(value, digits) for value in (change[1], rate_change[0])):
        text += f"; trace keeps {module.trace_logit.sigmoid().item():.{digits}f} a step"
    return text


def _sum(coefficients: Sequence[float], terms: Sequence[str], digits: int) -> str:
    parts = [
        f"{value:+.{digits}f}" + ("" if term == "1" else f" {term}")
        for value, term in zip(coefficients, terms, strict=True)
        if round(value, digits)
    ]
    return " ".join(parts) or "0"
