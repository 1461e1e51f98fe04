"""Backbones turn one example into features, and say which inputs they cannot take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import autometa as am


@pytest.mark.parametrize("name", ["identity", "mlp", "conv4"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28), (2, 5, 17), (1, 1, 1)])
def test_features_are_as_many_as_announced(name: str, shape: tuple[int, ...]) -> None:
    module = am.make_backbone(name).build(shape)
    assert module(torch.randn(4, *shape)).shape == (4, module.n_features)


def test_identity_gives_back_the_inputs_and_learns_nothing() -> None:
    module = am.make_backbone("identity").build((2, 3))
    x = torch.randn(5, 2, 3)
    assert torch.equal(module(x), x.reshape(5, 6))
    assert list(module.parameters()) == []


def test_mlp_has_the_layers_asked_for() -> None:
    module = am.make_backbone("mlp", hidden=(7, 3), activation="tanh", norm="layer").build((2, 2))
    kinds = [type(layer) for layer in module.layers]
    assert kinds == [nn.Linear, nn.LayerNorm, nn.Tanh] * 2
    assert [tuple(layer.weight.shape) for layer in module.layers if isinstance(layer, nn.Linear)] == [(7, 4), (3, 7)]


def test_one_width_is_that_of_all_layers_of_an_mlp() -> None:
    module = am.make_backbone("mlp", hidden=5, n_layers=3).build((2,))
    assert [layer.out_features for layer in module.layers if isinstance(layer, nn.Linear)] == [5, 5, 5]


@pytest.mark.parametrize(("shape", "n_features"), [((1, 28, 28), 64), ((3, 84, 84), 1600), ((1, 8, 8), 64)])
def test_conv4_has_the_size_of_the_papers(shape: tuple[int, ...], n_features: int) -> None:
    module = am.make_backbone("conv4").build(shape)
    assert module.n_features == n_features
    assert sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) == 4


def test_conv4_halves_an_axis_only_while_it_is_longer_than_one() -> None:
    module = am.make_backbone("conv4", n_filters=4).build((1, 8, 2))
    pools = [layer.kernel_size for layer in module.modules() if isinstance(layer, nn.MaxPool2d)]
    assert pools == [(2, 2), (2, 1), (2, 1)]


def test_inductive_features_depend_on_one_example_and_transductive_ones_on_all() -> None:
    x = torch.randn(6, 1, 8, 8)
    inductive = am.make_backbone("conv4", n_filters=8).build((1, 8, 8)).eval()
    transductive = am.make_backbone("conv4", n_filters=8, batch_norm="transductive").build((1, 8, 8)).eval()
    torch.testing.assert_close(inductive(x)[:2], inductive(x[:2]))
    assert not torch.allclose(transductive(x)[:2], transductive(x[:2]), atol=1e-3)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_without_batch_norm_an_example_is_alone_even_in_training(norm: str) -> None:
    module = am.make_backbone("conv4", n_filters=12, norm=norm).build((1, 8, 8)).train()
    x = torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(module(x)[:2], module(x[:2]))


@pytest.mark.parametrize(
    ("name", "parameters", "shape", "named"),
    [
        ("conv4", {}, (5,), "input_shape=(5,)"),
        ("conv4", {"n_filters": 0}, (1, 8, 8), "n_filters=0"),
        ("conv4", {"norm": "instance"}, (1, 8, 8), "norm='instance'"),
        ("conv4", {"batch_norm": "both"}, (1, 8, 8), "batch_norm='both'"),
        ("mlp", {"hidden": ()}, (5,), "hidden=()"),
        ("mlp", {"hidden": 0}, (5,), "hidden=0"),
        ("mlp", {"hidden": "64"}, (5,), "hidden='64'"),
        ("mlp", {"n_layers": 0}, (5,), "n_layers=0"),
        ("mlp", {"hidden": (8, -1)}, (5,), "hidden=(8, -1)"),
        ("mlp", {"activation": "step"}, (5,), "activation='step'"),
        ("mlp", {"norm": "batch"}, (5,), "norm='batch'"),
    ],
)
def test_an_impossible_backbone_names_what_is_wrong(
    name: str, parameters: dict[str, object], shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(am.InvalidParameter) as raised:
        am.make_backbone(name, **parameters).build(shape)
    assert named in str(raised.value)
    assert name in str(raised.value)


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_convolved_with_channels_last(name: str, channels: int) -> None:
    network = am.make_backbone(name).build((channels, 8, 8))
    seen = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.stride(1)))
    network(torch.randn(2, channels, 8, 8))
    assert set(seen) == {1}
