"""What every bundled task distribution promises: pure draws, disjoint splits, no image in two places."""

from __future__ import annotations

import doctest
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tasks.digits import Digits
from autometa_plugins.tasks.glyphs import HELD_OUT, Glyphs, distinct_letters
from autometa_plugins.tasks.sinusoid import Sinusoid
from autometa_plugins.tasks.table import Table
from sklearn.base import clone

import autometa as am


class Numbered(am.ClassEpisodes):
    """Images of one pixel that holds the image's own number; class c has 4 + c images."""

    def __init__(self, *, n_way: int = 3, n_shot: int = 1, n_query: int = 2, n_classes: int = 12) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.n_classes = n_classes

    def load(self) -> am.ClassImages:
        labels = torch.cat([torch.full((4 + c,), c) for c in range(self.n_classes)])
        shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        splits: Any = dict(zip(am.SPLITS, np.array_split(range(self.n_classes), 3), strict=True))
        images = torch.arange(len(labels)).float().view(-1, 1, 1, 1)
        return am.ClassImages(images=images, labels=labels[shuffled], splits=splits)


def small_table() -> Table:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"school": generator.integers(0, 12, 300), "hours": generator.normal(size=300)})
    frame["score"] = frame["hours"] + frame["school"]
    return Table(data=frame, task="school", target="score", n_shot=5, n_query=7)


SAMPLERS: dict[str, Callable[[], am.TaskSampler]] = {
    "sinusoid": Sinusoid,
    "digits": Digits,
    "glyphs": lambda: Glyphs(n_drawers=16),
    "numbered": Numbered,
    "table": small_table,
}
every_sampler = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)


def same(a: am.TaskBatch, b: am.TaskBatch) -> bool:
    pairs = [(a.support.x, b.support.x), (a.support.y, b.support.y), (a.query.x, b.query.x), (a.query.y, b.query.y)]
    pairs += [(a.support.mask, b.support.mask), (a.query.mask, b.query.mask)]
    pairs += [(x, y) for x, y in ((a.classes, b.classes), (a.ids, b.ids)) if x is not None]
    return all(torch.equal(x, y) for x, y in pairs)


@every_sampler
def test_the_same_arguments_give_the_same_tasks_in_any_order(make: Callable[[], am.TaskSampler]) -> None:
    sampler, other = make(), make()
    first = [sampler.sample(3, split=split, seed=seed) for seed in (0, 1) for split in am.SPLITS]
    torch.rand(7)
    again = [other.sample(3, split=split, seed=seed) for seed in (1, 0) for split in am.SPLITS]
    assert all(same(a, b) for a, b in zip(first, again[3:] + again[:3], strict=True))
    assert not same(first[0], first[3])


@every_sampler
def test_a_task_does_not_depend_on_how_many_are_drawn(make: Callable[[], am.TaskSampler]) -> None:
    for split in am.SPLITS:
        assert same(make().sample(20, split=split, seed=3)[:4], make().sample(4, split=split, seed=3))


@every_sampler
def test_tasks_have_the_shapes_that_info_tells(make: Callable[[], am.TaskSampler]) -> None:
    sampler = make()
    info = sampler.info
    batch = sampler.sample(4, seed=0)
    for examples in (batch.support, batch.query):
        assert examples.x.shape == (4, examples.y.shape[1], *info.input_shape)
        assert examples.x.dtype == torch.float32
    if info.problem == "classification":
        assert batch.support.n_classes == info.n_outputs
        assert batch.support.y.dtype == torch.int64
        assert batch.support.y.shape[1] == info.n_outputs * info.n_shot
        assert batch.query.y.shape[1] == info.n_outputs * info.n_query
    else:
        assert batch.support.y.shape == (4, info.n_shot, info.n_outputs)


@every_sampler
def test_a_clone_and_a_pickled_copy_draw_the_same_tasks(make: Callable[[], am.TaskSampler]) -> None:
    sampler = make()
    batch = sampler.sample(2, seed=0)
    assert same(batch, clone(sampler).sample(2, seed=0))
    pickled = pickle.dumps(sampler)
    assert len(pickled) < 20_000  # the drawings stay behind
    assert same(batch, pickle.loads(pickled).sample(2, seed=0))


@every_sampler
def test_splits_share_no_class_entity_or_function(make: Callable[[], am.TaskSampler]) -> None:
    sampler = make()
    seen = []
    for split in am.SPLITS:
        batch = sampler.sample(60, split=split, seed=0)
        keys = batch.classes if batch.classes is not None else batch.ids
        if keys is None:  # new functions: what identifies one is its support set
            keys = torch.stack([batch.support.x[..., 0], batch.support.y[..., 0]], -1)
        seen.append(set(keys.flatten().tolist()))
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]
    assert not seen[0] & seen[2]


@every_sampler
@pytest.mark.parametrize(
    ("wrong", "named"), [({"n_tasks": 0}, "n_tasks=0"), ({"split": "tset"}, "split='tset'"), ({"seed": -1}, "seed=-1")]
)
def test_arguments_that_cannot_be_drawn_are_named(
    make: Callable[[], am.TaskSampler], wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        make().sample(**{"n_tasks": 1, "split": "train", "seed": 0, **wrong})


@pytest.mark.parametrize("kind", [Sinusoid, Digits, Numbered, Glyphs])
@pytest.mark.parametrize("name", ["n_shot", "n_query"])
def test_no_shots_or_queries_is_an_error(kind: type[am.TaskSampler], name: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{name}=0"):
        kind(**{name: 0}).sample(1, seed=0)


# sinusoid


def test_sinusoid_targets_lie_on_one_sine_wave_per_task() -> None:
    batch = Sinusoid(n_shot=200, n_query=50).sample(50, seed=0)
    x, y = (torch.cat([getattr(part, name) for part in (batch.support, batch.query)], 1) for name in "xy")
    basis = torch.cat([x.sin(), x.cos()], -1).double()
    solution = torch.linalg.lstsq(basis, y.double())
    torch.testing.assert_close(basis @ solution.solution, y.double(), atol=1e-4, rtol=0)
    amplitude = solution.solution.norm(dim=1)
    phase = torch.atan2(-solution.solution[:, 1], solution.solution[:, 0])
    assert amplitude.min() >= 0.1 - 1e-4
    assert amplitude.max() <= 5 + 1e-4
    assert phase.min() >= -1e-4
    assert phase.max() <= np.pi + 1e-4
    assert x.abs().max() <= 5


# episodes of classes


def test_support_and_query_share_no_image_and_labels_name_the_class() -> None:
    sampler = Numbered(n_way=4, n_shot=2, n_query=2, n_classes=30)
    labels = sampler.load().labels
    offset = {"train": 0, "valid": 10, "test": 20}
    for split in am.SPLITS:
        batch = sampler.sample(200, split=split, seed=1)
        assert batch.classes is not None
        images = torch.cat([batch.support.x, batch.query.x], 1).flatten(1).long()
        assert all(len(set(row.tolist())) == images.shape[1] for row in images)
        y = torch.cat([batch.support.y, batch.query.y], 1)
        assert torch.equal(batch.classes.gather(1, y), labels[images])
        assert batch.classes.min() == offset[split]
        assert batch.classes.max() == offset[split] + 9


def test_every_class_and_image_is_drawn_equally_often() -> None:
    sampler = Numbered(n_way=2, n_shot=1, n_query=1)
    batch = sampler.sample(8000, seed=0)
    assert batch.classes is not None
    first_label = torch.bincount(batch.classes[:, 0], minlength=4) / 8000
    torch.testing.assert_close(first_label, torch.full((4,), 0.25), atol=0.02, rtol=0)
    labels = sampler.load().labels
    shown = torch.bincount(batch.support.x.flatten().long(), minlength=len(labels))
    of_class_0 = shown[labels == 0] / shown[labels == 0].sum()
    torch.testing.assert_close(of_class_0, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_the_order_of_queries_tells_nothing_of_their_labels() -> None:
    query = Numbered(n_way=3, n_query=3).sample(3000, seed=0).query
    share = query.one_hot().mean(0)
    torch.testing.assert_close(share, torch.full_like(share, 1 / 3), atol=0.04, rtol=0)


def test_too_many_ways_or_shots_say_what_would_work() -> None:
    with pytest.raises(am.InvalidParameter, match=r"n_way=5 .* split 'train' has 4; use n_way <= 4"):
        _ = Numbered(n_way=5).info
    with pytest.raises(am.InvalidParameter, match=r"n_shot=2 \+ n_query=3 .* class 0 of split 'train' has 4.*<= 4"):
        Numbered(n_shot=2, n_query=3).sample(1, seed=0)
    with pytest.raises(am.InvalidParameter, match="n_way=1"):
        _ = Numbered(n_way=1).info


def test_changed_parameters_count_at_the_next_draw() -> None:
    sampler = Numbered()
    assert sampler.sample(1, seed=0).support.x.shape[1] == 3
    sampler.set_params(n_way=4, n_classes=15)
    assert sampler.info.n_base_classes == 5
    assert sampler.sample(1, seed=0).support.x.shape[1] == 4


def test_images_are_loaded_once_for_samplers_that_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = Numbered.load
    monkeypatch.setattr(Numbered, "load", lambda self: loads.append(1) or load(self))
    for n_way in (2, 3):
        Numbered(n_way=n_way, n_classes=21).sample(1, seed=0)
    clone(Numbered(n_classes=21)).sample(1, seed=0)
    assert len(loads) == 1


def test_samplers_that_hold_images_themselves_are_never_mixed_up() -> None:
    class Own(Numbered):
        def __init__(self, *, own: Any, n_way: int = 2, n_shot: int = 1, n_query: int = 1) -> None:
            self.own, self.n_way, self.n_shot, self.n_query = own, n_way, n_shot, n_query

        def load(self) -> am.ClassImages:
            splits: Any = {"train": [0, 1], "valid": [2, 3], "test": [4, 5]}
            return am.ClassImages(images=self.own, labels=torch.arange(6).repeat(200), splits=splits)

    zeros, ones = torch.zeros(1200, 1, 2, 2), torch.ones(1200, 1, 2, 2)
    assert Own(own=zeros).sample(1, seed=0).query.x.max() == 0
    assert Own(own=ones).sample(1, seed=0).query.x.min() == 1


def test_tasks_are_gathered_where_the_images_lie() -> None:
    tasks = Numbered()
    batch = tasks.to("meta").sample(2, seed=0)
    assert tasks.sample(2, seed=0).query.x.device.type == "cpu"
    assert {t.device.type for t in (batch.support.x, batch.query.y, batch.classes)} == {"meta"}


def test_examples_know_whether_any_is_padded() -> None:
    x, y = torch.zeros(2, 3, 1), torch.zeros(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    whole, ragged = am.Examples(x, y), am.Examples(x, y, mask)
    assert whole.is_full
    assert not ragged.is_full
    assert ragged[:1].is_full
    assert ragged.select(slice(0, 1)).is_full
    assert not whole.join(ragged).is_full
    assert whole.join(whole)[1:].select([0, 2]).to("meta", torch.float64).is_full  # which could not look
    assert not ragged.to("meta").is_full


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "labels"),
        ({"splits": {"train": [0], "valid": [1]}}, "train.*valid.*test"),
        ({"splits": {"train": [0, 1], "valid": [1], "test": [2]}}, "disjoint"),
    ],
)
def test_images_that_do_not_fit_together_are_refused(wrong: dict[str, Any], message: str) -> None:
    right = {
        "images": torch.zeros(6, 1, 2, 2),
        "labels": torch.arange(6) // 2,
        "splits": {"train": [0], "valid": [1], "test": [2]},
    }
    with pytest.raises(am.InvalidData, match=message):
        am.ClassImages(**{**right, **wrong})


# digits and glyphs


def one_nearest_neighbour(batch: am.TaskBatch) -> float:
    nearest = torch.cdist(batch.query.x.flatten(2), batch.support.x.flatten(2)).argmin(-1)
    return float((batch.support.y.gather(1, nearest) == batch.query.y).float().mean())


def test_digits_hold_out_digits() -> None:
    sampler = Digits()
    assert sampler.info.input_shape == (1, 8, 8)
    assert sampler.describe()["classes"] == {"train": 4, "valid": 3, "test": 3}
    batch = sampler.sample(20, split="test", seed=0)
    assert batch.classes is not None
    assert set(batch.classes.flatten().tolist()) == {7, 8, 9}
    assert one_nearest_neighbour(batch) > 0.6


def test_letters_are_distinct_and_held_out_by_script() -> None:
    letters, shapes = distinct_letters()
    assert len(letters) > 2_800
    assert len({shape.numpy().tobytes() for shape in shapes}) == len(letters)
    scripts = {split: {letter.script for letter in letters if letter.split == split} for split in am.SPLITS}
    assert {"Latin", "Arabic", "Canadian", "Greek", "Cyrillic"} <= scripts["train"]
    assert scripts["valid"] == set(HELD_OUT["valid"])
    assert scripts["test"] == set(HELD_OUT["test"])
    assert not scripts["train"] & (scripts["valid"] | scripts["test"])


def test_no_drawing_is_empty_or_twice_the_same() -> None:
    images = Glyphs(n_drawers=16).load().images
    assert images.flatten(1).amax(1).min() > 64
    assert len({image.tobytes() for image in images[::7].numpy()}) == len(images[::7])


@pytest.mark.thorough
def test_smaller_glyphs_are_the_same_drawings_seen_from_further_away() -> None:
    large, small = (Glyphs(n_drawers=16, size=size).sample(2, split="test", seed=0).support.x for size in (28, 14))
    assert small.shape[-2:] == (14, 14)
    means = torch.nn.functional.avg_pool2d(large.flatten(0, 1), 2).view_as(small)
    torch.testing.assert_close(small, means, atol=2 / 255, rtol=0)


@pytest.mark.parametrize("size", [7, 29, 14.0])
def test_a_size_that_glyphs_cannot_have_is_refused(size: object) -> None:
    with pytest.raises(am.InvalidParameter, match="size=.* must be an integer from 8 to 28"):
        Glyphs(size=size).sample(1, split="test", seed=0)  # type: ignore[arg-type]


def test_comparing_pixels_of_glyphs_reaches_about_a_third() -> None:
    batch = Glyphs(n_drawers=16).sample(400, split="test", seed=0)
    assert 0.25 < one_nearest_neighbour(batch) < 0.45


def test_too_few_drawers_are_refused() -> None:
    with pytest.raises(am.InvalidParameter, match="n_drawers=1"):
        _ = Glyphs(n_drawers=1).info
    with pytest.raises(am.InvalidParameter, match=r"class 'LATIN .*has 3; use n_shot \+ n_query <= 3"):
        _ = Glyphs(n_drawers=3).info


def test_every_bundled_sampler_is_listed_and_can_be_imported() -> None:
    import autometa_plugins.tasks as plugin

    specs = {spec.name: spec for spec in plugin.autometa_task_samplers()}
    functions, drawn = {"sinusoid", "harmonics", "linear", "gaussian_process"}, {"digits", "glyphs", "augmented_shot"}
    assert set(specs) == functions | drawn | {"omniglot", "lake_runs", "cifar_fs", "images", "table"}
    assert all(isinstance(spec.resolve(), type) for spec in specs.values())
    assert {name for name, spec in specs.items() if not spec.needs} == functions | drawn


def test_listing_samplers_imports_no_torch() -> None:
    code = "import sys, autometa_plugins.tasks as p; list(p.autometa_task_samplers()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["autometa.sampling.class_episodes", "autometa_plugins.tasks.table"])
def test_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted
    assert not outcome.failed
