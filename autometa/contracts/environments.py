"""Tasks to act in: environments drawn together, and the worlds that come to life when somebody acts."""

# Annotations are evaluated at once: names in those of a NamedTuple are not found later, as by the API reference.
import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from autometa.contracts.experience import Experience
from autometa.contracts.problems import Problem
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible


class StepResult(NamedTuple):
    """What a step leads to; all lead with [tasks]."""

    observation: Tensor
    """As the step left it, before any reset [tasks, *observation]."""
    reward: Tensor
    terminated: Tensor
    """True if the episode has ended in the world, bool."""
    truncated: Tensor
    """True if the episode was cut off, bool; the world could have gone on."""


class Worlds(ABC):
    """Environments that are being acted in; they change with every step."""

    @abstractmethod
    def reset(self, mask: Tensor | None = None) -> Tensor:
        """Begin the next episode of the tasks in ``mask`` [tasks], or of all; the others stay as they are.

        Returns
        -------
        Tensor of shape [tasks, *observation]
            What every task shows now.
        """

    @abstractmethod
    def step(self, action: Tensor) -> StepResult:
        """Act in every task: ``action`` is [tasks], int64, or [tasks, n_outputs] within the bounds.

        What a step gives in a task whose episode has ended means nothing until that task is reset.
        """


class Environments(ABC):
    """Control tasks drawn together: a value, which acting leaves as it is.

    Attributes
    ----------
    info : TaskInfo
        Episodes of a trial, their longest length, shapes.
    key : Tensor of shape [tasks], int64
        Decides everything random in each task, the choices of an actor included.
    hidden : Tensor of shape [tasks, n_hidden]
        Parameters of the tasks, for critics and labels in meta-training alone: no actor sees them.
    ids : Tensor of shape [tasks], int64, or None
        Which of finitely many tasks each is; None when every drawn task is a new one.
    """

    info: TaskInfo
    key: Tensor
    ids: Tensor | None = None

    has_fixed_length: ClassVar[bool] = False
    """True if every episode lasts exactly ``info.horizon`` steps: collecting then never waits for the device."""

    may_go_past_end: ClassVar[bool] = False
    """True if acting in a task whose episode has ended does no harm, and rows can be taken more than once: episodes of
    a task can then be lived through side by side."""

    picture_key: ClassVar[str] = ""
    """How to read what :meth:`picture_of` draws, in a sentence for readers of a report."""

    @property
    @abstractmethod
    def hidden(self) -> Tensor:
        """Parameters of the tasks, [tasks, n_hidden]; ``info.n_hidden`` may be 0."""

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """Expected returns of an episode where they are known, each [tasks]: ``"random"`` and ``"best"``.

        Random chooses every action with the same probability; best knows the task.
        """
        return {}

    def advice(self, experience: Experience) -> Tensor:
        """Tell what would have been best to do at every step of what happened, for meta-training by imitation alone.

        Override it, and name the adviser in ``info.adviser``. An adviser may know the tasks (``hidden``). Better is one
        who knows no more than the actor, what it saw and was told before each step: then what he does can be learned,
        exploring included.

        Parameters
        ----------
        experience : Experience
            In these environments.

        Returns
        -------
        Tensor of shape [tasks, time], int64, or [tasks, time, n_outputs]
            Choices, or real actions within their bounds; anything where padded.

        Raises
        ------
        Incompatible
            Nobody can tell.
        """
        raise Incompatible(f"{type(self).__name__} cannot tell what to do: their info names no adviser.")

    def demonstrations(self, slips: float = 0.0) -> Experience | None:
        """Return the trials of an adviser who acts himself, in every task; None: he can only tell what would be best.

        Imitation begins with them: an actor that does not know what to do yet gets into situations that are hard to
        learn from. All rewards are told. ``log_prob`` is NaN: nobody drew these actions, and actors that need to know
        their probabilities refuse them.

        Parameters
        ----------
        slips : float, default=0.0
            Share of the steps at which something is done at random instead, so that it is seen how he goes on.
        """
        return None

    @abstractmethod
    def begin(self) -> Worlds:
        """Return worlds before their first episode; the same ones however often this is called."""

    def begin_after(self, worlds: Worlds) -> Worlds:
        """Return what :meth:`begin` does; override it if that may take over from other worlds what is slow to make.

        Parameters
        ----------
        worlds : Worlds
            Of the same tasks with another key; nobody uses them any more.
        """
        return self.begin()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, tasks: slice | Tensor) -> Self: ...

    @abstractmethod
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device and cast floating-point numbers."""

    def with_key(self, key: Tensor) -> Self:
        """Return the same tasks, in which everything random is drawn anew from ``key`` [tasks]."""
        other = copy.copy(self)
        object.__setattr__(other, "key", key)
        return other

    def picture(self, task: int) -> str | None:
        """Return a picture of a task in characters, for the command line; None: there is none."""
        return None

    def picture_of(self, experience: Experience, task: int, episode: int) -> str | None:
        """Return a picture in characters of what an actor did in one episode of a task; None: there is none.

        A report shows it, or without one rewards and observations over time.

        Parameters
        ----------
        experience : Experience
            In these environments.
        task : int
            Its place among them, from 0.
        episode : int
            Of the trial, from 0.
        """
        return None

    @property
    def problem_record(self) -> Problem:
        """What sets their problem apart."""
        return self.info.problem_record

    @property
    def inputs(self) -> tuple[Tensor]:
        """Stand-in for all observations of the trials [tasks, steps, *observation], which takes no memory.

        What is shared among threads or candidates is decided by its size.
        """
        return (torch.empty(()).expand(len(self), self.info.n_steps, *self.info.input_shape),)
