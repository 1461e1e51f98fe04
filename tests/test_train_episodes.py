"""Meta-training may draw more classes, other shots and changed images; what learners are compared by stays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial
from torch import Tensor

import autometa as am
from autometa.comparison.execution.finals import run_final
from autometa.comparison.execution.trial import start_training
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import make_plan
from autometa.comparison.plan.settings import Settings
from autometa.sampling.augmentation import ERASED, Augmentation
from autometa.testing.expectations import same_tasks

ALL = {
    "train_n_way": 4,
    "train_n_shot": 3,
    "train_shift": 0.2,
    "train_rotation": 30.0,
    "train_flip": True,
    "train_erasing": 0.5,
}


class Checkers(am.ClassEpisodes):
    """Random images of as many classes in every split."""

    def __init__(self, *, n_way=3, n_shot=1, n_query=2, train_n_way=None, train_flip=False) -> None:
        self.n_way, self.n_shot, self.n_query = n_way, n_shot, n_query
        self.train_n_way, self.train_flip = train_n_way, train_flip

    def load(self) -> am.ClassImages:
        images = torch.rand(180, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        splits = {"train": range(18), "valid": range(18, 24), "test": range(24, 30)}
        return am.ClassImages(images=images, labels=torch.arange(30).repeat_interleave(6), splits=splits)


# ---------------------------------------------------------------- episodes


@pytest.mark.parametrize("changed", [{name: value} for name, value in ALL.items()] + [ALL], ids=str)
def test_only_the_tasks_of_meta_training_change(changed: dict[str, Any]) -> None:
    plain, other = am.make_tasks("digits"), am.make_tasks("digits", **changed)
    for split in ("valid", "test"):
        ours, theirs = (tasks.sample(20, split=split, seed=3) for tasks in (plain, other))
        for part in ("support", "query"):
            assert torch.equal(getattr(ours, part).x, getattr(theirs, part).x)
            assert torch.equal(getattr(ours, part).y, getattr(theirs, part).y)
    assert not same_tasks(plain.sample(20, seed=3), other.sample(20, seed=3))


def test_meta_training_has_the_classes_and_shots_asked_for() -> None:
    tasks = am.make_tasks("digits", train_n_way=4, train_n_shot=2)
    batch = tasks.sample(3, seed=0)
    assert batch.support.n_classes == 4
    assert batch.support.x.shape[1] == 8
    assert (tasks.info.n_outputs, tasks.info.n_shot) == (4, 2)
    assert tasks.sample(3, split="test", seed=0).support.x.shape[1] == 3


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"train_n_way": 5}, "train_n_way=5 needs as many classes, but split 'train' has 4; use train_n_way <= 4"),
        ({"train_n_way": 1}, "train_n_way=1"),
        ({"train_n_shot": 500}, "train_n_shot=500 \\+ n_query=15"),
        ({"train_shift": 2}, "train_shift=2"),
        ({"train_rotation": -1}, "train_rotation=-1"),
        ({"train_flip": "yes"}, "train_flip='yes'"),
        ({"train_erasing": 1.5}, "train_erasing=1.5"),
    ],
)
def test_an_impossible_value_is_named(given: dict[str, Any], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        am.make_tasks("digits", **given).sample(1, seed=0)


def test_such_a_sampler_passes_the_checks() -> None:
    am.check_plugin(am.make_tasks("digits", **ALL))


def test_a_learner_with_fixed_outputs_can_be_trained_on_more_classes() -> None:
    tasks = am.make_tasks("digits", train_n_way=4)
    maml = am.make_learner("maml", backbone="identity", inner_lr=0.3)
    model = am.FewShotClassifier(maml, max_steps=5, random_state=0).meta_fit(tasks)
    task = tasks.sample(1, split="test", seed=0)
    model.fit(task.support.x[0].numpy(), task.support.y[0].numpy())
    assert set(model.predict(task.query.x[0].numpy())) <= {0, 1, 2}


# ---------------------------------------------------------------- images


def change(images: Tensor, seed: int = 0, most: int | None = None, **how: Any) -> Tensor:
    return Augmentation(**how).change(images, most or images.shape[1], seed, "train", "support")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 50, 2, 9, 7, generator=torch.Generator().manual_seed(1))


def test_a_flip_mirrors_half_of_the_images(images: Tensor) -> None:
    changed = change(images, flip=True)
    same = (changed - images).abs().amax((2, 3, 4)) < 1e-5
    mirrored = (changed - images.flip(-1)).abs().amax((2, 3, 4)) < 1e-5
    assert torch.equal(mirrored, ~same)
    assert abs(float(same.float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(200)


def test_a_shift_moves_an_image_and_its_edge_goes_on() -> None:
    ramp = torch.arange(9.0).expand(1, 300, 1, 9, 9)
    changed = change(ramp, shift=1 / 3)
    right = 4 - changed[0, :, 0, 4, 4]  # of the middle, in pixels
    assert torch.allclose(changed[0, :, 0, 4], (torch.arange(9.0) - right[:, None]).clamp(0, 8), atol=1e-4)
    assert 2.8 < float(right.abs().max()) <= 3.0
    assert torch.allclose(changed.amax(3), changed.amin(3), atol=1e-4)  # along the ramp's rows nothing changes


def test_a_turn_keeps_distances_from_the_middle() -> None:
    y, x = torch.meshgrid(torch.arange(-10.0, 11), torch.arange(-10.0, 11), indexing="ij")
    images = torch.stack([x, y])[None, None].expand(1, 100, 2, 21, 21)
    changed = change(images, rotation=30.0)[0, :, :, 5:16, 5:16]
    radius = (x**2 + y**2).sqrt()[5:16, 5:16]
    assert torch.allclose(changed.square().sum(1).sqrt(), radius.expand(100, 11, 11), atol=1e-3)
    angle = torch.atan2(changed[:, 1, 5, 10], changed[:, 0, 5, 10]).rad2deg()
    assert 25 < float(angle.abs().max()) <= 30.01
    assert abs(float(angle.mean())) < 4 * 30 / math.sqrt(3 * 100)


def test_erasing_gives_a_rectangle_the_mean_of_the_image() -> None:
    images = torch.rand(4, 100, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    changed = change(images, erasing=0.5)
    hit = (changed != images).any(2)
    erased = hit.flatten(2).any(-1)
    assert abs(float(erased.float().mean()) - 0.5) < 4 * 0.5 / math.sqrt(400)
    rows, columns = hit.any(3), hit.any(2)
    assert torch.equal(hit, rows[..., None] & columns[..., None, :])  # one rectangle
    share = hit[erased].float().mean((1, 2))
    assert float(share.max()) < ERASED[1] + 0.1
    mean = images.mean((3, 4), keepdim=True).expand_as(images)
    assert torch.equal(changed[hit[:, :, None]], mean[hit[:, :, None]])


def test_what_happens_to_an_image_does_not_depend_on_those_beside_it(images: Tensor) -> None:
    how = {"shift": 0.2, "rotation": 20.0, "flip": True, "erasing": 0.5}
    whole = change(images, **how)
    torch.testing.assert_close(change(images[:2, :30], most=50, **how), whole[:2, :30])
    assert not torch.equal(change(images, seed=1, **how), whole)


def test_changed_images_keep_the_range_of_their_pixels(images: Tensor) -> None:
    changed = change(images, shift=0.3, rotation=180.0, flip=True, erasing=1.0)
    assert (changed.amin((3, 4)) >= images.amin((2, 3, 4))[..., None]).all()
    assert (changed.amax((3, 4)) <= images.amax((2, 3, 4))[..., None]).all()


def test_padded_places_stay_empty() -> None:
    batch = am.make_tasks("digits", n_way=(2, 3), train_erasing=1.0, train_shift=0.2).sample(20, seed=0)
    assert not batch.support.mask.all()
    assert not batch.support.x[~batch.support.mask].any()


# ---------------------------------------------------------------- the search


def pair_of(learner: str, tasks: am.TaskSampler) -> Pair:
    settings = Settings(n_trials=20, max_steps=10)
    return make_plan({"it": tasks}, learner, settings, name="t", baselines=False).pairs[0]


def test_a_comparison_searches_how_meta_training_draws_its_tasks() -> None:
    pair = pair_of("prototypical", am.make_tasks("glyphs", n_query=5))
    found = {name: d.choices for name, d in pair.space.distributions.items() if name.startswith("tasks__")}
    assert found == {
        "tasks__train_n_way": (None, 10, 20),
        "tasks__train_n_shot": (None, 2, 5),
        "tasks__train_shift": (0.0, 0.1),
        "tasks__train_rotation": (0.0, 10.0, 30.0),
        "tasks__train_flip": (False, True),
        "tasks__train_erasing": (0.0, 0.25),
    }
    plain = {"train_n_way": None, "train_n_shot": None, "train_flip": False, "train_shift": 0.0}
    assert pair.space.defaults.items() >= {f"tasks__{name}": value for name, value in plain.items()}.items()


@pytest.mark.parametrize(
    ("tasks", "searched"),
    [
        (Checkers(), {"train_n_way", "train_flip"}),  # what its constructor has
        (Checkers(train_n_way=7), {"train_flip"}),  # which is none of the choices
        (Checkers(n_way=(2, 4)), {"train_flip"}),
        (am.make_tasks("sinusoid"), set()),
    ],
)
def test_what_the_user_set_or_the_sampler_lacks_is_not_searched(tasks: am.TaskSampler, searched: set[str]) -> None:
    names = pair_of("mann" if searched else "ridge", tasks).space.distributions
    assert {name.removeprefix("tasks__") for name in names if name.startswith("tasks__")} == searched


def test_nothing_is_searched_for_a_learner_without_meta_training() -> None:
    assert not any(name.startswith("tasks__") for name in pair_of("sklearn", Checkers()).space.distributions)


def test_a_trial_trains_on_the_tasks_drawn_and_is_judged_on_the_common_ones() -> None:
    tasks = am.make_tasks("digits", n_query=5)
    pair = pair_of("prototypical", tasks)
    drawn = {"tasks__train_n_way": 4, "tasks__train_flip": True}
    components = pair.candidate.draw(FixedTrial(pair.space.defaults | drawn))
    training = start_training(pair, components, torch.device("cpu"), seed=0)
    assert training.sampler.get_params().items() >= {"train_n_way": 4, "train_flip": True, "n_way": 3}.items()
    training.run_to()
    for split in ("valid", "test"):
        ours, theirs = (each.sample(5, split=split, seed=1) for each in (tasks, training.sampler))
        assert torch.equal(ours.query.x, theirs.query.x)
        assert torch.equal(ours.support.x, theirs.support.x)


def test_a_final_run_is_told_by_the_tasks_that_it_is_judged_on() -> None:
    settings = Settings(max_steps=3, n_trials=1, n_seeds=1, n_valid_tasks=5, n_test_tasks=5)
    tasks = {"it": am.make_tasks("digits", n_query=5)}
    pair = make_plan(tasks, "prototypical", settings, name="t", baselines=False).pairs[0]
    results = []
    for shots in (None, 5):
        trial = FixedTrial({})
        trial.set_user_attr("slot", 0)
        run_final(pair, pair.space.defaults | {"tasks__train_n_shot": shots}, trial, torch.device("cpu"), None)
        results.append(trial.user_attrs["result"])
    assert [result["n_shot"] for result in results] == [1, 1]
    assert results[0]["tasks"] == results[1]["tasks"]
    assert results[0]["scores"] != results[1]["scores"]


def test_every_draw_leaves_the_tasks_that_learners_are_compared_by() -> None:
    tasks = Checkers()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    fixed = [tasks.sample(5, split=split, seed=0) for split in ("valid", "test")]
    seen = set()
    for _ in range(8):
        drawn = tasks.suggest(study.ask())
        seen.add((drawn.train_n_way, drawn.train_flip))
        for batch, split in zip(fixed, ("valid", "test"), strict=True):
            assert np.array_equal(batch.support.x, drawn.sample(5, split=split, seed=0).support.x)
    assert len(seen) > 2
    assert (tasks.train_n_way, tasks.train_flip) == (None, False)
