"""Relation networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

_N_POOLS = 2
_WIDTH = 64
"""Of the layer that compares features that are no map."""
_PAIRS_AT_ONCE = 4096
"""Pairs of query and class that are compared together in prediction: 0.2 GiB for 28x28 images."""


class Relation(am.Learner):
    """A network compares a query with every class.

    Sung et al. 2018, section 3: the feature maps of a class's support examples are averaged; the maps of class and
    query are joined along the channels, and a network turns them into a score between 0 and 1. Training regresses
    scores to 1 for the right class and to 0 for all others. Outputs are the scores before the sigmoid. Fully connected
    layers compare features that are no maps.

    Parameters
    ----------
    hidden_size : int, default=8
        Width of the layer before the score.
    pooling : {"mean", "sum"}, default="mean"
        How the maps of a class become one. The paper's sum grows with the number of shots: meta-trained with one shot
        on Omniglot it had 96% of 5-way 1-shot queries right and 32% with five shots. The mean takes any number.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape, for images conv4 that pools in its first two blocks only, so that there is a map
        to compare. Any backbone whose module tells its ``feature_shape`` is compared by maps.

    References
    ----------
    F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr, T. Hospedales: Learning to Compare: Relation Network for Few-Shot
    Learning. CVPR 2018.
    """

    replayable: ClassVar[bool] = True
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification"})

    def __init__(
        self,
        *,
        hidden_size: int = 8,
        pooling: Literal["mean", "sum"] = "mean",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.hidden_size = hidden_size
        self.pooling = pooling
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone and what compares its features.

        Raises
        ------
        InvalidParameter
            The hidden size is not positive, or ``pooling`` is neither "mean" nor "sum".
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'relation' needs classes; problem={info.problem!r} has none. Try 'in_context'."
            )
        am.check_int("hidden_size", self.hidden_size, of="learner 'relation'")
        am.check_choice("pooling", self.pooling, ("mean", "sum"), of="learner 'relation'")
        is_image = len(info.input_shape) == 3
        chosen = (
            am.make_backbone("backbones/conv4", n_pools=_N_POOLS)
            if self.backbone == "auto" and is_image
            else self.backbone
        )
        return Comparer(am.build_backbone(chosen, info.input_shape), self.hidden_size)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"classes": [tasks, n_way, n_features]}``, the mean or sum of the features of each class."""
        assert isinstance(module, Comparer)
        features = am.apply_per_task(module.backbone, support.x)
        members = support.one_hot().to(features.dtype).transpose(1, 2)
        if self.pooling == "mean":
            members = members / members.sum(-1, keepdim=True).clamp(min=1)
        return {"classes": members @ features}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the score of every query and class before the sigmoid, [tasks, n, n_way]."""
        assert isinstance(module, Comparer)
        queries, classes = am.apply_per_task(module.backbone, x), adapted["classes"]
        n_at_once = queries.shape[1]
        if not torch.is_grad_enabled():  # where nothing is kept, memory need not grow with the queries
            n_at_once = max(1, _PAIRS_AT_ONCE // (len(classes) * classes.shape[1]))
        return torch.cat(
            [_compare_all(module, classes, part) for part in torch.split(queries, n_at_once, dim=1)], dim=1
        )

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean squared error of the sigmoids to 1 for the right class and 0 for the others, [tasks], eq. 2."""
        compared = outputs != torch.finfo(outputs.dtype).min  # those with support examples
        right = torch.arange(outputs.shape[-1], device=y.device) == y.unsqueeze(-1)
        counted = compared * (y >= 0).unsqueeze(-1)
        errors = (outputs.sigmoid() - right.to(outputs.dtype)).square() * counted
        return errors.flatten(1).sum(-1) / counted.flatten(1).sum(-1).clamp(min=1)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the width of the layer before the score."""
        return cls(hidden_size=trial.suggest_int("hidden_size", 4, 64, log=True))


def _compare_all(module: Comparer, classes: Tensor, queries: Tensor) -> Tensor:
    """Scores [tasks, n, n_way] of features of classes [tasks, n_way, n_features] and queries [tasks, n, n_features]."""
    pairs = (len(classes), queries.shape[1], classes.shape[1], -1)
    # All pairs of query and class of all tasks are one batch; a class meets the same weights wherever it stands.
    scores = module.compare(
        classes.unsqueeze(1).expand(pairs).flatten(0, 2), queries.unsqueeze(2).expand(pairs).flatten(0, 2)
    )
    return scores.view(pairs[:3])


class Comparer(nn.Module):
    """A backbone, and a network from the features of a class and a query to a score.

    Parameters
    ----------
    backbone : nn.Module with ``n_features`` and, for maps, ``feature_shape`` (channels, height, width)
    hidden_size : int
        Width of the layer before the score.
    """

    def __init__(self, backbone: nn.Module, hidden_size: int) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.feature_shape: tuple[int, ...] = tuple(getattr(backbone, "feature_shape", (n_features,)))
        if len(self.feature_shape) == 3:
            layers, width = _blocks(self.feature_shape)
        else:
            layers, width = [nn.Linear(2 * n_features, _WIDTH), nn.ReLU()], _WIDTH
        self.relation = nn.Sequential(*layers, nn.Linear(width, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 1))

    def compare(self, classes: Tensor, queries: Tensor) -> Tensor:
        """Score of pairs of features, each [pairs, n_features]."""
        joined = [features.view(-1, *self.feature_shape) for features in (classes, queries)]
        score: Tensor = self.relation(torch.cat(joined, dim=1))
        return score


def _blocks(feature_shape: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """Two blocks of convolution, normalization, pooling and ReLU over joined maps, and the features they end in."""
    n_filters, *size = feature_shape
    layers: list[nn.Module] = []
    for n_channels in (2 * n_filters, n_filters):
        pool = [2 if length > 1 else 1 for length in size]
        layers += [
            nn.Conv2d(n_channels, n_filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_filters),
            nn.MaxPool2d((pool[0], pool[1])),
            nn.ReLU(),
        ]
        size = [length // step for length, step in zip(size, pool, strict=True)]
    return [*layers, nn.Flatten()], n_filters * math.prod(size)
