"""SimpleShot: the nearest centroid of pretrained features, normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.metric.prototypical import squared_distances

if TYPE_CHECKING:
    from optuna import Trial

_TRANSFORMS = ("none", "l2", "cl2n")


class SimpleShot(am.Learner):
    """The nearest centroid of features pretrained on all base classes, centred and of length one.

    Wang et al. 2019, section 2: a plain classifier of all base classes is trained; a new task subtracts the
    mean of the base classes' features, divides by the length and takes the nearest class mean. Without
    meta-training the mean is zero.

    Parameters
    ----------
    transform : {"none", "l2", "cl2n"}, default="cl2n"
        What happens to features before they are compared: nothing, length one ("L2N"), or centring and then length
        one ("CL2N"), the paper's best.
    temperature : float, default=0.1
        Divides the squared distances, at most 4 on the unit sphere. It makes probabilities sharper or flatter and
        never changes the nearest class.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What is pretrained; "auto" chooses by the inputs' shape.

    References
    ----------
    Y. Wang, W. Chao, K. Weinberger, L. van der Maaten: SimpleShot: Revisiting Nearest-Neighbor Classification for
    Few-Shot Learning. 2019.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"transform", "temperature"})

    def __init__(
        self,
        *,
        transform: Literal["none", "l2", "cl2n"] = "cl2n",
        temperature: float = 0.1,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.transform = transform
        self.temperature = temperature
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, pretraining head and the mean of the base classes' features.

        Raises
        ------
        InvalidParameter
            The transform is unknown or the temperature not positive.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'simple_shot' needs classes; problem={info.problem!r} has none. Try 'fine_tune'."
            )
        self._check()
        n_classes = info.n_outputs if info.shared_classes else info.n_base_classes or info.n_outputs
        return BaseClassifier(am.build_backbone(self.backbone, info.input_shape), n_classes)

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Cross-entropy of the base classes on support and query; updates the mean feature in training."""
        assert isinstance(module, BaseClassifier)
        examples = batch.support.join(batch.query)
        if batch.classes is not None:
            y = batch.classes.gather(1, examples.y)
            examples = examples.with_parts(y=y, n_classes=module.head.out_features)
        features = am.apply_per_task(module.backbone, examples.x)
        if module.training:
            counted = features.detach() * examples.mask.unsqueeze(-1)
            module.follow(counted.sum(dim=(0, 1)) / examples.mask.sum())
        return am.task_losses(self, module.head(features), examples).mean()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"centroids": [tasks, n_way, n_features]}``, means of the transformed support features."""
        self._check()
        features = self._features(module, support.x)
        members = support.one_hot().to(features.dtype).transpose(1, 2)
        return {"centroids": members @ features / members.sum(-1, keepdim=True).clamp(min=1)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return negative squared distances to the centroids over the temperature, [tasks, n, n_way]."""
        return -squared_distances(self._features(module, x), adapted["centroids"]) / self.temperature

    def _features(self, module: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(module, BaseClassifier)
        features = am.apply_per_task(module.backbone, x)
        if self.transform == "cl2n":
            features = features - module.mean
        return features if self.transform == "none" else nn.functional.normalize(features, dim=-1)

    def _check(self) -> None:
        am.check_choice("transform", self.transform, _TRANSFORMS, of="learner 'simple_shot'")
        am.check_real("temperature", self.temperature, above=0, of="learner 'simple_shot'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the transform."""
        return cls(transform=trial.suggest_categorical("transform", _TRANSFORMS))  # type: ignore[arg-type]


class BaseClassifier(nn.Module):
    """A backbone, the head it is pretrained with, and the running mean of its features.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_classes : int
        Base classes.
    """

    # After so many batches the mean forgets the oldest: the backbone has changed since.
    memory = 100
    mean: Tensor
    n_batches: Tensor

    def __init__(self, backbone: nn.Module, n_classes: int) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.head = nn.Linear(n_features, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.int64))

    def follow(self, mean: Tensor) -> None:
        """Take one more batch's mean feature [n_features] into the running mean."""
        self.n_batches += 1
        self.mean += (mean - self.mean) / self.n_batches.clamp(max=self.memory)
