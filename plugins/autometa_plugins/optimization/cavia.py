"""CAVIA (Zintgraf et al. 2019): adapt a few context parameters, and share the whole network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial


class CAVIA(am.Learner):
    """Gradient steps on a context vector; all other weights are shared by all tasks.

    Zintgraf et al. 2019, section 3.1. The context starts at zero. It is joined to inputs that are vectors; for images
    it shifts and scales the backbone's channels (FiLM, section 3.2; here the last ones, so the convolutions run once).
    In classification every class has a context of its own beside the task's, also from zero: a class's logit is the
    inner product of its context and a learned map of the features. So a task may have any number of classes in any
    order; the paper's head has a fixed number of outputs.

    Parameters
    ----------
    steps : int, default=2
        Gradient steps. The paper takes 2 for images and 1 for sine waves. In classification the first one moves the
        classes' contexts only, all classes being alike before it.
    inner_lr : float, default=1.0
        Step size.
    n_context : int or "auto", default="auto"
        Numbers in a context. "auto": the paper's 5 for real targets and 100 for classes.
    strategy : {"auto", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples, or vectors with their context, into features; "auto" chooses by the inputs' shape.

    References
    ----------
    L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann, S. Whiteson: Fast Context Adaptation via Meta-Learning. ICML 2019.
    """

    replayable: ClassVar[bool] = True
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "inner_lr", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(
        self,
        *,
        steps: int = 2,
        inner_lr: float = 1.0,
        n_context: int | Literal["auto"] = "auto",
        strategy: Literal["auto", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.n_context = n_context
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network and how contexts enter it."""
        self._check()
        is_classification = info.problem_record.has_classes
        default = 100 if is_classification else 5
        n_context = default if self.n_context == "auto" else int(self.n_context)
        n_outputs = None if is_classification else info.n_outputs
        if len(info.input_shape) == 3:
            backbone = am.build_backbone(self.backbone, info.input_shape)
            return _Network(backbone, _Modulation(backbone, n_context), n_context, n_outputs)
        width = math.prod(info.input_shape) + n_context
        backbone = am.build_backbone("mlp" if self.backbone == "auto" else self.backbone, (width,))
        return _Network(nn.Flatten(), _Concatenation(backbone), n_context, n_outputs)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``task`` [tasks, n_context], and for classes ``classes`` [tasks, n_way, n_context]."""
        self._check()
        assert isinstance(module, _Network)
        seen = am.apply_per_task(module.shared, support.x)
        contexts = {"task": seen.new_zeros(len(support), module.n_context)}
        if support.is_classification:
            contexts["classes"] = seen.new_zeros(len(support), support.n_classes, module.n_context)
        examples = support.with_parts(x=seen)
        return am.descend(
            module.conditioned, contexts, examples, steps=self.steps, rates=self.inner_lr, strategy=self.strategy
        )

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of the network under every task's contexts."""
        assert isinstance(module, _Network)
        return am.call_per_task(
            module.conditioned, adapted, am.apply_per_task(module.shared, x), strategy=self.strategy
        )

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'cavia'")
        am.check_real("inner_lr", self.inner_lr, above=0, of="learner 'cavia'", such_as=1.0)
        am.check_int("n_context", self.n_context, also=("auto",), of="learner 'cavia'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and their size."""
        return cls(
            steps=trial.suggest_int("steps", 1, 5),
            inner_lr=trial.suggest_float("inner_lr", 0.03, 3.0, log=True),
        )


class _Network(nn.Module):
    """What does not depend on a context, followed by what does.

    Parameters
    ----------
    shared : nn.Module
        Applied to each example once.
    features : nn.Module with ``n_features``
        From what ``shared`` gives and a context [n_context] to features.
    n_context : int
    n_outputs : int or None
        None: as many as there are class contexts.
    """

    def __init__(self, shared: nn.Module, features: nn.Module, n_context: int, n_outputs: int | None) -> None:
        super().__init__()
        self.n_context = n_context
        self.shared = shared
        self.conditioned = _Conditioned(features, n_context, n_outputs)


class _Conditioned(nn.Module):
    """The network of one task: it reads the contexts that take the places of its buffers."""

    task: Tensor
    classes: Tensor

    def __init__(self, features: nn.Module, n_context: int, n_outputs: int | None) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(int(features.n_features), n_context if n_outputs is None else n_outputs)  # type: ignore[arg-type]
        self.has_classes = n_outputs is None
        self.register_buffer("task", torch.zeros(n_context), persistent=False)
        if self.has_classes:
            self.register_buffer("classes", torch.zeros(1, n_context), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *features] to [n, n_outputs]."""
        outputs: Tensor = self.head(self.features(x, self.task))
        return outputs @ self.classes.mT if self.has_classes else outputs


class _Concatenation(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_features = backbone.n_features

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        features: Tensor = self.backbone(torch.cat([x, context.expand(len(x), -1)], dim=1))
        return features


class _Modulation(nn.Module):
    def __init__(self, backbone: nn.Module, n_context: int) -> None:
        super().__init__()
        self.n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.n_channels: int = getattr(backbone, "feature_shape", (self.n_features,))[0]
        self.film = nn.Linear(n_context, 2 * self.n_channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.film(context).view(2, self.n_channels, 1)
        channels = x.view(len(x), self.n_channels, -1)
        modulated: Tensor = (1 + scale) * channels + shift
        return modulated.flatten(1)
