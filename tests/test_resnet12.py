"""ResNet-12: the published size, any image, DropBlock in training only."""

from __future__ import annotations

import optuna
import pytest
import torch
from autometa_plugins.backbones.resnet12 import DropBlock
from sklearn.base import clone
from torch import nn

import autometa as am
from learning import assert_better, chance, untrained_and_trained
from tiers import first_by_default

SMALL = {"n_filters": (4, 6, 8, 10)}


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        module = am.make_backbone("resnet12").build((3, 84, 84))
    assert n_parameters(module) == 12_424_320  # "12.4M" of MetaOptNet, FEAT and their successors
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in module.modules()) == 12
    assert module.n_features == 640


@pytest.mark.parametrize(
    ("shape", "places"), [((3, 84, 84), (5, 5)), ((3, 32, 32), (2, 2)), ((1, 28, 28), (1, 1)), ((2, 3, 17), (1, 1))]
)
def test_features_have_the_announced_shape(shape: tuple[int, ...], places: tuple[int, int]) -> None:
    x = torch.rand(2, *shape)
    pooled = am.make_backbone("resnet12", **SMALL).build(shape).eval()
    whole = am.make_backbone("resnet12", **SMALL, pool=False).build(shape).eval()
    assert pooled.feature_shape == (10, 1, 1)
    assert whole.feature_shape == (10, *places)
    assert pooled(x).shape == (2, pooled.n_features) == (2, 10)
    assert whole(x).shape == (2, whole.n_features) == (2, 10 * places[0] * places[1])
    whole.load_state_dict(pooled.state_dict())
    torch.testing.assert_close(whole(x).view(2, *whole.feature_shape).mean((2, 3)), pooled(x))


@pytest.mark.parametrize("norm", first_by_default(1, ["batch", "group", "none"]))
def test_every_norm_passes_the_kit(norm: str) -> None:
    frame = am.check_plugin(am.make_backbone("resnet12", **SMALL, norm=norm, drop_rate=0.1, drop_block=2))
    assert set(frame["status"]) == {"passed"}, frame.to_string()


def test_transductive_statistics_are_those_of_the_examples_given() -> None:
    x = torch.rand(6, 1, 16, 16)
    module = am.make_backbone("resnet12", **SMALL, batch_norm="transductive").build((1, 16, 16)).eval()
    assert not torch.allclose(module(x)[:2], module(x[:2]), atol=1e-3)


def test_drop_block_drops_whole_squares_and_keeps_the_mean() -> None:
    drop = DropBlock(0.1, 5)
    torch.manual_seed(0)
    y = drop(torch.ones(64, 32, 20, 20))
    zero = y == 0
    # Ghiasi et al. drop the rate asked for but for overlaps of squares.
    assert 0.08 < zero.float().mean() <= 0.1
    assert abs(float(y.mean()) - 1) < 1e-3
    # A zero belongs to a square of zeros: opening the set of zeros with a square leaves it as it is.
    padded = nn.functional.pad((~zero).float(), (4,) * 4, value=1.0)
    whole = 1 - nn.functional.max_pool2d(padded, 5, stride=1)
    opened = nn.functional.max_pool2d(whole, 5, stride=1)
    assert torch.equal(opened > 0, zero)
    assert torch.equal(drop.eval()(y), y)


def test_drop_block_is_no_larger_than_the_features() -> None:
    y = DropBlock(0.3, 5)(torch.ones(200, 20, 2, 2)).flatten(2)
    assert ((y == 0).all(-1) | (y > 0).all(-1)).all()
    assert abs(float((y == 0).float().mean()) - 0.3) < 0.03


def test_dropping_happens_in_training_only() -> None:
    module = am.make_backbone("resnet12", **SMALL, drop_rate=0.5, drop_block=1).build((1, 32, 32))
    x = torch.rand(3, 1, 32, 32)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


@pytest.mark.slow
def test_a_learner_trains_with_it() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_shot=3, n_query=5)
    learner = am.make_learner("prototypical", backbone=am.make_backbone("resnet12", n_filters=(8, 8, 16, 16)))
    optimizer = am.make_meta_optimizer("gradient", lr=1e-2)
    before, after = untrained_and_trained(learner, optimizer, tasks, n_steps=120, tasks_per_step=4)
    assert_better(after, before, tasks.info)
    assert_better(after, 1.5 * chance(tasks.info), tasks.info)


@pytest.mark.parametrize(
    ("parameters", "shape", "named"),
    [
        ({}, (5,), "input_shape=(5,)"),
        ({"n_filters": (4, 4)}, (1, 8, 8), "n_filters=(4, 4)"),
        ({"n_filters": 64}, (1, 8, 8), "n_filters=64"),
        ({"drop_rate": 1.0}, (1, 8, 8), "drop_rate=1.0"),
        ({"drop_block": 0}, (1, 8, 8), "drop_block=0"),
        ({"norm": "instance"}, (1, 8, 8), "norm='instance'"),
        ({"batch_norm": "both"}, (1, 8, 8), "batch_norm='both'"),
    ],
)
def test_an_impossible_network_names_what_is_wrong(
    parameters: dict[str, object], shape: tuple[int, ...], named: str
) -> None:
    with pytest.raises(am.InvalidParameter) as raised:
        am.make_backbone("resnet12", **parameters).build(shape)
    assert named in str(raised.value)


@pytest.mark.parametrize(("shape", "searched"), [((3, 32, 32), True), ((1, 28, 28), False)])
def test_averaging_is_searched_where_several_places_are_left(shape: tuple[int, ...], searched: bool) -> None:
    kind = type(am.make_backbone("resnet12"))
    trial = optuna.create_study().ask()
    drawn = kind.suggest(trial, shape)
    assert ("pool" in trial.params) == searched
    assert (clone(drawn).set_params(pool=False).build(shape).feature_shape[1:] != (1, 1)) == searched
