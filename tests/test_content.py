"""What is named by a path counts by its content: other content is refused, another place is not."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from PIL import Image

import autometa as am
from autometa.cli import main
from autometa.comparison import Comparison, work
from autometa.comparison.execution.storage import open_storage
from autometa.contracts import content
from autometa.files.description import as_stored, changed_content, describe, same_description
from autometa.testing.toys import Lines
from autometa.training import checkpoint as checkpoints

SMALL = {"n_trials": 1, "max_steps": 1, "n_test_tasks": 6, "n_valid_tasks": 4, "n_seeds": 1, "tasks_per_step": 2}
TYPED = [
    "--learners",
    "ridge",
    "--trials",
    "1",
    "--steps",
    "1",
    "--n-test-tasks",
    "6",
    "--valid-tasks",
    "4",
    "--seeds",
    "1",
    "--tasks-per-step",
    "2",
    "-q",
]


def write_table(file: Path, scale: float = 1.0) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"school": np.arange(120) % 6, "hours": rng.uniform(0, 9, 120).round(3)})
    frame["score"] = (frame["hours"] * scale).round(3)
    frame.to_csv(file, index=False)


def draw(seed: int) -> bytes:
    """Return a BMP-like picture as PNG without compression: the same size for all pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png", compress_level=0)
    return data.getvalue()


def write_images(root: Path, seed: int = 0) -> None:
    for label in range(10):
        for number in range(4):
            path = root / f"class {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(draw(seed + 10 * label + number))


def images(root: Path) -> am.TaskSampler:
    return am.make_tasks("images", root=str(root), n_way=2, n_shot=1, n_query=2, size=8, color="gray")


@pytest.mark.thorough
def test_a_table_that_changed_is_refused_on_the_command_line(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "x.csv"
    write_table(file)
    typed = ["compare", "--table", str(file), "--task-column", "school", "--target", "score", "--shots", "4", *TYPED]
    typed += ["--output", str(tmp_path / "out")]
    assert main(typed) == 0
    assert main(typed) == 0
    write_table(file, scale=100.0)
    capsys.readouterr()
    assert main(typed) == 2
    assert f"the data of data='{file}' changed since (tasks 'x')" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="changed since. What is shown is what was measured before"):
        assert len(Comparison.load(tmp_path / "out", allowed_paths=tmp_path).leaderboard) > 1
    with pytest.raises(am.InvalidParameter, match="made from other data"):
        work(str(tmp_path / "out" / "journal.log"), "out", allowed_paths=tmp_path)


@pytest.mark.slow
def test_a_study_file_that_names_a_table_is_no_way_around(tmp_path: Path, capsys: Any) -> None:
    file, study = tmp_path / "x.csv", tmp_path / "study.toml"
    write_table(file)
    study.write_text(
        f'[tasks.mine]\nsampler = "table"\ndata = "{file.as_posix()}"\ntask = "school"\ntarget = "score"\nn_shot = 4\n'
    )
    typed = ["compare", str(study), *TYPED, "--output", str(tmp_path / "out")]
    assert main(typed) == 0
    write_table(file, scale=2.0)
    assert main(typed) == 2
    assert "changed since (tasks 'mine')" in capsys.readouterr().err


@pytest.mark.thorough
def test_other_pixels_under_the_same_names_sizes_and_times_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    write_images(root)
    am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL)
    file = root / "class 3" / "2.png"
    state = file.stat()
    file.write_bytes(draw(999))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    with pytest.raises(am.InvalidParameter, match=r"the data of root='.*birds' changed since \(tasks 'images'\)"):
        am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL)
    file.write_bytes(draw(32))
    am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL)


@pytest.mark.filterwarnings("ignore:root=.* folders without an image:UserWarning")
@pytest.mark.parametrize("output", ["out", pytest.param("birds/out", marks=pytest.mark.slow)])
def test_a_moved_folder_goes_on_and_what_is_no_image_does_not_count(tmp_path: Path, output: str) -> None:
    root = tmp_path / "birds"
    write_images(root)
    first = am.compare(images(root), "prototypical", output=tmp_path / output, **SMALL)
    (root / "notes.txt").write_text("more")
    moved = tmp_path / "elsewhere" / "vögel"
    shutil.copytree(root, moved)
    again = am.compare(images(moved), "prototypical", output=tmp_path / output, **SMALL)
    assert again.scores.equals(first.scores)


@pytest.mark.slow
def test_tasks_to_judge_on_count_too(tmp_path: Path) -> None:
    write_images(tmp_path / "a")
    write_images(tmp_path / "b", seed=500)
    both = {"test_tasks": {"b": images(tmp_path / "b")}, "output": tmp_path / "out"}
    am.compare({"a": images(tmp_path / "a")}, "prototypical", **both, **SMALL)
    write_images(tmp_path / "b", seed=700)
    both["test_tasks"] = {"b": images(tmp_path / "b")}
    with pytest.raises(am.InvalidParameter, match=r"changed since \(test_tasks 'b'\)"):
        am.compare({"a": images(tmp_path / "a")}, "prototypical", **both, **SMALL)


@pytest.mark.slow
def test_a_checkpoint_of_other_images_is_refused_and_one_of_moved_images_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS_BETWEEN", 0.0)
    root, file = tmp_path / "birds", tmp_path / "run.ckpt"
    write_images(root)

    def train(root: Path) -> am.FewShotClassifier:
        model = am.FewShotClassifier(max_steps=2, tasks_per_step=2, random_state=0)
        return model.meta_fit(images(root), checkpoint=file)

    first = train(root)
    shutil.copytree(root, tmp_path / "moved")
    assert train(tmp_path / "moved").history_["loss"].tolist() == first.history_["loss"].tolist()
    (root / "class 0" / "0.png").write_bytes(draw(77))
    with pytest.raises(am.InvalidParameter, match=r"the data of root='.*birds' changed since"):
        train(root)


@pytest.mark.thorough
def test_a_comparison_that_was_stored_without_digests_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    write_images(root)
    first = am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL)
    study = optuna.load_study(storage=open_storage(str(tmp_path / "out" / "journal.log")), study_name="out")
    plan = study.user_attrs["plan"]
    assert plan["tasks"]["images"].pop("content")
    plan["tasks"]["images"]["name"] = "images"
    for learner in plan["learners"].values():
        learner["learner"]["name"] = learner["learner"]["name"].rpartition("/")[2]
    study.set_user_attr("plan", json.loads(json.dumps(plan)))
    assert Comparison.load(tmp_path / "out", allowed_paths=tmp_path).scores.equals(first.scores)
    assert am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL).scores.equals(first.scores)
    (root / "class 0" / "0.png").write_bytes(draw(77))
    with pytest.raises(am.InvalidParameter, match="changed since"):  # the call before stored the digests
        am.compare(images(root), "prototypical", output=tmp_path / "out", **SMALL)


class Recorded(Lines):
    """Reads files of its own, as the sampler of somebody's plugin may."""

    names_files = frozenset({"files"})

    def __init__(self, *, n_shot: int = 5, files: Any = None, cache: Any = None, mode: str = "digits") -> None:
        super().__init__(n_shot=n_shot)
        self.files = files
        self.cache = cache
        self.mode = mode


@pytest.mark.parametrize("given", [str, Path, lambda p: [str(p)], lambda p: {"a": (p,)}, os.path.relpath])
def test_files_and_folders_of_any_plugin_count(tmp_path: Path, given: Callable[[Path], Any]) -> None:
    for place in (tmp_path / "one.py", tmp_path / "folder"):
        file = place if place.suffix else place / "deep" / "er.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1234")
        sampler = Recorded(files=given(place), cache=str(tmp_path))
        stored = as_stored(describe(sampler))
        assert same_description(stored, as_stored(describe(Recorded(files=given(place), cache=str(tmp_path)))))
        file.write_bytes(b"4321")
        now = as_stored(describe(sampler))
        assert not same_description(stored, now)
        assert changed_content(stored, now)[0].startswith("files=")
        if file != place:
            file.rename(file.with_name("renamed.npz"))
            assert not same_description(now, as_stored(describe(sampler)))


def test_a_text_that_names_nothing_is_only_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", " ", "no such file", "a\0b", "x" * 5000, "~nobody-here/x", "digits"):
        assert "content" not in describe(Recorded(files=text))
    (tmp_path / "omniglot").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "content" not in describe(am.make_learner("ridge"))
    os.mkfifo(tmp_path / "pipe")
    assert "content" not in describe(Recorded(files=str(tmp_path / "pipe")))


def test_a_text_that_equals_a_name_by_chance_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.csv"
    write_table(file)
    monkeypatch.chdir(tmp_path)
    table = am.make_tasks("table", data="x.csv", task="school", target="score", n_shot=4)
    stored = as_stored(describe(table))
    assert list(stored["content"]) == ["data"]
    for name in ("school", "score", "auto"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text(name)
    assert same_description(stored, as_stored(describe(table)))
    for text in ("digits", "school", "/", ".", "~"):
        assert "content" not in describe(Recorded(mode=text))
    assert list(describe(Recorded(mode=Path("school")))["content"]) == ["mode"]


class Weighted(am.Learner):
    """Reads its start from a file, as the learner of somebody's plugin may."""

    names_files = frozenset({"start"})

    def __init__(self, *, start: Any = None, mode: Any = None) -> None:
        self.start = start
        self.mode = mode

    def build(self, info: am.TaskInfo) -> torch.nn.Module:
        raise NotImplementedError

    def adapt(self, module: torch.nn.Module, support: am.Examples) -> Any:
        raise NotImplementedError

    def predict(self, module: torch.nn.Module, adapted: Any, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_files_of_a_learner_count_where_it_names_them(tmp_path: Path) -> None:
    (tmp_path / "start.npy").write_bytes(b"1")
    place = str(tmp_path / "start.npy")
    assert list(describe(Weighted(start=place))["content"]) == ["start"]
    assert "content" not in describe(Weighted(mode=place))


def test_links_are_followed_once_and_hidden_files_do_not_count(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "x").write_text("1")
    (inside / "link").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "dead").symlink_to(tmp_path / "nothing")
    before = am.content_of(inside)
    (inside / ".DS_Store").write_text("hidden")
    assert am.content_of(inside) == before
    (outside / "x").write_text("2")
    assert am.content_of(inside) != before


def test_a_folder_is_walked_in_order_and_loops_and_dead_links_are_told(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("a.txt", ".hidden", "b/x", "b/deep/y"):
        (tmp_path / name).write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__pycache__").mkdir()
    for name, target in (("b/up", ".."), ("c", "b"), ("dead", "nothing"), ("self", "self"), ("z", "a.txt")):
        (tmp_path / name).symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    found = [(entry.path.relative_to(tmp_path).as_posix(), entry.kind) for entry in am.walk_folder(tmp_path)]
    below = [("", "folder"), ("/deep", "folder"), ("/deep/y", "file"), ("/up", "loop"), ("/x", "file")]
    linked = [("c", "folder"), ("c/deep", "folder"), ("c/deep/y", "file"), ("c/up", "loop"), ("c/x", "file")]
    ends = [("dead", "dead"), ("self", "dead"), ("z", "file")]
    assert found == [("a.txt", "file"), *(("b" + name, kind) for name, kind in below), *linked, *ends]
    same = {entry.path: entry.same for entry in am.walk_folder(tmp_path) if entry.same is not None}
    assert same[tmp_path / "b" / "up"] == tmp_path
    assert same[tmp_path / "c"] == tmp_path / "b"


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(am.MissingData, match="nowhere' cannot be read: No such file"):
        list(am.walk_folder(tmp_path / "nowhere"))


def test_a_file_is_read_once_while_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_SETTLED", -(10**18))
    write_images(tmp_path / "birds")
    before = am.content_of(tmp_path / "birds")

    def refuse(*_: Any) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(content.hashlib, "file_digest", refuse)
    assert am.content_of(tmp_path / "birds") == before


def test_archives_count_by_their_bytes_and_class_folders_behind_links_count(tmp_path: Path) -> None:
    write_images(tmp_path / "real")
    root = tmp_path / "root"
    root.mkdir()
    for folder in (tmp_path / "real").iterdir():
        (root / folder.name).symlink_to(folder)
    linked = images(root).content()
    assert linked == images(tmp_path / "real").content()
    (tmp_path / "real" / "class 1" / "1.png").write_bytes(draw(5))
    assert images(root).content() != linked
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted((tmp_path / "real").rglob("*.png")):
            opened.write(path, path.relative_to(tmp_path / "real"))
    before = images(archive).content()
    archive.write_bytes(archive.read_bytes()[:-2] + b"\1\0" + b"c")
    assert images(archive).content() != before


def test_roots_of_cifar_and_of_sequences_of_images_count(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_images(tmp_path / "cifar" / part)
    cifar = am.make_tasks("cifar_fs", root=tmp_path / "cifar", cache=tmp_path / "cache")
    sequences = am.make_tasks("augmented_shot", tasks=images(tmp_path / "cifar"))
    before = as_stored(describe(cifar)), as_stored(describe(sequences))
    (tmp_path / "cifar" / "val" / "class 0" / "0.png").write_bytes(draw(5))
    for stored, sampler in zip(before, (cifar, sequences), strict=True):
        now = as_stored(describe(sampler))
        assert not same_description(stored, now)
        assert len(changed_content(stored, now)) == 1


class Elsewhere(am.ClassEpisodes):
    """Its images come from a place that no parameter names."""

    version = 1

    def __init__(self, *, n_way: int = 2, n_shot: int = 1, n_query: int = 1) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query

    def fingerprint(self) -> int:
        return type(self).version

    def load(self) -> am.ClassImages:
        raise NotImplementedError


def test_a_fingerprint_stands_for_what_no_parameter_names(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = as_stored(describe(Elsewhere()))
    assert same_description(stored, as_stored(describe(Elsewhere())))
    monkeypatch.setattr(Elsewhere, "version", 2)
    assert not same_description(stored, as_stored(describe(Elsewhere())))


def test_a_module_of_ones_own_that_a_learner_calls_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_features.py").write_text("def encode(rows):\n    return rows\n")
    learner = am.make_learner("frozen_features", encoder="my_features:encode")
    stored = as_stored(describe(learner))
    (tmp_path / "my_features.py").write_text("def encode(rows):\n    return 2 * rows\n")
    assert changed_content(stored, as_stored(describe(learner))) == ["encoder='my_features:encode'"]
    sys.modules.pop("my_features", None)


def test_objects_count_by_their_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(3), b=np.ones(2))
    np.savez(tmp_path / "y.npz", b=np.ones(2), a=np.arange(3))
    np.savez(tmp_path / "z.npz", a=np.arange(3), b=np.zeros(2))
    one, same, other = (describe(np.load(tmp_path / f"{name}.npz")) for name in "xyz")
    assert one == same != other
    mapped = np.memmap(tmp_path / "m", dtype=np.float64, mode="w+", shape=(2,))
    before = describe(mapped)
    mapped[:] = 1
    assert describe(mapped) != before
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0]})
    assert describe(frame) == describe(frame.copy()) != describe(frame * 2)
    assert describe(torch.ones(2)) != describe(torch.zeros(2))


def test_a_module_inside_a_package_is_found_without_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "features.py").write_text("def encode(rows): return rows\n")
    monkeypatch.syspath_prepend(tmp_path)
    learner = am.make_learner("frozen_features", encoder="my_package.features:encode")
    stored = as_stored(describe(learner))
    (package / "features.py").write_text("def encode(rows): return 2 * rows\n")
    assert changed_content(stored, as_stored(describe(learner))) == ["encoder='my_package.features:encode'"]


def test_a_table_that_was_stored_before_a_parameter_came_is_the_same_at_its_default() -> None:
    frame = pd.DataFrame({"school": list("aabbcc"), "hours": range(6), "score": range(6)})
    table = am.make_tasks("table", data=frame, task="school", target="score", n_shot=1)
    stored = as_stored(describe(table))
    for name in ("stratified", "every_entity", "order"):
        del stored["params"][name]
    assert same_description(stored, as_stored(describe(table)))
    assert not same_description(stored, as_stored(describe(table.set_params(stratified=False))))
    del stored["params"]["n_shot"]
    assert not same_description(stored, as_stored(describe(table.set_params(stratified=True))))
