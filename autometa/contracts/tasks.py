"""p(T): a task distribution to draw from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from sklearn.base import BaseEstimator

from autometa.checks import LARGEST_SEED, check_choice, check_int
from autometa.contracts.content import named_content
from autometa.contracts.examples import TaskBatch
from autometa.contracts.objectives import Objective
from autometa.contracts.problems import Problem, find_problem
from autometa.contracts.row_encoder import RowEncoder

if TYPE_CHECKING:
    import torch
    from optuna import Trial
    from torch import Tensor

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """What a learner may know of a task distribution before it sees a task.

    Parameters
    ----------
    problem : {"classification", "regression", "control"}
        One of ``autometa.contracts.problems``.
    input_shape : tuple of int
        Shape of one example or observation, channels first for images.
    n_outputs : int
        Classes of the widest task as drawn, number of real targets, number of choices or of real actions.
    n_shot : int
        Support examples per class (classification) or per task (regression, or where classes are drawn as they come);
        the most that are drawn where they vary. Control: episodes to adapt in, before those that are judged; may be 0.
    n_query : int
        Query examples per class or per task; likewise. Control: episodes that are judged.
    n_base_classes : int, optional
        Number of meta-train classes behind ``TaskBatch.classes``.
    n_base_tasks : int, optional
        Number of meta-train tasks where they are finite (entities of a table); ``TaskBatch.ids`` counts them.
    shared_classes : bool, default=False
        Whether a class label means the same in every task (a table's target) or is drawn anew for each.
    feature_kinds : tuple of {"numeric", "categorical", "missing"}, optional
        Kind of every feature of a table: a number, one level of a category, or where the values of a column were
        missing.
    feature_columns : tuple of int, optional
        The column of the table that every feature comes from, counted from 0.
    target_scale : float, default=1.0
        Standard deviation by which the targets drawn were divided; scores are told in undivided units.
    horizon : int, default=0
        Control: most steps of an episode.
    action_bounds : (low, high), optional
        Control: bounds of real actions, ``n_outputs`` numbers each; None: an action is one of ``n_outputs`` choices.
    n_hidden : int, default=0
        Control: width of ``Environments.hidden``.
    adviser : str, optional
        Control: whom ``Environments.advice`` follows, in words; None: nobody can tell what to do.
    arms : {"bernoulli", "gaussian"}, optional
        Control: where tasks are bandits, what a choice pays whenever it is made, independently of other choices: 1 with
        a probability that is uniform on [0, 1], or normal numbers of deviation 1 around a mean that is standard normal.
        None: they are no such bandits.
    tabular : bool, default=False
        Control: whether tasks are Markov decision processes of a few states, of which an observation is the present
        one, one-hot.
    """

    problem: str
    input_shape: tuple[int, ...]
    n_outputs: int
    n_shot: int
    n_query: int
    n_base_classes: int | None = None
    n_base_tasks: int | None = None
    shared_classes: bool = False
    feature_kinds: tuple[str, ...] | None = None
    feature_columns: tuple[int, ...] | None = None
    target_scale: float = 1.0
    horizon: int = 0
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    n_hidden: int = 0
    adviser: str | None = None
    arms: str | None = None
    tabular: bool = False

    def __post_init__(self) -> None:
        find_problem(self.problem)

    @property
    def problem_record(self) -> Problem:
        """What sets the problem apart: its score, loss, default learner and estimator."""
        return find_problem(self.problem)

    @property
    def metric(self) -> str:
        """Name of the score of one task: ``"accuracy"``, ``"mse"`` or ``"return"``."""
        return self.problem_record.metric

    @property
    def higher_is_better(self) -> bool:
        """True if a larger score is a better one."""
        return self.problem_record.higher_is_better

    @property
    def labels_are_shared(self) -> bool:
        """True if a label means the same in every task: classes that are shared, or real targets."""
        return self.shared_classes or not self.problem_record.has_classes

    @property
    def is_table(self) -> bool:
        """True if examples are rows of a table, whose columns have kinds."""
        return self.feature_kinds is not None

    @property
    def n_episodes(self) -> int:
        """Episodes of a trial: those to adapt in, and those that are judged."""
        return self.n_shot + self.n_query

    @property
    def n_steps(self) -> int:
        """Most steps of a trial."""
        return self.n_episodes * self.horizon

    def in_target_units(self, scores: Tensor, objective: Objective | None = None) -> Tensor:
        """Tell scores of tasks as drawn, or those by an objective, in the targets' own units; see ``target_scale``."""
        if objective is not None:
            return objective.in_target_units(scores, self.target_scale)
        return scores * self.target_scale**self.problem_record.unit_power


class TaskSampler(BaseEstimator, ABC):
    """A task distribution: hyperparameters in the constructor, tasks from :meth:`sample`."""

    names_files: ClassVar[frozenset[str]] = frozenset()
    """Hyperparameters whose text is the path of a file or folder; :meth:`content` tells what lies there. Path objects
    count in every hyperparameter."""

    tasks_recur: ClassVar[bool] = False
    """True if there are so few tasks that different draws, and splits, may hold the same one."""

    @property
    def encoder(self) -> RowEncoder | None:
        """Turns a user's raw rows into the sampler's inputs (tables); None where examples are tensors already."""
        return None

    @property
    def pixel_bits(self) -> int:
        """Bits that grey images of 16 bits use; an estimator reads images of Pillow as the sampler read its own."""
        return 16

    @property
    @abstractmethod
    def info(self) -> TaskInfo:
        """Shapes and sizes of the tasks drawn."""

    @abstractmethod
    def sample(self, n_tasks: int, *, split: Split = "train", seed: int) -> Any:
        """Draw tasks: a TaskBatch, or Environments where the problem is control.

        Pure: the same arguments give the same tasks on any machine, device and worker and in any order, and
        task ``i`` does not depend on ``n_tasks``.

        Parameters
        ----------
        n_tasks : int
            At least 1.
        split : {"train", "valid", "test"}
            Part of the distribution; parts share no class, entity or function (but see ``tasks_recur``).
        seed : int
            Non-negative.
        """

    def whole_tasks(self, split: Split = "train") -> Iterator[TaskBatch] | None:
        """Go once through every example of every task of a part; None where there is no end of them.

        What only remembers examples then needs no draws. Support sets hold all examples that :meth:`sample` draws
        from, each once; query sets are empty; ``ids`` tell the tasks apart. The order is always the same.
        """
        return None

    def each_task(self, n_rows: int, *, split: Split = "test", seed: int) -> Iterator[TaskBatch] | None:
        """Go once through the tasks of a part, each with rows in the order they get their labels; None without an end.

        A support set holds up to ``n_rows`` examples, whatever their classes, or fewer where a task would else have too
        few to be judged on: its first k are what is known once k are labelled. The query set is the same for every k.
        ``ids`` tell the tasks apart. Pure, as :meth:`sample` is.

        Parameters
        ----------
        n_rows : int
            At least 1.
        split : {"train", "valid", "test"}
        seed : int
            Decides which rows are labelled and which are asked for.
        """
        return None

    def task_names(self) -> Sequence[str] | None:
        """Name the tasks that ``TaskBatch.ids`` count, the first is number 0; None where they have no names."""
        return None

    def varied(self, seed: int) -> TaskSampler:
        """Return a sampler of tasks of another size, for pretraining on tables of every shape; by default itself.

        Pure: the seed alone decides. The problem and the family of tasks stay.

        Parameters
        ----------
        seed : int
            Non-negative.
        """
        return self

    def to(self, device: torch.device | str) -> Self:
        """Return a sampler of the same tasks that keeps what they are drawn from on ``device``.

        No batch has to travel then. This one is left as it is; where keeping does not help, it is returned itself.
        """
        return self

    def content(self) -> dict[str, str]:
        """Digests of the files that tasks are made from, by parameter (see ``autometa.content_of``).

        They decide whether a comparison or a checkpoint may go on. Without an override: of every path object, and of
        the text of the parameters in ``names_files``, where a file or folder lies there; ``cache`` never counts.
        Override it where tasks come from a place that no parameter names, or from some files of a folder only.
        """
        return named_content(self.get_params(deep=False), self.names_files, ignore=("cache",))

    def suggest(self, trial: Trial) -> Self:
        """Draw from a search space how meta-training draws its tasks, and return such a sampler; by default itself.

        Parameter names are constructor names. Meta-valid and meta-test tasks must stay as they are: learners are
        compared by them.
        """
        return self

    def describe(self) -> dict[str, Any]:
        """Facts for reports, such as the names of the held-out classes. May be empty."""
        return {}


def check_draw(n_tasks: int, split: str, seed: int) -> None:
    """Refuse arguments of :meth:`TaskSampler.sample` that no sampler can serve.

    Raises
    ------
    InvalidParameter
        Names the argument, the value and what would work.
    """
    check_int("n_tasks", n_tasks)
    check_choice("split", split, SPLITS)
    check_int("seed", seed, least=0, most=LARGEST_SEED)
