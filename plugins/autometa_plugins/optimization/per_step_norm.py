"""Batch norm with gain, bias and running statistics of their own for every inner step (Antoniou et al. 2019)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

Module = TypeVar("Module", bound=nn.Module)


class PerStepNorm(_BatchNorm):
    """A batch norm with tensors of its own for every inner step, stacked along a first axis.

    Activations differ before and after every inner step, so one running average for all steps describes none. A view of
    the network (:func:`at_step`) fixes which step a layer is at and whether it sees a whole support set, which is
    normalised by itself. Views never change, so a step that is differentiated or recomputed later is the same step.

    Parameters
    ----------
    layer : batch norm with running statistics
        Every step starts as a copy of it.
    n_steps : int
        Steps told apart: as many as there are updates, and the state after the last one.
    """

    def __init__(self, layer: _BatchNorm, n_steps: int) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine)
        self.step = 0
        self.is_support = False
        for name, value in [*layer.named_parameters(), *layer.named_buffers()]:
            setattr(self, name, _same_kind(value, value.detach().repeat(n_steps, *([1] * value.dim()))))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise by the examples themselves in training and for a support set, else by this step's averages."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        by_examples = (self.training or self.is_support) and x.numel() > x.shape[1]  # one number has no spread
        if self.training and by_examples:
            self.num_batches_tracked[self.step] += 1
        share = self.momentum
        if share is None:  # a mean of all batches so far
            share = 1 / max(1.0, float(self.num_batches_tracked[self.step]))
        keeps_averages = self.training or not by_examples
        return functional.batch_norm(
            x,
            self.running_mean[self.step] if keeps_averages else None,
            self.running_var[self.step] if keeps_averages else None,
            self.weight[self.step] if self.affine else None,
            self.bias[self.step] if self.affine else None,
            by_examples,
            share,
            self.eps,
        )


class _OneStep(_BatchNorm):
    """A per-step norm at its step, for two examples or more: torch's batch norm, whose tensors are rows of its own."""

    def __init__(self, norm: PerStepNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=False, track_running_stats=False)
        self.train(norm.training)
        if norm.affine:
            self._parameters |= {"weight": norm.weight[norm.step], "bias": norm.bias[norm.step]}  # type: ignore[dict-item]
        if norm.training or not norm.is_support:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            self.track_running_stats = True
            self.running_mean, self.running_var = norm.running_mean[norm.step], norm.running_var[norm.step]
            self.num_batches_tracked = norm.num_batches_tracked[norm.step]

    def _check_input_dim(self, x: Tensor) -> None:
        """Take whatever the layer that it stands for took."""


def _same_kind(value: Tensor, new: Tensor) -> Tensor:
    return nn.Parameter(new, value.requires_grad) if isinstance(value, nn.Parameter) else new


def with_per_step_norm(network: nn.Module, n_steps: int) -> bool:
    """Replace every inductive batch norm within a network; tell whether there was one."""
    inductive = [
        layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
    _replace(network, {layer: PerStepNorm(layer, n_steps) for layer in inductive})
    return bool(inductive)


def _replace(network: nn.Module, layers: Mapping[nn.Module, nn.Module]) -> None:
    """Replace layers within a network, at every place where they are."""
    for parent in list(network.modules()):
        for name, layer in parent._modules.items():
            if layer is not None and layer in layers:
                parent._modules[name] = layers[layer]


def has_per_step_norm(network: nn.Module) -> bool:
    """Tell whether :func:`with_per_step_norm` replaced any layer of a network."""
    return any(isinstance(layer, PerStepNorm) for layer in network.modules())


def at_step(module: Module, step: int, *, n: int, is_support: bool) -> Module:
    """A view of the module that normalises as at this inner step; its tensors are the module's.

    Parameters
    ----------
    module : nn.Module
    step : int
        Steps beyond the last are as the last.
    n : int
        How many examples of a task it is given. Of two or more, tasks can go side by side.
    is_support : bool
        Whether these are a task's whole support set.
    """
    tensors = [*module.parameters(), *module.buffers()]
    view = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    norms = [layer for layer in view.modules() if isinstance(layer, PerStepNorm)]
    for layer in norms:
        assert layer.running_mean is not None
        layer.step, layer.is_support = min(step, len(layer.running_mean) - 1), is_support
    if n > 1:
        _replace(view, {layer: _OneStep(layer) for layer in norms})
    return view


def per_step_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that per-step norms hold."""
    return {
        f"{prefix}.{name}"
        for prefix, layer in module.named_modules()
        if isinstance(layer, PerStepNorm)
        for name, _ in layer.named_parameters()
    }
