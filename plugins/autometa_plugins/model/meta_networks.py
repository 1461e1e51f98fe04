"""Meta Networks (Munkhdalai & Yu 2017): weights made from the gradients of the support set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.gradient_codes import FactorLSTM, FactorMLP
from autometa_plugins.model.in_context import mean_and_spread

if TYPE_CHECKING:
    from optuna import Trial


class MetaNetworks(am.Learner):
    """Fast weights, which a network makes from the support set's gradients, beside slow ones that all tasks share.

    Munkhdalai & Yu 2017, algorithm 1. The gradients of a representation loss on the support examples make the fast
    weights of the embedding, once for the task, through an LSTM. The gradient of the task's loss on a support example
    makes fast weights of the head, which lie in a memory under the example's embedding; a query takes the mean of
    those, weighted by attention to the keys. Slow and fast weights work side by side: ``relu(slow) + relu(fast)`` in
    the embedding, a sum in the head. A gradient of zero makes fast weights of zero. Gradients count as constants in the
    outer derivative. Before meta-training, fast weights are a step down the gradient: with generators of random sign,
    every second start is a step up it, which is below chance.

    A layer's gradient for one example is the outer product of a change of its outputs and of its inputs. Here the two
    are turned into the two factors of the fast weights, number by number, where the paper takes the product's entries
    one by one: a memory of n examples holds n pairs of vectors, not n matrices. Classes start from one row of the slow
    head, so a task may have any number of them; the representation loss compares with the means of classes. The LSTM
    reads examples in an order that follows from what they hold, so that the order of rows does not matter. Real targets
    are standardised within the support. The attention's scale is learned.

    Parameters
    ----------
    dim : int, default=64
        Width of the embedding.
    hidden : int, default=20
        Size of the LSTM, and of the layers of the network that makes the head's fast weights; 20 in the paper.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features, by slow weights alone; "auto" chooses by the inputs' shape.

    References
    ----------
    T. Munkhdalai, H. Yu: Meta Networks. ICML 2017.
    """

    replayable: ClassVar[bool] = True
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(self, *, dim: int = 64, hidden: int = 20, backbone: am.BackboneLike = "auto") -> None:
        self.dim = dim
        self.hidden = hidden
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the slow weights and what makes the fast ones.

        Raises
        ------
        InvalidParameter
            A size is not a positive integer.
        """
        am.check_int("dim", self.dim, of="learner 'meta_networks'")
        am.check_int("hidden", self.hidden, of="learner 'meta_networks'")
        backbone = am.build_backbone(self.backbone, info.input_shape)
        n_outputs = 1 if info.problem_record.has_classes else info.n_outputs
        return _Network(backbone, self.dim, self.hidden, n_outputs)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Make the fast weights of every task and the memory to look others up in.

        Returns
        -------
        dict of Tensor
            Factors of the embedding's fast weights, ``task_inputs`` [tasks, n_support, n_features] and
            ``task_outputs`` [tasks, n_support, dim]; ``keys`` [tasks, n_support, dim], of length 1; factors of the
            head's fast weights in memory, ``inputs`` [tasks, n_support, dim + 1] and ``outputs``
            [tasks, n_support, n_way]; ``mask`` [tasks, n_support]; for real targets their ``mean`` and ``spread``
            [tasks, 1, n_outputs].
        """
        assert isinstance(module, _Network)
        features = am.apply_per_task(module.backbone, support.x)
        fast: dict[str, Tensor] = {"mask": support.mask}
        targets = support.targets().to(features.dtype)
        absent = None
        if support.is_classification:
            absent = ~targets.any(dim=1, keepdim=True)
        else:
            fast["mean"], fast["spread"] = mean_and_spread(targets, support.mask)
            targets = (targets - fast["mean"]) / fast["spread"]
        task = module.of_task(features.detach(), targets, support.mask, absent)
        fast["task_inputs"], fast["task_outputs"] = task
        embedded = module.embed(features, *task)
        fast["keys"] = nn.functional.normalize(embedded, dim=-1)
        with torch.no_grad():
            error = residual(module.head(embedded).expand_as(targets), targets, support.mask, absent)
        fast["inputs"] = module.head_inputs(with_one(embedded.detach()))
        fast["outputs"] = module.head_outputs(error)
        return fast

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _Network)
        features = am.apply_per_task(module.backbone, x)
        embedded = module.embed(features, adapted["task_inputs"], adapted["task_outputs"])
        attention = module.attend(embedded, adapted["keys"], adapted["mask"])
        # The mean of fast weights, weighted by attention, times the embedding; without making the weights themselves.
        fitting = with_one(embedded) @ adapted["inputs"].mT / math.sqrt(self.dim)
        outputs: Tensor = module.head(embedded) + (attention * fitting) @ adapted["outputs"]
        return outputs if "mean" not in adapted else adapted["mean"] + adapted["spread"] * outputs

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the width of the embedding."""
        return cls(dim=trial.suggest_categorical("dim", [32, 64, 128]))


class _Network(nn.Module):
    """Slow weights, and generators of fast ones.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    dim, hidden : int
        See :class:`MetaNetworks`.
    n_outputs : int
        1 where all classes share the head's row.
    """

    # Bounds the scale of cosines so that the attention to the most distant key does not underflow float32.
    max_scale = 40.0
    order: Tensor

    def __init__(self, backbone: nn.Module, dim: int, hidden: int, n_outputs: int) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.embedding = nn.Linear(n_features, dim)
        self.head = nn.Linear(dim, n_outputs)
        # Fast weights start as a step down the gradient: the sign of its inputs, minus the sign of what to change.
        self.task_inputs, self.task_outputs = FactorLSTM(hidden, start=1), FactorLSTM(hidden, start=-1)
        self.head_inputs, self.head_outputs = FactorMLP(hidden, start=1), FactorMLP(hidden, start=-1)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        order = torch.randn(n_features + dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("order", order, persistent=False)

    def of_task(self, features: Tensor, targets: Tensor, mask: Tensor, absent: Tensor | None) -> tuple[Tensor, Tensor]:
        """Factors of the embedding's fast weights, [tasks, n, n_features] and [tasks, n, dim], zero where padded."""
        with torch.no_grad():
            pushes = self.representation_gradient(features, targets, mask, absent)
            # Which example comes first is a matter of what they hold; padding comes last.
            keys = torch.cat([features, pushes], dim=-1) @ self.order
            rows = keys.masked_fill(~mask, torch.inf).argsort(dim=1).unsqueeze(-1)
            features, pushes = (torch.take_along_dim(values, rows, dim=1) for values in (features, pushes))
            share = mask.to(features.dtype).sum(1).clamp(min=1)[:, None, None] * math.sqrt(features.shape[-1])
        return self.task_inputs(features), self.task_outputs(pushes) / share

    def representation_gradient(self, features: Tensor, targets: Tensor, mask: Tensor, absent: Tensor | None) -> Tensor:
        """How the representation loss of every example changes with the slow embedding's outputs, [tasks, n, dim].

        The loss is that of the slow head for real targets. For classes it is the cross-entropy of inner products with
        their mean embeddings, which count as constants.
        """
        before = self.embedding(features)
        embedded = before.relu()
        if absent is None:
            outputs, directions = self.head(embedded), self.head.weight
        else:
            sums = targets.mT @ embedded
            directions = sums / targets.sum(1).clamp(min=1).unsqueeze(-1) / math.sqrt(embedded.shape[-1])
            outputs = embedded @ directions.mT
        pushes: Tensor = (residual(outputs, targets, mask, absent) @ directions) * (before > 0)
        return pushes

    def embed(self, features: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
        """Embedding [tasks, n, dim] by slow weights and by fast ones, given as factors."""
        slow: Tensor = self.embedding(features).relu()
        return slow + (features @ inputs.mT @ outputs).relu()

    def attend(self, embedded: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attention [tasks, n, n_support] by the cosine with every key; rows add up to 1, or to 0 without any key."""
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        cosines = nn.functional.normalize(embedded, dim=-1) @ keys.mT
        mask = mask.unsqueeze(1)
        return (scale * cosines).masked_fill(~mask, torch.finfo(cosines.dtype).min).softmax(dim=-1) * mask


def residual(outputs: Tensor, targets: Tensor, mask: Tensor, absent: Tensor | None) -> Tensor:
    """Prediction minus target, [tasks, n, n_outputs]: the gradient of cross-entropy or of half the squared error.

    Zero for padded examples, and for the classes that a task lacks: ``absent`` [tasks, 1, n_way], None for real
    targets.
    """
    if absent is not None:
        outputs = outputs.masked_fill(absent, torch.finfo(outputs.dtype).min).softmax(dim=-1)
    return (outputs - targets) * mask.unsqueeze(-1)


def with_one(embedded: Tensor) -> Tensor:
    """Inputs of a head with an intercept, [tasks, n, dim + 1]."""
    return torch.cat([embedded, embedded.new_ones(*embedded.shape[:2], 1)], dim=-1)
