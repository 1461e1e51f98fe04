"""Plain transfer learning: pretrain once, fit a head for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.transfer.pretraining import has_own_classes, n_pretrained_outputs, with_base_labels

if TYPE_CHECKING:
    from optuna import Trial


class FineTune(am.Learner):
    """A backbone pretrained on all base classes, and gradient steps on the support set.

    The "Baseline" of Chen et al. 2019, section 3.2. Where labels mean the same in every task, and in regression, the
    head starts as pretrained; a task with classes of its own gets a new head, from zero. ``tune="all"`` then tunes the
    whole network, the head having been fitted first so that the first steps do not spoil the features (Kumar et al.
    2022, section 4). That is the default in regression, where pretraining learns the mean of the tasks and its
    features alone do not suffice. Without meta-training and with the identity backbone this is a linear model.

    Parameters
    ----------
    tune : {"auto", "head", "all"}, default="auto"
        What changes on the support set. "auto": the head for classes, all for real targets.
    steps : int, default=100
        Gradient steps on the head, and as many on the whole network after them if ``tune="all"``.
    lr : float, default=1.0
        Step size of the head; at most 1 is stable on any features. See :func:`autometa.fit_head`.
    network_lr : float, default=0.003
        Step size of the whole network. On raw targets of size 5 (``sinusoid``) 0.01 diverges now and then.
    weight_decay : float, default=0.0
        Pulls the head back to where it started.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How networks of several tasks run side by side; the numbers are the same.
    backbone : str, Backbone, nn.Module or callable, default="auto"

    References
    ----------
    W. Chen, Y. Liu, Z. Kira, Y. Wang, J. Huang: A Closer Look at Few-shot Classification. ICLR 2019.

    Y. Tian, Y. Wang, D. Krishnan, J. Tenenbaum, P. Isola: Rethinking Few-Shot Image Classification. ECCV 2020:
    a good embedding and a linear head are hard to beat.

    A. Kumar, A. Raghunathan, R. Jones, T. Ma, P. Liang: Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution. ICLR 2022.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset(
        {"tune", "steps", "lr", "network_lr", "weight_decay", "strategy"}
    )

    def __init__(
        self,
        *,
        tune: Literal["auto", "head", "all"] = "auto",
        steps: int = 100,
        lr: float = 1.0,
        network_lr: float = 0.003,
        weight_decay: float = 0.0,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.tune = tune
        self.steps = steps
        self.lr = lr
        self.network_lr = network_lr
        self.weight_decay = weight_decay
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone and pretraining head."""
        self._check()
        return Pretrained(
            am.build_backbone(self.backbone, info.input_shape),
            n_outputs=n_pretrained_outputs(info),
            keeps_head=not has_own_classes(info),
        )

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Mean loss of the pretraining head on support and query, labels being those of the base classes."""
        assert isinstance(module, Pretrained)
        examples = with_base_labels(batch, module.head.out_features)
        outputs = am.apply_head(module.head, am.apply_per_task(module.backbone, examples.x))
        return am.task_losses(self, outputs, examples).mean()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's head, and all its other parameters if ``tune="all"``, by name in ``module``."""
        self._check()
        assert isinstance(module, Pretrained)
        head = am.fit_head(
            am.apply_per_task(module.backbone, support.x),
            support,
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            start=module.head if module.keeps_head else None,
        )
        adapted = {"head.weight": head["weight"], "head.bias": head["bias"]}
        # Without a network under it the head is fitted already.
        if self.tune == "head" or (self.tune == "auto" and (support.is_classification or not module.own)):
            return adapted
        start = am.per_task(module, len(support), module.own) | adapted
        return am.descend(module, start, support, steps=self.steps, rates=self.network_lr, strategy=self.strategy)

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's head on the shared or the task's own features."""
        assert isinstance(module, Pretrained)
        if len(adapted) > 2:
            return am.call_per_task(module, adapted, x, strategy=self.strategy)
        head = {"weight": adapted["head.weight"], "bias": adapted["head.bias"]}
        return am.apply_head(head, am.apply_per_task(module.backbone, x))

    def _check(self) -> None:
        am.check_choice("tune", self.tune, ("auto", "head", "all"), of="learner 'fine_tune'")
        am.check_int("steps", self.steps, least=0, of="learner 'fine_tune'")
        am.check_real("weight_decay", self.weight_decay, least=0, of="learner 'fine_tune'")
        for name in ("lr", "network_lr"):
            am.check_real(name, getattr(self, name), above=0, of="learner 'fine_tune'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search how closely the support set is fitted."""
        return cls(
            steps=trial.suggest_int("steps", 3, 300, log=True),
            weight_decay=trial.suggest_float("weight_decay", 0.0, 0.1),
        )


class Pretrained(nn.Module):
    """A backbone and the head it is pretrained with.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    n_outputs : int
        Base classes, or outputs where they mean the same in every task.
    keeps_head : bool
        Whether a new task starts from this head.
    """

    def __init__(self, backbone: nn.Module, *, n_outputs: int, keeps_head: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.own = [f"backbone.{name}" for name, value in backbone.named_parameters() if value.requires_grad]
        """Names of the parameters under the head that every task may have its own of: no frozen ones."""
        self.keeps_head = keeps_head
        self.head = nn.Linear(int(backbone.n_features), n_outputs)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *features] to [n, rows of the head]."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]
