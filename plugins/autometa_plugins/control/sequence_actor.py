"""Actors whose memory is the state of a network that reads sequences."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import autometa as am
from autometa_plugins.control.bounded import Bounded

_FACTS = 3
"""Numbers of a token beside observation and action: the reward, whether an episode ended, whether it was told."""


class SequenceActor(am.Actor):
    """Reads what it saw, did and was told, and decides; its state is all that it learns of a world.

    A token is an observation together with the action, the reward and the end of the step before it (Wang et al. 2016).
    The state is kept over the episodes of a trial, so that what one of them showed serves the next. Subclasses store
    these parameters beside their own, have a ``name``, and say what their critic sees.

    Parameters
    ----------
    reader : str or Learner
        A learner that reads sequences ("gru", "lstm", "mann", "snail", "plastic"), whose cell is the memory.
    hidden_size : int or None
        Of a reader given by name that has such a size; None: its own.
    backbone : str, Backbone, nn.Module or callable
        What turns observations into features. "auto": conv4 for images; vectors are read as they are.
    greedy : bool
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str]
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"greedy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"control"})

    reader: str | am.Learner
    hidden_size: int | None
    backbone: am.BackboneLike

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, cell, policy and critic.

        Raises
        ------
        InvalidParameter
            ``reader`` reads no sequences, a size is none, or a flag is neither True nor False.
        """
        am.check_bool("greedy", self.greedy, of=f"learner {self.name!r}")
        am.check_int("hidden_size", self.hidden_size, also=(None,), of=f"learner {self.name!r}")
        is_vector = self.backbone == "auto" and len(info.input_shape) != 3
        backbone = am.build_backbone("identity" if is_vector else self.backbone, info.input_shape)
        width = int(backbone.n_features) + info.n_outputs + _FACTS  # type: ignore[arg-type]
        return self.network(backbone, self.make_reader().build_cell(width, info.n_steps), info)

    def network(self, backbone: nn.Module, cell: Any, info: am.TaskInfo) -> RecurrentPolicy:
        """Return the module around a cell; its features decide, unless a subclass puts something between."""
        return RecurrentPolicy(backbone, cell, info, self.critic_sees(info))

    @abstractmethod
    def critic_sees(self, info: am.TaskInfo) -> int | None:
        """Return how many hidden parameters of a task the critic sees; None: there is no critic."""

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Any]:
        """Return the cell's first state, and nothing told."""
        assert isinstance(module, RecurrentPolicy)
        nothing = module.policy.weight.new_zeros(n_tasks, 1, module.width)
        return {"state": module.cell.start(nothing), "last": nothing[:, 0, : module.n_told]}

    def act(self, module: nn.Module, memory: dict[str, Any], observation: Tensor) -> tuple[am.Decision, dict[str, Any]]:
        """Read the observation with what was told last, and decide."""
        assert isinstance(module, RecurrentPolicy)
        token = module.tokens(observation.unsqueeze(1), memory["last"].unsqueeze(1))
        features, state = module.cell.read(token, None, memory["state"])
        return am.Decision(module.policy_of(features[:, 0]), None), {"state": state, "last": memory["last"]}

    def observe(self, module: nn.Module, memory: dict[str, Any], transition: am.Transition) -> dict[str, Any]:
        """Keep what was told for the next token."""
        assert isinstance(module, RecurrentPolicy)
        return {"state": memory["state"], "last": module.told(transition)}

    def along(
        self, module: nn.Module, experience: am.Experience, memory: dict[str, Any] | None = None
    ) -> tuple[am.Decision, dict[str, Any]]:
        """Decide at every step of what happened, in one pass of the cell."""
        assert isinstance(module, RecurrentPolicy)
        features, memory = self.read(module, experience, memory)
        return am.Decision(module.policy_of(features), module.value_of(features, experience.hidden)), memory

    def read(
        self, module: RecurrentPolicy, experience: am.Experience, memory: dict[str, Any] | None
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the cell's features [tasks, time, n_features] before every step, and the memory after the last."""
        memory = self.start(module, len(experience)) if memory is None else memory
        told = torch.cat([memory["last"].unsqueeze(1), module.told(experience)], 1)
        mask = None if experience.is_full else experience.mask
        tokens = module.tokens(experience.observation, told[:, :-1])
        features, state = module.cell.read(tokens, mask, memory["state"])
        length = experience.mask.sum(1).view(-1, 1, 1).expand(-1, 1, told.shape[2])
        return features, {"state": state, "last": told.gather(1, length)[:, 0]}

    def make_reader(self) -> Reader:
        """Return the learner whose cell reads.

        Raises
        ------
        InvalidParameter
            ``reader`` reads no sequences.
        """
        reader = am.make_learner(self.reader)
        if isinstance(self.reader, str) and self.hidden_size and "hidden_size" in reader.get_params(deep=False):
            reader.set_params(hidden_size=self.hidden_size)
        if not hasattr(reader, "build_cell"):
            raise am.InvalidParameter(
                f"reader={self.reader!r} of learner {self.name!r} reads no sequences; use 'gru', 'lstm', 'mann', "
                "'snail' or 'plastic', or a learner with build_cell()."
            )
        return cast(Reader, reader)


class Reader(Protocol):
    """A learner that reads sequences."""

    def build_cell(self, width: int, length: int) -> Any:
        """Return a network that reads tokens of a width; ``length`` is that of a trial."""


class RecurrentPolicy(Bounded):
    """A cell that reads tokens, and what its features decide.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    cell : nn.Module that reads sequences
    info : TaskInfo
    n_hidden : int or None
        Hidden parameters of a task that the critic sees; None: there is no critic.
    n_layer : int or None, default=None
        Units of a layer between the cell's features and the policy; None: there is no such layer.
    """

    def __init__(
        self, backbone: nn.Module, cell: Any, info: am.TaskInfo, n_hidden: int | None, n_layer: int | None = None
    ) -> None:
        super().__init__(info)
        self.backbone = backbone
        self.cell: Any = cell
        self.n_outputs = info.n_outputs
        self.n_told = info.n_outputs + _FACTS
        self.width = int(backbone.n_features) + self.n_told  # type: ignore[arg-type]
        self.layer = nn.Sequential(nn.Linear(cell.n_features, n_layer), nn.Tanh()) if n_layer else nn.Identity()
        self.policy = nn.Linear(n_layer or cell.n_features, info.n_outputs)
        nn.init.orthogonal_(self.policy.weight, 0.01)
        nn.init.zeros_(self.policy.bias)
        self.log_std = None if self.is_choice else nn.Parameter(torch.full((info.n_outputs,), -0.5))
        self.n_hidden = n_hidden
        if n_hidden is not None:
            self.value = Critic(cell.n_features, n_hidden)

    @property
    def value_scale(self) -> Tensor:
        """Unit in which the critic learns returns; the meta-optimizer changes it in place."""
        return self.value.scale

    def tokens(self, observation: Tensor, last: Tensor) -> Tensor:
        """Join observations [tasks, n, *observation] with what was told before each, [tasks, n, n_told]."""
        return torch.cat([am.apply_per_task(self.backbone, observation), last], -1)

    def told(self, of: am.Transition | am.Experience) -> Tensor:
        """Action, reward, end and whether the reward was told, of every step."""
        if self.is_choice:
            action = F.one_hot(of.action, self.n_outputs).to(of.reward)
        else:
            action = (of.action - self.middle) / self.reach
        facts = torch.stack([of.reward * of.told, of.ended.to(of.reward), of.told.to(of.reward)], -1)
        return torch.cat([action, facts], -1)

    def value_of(self, features: Tensor, hidden: Tensor) -> Tensor | None:
        """Tell values [tasks, n] of features [tasks, n, n_features]; None without a critic, or what it has to see."""
        knows = self.n_hidden is not None and self.n_hidden in (0, hidden.shape[-1])
        return self.value(features, hidden) if knows else None

    def policy_of(self, features: Tensor) -> am.Choice | am.Normal:
        """Decide from features [..., n_features]."""
        outputs = self.policy(self.layer(features))
        return self.decided(outputs, None if self.log_std is None else self.log_std + self.reach.log())


class Critic(nn.Module):
    """Expected return of the rest of a trial, in the units of rewards.

    Parameters
    ----------
    n_features : int
    n_hidden : int
        Hidden parameters of a task that it sees.
    """

    scale: Tensor

    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.layers = nn.Sequential(nn.Linear(n_features + n_hidden, 64), nn.Tanh(), nn.Linear(64, 1))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, features: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Values [tasks, n] of features [tasks, n, n_features]; ``hidden`` is [tasks, n_hidden], None if it sees none.

        Raises
        ------
        ValueError
            It sees hidden parameters, and there are none.
        """
        if self.n_hidden:
            if hidden is None:
                raise ValueError(f"this critic sees {self.n_hidden} hidden parameters of each task, and got none.")
            seen = hidden.unsqueeze(1).expand(-1, features.shape[1], -1).to(features)
            features = torch.cat([features, seen], -1)
        values: Tensor = self.layers(features).squeeze(-1)
        return values * self.scale
