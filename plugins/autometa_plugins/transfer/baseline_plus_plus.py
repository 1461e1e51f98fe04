"""Transfer learning with cosine similarities (Chen et al. 2019, Baseline++)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

import autometa as am
from autometa_plugins.transfer.pretraining import has_own_classes, n_pretrained_outputs, with_base_labels

if TYPE_CHECKING:
    from optuna import Trial


class BaselinePlusPlus(am.Learner):
    """A backbone pretrained on all base classes by cosine similarity, and gradient steps on directions of classes.

    Baseline++ of Chen et al. 2019, section 3.2: the logit of a class is the cosine between its weight vector and the
    features, times a constant and, as in the authors' code, a learned norm of the class. The backbone stays as
    pretrained. A new task fits new weight vectors by gradient steps along the sphere. They start from the mean
    direction of each class, where the paper's start is random, so neither names nor order of the classes matter. Where
    labels mean the same in every task they start as pretrained.

    Parameters
    ----------
    steps : int, default=100
        Gradient steps that fit directions and norms of a task's classes.
    lr : float, default=0.1
        Their size.
    scale : float or "auto", default="auto"
        Constant factor of the cosines. "auto" is the authors': 2 for up to 200 classes, else 10.
    backbone : str, Backbone, nn.Module or callable, default="auto"

    References
    ----------
    W. Chen, Y. Liu, Z. Kira, Y. Wang, J. Huang: A Closer Look at Few-shot Classification. ICLR 2019.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "lr"})

    def __init__(
        self,
        *,
        steps: int = 100,
        lr: float = 0.1,
        scale: float | Literal["auto"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.scale = scale
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone and pretraining head.

        Raises
        ------
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(
                f"learner 'baseline_plus_plus' needs classes; problem={info.problem!r} has none. Try 'fine_tune'."
            )
        self._check()
        backbone = am.build_backbone(self.backbone, info.input_shape)
        return Cosines(backbone, n_outputs=n_pretrained_outputs(info), keeps_head=not has_own_classes(info))

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Mean cross-entropy of the pretraining head on support and query, labels being those of the base classes."""
        assert isinstance(module, Cosines)
        examples = with_base_labels(batch, len(module.norm))
        directions = functional.normalize(module.weight, dim=-1)
        outputs = self._factor(len(module.norm)) * module.norm * (module.features(examples.x) @ directions.mT)
        return am.task_losses(self, outputs, examples).mean()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return the ``directions`` [tasks, n_way, n_features] and ``norms`` [tasks, n_way] of every task's classes."""
        self._check()
        assert isinstance(module, Cosines)
        features = module.features(support.x)
        members = support.one_hot().to(features.dtype)
        loss = am.SupportLoss(support.with_parts(x=features))
        factor = self._factor(support.n_classes)
        if module.keeps_head:
            directions = functional.normalize(module.weight, dim=-1).expand(len(support), -1, -1)
            norms = module.norm.expand(len(support), -1)
        else:
            directions = functional.normalize(members.mT @ features, dim=-1)
            norms = features.new_ones(members.shape[0], members.shape[2])
        for _ in range(self.steps):
            cosines = features @ directions.mT
            gradient = factor * loss.gradient(loss.predictions(factor * norms.unsqueeze(1) * cosines))
            pull = (gradient * norms.unsqueeze(1)).mT @ features
            along = pull - (pull * directions).sum(dim=-1, keepdim=True) * directions
            norms = norms - self.lr * (gradient * cosines).sum(dim=1)
            directions = functional.normalize(directions - self.lr * along, dim=-1)
        return {"directions": directions, "norms": norms}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Scaled cosines between features and directions, [tasks, n, n_way]."""
        assert isinstance(module, Cosines)
        cosines = module.features(x) @ adapted["directions"].mT
        return self._factor(cosines.shape[-1]) * adapted["norms"].unsqueeze(1) * cosines

    def _factor(self, n_classes: int) -> float:
        if isinstance(self.scale, str):
            return 2.0 if n_classes <= 200 else 10.0
        return self.scale

    def _check(self) -> None:
        whose = "learner 'baseline_plus_plus'"
        am.check_int("steps", self.steps, least=0, of=whose)
        am.check_real("lr", self.lr, above=0, of=whose, such_as=0.1)
        am.check_real("scale", self.scale, above=0, also=("auto",), of=whose, such_as=2.0)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how closely the support set is fitted."""
        return cls(
            steps=trial.suggest_int("steps", 3, 300, log=True),
            lr=trial.suggest_float("lr", 0.01, 1.0, log=True),
        )


class Cosines(nn.Module):
    """A backbone, and a direction and a norm for every class it is pretrained on.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_outputs : int
    keeps_head : bool
        Whether a new task starts from this head.
    """

    def __init__(self, backbone: nn.Module, *, n_outputs: int, keeps_head: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.keeps_head = keeps_head
        self.weight = nn.Parameter(functional.normalize(torch.randn(n_outputs, int(backbone.n_features)), dim=-1))  # type: ignore[arg-type]
        self.norm = nn.Parameter(torch.ones(n_outputs))

    def features(self, x: Tensor) -> Tensor:
        """Features of length 1, [tasks, n, n_features]; features that are all zero stay so."""
        features: Tensor = am.apply_per_task(self.backbone, x)
        return functional.normalize(features, dim=-1)
