"""Tasks of various sizes: Meta-Dataset's rule, uniform ranges, groups of classes, and learners on ragged batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks.digits import Digits
from autometa_plugins.tasks.glyphs import Glyphs
from torch import Tensor

import autometa as am
from autometa.contracts.forward import forward, task_losses, task_scores
from autometa.sampling.episode_sizes import most_varied_shots, varied_queries, varied_shots
from autometa.sampling.random_draws import draw_distinct
from autometa.testing.expectations import examples_of, same_task
from autometa.training import MetaTraining
from learning import assert_better, assert_lower, training_seed

COUNTS = [4, 7, 30, 12, 250, 9, 60, 18]


class Colors(am.ClassEpisodes):
    """Class c has an image of one pixel for every one of its counts, in 8 alphabets of 3 to 10 classes per split."""

    def __init__(self, *, n_way: Any = 5, n_shot: Any = 1, n_query: int = 2, grouped: bool = False) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.grouped = grouped

    def load(self) -> am.ClassImages:
        groups = np.repeat(np.arange(24), np.tile(np.arange(3, 11), 3))  # 52 classes in each split
        counts = np.resize(COUNTS, len(groups))
        labels = torch.from_numpy(np.repeat(np.arange(len(groups)), counts))
        splits: Any = dict(zip(am.SPLITS, np.array_split(np.arange(len(groups)), 3), strict=True))
        return am.ClassImages(
            images=torch.arange(len(labels)).float().view(-1, 1, 1, 1) + 1,  # padding is 0
            labels=labels,
            splits=splits,
            groups=[f"alphabet {g}" for g in groups] if self.grouped else (),
        )


def per_class(examples: am.Examples) -> np.ndarray[Any, Any]:
    """Number of examples of every class, [tasks, way]."""
    return examples.one_hot().sum(1).long().numpy()


def ways_of(batch: am.TaskBatch) -> np.ndarray[Any, Any]:
    assert batch.classes is not None
    return (batch.classes >= 0).sum(1).numpy()


# Meta-Dataset's rule


@pytest.mark.thorough
def test_meta_datasets_rule_gives_the_sizes_of_the_paper() -> None:
    sampler = Colors(n_way="varied", n_shot="varied", n_query=10)
    counts_of = np.bincount(sampler.load().labels)
    batch = sampler.sample(600, split="valid", seed=0)
    assert batch.classes is not None
    ways, shots, queries = ways_of(batch), per_class(batch.support), per_class(batch.query)
    assert set(ways) == set(range(5, 51))
    exists = np.arange(shots.shape[1]) < ways[:, None]
    assert ((shots > 0) == exists).all()
    assert ((queries > 0) == exists).all()
    counts = np.where(exists, counts_of[batch.classes.numpy()], 10_000)[:, : shots.shape[1]]
    n_query = np.minimum(10, counts.min(1) // 2)
    assert (queries[exists] == np.repeat(n_query, ways)).all()
    assert (shots <= counts - n_query[:, None])[exists].all()
    assert shots.sum(1).max() <= 500
    assert shots.sum(1).max() > 350
    assert shots.max() > 100  # the limit of 100 is one of the support's size, not of a class


def test_support_sizes_and_shares_follow_the_formula() -> None:
    counts = np.full((4000, 10), 600)
    shots = varied_shots(counts, np.full(4000, 10), 0, "test")
    size = shots.sum(1)
    # Without rounding, sizes are 10 · ceil(100 β) up to 500: half of all tasks reach the limit.
    assert size.max() <= 500
    assert 0.45 < (size > 488).mean() < 0.55
    assert 0 < (size < 20).mean() < 0.03
    large = shots[size > 488]
    share = large / large.sum(1, keepdims=True)
    log_ratio = np.log(share.max(1) / share.min(1))
    assert log_ratio.max() < np.log(4) + 0.1  # from 0.5 to 2
    assert log_ratio.mean() > 0.9
    weight = np.array([100] * 5 + [300] * 5)
    uneven = varied_shots(np.tile(weight, (4000, 1)), np.full(4000, 10), 0, "test")
    uneven = uneven[uneven.sum(1) > 400]
    assert 2.5 < uneven[:, 5:].mean() / uneven[:, :5].mean() < 3.5  # in proportion to the images of a class


def test_one_support_image_of_every_class_and_no_more_than_there_are() -> None:
    counts = np.array([[2, 2, 2, 0, 0], [2, 3, 40, 1000, 20]])
    for seed in range(50):
        queries = varied_queries(counts, 10)
        shots = varied_shots(counts, queries, seed, "test")
        assert queries.tolist() == [1, 1]
        assert shots[0].tolist() == [1, 1, 1, 0, 0]
        assert (shots[1] >= 1).all()
        assert (shots[1] <= counts[1] - 1).all()


def test_no_class_gets_more_than_the_most_that_info_states() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        counts = generator.integers(2, 700, size=8)
        drawn = np.stack([generator.permutation(counts) for _ in range(300)])
        drawn[np.arange(8) >= generator.integers(3, 9, size=300)[:, None]] = 0
        shots = varied_shots(drawn, varied_queries(drawn, 10), int(generator.integers(1000)), "test")
        assert shots.max() <= most_varied_shots(counts, (3, 8), 10)
    assert most_varied_shots(np.full(64, 600), (5, 50), 10) == 248


def test_info_states_the_largest_sizes() -> None:
    info = Colors(n_way="varied", n_shot="varied", n_query=15).info
    assert (info.n_outputs, info.n_query) == (50, 10)
    assert info.n_shot >= 100
    info = Colors(n_way=(3, 20), n_shot=(1, 2), n_query=2).info
    assert (info.n_outputs, info.n_shot, info.n_query) == (20, 2, 2)
    small = Glyphs(n_way=(2, 4), n_shot="varied", size=8, n_query=3).info
    assert (small.n_outputs, small.n_shot, small.n_query) == (4, 17, 3)


# ranges, each alone


def test_a_pair_draws_every_number_between_equally_often() -> None:
    batch = Colors(n_way=(3, 6), n_shot=(1, 2), n_query=1).sample(4000, seed=0)
    ways, shots = ways_of(batch), per_class(batch.support)
    np.testing.assert_allclose(np.bincount(ways, minlength=7)[3:] / 4000, 0.25, atol=0.03)
    assert all(len(set(row[:n].tolist())) == 1 for row, n in zip(shots, ways, strict=True))
    np.testing.assert_allclose((shots[:, 0] == 1).mean(), 0.5, atol=0.03)
    assert (per_class(batch.query).sum(1) == ways).all()


@pytest.mark.parametrize(("n_way", "n_shot"), [("varied", 2), (4, "varied"), ((2, 5), 1), (3, (1, 2))])
def test_each_size_varies_alone(n_way: Any, n_shot: Any) -> None:
    batch = Colors(n_way=n_way, n_shot=n_shot, n_query=2).sample(50, seed=0)
    ways = ways_of(batch)
    shots = [per_class(batch.support)[i, :n] for i, n in enumerate(ways)]
    assert (len(set(ways)) > 1) == (not isinstance(n_way, int))
    assert (len({int(s) for row in shots for s in row}) > 1) == (not isinstance(n_shot, int))


def test_drawing_fewer_of_some_gives_the_same_of_those_that_draw_all() -> None:
    sizes = np.array([[9, 30], [5, 7], [40, 6]])
    each = np.array([[5, 2], [0, 5], [1, 5]])
    all_five, fewer = (draw_distinct(sizes, 5, 0, "test", each=e) for e in (None, each))
    assert fewer.shape == all_five.shape
    assert (fewer == all_five)[each == 5].all()
    assert not fewer[np.arange(5) >= each[..., None]].any()
    drawn = draw_distinct(np.full((3000, 2), 6), 9, 0, "test", each=np.tile([2, 5], (3000, 1)))
    assert drawn.shape == (3000, 2, 5)
    for place in range(5):
        np.testing.assert_allclose(np.bincount(drawn[:, 1, place], minlength=6) / 3000, 1 / 6, atol=0.03)
    assert all(len(set(row.tolist())) == 5 for row in drawn[:, 1])


def test_equal_bounds_are_the_fixed_number() -> None:
    fixed = Colors(n_way=4, n_shot=2).sample(6, seed=2)
    ranged = Colors(n_way=(4, 4), n_shot=(2, 2)).sample(6, seed=2)
    assert all(same_task(fixed, i, ranged, i) for i in range(6))
    assert fixed.support.mask.all()


@pytest.mark.parametrize("sizes", [{"n_way": "varied", "n_shot": "varied"}, {"n_way": (2, 9), "n_shot": (1, 2)}])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_task_does_not_depend_on_how_many_are_drawn(sizes: dict[str, Any], grouped: bool) -> None:
    few, many = (Colors(**sizes, grouped=grouped).sample(n, split="test", seed=3) for n in (4, 40))
    assert all(same_task(few, i, many, i) for i in range(4))
    assert few.classes is not None
    assert many.classes is not None
    assert torch.equal(few.classes, many.classes[:4])


@pytest.mark.parametrize("grouped", [False, True])
def test_labels_name_the_class_and_no_image_is_drawn_twice(grouped: bool) -> None:
    sampler = Colors(n_way="varied", n_shot="varied", grouped=grouped)
    labels = sampler.load().labels
    for split, offset in zip(am.SPLITS, (0, 52, 104), strict=True):
        batch = sampler.sample(40, split=split, seed=1)
        assert batch.classes is not None
        for i in range(40):
            parts = [examples_of(part, i) for part in (batch.support, batch.query)]
            x, y = (torch.cat([part[j] for part in parts]) for j in (0, 1))
            images = x.flatten().long() - 1
            assert len(set(images.tolist())) == len(images)
            assert torch.equal(batch.classes[i][y], labels[images])
        drawn = batch.classes[batch.classes >= 0]
        assert drawn.min() >= offset
        assert drawn.max() < offset + 52


# groups


def test_classes_of_a_task_are_of_one_group_and_large_groups_only() -> None:
    sampler = Colors(n_way=6, grouped=True)
    groups = sampler.load().groups
    seen = set()
    for classes in sampler.sample(400, split="valid", seed=0).classes:  # type: ignore[union-attr]
        (group,) = {groups[c] for c in classes.tolist()}
        seen.add(group)
        assert len(set(classes.tolist())) == 6
    # Groups have 3 to 10 classes; those of 6 and more can be drawn.
    assert seen == {f"alphabet {g}" for g in range(11, 16)}


def test_a_task_has_no_more_classes_than_its_group() -> None:
    sampler = Colors(n_way="varied", n_shot=1, grouped=True)
    assert sampler.info.n_outputs == 10
    batch = sampler.sample(900, seed=0)
    assert batch.classes is not None
    groups = sampler.load().groups
    sizes = {g: 3 + i % 8 for i, g in enumerate(dict.fromkeys(groups))}
    ways = ways_of(batch)
    most: dict[str, int] = {}
    for n, first in zip(ways, batch.classes[:, 0].tolist(), strict=True):
        most[str(groups[first])] = max(most.get(str(groups[first]), 0), int(n))
    assert most == {g: sizes[g] for g in most}
    assert ways.min() == 5
    assert len(most) == 6


# refusals


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_way": "any"}, "n_way='any' must be an integer of at least 2, a pair .* or 'varied'"),
        ({"n_way": (5, 3)}, r"n_way=\(5, 3\) must be a pair .* 2 <= low <= high"),
        ({"n_way": (1, 3)}, r"n_way=\(1, 3\)"),
        ({"n_shot": (1, 2, 3)}, r"n_shot=\(1, 2, 3\) must be a pair"),
        ({"n_shot": 1.5}, r"n_shot=1.5"),
        ({"n_query": "varied"}, "n_query='varied' must be a positive integer"),
        ({"n_way": (5, 60)}, r"n_way=\(5, 60\) needs as many classes, but split 'train' has 52; use n_way <= 52"),
        ({"n_way": 11, "grouped": True}, "n_way=11 .* no group of split 'train' has more than 10; use n_way <= 10"),
        ({"n_shot": (1, 3)}, r"n_shot=\(1, 3\) \+ n_query=2 .* has 4; use n_shot \+ n_query <= 4"),
    ],
)
def test_impossible_sizes_say_what_would_work(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        _ = Colors(**sizes).info


def test_too_few_classes_for_the_rule_say_what_would_work() -> None:
    with pytest.raises(am.InvalidParameter, match=r"at least 5 classes, but split 'train' has 4; use n_way=\(2, 4\)"):
        _ = Digits(n_way="varied").info
    assert set(ways_of(Digits(n_way=(2, 3)).sample(30, seed=0))) == {2, 3}


# the kit and learners


@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(Glyphs(n_way="varied", n_shot="varied", size=8), marks=pytest.mark.thorough),
        Glyphs(n_way=(2, 6), n_shot=(1, 4), n_query=3, size=8),
        Digits(n_way=(2, 3), n_shot="varied"),
    ],
    ids=repr,
)
def test_samplers_of_varied_tasks_conform(sampler: am.TaskSampler) -> None:
    frame = am.check_plugin(sampler)
    assert set(frame["status"]) == {"passed"}, frame[frame["status"] != "passed"].to_string()


@pytest.mark.parametrize("name", ["prototypical", "ridge", "maml"])
def test_a_ragged_batch_gives_what_its_tasks_give_alone(name: str) -> None:
    sampler = Glyphs(n_way=(2, 7), n_shot="varied", n_query=4, size=8)
    learner = am.make_learner(name, backbone=am.make_backbone("mlp", hidden=(16,)))
    module = learner.build(sampler.info).double().eval()
    batch = sampler.sample(6, split="test", seed=0).to(dtype=torch.float64)
    assert len(set(ways_of(batch))) > 2
    losses = am.query_losses(learner, module, batch).detach()
    for i, n in enumerate(ways_of(batch).tolist()):
        (x, y), (query_x, query_y) = (examples_of(part, i) for part in (batch.support, batch.query))
        alone = am.TaskBatch(
            support=am.Examples(x[None], y[None], n_classes=n),
            query=am.Examples(query_x[None], query_y[None], n_classes=n),
        )
        torch.testing.assert_close(am.query_losses(learner, module, alone)[0].detach(), losses[i], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["prototypical", "ridge", "maml"])
def test_learners_learn_from_varied_tasks(name: str) -> None:
    sampler = Glyphs(n_way=(2, 6), n_shot="varied", n_query=5, size=8)
    learner = am.make_learner(name, backbone=am.make_backbone("mlp", hidden=(48,)))
    if name == "maml":
        learner.set_params(steps=3, inner_lr=1.0)
    training = MetaTraining(
        learner,
        am.make_meta_optimizer("gradient", lr=1e-2),
        sampler,
        n_steps=50,
        tasks_per_step=3,
        seed=training_seed(),
    )
    batch = sampler.sample(100, split="test", seed=1)

    def losses_and_scores() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            outputs = forward(learner, training.module.eval(), batch.support, batch.query.x)
        return task_losses(learner, outputs, batch.query), task_scores(outputs, batch.query)

    before, _ = losses_and_scores()
    training.run_to()
    after, scores = losses_and_scores()
    assert_lower(after, before - 0.05)
    assert_better(scores, 1 / ways_of(batch), sampler.info)
