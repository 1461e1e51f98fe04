"""A learner of control tasks: it acts, is told what came of it, and so learns which world it is in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.experience import Experience, Transition
from autometa.contracts.policies import Decision, Policy
from autometa.errors import PluginError


class Actor(BaseLearner):
    """How one control task is learned by acting: hyperparameters in the constructor, θ in the module of ``build``.

    Subclasses implement :meth:`build`, :meth:`start`, :meth:`act` and :meth:`observe`, all batched over tasks. What is
    learned of a task is the memory.
    """

    default_meta_optimizer: ClassVar[str | None] = "control/policy_gradient"

    provides: ClassVar[frozenset[str]] = frozenset({"decisions", "policy"})
    """What a meta-optimizer may count on: ``"decisions"`` (those of :meth:`along` are differentiable in θ),
    ``"policy"`` (they have values too), ``"episodic"`` (what it does in an episode changes nothing in the next one,
    unless it adapts), ``"rounds"`` (it adapts in rounds, differentiably in θ)."""

    learns_from_others: ClassVar[bool] = True
    """True if it can learn from what another actor did; False: only from what it did itself."""

    greedy: bool = False
    """True if it does what it finds best once it is judged; False: it draws from its policy there too."""

    @abstractmethod
    def start(self, module: nn.Module, n_tasks: int) -> Any:
        """Memory before anything was seen: a pytree of tensors that lead with [tasks]."""

    @abstractmethod
    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[Decision, Any]:
        """Decide for every task; return the decision, and the memory that has read ``observation`` [tasks, ...].

        ``memory`` is left as it is.
        """

    @abstractmethod
    def observe(self, module: nn.Module, memory: Any, transition: Transition) -> Any:
        """Return the memory that knows what came of the action; a reward counts only where it is ``told``."""

    def along(self, module: nn.Module, experience: Experience, memory: Any = None) -> tuple[Decision, Any]:
        """Decide at every step of what happened, as if acting, and return the memory after it.

        Differentiable in θ if gradients are enabled. Unlike :meth:`act` it may use ``experience.hidden`` for values.

        Parameters
        ----------
        module : nn.Module
        experience : Experience
        memory : optional
            Of before the experience; that of :meth:`start` if left out.

        Returns
        -------
        decision : Decision
            Each tensor [tasks, time, ...]; anything where padded. A loss of the actor's own (``auxiliary``) is there if
            gradients are enabled; it may draw from torch's generator, which meta-training seeds.
        memory : pytree of Tensor
            After the last step of each trial that exists.
        """
        memory = self.start(module, len(experience)) if memory is None else memory
        decisions: list[Decision] = []
        for time in range(experience.n_steps):
            transition = experience.at(time)
            decision, after = self.act(module, memory, transition.observation)
            after = self.observe(module, after, transition)
            memory = after if experience.is_full else _where(experience.mask[:, time], after, memory, self)
            decisions.append(decision)
        return stack_decisions(decisions), memory


def stack_decisions(decisions: list[Decision]) -> Decision:
    """Join decisions of successive steps, each tensor [tasks, ...], along [tasks, time, ...]."""
    first = decisions[0]
    parts = zip(*(decision.policy for decision in decisions), strict=True)
    kind: Callable[..., Policy] = type(first.policy)
    policy = kind(*(torch.stack(part, 1) for part in parts))
    values = [decision.value for decision in decisions if decision.value is not None]
    losses = [decision.auxiliary for decision in decisions if decision.auxiliary is not None]
    return Decision(policy, torch.stack(values, 1) if values else None, torch.stack(losses, 1) if losses else None)


def _where(mask: Tensor, after: Any, before: Any, actor: Actor) -> Any:
    """Return the memory ``after`` of the tasks in ``mask``, else that of ``before``."""

    def leaf(new: Tensor, old: Tensor) -> Tensor:
        if new.shape != old.shape:  # where() would stretch one over the other
            raise PluginError(
                f"the memory of actor {type(actor).__name__} changes its shape from {tuple(old.shape)} to "
                f"{tuple(new.shape)} while it acts; override along(), so that trials of unequal length can be read."
            )
        return torch.where(mask.view(-1, *[1] * (new.dim() - 1)), new, old)

    return pytree.tree_map(leaf, after, before)
