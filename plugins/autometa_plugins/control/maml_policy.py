"""MAML for reinforcement learning: learn a policy that a step along its own policy gradient fits to a world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.control.linear_baseline import episode_advantages
from autometa_plugins.control.own_policy import OwnPolicy
from autometa_plugins.control.policy_network import PolicyNetwork
from autometa_plugins.control.surrogate import log_ratios

if TYPE_CHECKING:
    from optuna import Trial


class MAMLPolicy(OwnPolicy):
    """Policy-gradient steps on a round of episodes, from a start and by step sizes that meta-training learns.

    Finn et al. 2017, section 5.3, with the surrogate of Rothfuss et al. 2019 (ProMP, section 5): probabilities of the
    actions over those they were drawn with, times advantages. Its second derivative in the start also tells how
    the start changes what is experienced; that of ``log π`` times advantages does not.

    Parameters
    ----------
    steps : int, default=1
        Gradient steps on each round.
    inner_lr : float, default=0.1
        Size of the first step; those after it are half as large. Learned sizes start from it.
    learn_lr : bool, default=True
        Learn a size for every single parameter (Li et al. 2017, Meta-SGD).
    episodes : int or "auto", default="auto"
        Episodes of a round. "auto": all that there are to adapt in.
    discount : float, default=0.99
    trace : float, default=1.0
        λ of the advantages that it adapts by: 1 sums up rewards.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        From observations to features. "auto": two layers of 64 with tanh for vectors, conv4 with group norm for images.
    greedy : bool, default=False
        Whether it takes the most probable action when it is judged, instead of drawing one.
    """

    name: ClassVar[str] = "maml_policy"
    default_meta_optimizer: ClassVar[str | None] = "control/promp"
    provides: ClassVar[frozenset[str]] = frozenset({"decisions", "rounds"})

    def __init__(
        self,
        *,
        steps: int = 1,
        inner_lr: float = 0.1,
        learn_lr: bool = True,
        episodes: int | Literal["auto"] = "auto",
        discount: float = 0.99,
        trace: float = 1.0,
        backbone: am.BackboneLike = "auto",
        greedy: bool = False,
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.learn_lr = learn_lr
        self.episodes = episodes
        self.discount = discount
        self.trace = trace
        self.backbone = backbone
        self.greedy = greedy

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        """``inner_lr`` may change only where it is the step size, not where sizes are learned."""
        fixed: frozenset[str] = frozenset() if self.learn_lr else frozenset({"inner_lr"})
        return frozenset({"steps", "episodes", "greedy"}) | fixed

    def check(self) -> None:
        """Refuse parameters that cannot be."""
        super().check()
        whose = f"learner {self.name!r}"
        am.check_int("steps", self.steps, least=0, of=whose)
        am.check_real("inner_lr", self.inner_lr, above=0, of=whose, such_as=0.1)
        am.check_bool("learn_lr", self.learn_lr, of=whose)
        for name in ("discount", "trace"):
            am.check_real(name, getattr(self, name), least=0, most=1, of=whose)

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network that all tasks start from, and the sizes of its steps."""
        network = super().build(info)
        assert isinstance(network, PolicyNetwork)
        if self.learn_lr:
            sizes = [torch.full_like(network.get_parameter(name), self.inner_lr) for name in network.own]
            network.register_module("step_sizes", nn.ParameterList(sizes))
        return network

    def adapt(self, module: nn.Module, memory: dict[str, Any], experience: am.Experience) -> dict[str, Any]:
        """Take the gradient steps of a round."""
        assert isinstance(module, PolicyNetwork)
        differentiable = torch.is_grad_enabled()
        advantage = episode_advantages(experience, self.discount, self.trace).detach()
        sizes: list[Any] = [self.inner_lr] * len(module.own)
        if self.learn_lr:
            sizes = list(module.get_submodule("step_sizes").parameters())
        weights: dict[str, Tensor] = memory["weights"]
        with torch.enable_grad():
            for step in range(self.steps):
                weights = {name: _begun(value, differentiable) for name, value in weights.items()}
                gain = surrogate(module.decide(weights, experience.observation), experience, advantage)
                gradients = torch.autograd.grad(gain.sum(), list(weights.values()), create_graph=differentiable)
                share = 0.5 + 0.5 * (memory["rounds"] == 0) * (step == 0)  # of the size, [tasks]
                weights = {
                    name: value + share.view(-1, *[1] * (value.dim() - 1)) * size * gradient
                    for (name, value), gradient, size in zip(weights.items(), gradients, sizes, strict=True)
                }
        if not differentiable:
            weights = {name: value.detach() for name, value in weights.items()}
        return {"weights": weights, "rounds": memory["rounds"] + 1}

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the first size of the steps."""
        return cls(inner_lr=trial.suggest_float("inner_lr", 0.01, 1.0, log=True))


def surrogate(policy: am.Choice | am.Normal, seen: am.Experience, advantage: Tensor) -> Tensor:
    """Mean over the steps of a task of probabilities over those that actions were drawn with, times advantages.

    Parameters
    ----------
    policy : Choice or Normal
        At every step of what was seen.
    seen : Experience
    advantage : Tensor of shape [tasks, time]

    Returns
    -------
    Tensor of shape [tasks]

    Raises
    ------
    InvalidData
        It is not known with what probability actions were drawn.
    """
    return (log_ratios(policy, seen).exp() * advantage).sum(1) / seen.mask.sum(1).clamp(min=1)


def _begun(value: Tensor, differentiable: bool) -> Tensor:
    """Return weights that a gradient can be taken in."""
    if differentiable and value.requires_grad:
        return value
    return value.detach().requires_grad_()
