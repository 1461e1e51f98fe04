"""Policies without a memory that one policy gradient trains over all worlds."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

import autometa as am
from autometa_plugins.control.own_policy import OwnPolicy
from autometa_plugins.control.policy_network import PolicyNetwork


class SharedPolicy(OwnPolicy):
    """A policy network that meta-training improves for all worlds at once, as if they were one.

    Nothing is adapted in meta-training, and what happens in an episode changes nothing in the next one. Subclasses are
    as those of :class:`OwnPolicy`.
    """

    has_critic: ClassVar[bool] = True
    default_meta_optimizer: ClassVar[str | None] = "control/policy_gradient"
    provides: ClassVar[frozenset[str]] = frozenset({"decisions", "policy", "episodic"})

    def along(self, module: nn.Module, experience: am.Experience, memory: Any = None) -> tuple[am.Decision, Any]:
        """Decide at every step of what happened, with values; see :meth:`autometa.Actor.along`."""
        assert isinstance(module, PolicyNetwork)
        decision, after = super().along(module, experience, memory)
        return am.Decision(decision.policy, module.values(experience.observation)), after
