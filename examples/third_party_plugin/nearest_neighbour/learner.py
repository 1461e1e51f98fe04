"""Nearest neighbour by cosine similarity in a learned feature space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class NearestNeighbour(am.Learner):
    """A class is as likely as its nearest support example is near.

    The logit of a class is the largest cosine similarity between the query and a support example of the class, times
    ``sharpness``.

    Parameters
    ----------
    sharpness : float, default=10.0
        How much more likely the nearest class is than the others.
    backbone : str or Backbone, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    """

    def __init__(self, sharpness: float = 10.0, backbone: str | am.Backbone = "auto") -> None:
        self.sharpness = sharpness
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone.

        Raises
        ------
        InvalidParameter
            The sharpness is not positive.
        """
        am.check_real("sharpness", self.sharpness, above=0, of="learner 'nearest_neighbour'")
        return am.build_backbone(self.backbone, info.input_shape)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Keep ``directions`` [tasks, n, n_features] and ``members`` [tasks, n, n_way] of the support set."""
        features = am.apply_per_task(module, support.x)
        return {"directions": F.normalize(features, dim=-1), "members": support.one_hot()}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Logits, [tasks, n, n_way]."""
        directions = F.normalize(am.apply_per_task(module, x), dim=-1)
        similarity = directions @ adapted["directions"].transpose(1, 2)
        others = adapted["members"].unsqueeze(1) == 0
        # [tasks, n, n_support, n_way]; no similarity is below -1, so -2 marks the examples of other classes.
        of_class = torch.where(others, -2.0, similarity.unsqueeze(-1))
        return self.sharpness * of_class.amax(dim=2)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the sharpness."""
        return cls(sharpness=trial.suggest_float("sharpness", 1.0, 100.0, log=True))
