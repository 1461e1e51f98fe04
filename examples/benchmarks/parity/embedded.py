"""Judge learners whose backbone all tasks share on images that are embedded once.

A thousand tasks draw each of some ten thousand test images many times; where the backbone does not change with the
task, its features of an image do not either.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

import autometa as am

_AT_ONCE = 512
_kept: dict[int, tuple[nn.Module, Tensor]] = {}


class Embedded(am.ClassEpisodes):
    """The tasks of a sampler of images, every image replaced by its features."""

    def __init__(self, *, images: am.ClassImages | None = None, n_way: int = 5, n_shot: int = 1, n_query: int = 15):
        self.images = images
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query

    def load(self) -> am.ClassImages:
        """The features, as images of one pixel."""
        assert self.images is not None
        return self.images


class Features(nn.Module):
    """Stands where the backbone was."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def embedded(module: nn.Module, tasks: am.ClassEpisodes) -> tuple[nn.Module, Embedded]:
    """The same θ without its backbone, and the same tasks (classes, images, order) with features for images.

    Of images outside the test split the features are zero. Learners keep their backbone as an attribute ``backbone`` of
    θ or of a part of it, or θ is the backbone itself.
    """
    holder = next((name for name, part in module.named_modules() if hasattr(part, "backbone")), None)
    backbone: Any = module if holder is None else module.get_submodule(holder).backbone
    images = tasks.load()
    features = _features(backbone, images)
    rest = Features(features.shape[1])
    if backbone is module:
        other: nn.Module = rest
    else:
        other = copy.deepcopy(module).to(features.device)  # which lays out what recurrent networks want in one piece
        other.get_submodule(holder or "").backbone = rest
    # Something must tell where θ is and how precise, when the backbone was all of it.
    if not list(other.parameters()):
        other.register_parameter("place", nn.Parameter(torch.zeros((), device=features.device)))
    pictures = dataclasses.replace(images, images=features[:, :, None, None])
    sizes = {name: getattr(tasks, name) for name in ("n_way", "n_shot", "n_query")}
    return other.eval(), Embedded(images=pictures, **sizes)


def _features(backbone: nn.Module, images: am.ClassImages) -> Tensor:
    """Features of all images of the test split, computed once for each backbone."""
    if id(backbone) in _kept and _kept[id(backbone)][0] is backbone:
        return _kept[id(backbone)][1]
    place = next(backbone.parameters())
    test = torch.isin(images.labels, torch.as_tensor(list(images.splits["test"]))).nonzero().squeeze(1)
    was_training = backbone.training
    backbone.eval()
    features = torch.zeros(len(images.images), int(backbone.n_features), dtype=place.dtype, device=place.device)
    with torch.no_grad():
        for rows in test.split(_AT_ONCE):
            x = images.images[rows].to(place.device)
            x = x.to(place.dtype) / 255 if not x.is_floating_point() else x.to(place.dtype)
            features[rows.to(place.device)] = backbone(x)
    backbone.train(was_training)
    _kept.clear()
    _kept[id(backbone)] = backbone, features
    return features
