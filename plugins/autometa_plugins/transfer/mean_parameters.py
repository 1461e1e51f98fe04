"""One network for all tasks, and gradient steps from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from torch import Tensor, nn

import autometa as am
from autometa_plugins.transfer.fine_tune import Pretrained
from autometa_plugins.transfer.pretraining import has_own_classes

if TYPE_CHECKING:
    from optuna import Trial


class MeanParameters(am.Learner):
    """One network trained on the data of all tasks as if they were one; a new task takes gradient steps from it.

    The baseline "pretrained on all tasks" of Finn et al. 2017, section 5.1 and appendix C: what is learned is the
    mean of the tasks, and a new task starts there with all weights. With meta-optimizer "gradient" the same network
    is MAML's start instead.

    Parameters
    ----------
    steps : int, default=10
        Gradient steps of a new task.
    lr : float, default=0.01
        Their size.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How networks of several tasks run side by side; the numbers are the same.
    backbone : str, Backbone, nn.Module or callable, default="auto"

    References
    ----------
    C. Finn, P. Abbeel, S. Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017.
    """

    replayable: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "transfer/pooled"
    provides: ClassVar[frozenset[str]] = frozenset({"pooled", "gradient", "inner_gradient"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "lr", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"regression"})
    predicts_unseen_classes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        steps: int = 10,
        lr: float = 0.01,
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.lr = lr
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network.

        Raises
        ------
        Incompatible
            Class labels are drawn anew for each task, so that all tasks are not one.
        """
        self._check()
        if has_own_classes(info):
            raise am.Incompatible(
                "learner 'mean_parameters' needs labels that mean the same in every task, and these tasks draw their "
                "classes anew (shared_classes=False); use learner 'fine_tune'."
            )
        backbone = am.build_backbone(self.backbone, info.input_shape)
        return Pretrained(backbone, n_outputs=info.n_outputs, keeps_head=True)

    def pooled_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Mean loss of the one network on support and query."""
        assert isinstance(module, Pretrained)
        examples = batch.support.join(batch.query)
        outputs = am.apply_head(module.head, am.apply_per_task(module.backbone, examples.x))
        return am.task_losses(self, outputs, examples).mean()

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module``, each [tasks, *shape]."""
        self._check()
        assert isinstance(module, Pretrained)
        start = am.per_task(module, len(support), [*module.own, "head.weight", "head.bias"])
        return am.descend(module, start, support, steps=self.steps, rates=self.lr, strategy=self.strategy)

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        return am.call_per_task(module, adapted, x, strategy=self.strategy)

    def _check(self) -> None:
        am.check_int("steps", self.steps, least=0, of="learner 'mean_parameters'")
        am.check_real("lr", self.lr, above=0, of="learner 'mean_parameters'", such_as=0.01)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of steps and their size."""
        return cls(
            steps=trial.suggest_int("steps", 1, 100, log=True),
            # Squared errors of raw targets are steep: from 0.1 on, a few steps diverge.
            lr=trial.suggest_float("lr", 1e-3, 1.0 if info.problem_record.has_classes else 0.1, log=True),
        )
