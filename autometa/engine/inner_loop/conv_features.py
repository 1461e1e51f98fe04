"""Features of convolutional blocks as one operation of autograd, to be differentiated as often as one likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from autometa.contracts.examples import Inputs
from autometa.engine.inner_loop.conv_blocks import Block, BlockPass, ConvBlocks, Errors, Values, channels_last

Parameters = Mapping[str, Tensor]


def suits(network: ConvBlocks, module: nn.Module, x: Inputs) -> bool:
    """Return whether :func:`run_blocks` can run these examples: images on a CPU, normalized by themselves."""
    if not isinstance(x, Tensor) or x.dim() != 5 or x.device.type != "cpu" or x.requires_grad or x.shape[1] < 2:
        return False
    if torch._C._functorch.maybe_current_level() is not None:  # transforms take no derivatives that are written out
        return False
    if torch.is_autocast_enabled("cpu") or x.dtype != next(module.parameters()).dtype:
        return False
    named = [name for block in network.blocks for name in block.parameters if name is not None]
    affine = [block.parameters[2:] for block in network.blocks]
    if len({*named}) < len(named) or any((gain is None) != (shift is None) for gain, shift in affine):
        return False
    norms = [module.get_submodule(block.norm.name) for block in network.blocks if block.norm is not None]
    return all(_normalizes_by_batch(norm) for norm in norms if isinstance(norm, _BatchNorm))


def _normalizes_by_batch(norm: _BatchNorm) -> bool:
    """Tell whether the statistics are the batch's, and averages are there only to be updated."""
    return norm.running_mean is None or (norm.training and norm.track_running_stats)


def run_blocks(network: ConvBlocks, module: nn.Module, parameters: Parameters, x: Tensor) -> Tensor:
    """Run all tasks, one after the other, and update running averages.

    Parameters
    ----------
    network : ConvBlocks
        As read of ``module``.
    module : nn.Module
    parameters : dict of Tensor, each [tasks, *shape]
        Those left out are the module's own.
    x : Tensor of shape [tasks, n, channels, height, width]

    Returns
    -------
    Tensor of shape [tasks, n, n_outputs]
    """

    def of_tasks(name: str) -> Tensor:
        if name in parameters:
            return parameters[name]
        own = module.get_parameter(name)
        return own.expand(len(x), *own.shape)

    names = [name for block in network.blocks for name in block.parameters if name is not None]
    features: Tensor = _Features.apply(network.blocks, module, x, *map(of_tasks, names))  # type: ignore[no-untyped-call]
    if network.head is None:
        return features
    weight, bias = network.head
    products = features @ of_tasks(weight).mT
    return products if bias is None else products + of_tasks(bias).unsqueeze(1)


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, blocks: Sequence[Block], module: nn.Module, x: Tensor, *values: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        passes, features = [], []
        for task, images in enumerate(x.unbind()):
            taken = []
            images = channels_last(images)
            for block, parameters in zip(blocks, _by_block(blocks, [value[task] for value in values]), strict=True):
                taken.append(BlockPass(block, images, parameters))
                images = taken[-1].outputs
                _update_averages(module, taken[-1])
                if not keep:
                    taken.clear()
            passes.append(taken)
            features.append(images.flatten(1))
        ctx.blocks, ctx.passes, ctx.shape = blocks, passes, images.shape
        ctx.save_for_backward(x, *values)
        return _together(features)

    @staticmethod
    def backward(ctx: Any, of_features: Tensor) -> tuple[Tensor | None, ...]:
        x, *values = ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = _Gradients.apply(ctx.blocks, ctx.passes, ctx.shape, x, of_features, *values)  # type: ignore[no-untyped-call]
        else:
            gradients, _ = _gradients(ctx.passes, ctx.shape, of_features, keep=False)
        return None, None, None, *gradients


class _Gradients(torch.autograd.Function):
    """The gradients of the features' parameters, as one operation."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        passes: Sequence[Sequence[BlockPass]],
        shape: torch.Size,
        x: Tensor,
        of_features: Tensor,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        gradients, ctx.errors = _gradients(passes, shape, of_features, keep=True)
        ctx.blocks, ctx.passes, ctx.shape = blocks, passes, shape
        ctx.save_for_backward(x, of_features, *values)
        return tuple(gradients)

    @staticmethod
    def backward(ctx: Any, *along: Tensor) -> tuple[Tensor | None, ...]:
        x, of_features, *values = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, None, None, *_recorded(ctx.blocks, x, of_features, values, along)
        of_tasks, by_tasks = [], []
        for task, (passes, errors) in enumerate(zip(ctx.passes, ctx.errors, strict=True)):
            own = _by_block(ctx.blocks, [part[task] for part in along])
            of_features, by_values = _changes(passes, errors, own)
            of_tasks.append(of_features)
            by_tasks.append(by_values)
        return None, None, None, None, _together(of_tasks), *map(_together, zip(*by_tasks, strict=True))


def _changes(
    passes: Sequence[BlockPass], errors: Sequence[Errors], along: Sequence[Values]
) -> tuple[Tensor, list[Tensor]]:
    """How features and gradients of one task change if its parameters change."""
    of_x: Tensor | None = None
    inputs, changes = [], []
    for taken, of_values in zip(passes, along, strict=True):
        inputs.append(of_x)
        of_x, change = taken.change(of_x, of_values)
        changes.append(change)
    assert of_x is not None
    by_outputs: Tensor | None = None
    by_blocks = []
    for i in reversed(range(len(passes))):
        by_outputs, by_block = passes[i].change_of_backward(
            errors[i], changes[i], inputs[i], along[i], by_outputs, wants_x=i > 0
        )
        by_blocks.append(by_block)
    return of_x.flatten(1), _flat(by_blocks)


def _recorded(
    blocks: Sequence[Block], x: Tensor, of_features: Tensor, values: Sequence[Tensor], along: Sequence[Tensor]
) -> Sequence[Tensor]:
    """What :meth:`_Gradients.backward` returns, with every operation recorded."""
    # Views, since gradients of features may depend on parameters: here they count as inputs of their own.
    inputs = [
        part.view_as(part) if part.requires_grad else part.detach().requires_grad_() for part in (of_features, *values)
    ]
    features = torch.stack([_plain(blocks, *task) for task in zip(x, *inputs[1:], strict=True)])
    gradients = torch.autograd.grad(features, inputs[1:], inputs[0], create_graph=True)
    return torch.autograd.grad(gradients, inputs, along, create_graph=True, materialize_grads=True)


def _gradients(
    passes: Sequence[Sequence[BlockPass]], shape: torch.Size, of_features: Tensor, *, keep: bool
) -> tuple[list[Tensor], list[list[Errors | None]]]:
    """Gradients of all parameters, each [tasks, *shape], and what is left of every pass for their derivative."""
    by_tasks, left = [], []
    for taken, of_task in zip(passes, of_features.unbind(), strict=True):
        of_outputs: Tensor | None = channels_last(of_task.view(shape))
        by_blocks, errors = [], []
        for i in reversed(range(len(taken))):
            assert of_outputs is not None
            of_outputs, by_block, error = taken[i].backward(of_outputs, wants_x=i > 0, keep=keep)
            by_blocks.append(by_block)
            errors.append(error)
        by_tasks.append(_flat(by_blocks))
        left.append(errors[::-1])
    return list(map(_together, zip(*by_tasks, strict=True))), left


def _flat(from_the_last: Sequence[Values]) -> list[Tensor]:
    """All gradients of blocks, the first block's first."""
    return [part for of_block in reversed(from_the_last) for part in of_block if part is not None]


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Stack tasks; one alone keeps its layout, such as channels-last."""
    return torch.stack(list(parts)) if len(parts) > 1 else parts[0].unsqueeze(0)


def _by_block(blocks: Sequence[Block], values: Sequence[Tensor]) -> list[Values]:
    """Part what belongs to the parameters that there are."""
    queue = iter(values)
    return [Values(*(None if name is None else next(queue) for name in block.parameters)) for block in blocks]  # type: ignore[arg-type]


def _plain(blocks: Sequence[Block], x: Tensor, *values: Tensor) -> Tensor:
    """The same features of one task, every operation recorded."""
    for block, own in zip(blocks, _by_block(blocks, values), strict=True):
        x = functional.conv2d(x, own.weight, own.bias, padding=block.padding)
        if block.norm is not None:
            groups, eps = block.norm.groups, block.norm.eps
            if groups is None:
                x = functional.batch_norm(x, None, None, own.gain, own.shift, True, 0.0, eps)
            else:
                x = functional.group_norm(x, groups, own.gain, own.shift, eps)
        x = x if block.pool is None else functional.max_pool2d(x, block.pool)
        x = x.relu() if block.relu else x
    return x.flatten(1)


def _update_averages(module: nn.Module, taken: BlockPass) -> None:
    """Do what batch norm does to its running averages."""
    norm = None if taken.norm is None else module.get_submodule(taken.norm.norm.name)
    if taken.norm is None or not isinstance(norm, _BatchNorm) or not norm.training or norm.running_mean is None:
        return
    assert norm.num_batches_tracked is not None
    assert norm.running_var is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = taken.norm.variance.view(-1) * (taken.norm.together / (taken.norm.together - 1))
    # As torch's own update, which autograd does not see: graphs may hold the averages but do not depend on them.
    norm.running_mean.data.lerp_(taken.norm.mean.view(-1), share)
    norm.running_var.data.lerp_(unbiased, share)
