"""Prototypical networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class Prototypical(am.Learner):
    """The nearest class mean in a learned feature space.

    Snell et al. 2017, eq. 1 and 2: the prototype of a class is the mean of its support features, and a query's
    logits are its negative squared Euclidean distances to the prototypes.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    temperature : float, default=1.0
        Divides the logits; the paper has 1. Larger values give more even probabilities and never another class.
    """

    replayable: ClassVar[bool] = True
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"temperature"})

    def __init__(self, backbone: am.BackboneLike = "auto", temperature: float = 1.0) -> None:
        self.backbone = backbone
        self.temperature = temperature

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone, which is all of θ.

        Raises
        ------
        InvalidParameter
            The temperature is not positive.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'prototypical' needs classes; problem={info.problem!r} has none. Try 'ridge'."
            )
        self._check()
        backbone: nn.Module = am.build_backbone(self.backbone, info.input_shape)
        return backbone

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"prototypes": [tasks, n_way, n_features]}``; a class without examples has its at the origin."""
        self._check()
        features = am.apply_per_task(module, support.x)
        members = support.one_hot().to(features.dtype).transpose(1, 2)
        return {"prototypes": members @ features / members.sum(-1, keepdim=True).clamp(min=1)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return negative squared distances over the temperature, [tasks, n, n_way]."""
        features, prototypes = am.apply_per_task(module, x), adapted["prototypes"]
        return -squared_distances(features, prototypes) / self.temperature

    def _check(self) -> None:
        am.check_real("temperature", self.temperature, above=0, of="learner 'prototypical'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Prototypical:
        """Search the temperature."""
        return cls(temperature=trial.suggest_float("temperature", 0.1, 10.0, log=True))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances [tasks, n, m] between rows of ``a`` [tasks, n, F] and ``b`` [tasks, m, F]."""
    # By |a|² - 2ab + |b|², which needs no [tasks, n, m, F] tensor. Distances do not change when both sides move, and
    # around their own mean the three terms cancel least.
    centre = b.mean(dim=1, keepdim=True)
    a, b = a - centre, b - centre
    squares = a.square().sum(-1).unsqueeze(2) + b.square().sum(-1).unsqueeze(1)
    return squares - 2 * a @ b.transpose(1, 2)
