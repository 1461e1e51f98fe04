"""Omniglot within alphabets, and Lake's twenty one-shot runs on the real files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks.lake_runs import LakeRuns, _decoded
from autometa_plugins.tasks.omniglot import Omniglot
from autometa_plugins.tasks.omniglot_files import shrink
from PIL import Image

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.training import evaluate
from learning import assert_better, chance


@pytest.fixture(scope="module")
def real(data_root: Path, decoded: Callable[[str], Path]) -> dict[str, Any]:
    """Parameters of samplers of the real Omniglot, decoded once."""
    root = data_root / "omniglot"
    if not (root / "all_runs.zip").is_file():
        pytest.skip(f"all_runs.zip is not in {root}")
    return {"root": root, "cache": decoded("omniglot")}


# within an alphabet


@pytest.mark.slow
@pytest.mark.parametrize("split", ["alphabet", "vinyals"])
def test_all_classes_of_a_task_are_of_one_alphabet_and_angle(real: dict[str, Any], split: str) -> None:
    sampler = Omniglot(**real, split=split, n_way=10, n_query=1, within_alphabet=True)
    for part in am.SPLITS:
        names, offset = (
            sampler.class_names(part),
            sum(len(sampler.class_names(s)) for s in am.SPLITS[: am.SPLITS.index(part)]),
        )
        batch = sampler.sample(60, split=part, seed=0)
        assert batch.classes is not None
        alphabets = set()
        for classes in batch.classes.tolist():
            drawn = [names[c - offset].split("/") for c in classes]
            assert len({(alphabet, angle) for alphabet, _, angle in drawn}) == 1
            assert len({character for _, character, _ in drawn}) == 10
            alphabets.add(drawn[0][0])
        assert len(alphabets) > 3


@pytest.mark.slow
def test_meta_datasets_omniglot_has_as_many_classes_as_the_alphabet(real: dict[str, Any]) -> None:
    sampler = Omniglot(**real, split="alphabet", rotations=False, n_way="varied", n_shot="varied", within_alphabet=True)
    batch = sampler.sample(300, split="test", seed=0)
    assert batch.classes is not None
    ways = (batch.classes >= 0).sum(1)
    assert ways.min() == 5
    assert ways.max() > 40
    assert sampler.info.n_outputs <= 50


# the runs


@pytest.mark.slow
def test_twenty_runs_of_twenty_queries_whose_answers_are_in_the_support(real: dict[str, Any]) -> None:
    sampler = LakeRuns(**real)
    batch = sampler.sample(20, split="test", seed=3)
    assert batch.support.x.shape == batch.query.x.shape == (20, 20, 1, 28, 28)
    assert batch.ids is not None
    assert sorted(batch.ids.tolist()) == list(range(20))
    expected = torch.arange(20).expand(20, 20)
    assert torch.equal(batch.support.y.sort(1).values, expected)
    assert torch.equal(batch.query.y.sort(1).values, expected)  # every answer is there, each asked for once
    # The file's first lines: item 1 is class 8, item 2 class 9, item 3 class 2 of run 1.
    first = batch.ids.tolist().index(0)
    assert batch.query.y[first, :3].tolist() == [7, 8, 1]


@pytest.mark.slow
def test_the_runs_are_the_files_images(real: dict[str, Any]) -> None:
    batch = LakeRuns(**real).sample(20, split="test", seed=0)
    assert batch.ids is not None
    with zipfile.ZipFile(real["root"] / "all_runs.zip") as archive:
        for place, run in list(enumerate(batch.ids.tolist()))[:4]:
            text = archive.read(f"run{run + 1:02}/class_labels.txt").decode().split()
            for item, learned in zip(text[::2], text[1::2], strict=True):
                question, answer = (
                    shrink(Image.open(archive.open(name))) / np.float32(255) for name in (item, learned)
                )
                (row,) = (batch.query.x[place] == torch.from_numpy(question)).flatten(1).all(1).nonzero().flatten()
                named = batch.support.x[place, batch.query.y[place, row]]
                assert torch.equal(named, torch.from_numpy(answer))


@pytest.mark.slow
def test_alphabets_of_the_runs_are_not_those_of_the_background(real: dict[str, Any]) -> None:
    sampler = LakeRuns(**real)
    runs = sampler.sample(20, split="test", seed=0)
    # Drawings of the runs are drawings of the evaluation set, where each names its alphabet.
    data = Omniglot(**real, split="alphabet", rotations=False).load()
    pairs = zip(data.images.numpy(), data.labels.tolist(), strict=True)
    alphabet_of = {image.tobytes(): data.names[label].split("/")[0] for image, label in pairs}
    met = set()
    for support, query in zip(runs.support.x, runs.query.x, strict=True):
        drawings = (torch.cat([support, query]) * 255).round().to(torch.uint8)
        (alphabet,) = {alphabet_of[drawing.numpy().tobytes()] for drawing in drawings}
        met.add(alphabet)
    facts = sampler.describe()
    assert len(met) == 10
    assert len(facts["meta-train alphabets"]) == 25
    assert len(facts["meta-valid alphabets"]) == 5
    background = set(facts["meta-train alphabets"]) | set(facts["meta-valid alphabets"])
    assert not met & background
    assert len(background) == 30


@pytest.mark.slow
def test_background_tasks_are_like_the_runs(real: dict[str, Any]) -> None:
    sampler = LakeRuns(**real, rotations=False, n_query=3)
    assert (sampler.info.n_outputs, sampler.info.n_shot, sampler.info.n_query) == (20, 1, 3)
    batches = {split: sampler.sample(10, split=split, seed=0) for split in am.SPLITS}
    classes = [set(batch.classes.flatten().tolist()) for batch in batches.values() if batch.classes is not None]
    assert batches["train"].query.y.shape == (10, 60)
    assert len(classes) == 3
    assert not classes[0] & classes[1]
    assert not classes[1] & classes[2]
    assert not classes[0] & classes[2]


@pytest.mark.slow
def test_more_tasks_than_runs_go_round_again_and_twenty_are_judged_once_each(real: dict[str, Any]) -> None:
    sampler = LakeRuns(**real)
    ids = sampler.sample(50, split="test", seed=1).ids
    assert ids is not None
    assert [sorted(ids[start : start + 20].tolist()) for start in (0, 20)] == [list(range(20))] * 2
    learner = am.make_learner("prototypical", backbone="identity")
    judged = [
        evaluate(learner, fresh_module(learner, sampler.info, 0), sampler, split="test", n_tasks=20, seed=seed)
        for seed in (0, 1)
    ]
    assert sorted(judged[0].tasks.tolist()) == list(range(20))
    np.testing.assert_array_equal(judged[0].per_task()[1], judged[1].per_task()[1])
    assert_better(judged[0].scores, chance(sampler.info), sampler.info)
    assert 0.15 < judged[0].scores.mean() < 0.5  # comparing pixels: far above 0.05, far below people's 0.955


@pytest.mark.slow
def test_lake_runs_conform(real: dict[str, Any]) -> None:
    frame = am.check_plugin(LakeRuns(**real, rotations=False, n_query=2))
    assert not (frame["status"] == "failed").any(), frame.to_string()


# what is missing


def test_missing_runs_say_what_to_do(tmp_path: Path) -> None:
    for part in ("images_background", "images_evaluation"):
        for character in range(20):
            folder = tmp_path / part / "Alphabet" / f"character{character:02}"
            folder.mkdir(parents=True)
            for drawer in range(6):
                Image.new("1", (8, 8)).save(folder / f"{drawer}.png")
    with pytest.raises(am.MissingData, match=r"all_runs\.zip is not in .*one-shot-classification.*download=True"):
        _ = LakeRuns(root=tmp_path, cache=tmp_path / "cache").info


def test_incomplete_runs_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "all_runs" / "run01"
    (run / "test").mkdir(parents=True)
    Image.new("1", (8, 8)).save(run / "test" / "item01.png")
    with pytest.raises(am.InvalidData, match=r"lacks 'run01/class_labels\.txt'"):
        _decoded(tmp_path / "all_runs", 1)
    (run / "class_labels.txt").write_text("run01/test/item01.png run01/training/class01.png\n")
    with pytest.raises(am.InvalidData, match="run01 .* pairs 1 test items with 1 training items; 20 of each"):
        _decoded(tmp_path / "all_runs", 2)
