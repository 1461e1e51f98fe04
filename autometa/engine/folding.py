"""Applying one network to the examples of many tasks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autometa.contracts.backbone import BackboneLike
from autometa.errors import PluginError
from autometa.host import make_backbone


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """All batch-normalising layers of a network."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]


def is_transductive(module: nn.Module) -> bool:
    """Tell whether the network normalises by the statistics of the very examples it is given."""
    return any(getattr(layer, "running_mean", None) is None for layer in batch_norms(module))


def describe_normalization(module: nn.Module) -> str:
    """Say how the network normalises, for printing beside a score.

    Returns
    -------
    str
        ``"batch (transductive)"``: by the examples given, so query examples influence one another;
        ``"batch (inductive)"``: by running averages of meta-training; ``"group"``, ``"layer"`` or ``"none"``.
    """
    if is_transductive(module):
        return "batch (transductive)"
    if batch_norms(module):
        return "batch (inductive)"
    kinds = {"group": nn.GroupNorm, "layer": nn.LayerNorm}
    found = [name for name, kind in kinds.items() if any(isinstance(layer, kind) for layer in module.modules())]
    return ", ".join(found) or "none"


def auto_backbone(input_shape: tuple[int, ...]) -> str:
    """Full name of the backbone that "auto" stands for: conv4 for images (three axes), else mlp."""
    return "backbones/conv4" if len(input_shape) == 3 else "backbones/mlp"


def build_backbone(backbone: BackboneLike, input_shape: tuple[int, ...]) -> nn.Module:
    """Build a network for inputs of this shape.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable
        A name, an object, or ``"auto"``: conv4 for images (three axes), else mlp.
    input_shape : tuple of int

    Returns
    -------
    nn.Module
        From [batch, *input_shape] to [batch, n_features]; has the attribute ``n_features``.
    """
    if isinstance(backbone, str) and backbone == "auto":
        backbone = auto_backbone(input_shape)
    chosen = make_backbone(backbone)
    module = chosen.build(tuple(input_shape))
    if not isinstance(getattr(module, "n_features", None), int):
        raise PluginError(
            f"backbone {chosen!r} built a {type(module).__name__} without an integer attribute 'n_features'."
        )
    return module


def apply_per_task(module: nn.Module, x: Float[Tensor, "task n *features"]) -> Float[Tensor, "task n out"]:
    """Apply a network whose weights all tasks share.

    Tasks are folded into the batch axis. A network with transductive batch norm sees one task after the other, so that
    each is normalised by its own examples alone. (``vmap`` takes four times as long on a CPU, and cuDNN's batch norm
    cannot be run under it on images laid out with their channels last.)
    """
    if not is_transductive(module):
        return module(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # type: ignore[no-any-return]
    return torch.stack([module(examples) for examples in x])
