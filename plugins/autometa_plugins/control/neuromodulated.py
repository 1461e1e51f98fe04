"""A policy whose connections learn while it acts, as strongly as it decides itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self, cast

from torch import nn

import autometa as am
from autometa_plugins.control.sequence_actor import Reader, SequenceActor

if TYPE_CHECKING:
    from optuna import Trial


class Neuromodulated(SequenceActor):
    """RL² whose memory is in its connections: fast weights that the network itself strengthens (Miconi et al. 2019).

    Units that are active one after the other are associated, as Hebb found; how strongly, the network computes at every
    step from what it sees (section 3.1, as dopamine is thought to do). What it does next goes through the associations
    of the trial so far. The network is that of learner "plastic". Meta-training learns what to start from by policy
    gradients; meta-optimizer "evolution_strategy" does so without a derivative.

    Parameters
    ----------
    hidden_size : int, default=64
        Units, each of which may be associated with each.
    decay : float, default=0.95
        Share of an association that is left after a step.
    modulated : bool, default=True
        Whether the network computes the strength of each association; otherwise it is one meta-learned number, as in
        Miconi et al. 2018, Differentiable plasticity.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns observations into features. "auto": conv4 for images; vectors are read as they are.
    greedy : bool, default=True
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "neuromodulated"

    def __init__(
        self,
        *,
        hidden_size: int = 64,
        decay: float = 0.95,
        modulated: bool = True,
        backbone: am.BackboneLike = "auto",
        greedy: bool = True,
    ) -> None:
        self.hidden_size = hidden_size
        self.decay = decay
        self.modulated = modulated
        self.backbone = backbone
        self.greedy = greedy

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone, plastic cell, policy and critic, see :meth:`SequenceActor.build`."""
        whose = "learner 'neuromodulated'"
        am.check_int("hidden_size", self.hidden_size, of=whose)
        am.check_real("decay", self.decay, least=0, most=1, of=whose, such_as=0.95)
        am.check_bool("modulated", self.modulated, of=whose)
        return super().build(info)

    def make_reader(self) -> Reader:
        """Return learner "plastic"."""
        plastic = am.make_learner(
            "model/plastic", hidden_size=self.hidden_size, decay=self.decay, modulated=self.modulated
        )
        return cast(Reader, plastic)

    def critic_sees(self, info: am.TaskInfo) -> int:
        """Return 0: the critic sees what the policy sees."""
        return 0

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the size and the decay."""
        return cls(
            hidden_size=trial.suggest_categorical("hidden_size", [64, 32, 128]),
            decay=trial.suggest_float("decay", 0.8, 1.0),
        )
