"""f_θ_T: what adapts to one task from its support set."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.forward import query_losses
from autometa.contracts.problems import problem_of_targets
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible


class Learner(BaseLearner):
    """How one task is learned: hyperparameters in the constructor, θ in the module that :meth:`build` returns.

    Subclasses implement :meth:`build`, :meth:`adapt` and :meth:`predict`, all batched over tasks.
    Training, evaluation and the estimators use nothing else.
    """

    default_meta_optimizer: ClassVar[str | None] = "optimization/gradient"
    """Name of the meta-optimizer used unless another is asked for, best the full one; None: nothing to meta-train."""

    provides: ClassVar[frozenset[str]] = frozenset({"gradient"})
    """What a meta-optimizer may count on: ``"gradient"`` (query loss differentiable in θ), ``"inner_gradient"``
    (``adapt`` returns parameters by name), ``"inner_objective"`` (``adapt`` returns a dict of real tensors that
    minimize :meth:`inner_objective`), ``"pooled"`` (:meth:`pooled_loss`), ``"memory"`` (:meth:`remember`,
    :meth:`settle`); and what estimators may: ``"distribution"`` (:meth:`predict_distribution`), ``"quantiles"``
    (:meth:`predict_quantiles`, beside ``"distribution"``: the whole distribution, where it is no Gaussian),
    ``"density"`` (:meth:`predict_log_density`, likewise),
    ``"calibrated"`` (its deviations fit new tasks; those of others are multiplied by what held-out tasks ask for)."""

    predicts_unseen_classes: ClassVar[bool] = False
    """True if it may predict a class that the support set lacks (it knows classes from elsewhere)."""

    needs_support: ClassVar[bool] = False
    """True if it cannot answer for a task without any labelled example, even where labels mean the same in every task.
    All others then give the population's answer, from a support set whose mask is False everywhere."""

    @property
    def replayable(self) -> bool:
        """True if the loss and :meth:`adapt` run the same device operations for every batch.

        An accelerator may then record them once and repeat them (see ``autometa.Replay``). The operations must depend
        neither on the numbers in a batch nor on the progress of meta-training, and random numbers must be drawn on the
        device. The loss is :meth:`meta_loss`, or :meth:`pooled_loss`.
        """
        return False

    def encode_rows(self, X: Any) -> Any:
        """Turn raw rows, as a user gives them to an estimator, into numbers; by default ``X`` itself."""
        return X

    @abstractmethod
    def adapt(self, module: nn.Module, support: Examples) -> Any:
        """Learn every task from its support set.

        Returns
        -------
        adapted : pytree of Tensor, each leading with [tasks]
            Built without changing ``module``; differentiable in θ exactly when gradients are enabled.
        """

    @abstractmethod
    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        """Outputs for inputs ``x`` [tasks, n, *features]: logits or means, [tasks, n, n_outputs]."""

    def predict_distribution(self, module: nn.Module, adapted: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of real targets, each [tasks, n, n_outputs].

        For regression learners that provide ``"distribution"``. The means are what :meth:`predict` returns; the
        deviations are positive, in the units of the targets, and those of a new observation, its noise included.
        """
        raise NotImplementedError

    def predict_quantiles(self, module: nn.Module, adapted: Any, x: Tensor, q: Tensor) -> Tensor:
        """Quantiles of new observations of real targets, [quantiles, tasks, n, n_outputs].

        For regression learners that provide ``"quantiles"``; a Gaussian has those of all others. They do not decrease
        where ``q`` increases, and are of the distribution whose mean and standard deviation
        :meth:`predict_distribution` tells.

        Parameters
        ----------
        module : nn.Module
        adapted : pytree of Tensor
            What :meth:`adapt` returned.
        x : Tensor of shape [tasks, n, *features]
        q : Tensor of shape [quantiles], double precision where the device has it
            Probabilities of a smaller observation, each between 0 and 1, in any order.
        """
        raise NotImplementedError

    def predict_log_density(self, module: nn.Module, adapted: Any, x: Tensor, y: Tensor) -> Tensor:
        """Logarithm of the density of new observations at real targets ``y``, [tasks, n, n_outputs].

        For regression learners that provide ``"density"``; a Gaussian has that of all others. It is finite, and of the
        distribution whose mean and standard deviation :meth:`predict_distribution` tells.

        Parameters
        ----------
        module : nn.Module
        adapted : pytree of Tensor
            What :meth:`adapt` returned.
        x : Tensor of shape [tasks, n, *features]
        y : Tensor of shape [tasks, n, n_outputs]
        """
        raise NotImplementedError

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each task, [tasks]; by default the problem's: cross-entropy, or squared error.

        Parameters
        ----------
        outputs : Tensor of shape [tasks, n, n_outputs]
        y : Tensor of shape [tasks, n] or [tasks, n, n_outputs]
            Places that do not count hold ``IGNORED_CLASS`` or NaN.
        """
        return problem_of_targets(y).loss(outputs, y)

    @property
    def has_own_loss(self) -> bool:
        """True if :meth:`loss` is overridden; the loss of its problem judges any other learner."""
        return getattr(self.loss, "__func__", None) is not Learner.loss

    def meta_loss(self, module: nn.Module, batch: TaskBatch, progress: float) -> Tensor:
        """What meta-training descends, [tasks]: the loss on each query set after adapting to the support set.

        A learner that is trained otherwise than it is judged (pairs, several losses at once, a derivative whose
        order changes) overrides it.

        Parameters
        ----------
        module : nn.Module
        batch : TaskBatch
        progress : float in [0, 1]
            Share of meta-training that is done.
        """
        return query_losses(self, module, batch)

    def inner_objective(self, module: nn.Module, adapted: dict[str, Tensor], support: Examples) -> Tensor:
        """What :meth:`adapt` minimizes, [tasks]: a function of ``adapted`` and of θ, twice differentiable in both.

        For learners that provide ``"inner_objective"``. The minimum's derivative follows from it alone, whatever way
        ``adapt`` finds the minimum.
        """
        raise NotImplementedError

    def pooled_loss(self, module: nn.Module, batch: TaskBatch, progress: float) -> Tensor:
        """Supervised loss on a batch of meta-train tasks, scalar (learners that provide ``"pooled"``)."""
        raise NotImplementedError

    def reshaped(self, module: nn.Module, info: TaskInfo) -> nn.Module:
        """The same θ, for tasks of another shape; parameters are shared, so that training one trains both.

        For learners whose θ does not depend on the shape of the tasks, such as networks that read any table:
        ``autometa.pretrain`` then draws tables of many shapes.

        Raises
        ------
        Incompatible
            θ depends on the shape.
        """
        raise Incompatible(
            f"the θ of learner {type(self).__name__} belongs to tasks of one shape (it has no reshaped()); use "
            "'tabular/pfn', or another learner that reads tables of any shape."
        )

    def n_pooled_tasks(self, info: TaskInfo) -> int | None:
        """How many fixed training tasks :meth:`pooled_loss` tells apart; None when it does not."""
        return None

    def remember(self, module: nn.Module, batch: TaskBatch) -> int:
        """Keep examples of meta-train tasks in ``module``; return how many (learners that provide ``"memory"``)."""
        raise NotImplementedError

    def settle(self, module: nn.Module) -> None:
        """Work out what follows from all that :meth:`remember` kept, once nothing more comes; by default nothing."""
