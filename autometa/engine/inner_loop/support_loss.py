"""The loss that is descended on a task's examples, with both of its derivatives."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from autometa.contracts.examples import Examples
from autometa.contracts.losses import IGNORED_CLASS
from autometa.errors import InvalidData


class SupportLoss:
    """Mean loss of every task on its examples: cross-entropy over the classes a task has, or squared error.

    Padded examples do not count, nor do classes that a task lacks because another has more: the loss of a task is the
    same alone and among others.

    Call it for the value. Both losses have derivatives in closed form, of the outputs' predictions: probabilities for
    cross-entropy, the outputs themselves for squared error. The gradient is a share of prediction minus target.

    Parameters
    ----------
    examples : Examples

    Examples
    --------
    >>> import autometa as am
    >>> import torch
    >>> loss = am.SupportLoss(am.Examples(torch.zeros(1, 2, 3), torch.tensor([[0, 1]])))
    >>> outputs = torch.zeros(1, 2, 2)
    >>> loss(outputs)
    tensor([0.6931])
    >>> loss.gradient(loss.predictions(outputs))
    tensor([[[-0.2500,  0.2500],
             [ 0.2500, -0.2500]]])
    """

    def __init__(self, examples: Examples) -> None:
        if not isinstance(examples, Examples):
            raise InvalidData(
                f"SupportLoss takes autometa.Examples, such as batch.support, and no {type(examples).__name__}."
            )
        self._examples = examples
        self._targets = examples.targets()
        n = self._targets.shape[1]
        full = examples.is_known_to_be_full and n > 0
        self._counts: Tensor | int = n if full else examples.mask.sum(dim=1).clamp(min=1)
        self._absent = ~self._targets.any(dim=1, keepdim=True) if examples.is_classification else None
        counts = self._counts * (self._targets.shape[2] / 2) if self._absent is None else self._counts
        self._slopes: Tensor | float
        """What prediction minus target is multiplied by."""
        if isinstance(counts, Tensor):
            self._slopes = (examples.mask.to(self._targets.dtype) / counts.unsqueeze(1)).unsqueeze(2)
        else:
            self._slopes = 1 / counts

    @property
    def n_outputs(self) -> int:
        """How many outputs the examples ask for: classes, or numbers."""
        return self._targets.shape[2]

    def __call__(self, outputs: Tensor) -> Tensor:
        """Value of the loss, [tasks], for outputs [tasks, n, n_outputs]; those beyond the classes are left out."""
        self._check(outputs)
        if self._absent is None:
            return ((outputs - self._targets).square() * self._shares).flatten(1).sum(dim=1)
        logits = self._logits(outputs, self._absent).movedim(-1, 1)
        each = functional.cross_entropy(logits, self._classes, reduction="none", ignore_index=IGNORED_CLASS)
        return each.sum(dim=1) / self._counts

    def predictions(self, outputs: Tensor) -> Tensor:
        """Probabilities [tasks, n, n_classes], 0 for a class that a task lacks; for real targets the outputs."""
        self._check(outputs)
        return outputs if self._absent is None else self._logits(outputs, self._absent).softmax(dim=2)

    def value_and_predictions(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one softmax, for optimizers that need the value and the gradient of every point."""
        if self._absent is None:
            return self(outputs), outputs
        self._check(outputs)
        log_probabilities = self._logits(outputs, self._absent).log_softmax(dim=2)
        value = -(self._targets * log_probabilities * self._slopes).flatten(1).sum(dim=1)
        return value, log_probabilities.exp()

    def gradient(self, predictions: Tensor) -> Tensor:
        """Gradient of the loss in the outputs, [tasks, n, n_outputs], where predictions are these."""
        return (predictions - self._targets) * self._slopes

    def curvature(self, predictions: Tensor, change: Tensor) -> Tensor:
        """Second derivative of the loss in the outputs, times a change of them: how the gradient changes."""
        if self._absent is None:
            return change * self._slopes
        weighted = predictions * change
        return (weighted - predictions * weighted.sum(dim=2, keepdim=True)) * self._slopes

    def _check(self, outputs: Tensor) -> None:
        """Refuse outputs that arithmetic would fail on or, worse, stretch over all targets."""
        is_real = isinstance(outputs, Tensor) and outputs.is_floating_point()
        wanted, shape = self._targets.shape, outputs.shape if is_real else None
        if shape == wanted:
            return
        if shape is None or len(shape) != 3 or shape[:2] != wanted[:2] or shape[2] < wanted[2] or self._absent is None:
            found = getattr(outputs, "dtype", type(outputs).__name__) if shape is None else tuple(shape)
            raise InvalidData(
                f"outputs {found} must be real numbers [tasks, n, n_outputs], for these examples {tuple(wanted)}"
                f"{'.' if self._absent is None else ', or with outputs for more classes.'}"
            )

    def _logits(self, outputs: Tensor, absent: Tensor) -> Tensor:
        if outputs.shape[-1] > absent.shape[-1]:
            outputs = outputs[..., : absent.shape[-1]]
        return outputs.masked_fill(absent, torch.finfo(outputs.dtype).min)

    @cached_property
    def _classes(self) -> Tensor:
        return self._examples.y.masked_fill(~self._examples.mask, IGNORED_CLASS)

    @cached_property
    def _shares(self) -> Tensor | float:
        """What a squared error is multiplied by."""
        return self._slopes / 2


def loss_on(examples: Examples) -> SupportLoss:
    """Return the function from outputs [tasks, n, n_outputs] to each task's mean loss [tasks] on these examples.

    Cross-entropy over the classes a task has, or squared error; see :class:`SupportLoss`, which has its derivatives.
    """
    return SupportLoss(examples)
