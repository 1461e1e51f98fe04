"""Sequences of augmented images keep their classes, their splits and their pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks.augmented_shot import AugmentedShot, moved, turned

import autometa as am

PLAIN: dict[str, Any] = {"rotations": False, "angle": 0.0, "shift": 0.0}


class Marked(am.ClassEpisodes):
    """Images whose top left pixel tells their class and whose other pixels tell their number."""

    def __init__(self, *, n_way: int = 3, n_shot: int = 1, n_query: int = 2, size: int = 6, width: int = 6) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.size = size
        self.width = width

    def load(self) -> am.ClassImages:
        labels = torch.arange(18).repeat_interleave(20)
        images = torch.arange(360.0).view(-1, 1, 1, 1).repeat(1, 1, self.size, self.width) / 400
        images[:, 0, 0, 0] = labels / 20
        splits: Any = dict(zip(am.SPLITS, np.array_split(range(18), 3), strict=True))
        return am.ClassImages(images=images, labels=labels, splits=splits)


def rows_of(x: torch.Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in x.flatten(1)]


def test_without_angle_shift_and_turns_images_are_those_of_the_sampler_below() -> None:
    base = Marked(n_way=4, n_shot=7, n_query=3)
    mine = AugmentedShot(tasks=base, n_way=4, n_shot=7, n_query=3, **PLAIN).sample(5, split="valid", seed=2)
    below = base.sample(5, split="valid", seed=2)
    assert torch.equal(mine.query.x, below.query.x)
    assert torch.equal(mine.query.y, below.query.y)
    for task in range(5):
        assert sorted(rows_of(mine.support.x[task])) == sorted(rows_of(below.support.x[task]))
    assert torch.equal(mine.classes, below.classes)


def test_an_image_keeps_its_class() -> None:
    batch = AugmentedShot(tasks=Marked(), **PLAIN).sample(6, seed=0)
    assert batch.classes is not None
    for part in (batch.support, batch.query):
        assert torch.equal((part.x[:, :, 0, 0, 0] * 20).round().long(), batch.classes.gather(1, part.y))


def test_all_images_of_a_class_are_turned_alike_and_the_turn_is_part_of_the_class() -> None:
    batch = AugmentedShot(tasks=Marked(), angle=0.0, shift=0.0).sample(8, seed=0)
    assert batch.classes is not None
    seen = set()
    for part in (batch.support, batch.query):
        classes = batch.classes.gather(1, part.y)
        for image, c in zip(part.x.flatten(0, 1), classes.flatten().tolist(), strict=True):
            upright = image.rot90(-(c % 4), dims=(1, 2))
            assert int((upright[0, 0, 0] * 20).round()) == c // 4
            seen.add(c % 4)
    assert seen == {0, 1, 2, 3}


def test_every_class_comes_equally_often_in_random_order() -> None:
    batch = AugmentedShot(tasks=Marked(), n_way=5, n_shot=10).sample(20, seed=0)
    assert batch.support.y.shape == (20, 50)
    assert (batch.support.one_hot().sum(1) == 10).all()
    assert len(torch.unique(batch.support.y, dim=0)) == 20


def test_with_random_numbers_each_class_comes_once_at_least_and_not_too_often() -> None:
    tasks = AugmentedShot(tasks=Marked(), n_way=5, n_shot=4, n_query=3, most_shots=17)
    batch = tasks.sample(200, seed=0)
    assert batch.support.y.shape == (200, 20)
    counts = batch.support.one_hot().sum(1)
    assert counts.min() >= 1
    assert 5 < counts.max() <= tasks.info.n_shot == 16
    assert counts.mean(0).sub(4).abs().max() < 0.5
    alone = tasks.sample(3, seed=0)
    assert torch.equal(alone.support.x, batch.support.x[:3])


def test_splits_share_no_class_and_turned_classes_are_counted() -> None:
    tasks = AugmentedShot(tasks=Marked())
    train, valid, test = (
        set(tasks.sample(50, split=s, seed=0).classes.flatten().tolist())  # type: ignore[union-attr]
        for s in am.SPLITS
    )
    assert not train & valid
    assert not valid & test
    assert tasks.info.n_base_classes == 24 == len(train)
    assert max(train) < 24 <= min(valid)


def test_pixels_stay_in_range_and_every_image_is_shaken_otherwise() -> None:
    tasks = AugmentedShot(tasks="digits", n_way=3, n_shot=5, n_query=2, angle=30.0)
    batch = tasks.sample(20, seed=0)
    for x in (batch.support.x, batch.query.x):
        assert x.min() >= 0
        assert x.max() <= 1
    amounts = [torch.unique(part.x.flatten(0, 1).flatten(1), dim=0) for part in (batch.support, batch.query)]
    assert [len(rows) for rows in amounts] == [300, 120]


def test_turning_by_a_right_angle_is_rot90_and_a_whole_shift_moves_pixels() -> None:
    images = torch.rand(4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor([0, 1, 2, 3])
    by_angle = moved(images, (turns.double() * math.pi / 2).unsqueeze(1) * torch.tensor([1.0, 0.0, 0.0]))
    for k in range(4):
        assert torch.equal(turned(images, turns)[k], images[k].rot90(k, dims=(1, 2)))
    torch.testing.assert_close(by_angle, turned(images, turns))
    shifted = moved(images, torch.tensor([[0.0, 2 / 5, -1 / 5]], dtype=torch.float64).expand(4, 3))
    torch.testing.assert_close(shifted[:, :, :4, 2:], images[:, :, 1:, :3])
    assert not shifted[:, :, 4].any()
    assert not shifted[:, :, :, :2].any()


def test_smaller_images_are_means_of_the_larger() -> None:
    large, small = (AugmentedShot(tasks=Marked(), size=size).sample(3, seed=1) for size in (None, 3))
    assert small.support.x.shape[2:] == AugmentedShot(tasks=Marked(), size=3).info.input_shape == (1, 3, 3)
    means = torch.nn.functional.avg_pool2d(large.support.x.flatten(0, 1), 2)
    torch.testing.assert_close(small.support.x.flatten(0, 1), means)


def test_parameters_of_the_images_count_when_they_change() -> None:
    tasks = AugmentedShot(tasks=Marked())
    assert tasks.info.input_shape == (1, 6, 6)
    assert tasks.set_params(tasks__size=8, tasks__width=8).info.input_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("parameters", "error", "named"),
    [
        ({"n_shot": 0}, am.InvalidParameter, "n_shot=0"),
        ({"most_shots": 3}, am.InvalidParameter, "most_shots=3.*at least 10"),
        ({"angle": -1}, am.InvalidParameter, "angle=-1"),
        ({"shift": 2}, am.InvalidParameter, "shift=2"),
        ({"size": 9}, am.InvalidParameter, "size <= 6"),
        ({"n_query": 11}, am.InvalidParameter, "n_shot . n_query <= 20"),
        ({"tasks": "sinusoid"}, am.Incompatible, "sinusoid.*glyphs"),
        ({"tasks": Marked(width=5)}, am.Incompatible, "6 x 5.*rotations=False"),
    ],
)
def test_what_cannot_work_is_named(parameters: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        AugmentedShot(**{"tasks": Marked(), **parameters}).sample(1, seed=0)
