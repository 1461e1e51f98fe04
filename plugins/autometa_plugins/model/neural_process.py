"""What neural processes share: a distribution for every query, trained by its likelihood."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class NeuralProcess(am.Learner):
    """Read the support set as pairs (x, y) and predict a Gaussian for the target of every query.

    Adaptation is one forward pass over the support, and queries never see one another. Meta-training maximizes the
    mean log-likelihood of the query targets; tasks are judged by ``loss``, the squared error of the means. Targets
    enter as they are: standardise them over all tasks, as tables do, if their scale is far from 1.

    A subclass says how to read the support and to answer queries (:class:`Reader`), and has the parameters ``backbone``
    and ``min_std``.
    """

    replayable: ClassVar[bool] = True
    name: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]]
    """Parameters that must be positive integers."""

    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "distribution"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})

    backbone: am.BackboneLike
    min_std: float

    @abstractmethod
    def reader(self, n_features: int, n_outputs: int) -> nn.Module:
        """Return a :class:`Reader` of inputs [tasks, n, n_features] and targets [tasks, n, n_outputs]."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone and reader. Inputs that are vectors enter as they are unless a backbone is named.

        Raises
        ------
        InvalidParameter
            A size is not a positive integer, or ``min_std`` is not in [0, 1).
        """
        for name in self.sizes:
            am.check_int(name, getattr(self, name), of=f"learner {self.name!r}")
        am.check_real("min_std", self.min_std, least=0, below=1, of=f"learner {self.name!r}", such_as=0.1)
        is_vector = len(info.input_shape) != 3
        backbone = am.build_backbone(
            "identity" if self.backbone == "auto" and is_vector else self.backbone, info.input_shape
        )
        return _Module(backbone, self.reader(cast(int, backbone.n_features), info.n_outputs))

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Read the support set and return what the method keeps of it."""
        assert isinstance(module, _Module)
        x = am.apply_per_task(module.backbone, support.x)
        return module.reader.read(x, support.targets().to(x.dtype), support.mask)

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Means of the targets, [tasks, n, n_outputs]."""
        return self.predict_distribution(module, adapted, x)[0]

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of new observations, each [tasks, n, n_outputs]."""
        assert isinstance(module, _Module)
        mean, raw = module.reader.answer(adapted, am.apply_per_task(module.backbone, x)).chunk(2, dim=-1)
        if self.min_std:
            return mean, self.min_std + (1 - self.min_std) * nn.functional.softplus(raw)
        return mean, raw.exp().clamp(min=torch.finfo(raw.dtype).eps)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Mean negative log-likelihood of each task's query targets, [tasks]; several outputs of a query add up."""
        assert isinstance(batch.query.x, Tensor)
        mean, std = self.predict_distribution(module, self.adapt(module, batch.support), batch.query.x)
        surprise = std.log() + ((batch.query.targets() - mean) / std).square() / 2 + math.log(2 * math.pi) / 2
        counts = batch.query.mask.sum(dim=1).clamp(min=1)
        return (surprise.sum(dim=-1) * batch.query.mask).sum(dim=1) / counts

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the width of the network."""
        return cls(dim=trial.suggest_categorical("dim", [32, 64, 128, 256]))


class Reader(Protocol):
    """How a neural process reads the support set and answers queries."""

    def read(self, x: Tensor, y: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Keep of the support what queries need; every tensor leads with [tasks].

        Parameters
        ----------
        x : Tensor of shape [tasks, n_support, n_features]
        y : Tensor of shape [tasks, n_support, n_outputs]
        mask : Tensor of shape [tasks, n_support], bool
            True where a pair exists.
        """

    def answer(self, read: dict[str, Tensor], x: Tensor) -> Tensor:
        """Means, followed by what becomes standard deviations, [tasks, n, 2 * n_outputs]."""


class _Module(nn.Module):
    def __init__(self, backbone: nn.Module, reader: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._reader = reader

    @property
    def reader(self) -> Reader:
        return cast(Reader, self._reader)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers from the first of these widths to the last, with ReLUs in between."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the unmasked places of [tasks, n, dim], [tasks, dim]."""
    return (values * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
