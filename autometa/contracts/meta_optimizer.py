"""argmin: what improves θ from one batch of tasks to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from autometa.contracts.tasks import TaskInfo, TaskSampler

if TYPE_CHECKING:
    from optuna import Trial


Average: TypeAlias = Callable[[Sequence[Tensor]], list[Tensor]]
"""Means of tensors over the processes that share the tasks of a step."""


class MetaOptimizer(BaseEstimator, ABC):
    """The outer update: hyperparameters in the constructor, running state after :meth:`start`.

    ``progress`` (0 to 1, the share of meta-training done) is set by the outer loop before every step; schedules
    read it. ``average`` is set before :meth:`start`; it is None in a single process.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What the learner must provide; see ``Learner.provides``."""

    shares_tasks: ClassVar[bool] = False
    """True if several processes may each take :meth:`step` on an equal share of the tasks and end in the θ of one
    process: every mean over tasks that moves θ, or that ``finished`` depends on, then goes through ``average``. In
    :meth:`step` each process draws random numbers of its own."""

    details: ClassVar[frozenset[str]] = frozenset()
    """Parameters of :meth:`suggest` that matter less: the first trials of a study leave them as they are."""

    progress: float = 0.0

    average: Average | None = None

    finished: bool = False
    """Set by :meth:`step` once further steps would change nothing; the outer loop then ends."""

    @abstractmethod
    def start(self, learner: Any, module: nn.Module, info: TaskInfo) -> None:
        """Take over ``module`` (θ, changed in place by :meth:`step`) and forget any earlier run.

        ``learner`` is a Learner, or an Actor, that provides what is required.
        """

    @abstractmethod
    def step(self, batch: Any) -> dict[str, Tensor]:
        """Improve θ on a batch of tasks; return scalars to record, at least ``"loss"``, left on the device."""

    def draw(self, sampler: TaskSampler, n_tasks: int, seed: int) -> Any:
        """Draw the batch for one step: a TaskBatch, or Environments."""
        return sampler.sample(n_tasks, split="train", seed=seed)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside θ: tensors, numbers, lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, after :meth:`start`."""

    @classmethod
    def suggest(cls, trial: Trial, info: TaskInfo) -> Self:
        """Draw hyperparameters from the search space; parameter names are constructor names."""
        return cls()
