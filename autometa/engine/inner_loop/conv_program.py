"""Networks as blocks of convolutions, from what a network was seen to do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from autometa.engine.inner_loop.conv_blocks import Block, ConvBlocks
from autometa.engine.inner_loop.conv_norm import Norm

FLATTEN = ("flatten", torch.flatten, nn.Flatten)
IMAGE_LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.GroupNorm, nn.MaxPool2d)
SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("stride", "padding", "dilation", "groups", "padding_mode"),
    nn.BatchNorm2d: ("eps", "affine"),
    nn.GroupNorm: ("eps", "affine", "num_groups"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    nn.Flatten: ("start_dim", "end_dim"),
}
"""Attributes of layers that a program holds."""
_RELU = (nn.ReLU, torch.relu, functional.relu, "relu")


def kind_of(what: object) -> object:
    """Return a module's class; a function, or the name of a method, is its own kind."""
    return type(what) if isinstance(what, nn.Module) else what


def parameter_names(name: str, layer: nn.Module) -> tuple[str, str | None]:
    """Names of a layer's weight and bias in the network."""
    prefix = f"{name}." if name else ""
    return f"{prefix}weight", f"{prefix}bias" if layer.bias is not None else None


def blocks_of(sequence: Sequence[tuple[object, str]] | None) -> ConvBlocks | None:
    """Return the blocks that operations make up, if they make up nothing else.

    Parameters
    ----------
    sequence : sequence of pairs
        Modules, functions and names of methods, one after the other, each with a module's name in the network.
    """
    rest = [(what, name) for what, name in sequence or () if kind_of(what) is not nn.Identity]
    blocks: list[Block] = []
    while rest and kind_of(rest[0][0]) not in FLATTEN:
        what, name = rest.pop(0)
        if isinstance(what, nn.Conv2d):
            block = _first(what, name)
        else:
            block = _extended(blocks.pop(), what, name) if blocks else None
        if block is None:
            return None
        blocks.append(block)
    if not blocks or not rest or len(rest) > 2:
        return None
    if len(rest) == 1:
        return ConvBlocks(tuple(blocks), None)
    head, name = rest[1]
    return ConvBlocks(tuple(blocks), parameter_names(name, head)) if isinstance(head, nn.Linear) else None


def _first(layer: nn.Conv2d, name: str) -> Block | None:
    """A block that begins with a convolution of the usual kind."""
    usual = layer.stride == (1, 1) and layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    if not usual or isinstance(layer.padding, str):
        return None
    return Block((*parameter_names(name, layer), None, None), _pair(layer.padding))


def _extended(block: Block, what: object, name: str) -> Block | None:
    """The block with what comes next; None where it has its like already, or is of another kind."""
    if kind_of(what) in _RELU and not block.relu:
        return block._replace(relu=True)
    if isinstance(what, nn.MaxPool2d) and block.pool is None:
        size = _pair(what.kernel_size)
        usual = _pair(what.stride) == size and _pair(what.padding) == (0, 0) and _pair(what.dilation) == (1, 1)
        return block._replace(pool=size) if usual and not (what.ceil_mode or what.return_indices) else None
    if isinstance(what, (nn.BatchNorm2d, nn.GroupNorm)) and not (block.norm or block.pool or block.relu):
        affine = parameter_names(name, what) if what.affine else (None, None)
        norm = Norm(name, what.num_groups if isinstance(what, nn.GroupNorm) else None, what.eps)
        return block._replace(parameters=(*block.parameters[:2], *affine), norm=norm)
    return None


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
