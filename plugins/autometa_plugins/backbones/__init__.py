"""Bundled plugin: networks from one example to features."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_backbones() -> Iterable[am.BackboneSpec]:
    """Offer the bundled backbones."""
    here = "autometa_plugins.backbones"
    yield am.BackboneSpec(
        name="identity", factory=f"{here}.identity:Identity", summary="The inputs themselves, flattened."
    )
    yield am.BackboneSpec(name="mlp", factory=f"{here}.mlp:MLP", summary="Fully connected layers.")
    yield am.BackboneSpec(
        name="conv4",
        factory=f"{here}.conv4:Conv4",
        summary="Four blocks of convolution, normalization, ReLU and max-pooling, for images.",
        reference="Vinyals et al. 2016, Matching Networks for One Shot Learning, section 4.1.1",
    )
    yield am.BackboneSpec(
        name="resnet12",
        factory=f"{here}.resnet12:ResNet12",
        summary="Four residual blocks of three convolutions, for images; 12.4 million parameters.",
        reference="Oreshkin et al. 2018 (TADAM); widths of Lee et al. 2019 (MetaOptNet), section 4.1",
    )
