"""Folders and archives of images, and Omniglot: splits, rotations, cache, download, clear refusals."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks import image_cache, omniglot_files
from autometa_plugins.tasks.images import Images
from autometa_plugins.tasks.omniglot import Omniglot
from PIL import Image

import autometa as am
from learning import assert_better, chance

FEW: dict[str, Any] = {"n_way": 2, "n_shot": 1, "n_query": 2}


def paint(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, quality=100)


def class_folders(root: Path, names: list[str], suffix: str = "png", n_images: int = 3) -> Path:
    """Class i is painted in red 20 i, image j in green 40 j."""
    for i, name in enumerate(names):
        for j in range(n_images):
            paint(root / name / f"{j}.{suffix}", (20 * i, 40 * j, 0))
    return root


def archive(folder: Path, target: Path, inside: str = "") -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, Path(inside) / path.relative_to(folder))
    return target


TEN = [f"class_{i}" for i in range(10)]


# images


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0.01), ("jpg", 4), ("JPEG", 4), ("webp", 8)])
def test_class_folders_become_tasks(tmp_path: Path, suffix: str, tolerance: int) -> None:
    sampler = Images(root=class_folders(tmp_path, TEN, suffix), size=6, **FEW)
    assert sampler.info.input_shape == (3, 6, 6)
    assert sampler.describe()["classes"] == {"train": 6, "valid": 2, "test": 2}
    for split in am.SPLITS:
        batch = sampler.sample(5, split=split, seed=0)
        red = batch.support.x[:, :, 0].mean((-1, -2)) * 255  # which class it is
        names = sampler.class_names(split)
        offset = {"train": 0, "valid": 6, "test": 8}[split]
        assert batch.classes is not None
        painted = torch.tensor([[20.0 * TEN.index(names[c - offset]) for c in row] for row in batch.classes.tolist()])
        assert (red - painted).abs().max() <= tolerance


def test_a_zip_of_class_folders_gives_the_same_tasks_as_the_folder(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets", TEN)
    (folder / "class_0" / ".hidden.png").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    plain = Images(root=folder, **FEW).sample(4, seed=0)
    for name, inside in (("flat.zip", ""), ("pets.zip", "pets"), ("other.zip", "some/where")):
        packed = Images(root=archive(folder, tmp_path / name, inside), **FEW).sample(4, seed=0)
        assert torch.equal(plain.query.x, packed.query.x)
        assert plain.classes is not None
        assert torch.equal(plain.classes, packed.classes)


@pytest.mark.parametrize("valid", ["val", "valid", "validation"])
@pytest.mark.parametrize("packed", [False, True])
def test_folders_or_zips_named_after_splits_decide_the_split(tmp_path: Path, valid: str, packed: bool) -> None:
    root = tmp_path / "root"
    for split, names in (("train", TEN[:5]), (valid, TEN[5:7]), ("test", TEN[7:])):
        if packed:
            archive(class_folders(tmp_path / split, names), root / f"{split}.zip")
        else:
            class_folders(root / split, names)
    sampler = Images(root=root, **FEW)
    assert [sampler.class_names(split) for split in am.SPLITS] == [TEN[:5], TEN[5:7], TEN[7:]]


def test_the_split_seed_decides_what_is_held_out(tmp_path: Path) -> None:
    class_folders(tmp_path, TEN)
    held = [Images(root=tmp_path, split_seed=seed, **FEW).describe()["held out"] for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_images_are_cropped_to_their_centre_and_transparency_is_white(tmp_path: Path) -> None:
    class_folders(tmp_path, TEN)
    wide = np.zeros((4, 12, 4), dtype=np.uint8)
    wide[:, 4:8] = [255, 0, 0, 255]
    for j in range(3):
        Image.fromarray(wide).save(tmp_path / "class_0" / f"{j}.png")
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "class_1" / f"{j}.png")
    data = Images(root=tmp_path, size=4, **FEW).load()
    images = {name: data.images[data.labels == i][0] for i, name in enumerate(data.names)}
    assert images["class_0"].flatten(1).float().mean(1).tolist() == [255, 0, 0]
    assert images["class_1"].min() == 255


def test_gray_images_have_one_channel(tmp_path: Path) -> None:
    assert Images(root=class_folders(tmp_path, TEN), color="gray", **FEW).info.input_shape == (1, 32, 32)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, TEN)
    broken = tmp_path / "class_3" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(broken)
    broken.write_bytes(broken.read_bytes()[:600])
    with pytest.raises(am.InvalidData, match=r"class_3/1\.png"):
        _ = Images(root=tmp_path, **FEW).info
    broken.write_text("no image at all")
    with pytest.raises(am.InvalidData, match=r"class_3/1\.png"):
        _ = Images(root=tmp_path, **FEW).info
    paint(broken, (60, 40, 0))
    assert Images(root=tmp_path, **FEW).info.n_base_classes == 6


def test_changed_files_are_read_anew(tmp_path: Path) -> None:
    class_folders(tmp_path, TEN)
    assert Images(root=tmp_path, **FEW).describe()["images"] == 30
    paint(tmp_path / "class_0" / "new.png", (0, 0, 0))
    assert Images(root=tmp_path, **FEW).describe()["images"] == 31


def test_folders_that_hold_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(am.InvalidParameter, match="root=None"):
        _ = Images().info
    with pytest.raises(am.MissingData, match="nowhere.*does not exist"):
        _ = Images(root=tmp_path / "nowhere").info
    (tmp_path / "empty").mkdir()
    with pytest.raises(am.InvalidData, match="holds no image"):
        _ = Images(root=tmp_path / "empty").info
    paint(tmp_path / "loose" / "a.png", (0, 0, 0))
    with pytest.raises(am.InvalidData, match=r"a\.png.*lies in no class folder"):
        _ = Images(root=tmp_path / "loose").info
    with pytest.raises(am.InvalidData, match="2 class folders, too few"):
        _ = Images(root=class_folders(tmp_path / "two", TEN[:2])).info
    (tmp_path / "bad.zip").write_text("no archive")
    with pytest.raises(am.InvalidData, match=r"bad\.zip"):
        _ = Images(root=tmp_path / "bad.zip").info
    for split in ("train", "val", "test"):
        class_folders(tmp_path / "shared" / split, ["cat"])
    with pytest.raises(am.InvalidData, match="class 'cat' stands in both"):
        _ = Images(root=tmp_path / "shared").info


@pytest.mark.parametrize(("name", "value"), [("size", 0), ("color", "blue"), ("valid_fraction", 2)])
def test_parameters_out_of_range_are_named(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{name}={value!r}"):
        _ = Images(root=class_folders(tmp_path, TEN), **{name: value}).info


# omniglot


def characters(root: Path, packed: bool = True) -> Path:
    """Background: 8 alphabets of 2 characters; evaluation: 2 of 2; a corner of ink that only rotation moves."""
    for part, letters in (("images_background", "abcdefgh"), ("images_evaluation", "xy")):
        for letter in letters:
            for character in ("character01", "character02"):
                for drawer in range(3):
                    pixels = np.full((105, 105), 255, dtype=np.uint8)
                    pixels[:52, :52] = 0
                    path = root / part / f"Alphabet_{letter}" / character / f"0001_{drawer:02d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).convert("1").save(path)
        if packed:
            archive(root / part, root / f"{part}.zip", part)
    return root


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    return {"root": characters(tmp_path / "omniglot"), "cache": tmp_path / "cache", **FEW}


def test_ink_is_one_and_rotations_are_further_classes(small: dict[str, Any]) -> None:
    data = Omniglot(split="alphabet", **small).load()
    assert data.images.shape == (20 * 4 * 3, 1, 28, 28)
    corners = {"rot000": (0, 0), "rot090": (-1, 0), "rot180": (-1, -1), "rot270": (0, -1)}
    for i, name in enumerate(data.names):
        images = data.images[data.labels == i]
        assert len(images) == 3
        row, column = corners[name.split("/")[-1]]
        assert (images[:, 0, row, column] == 255).all()
        assert (images[:, 0, -1 - row, -1 - column] == 0).all()
    plain = Omniglot(split="alphabet", rotations=False, **small).load()
    assert plain.images.shape == (20 * 3, 1, 28, 28)
    assert len(plain.names) == 20


def test_alphabets_are_not_torn_apart(small: dict[str, Any]) -> None:
    sampler = Omniglot(split="alphabet", **small)
    alphabets = [{name.split("/")[0] for name in sampler.class_names(split)} for split in am.SPLITS]
    assert [len(a) for a in alphabets] == [3, 5, 2]
    assert alphabets[2] == {"Alphabet_x", "Alphabet_y"}
    assert not alphabets[0] & alphabets[1]


def test_all_rotations_of_a_character_lie_in_one_split(small: dict[str, Any]) -> None:
    sampler = Omniglot(split="random", **small)
    turned = [{name.rsplit("/", 1)[0] for name in sampler.class_names(split)} for split in am.SPLITS]
    assert [4 * len(t) for t in turned] == [len(sampler.class_names(split)) for split in am.SPLITS]
    assert not turned[0] & turned[2]


def test_split_files_decide_and_their_absence_says_what_to_do(small: dict[str, Any]) -> None:
    with pytest.raises(am.MissingData, match=r"train\.txt.*split='alphabet'"):
        _ = Omniglot(**small).info
    folder = small["root"] / "splits" / "vinyals"
    folder.mkdir(parents=True)
    for name, letters in (("train", "ab"), ("val", "cd"), ("test", "x")):
        lines = [f"Alphabet_{letter}/character01/rot{angle}" for letter in letters for angle in ("000", "090")]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    sampler = Omniglot(**small)
    assert sampler.info.n_base_classes == 4
    assert sampler.class_names("test") == ["Alphabet_x/character01/rot000", "Alphabet_x/character01/rot090"]


def test_unpacked_folders_give_the_same_images(small: dict[str, Any], tmp_path: Path) -> None:
    unpacked = characters(tmp_path / "unpacked", packed=False)
    a = Omniglot(split="random", **small).load()
    b = Omniglot(split="random", **{**small, "root": unpacked}).load()
    assert torch.equal(a.images, b.images)
    assert list(a.names) == list(b.names)


def test_images_are_decoded_once_and_a_corrupt_cache_is_built_anew(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Omniglot(split="random", **small).load()
    (stored,) = small["cache"].glob("*.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(omniglot_files, "_decode_parts", lambda root: pytest.fail("decoded twice"))
        assert torch.equal(Omniglot(split="random", **small).load().images, first.images)
    whole = stored.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 255
    for broken in (whole[: len(whole) // 2], b"", bytes(flipped)):
        stored.write_bytes(broken)
        with pytest.warns(UserWarning, match="corrupt .* built anew"):
            again = Omniglot(split="random", **small).load()
        assert torch.equal(again.images, first.images)
        assert torch.equal(image_cache.read(stored)[0], omniglot_files._decode_parts(small["root"])[0])


def test_a_written_cache_is_told_once_with_its_path(small: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    Omniglot(split="random", **small).load()
    (stored,) = small["cache"].glob("*.safetensors")
    (told,) = caplog.messages
    assert f"decoded images are kept in {stored} (" in told
    assert "MB" in told
    Omniglot(split="random", **small).load()
    assert len(caplog.messages) == 1


@pytest.mark.thorough
def test_a_written_cache_is_seen_by_whoever_set_up_no_logging(small: dict[str, Any]) -> None:
    code = f"from autometa_plugins.tasks.omniglot import Omniglot; Omniglot(split='random', **{small!r}).load()"
    code = code.replace("PosixPath", "str").replace("WindowsPath", "str")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("decoded images are kept in") == 1
    assert str(small["cache"]) in done.stderr
    assert done.stdout == ""


def test_a_cache_that_cannot_be_written_is_told_and_not_needed(small: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sampler = Omniglot(split="random", **{**small, "cache": tmp_path / "file" / "cache"})
    with pytest.warns(UserWarning, match="cannot be cached"):
        assert len(sampler.load().images) == 240


def test_missing_archives_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(am.MissingData, match=r"images_background\.zip.*download=True"):
        _ = Omniglot(root=tmp_path, cache=tmp_path).info
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUTOMETA_DATA", "~/data")
    with pytest.raises(am.MissingData, match=re.escape(f"'{tmp_path}/data/omniglot'")):
        _ = Omniglot(cache=tmp_path).info
    with pytest.raises(am.InvalidParameter, match="split='half'"):
        _ = Omniglot(root=characters(tmp_path), cache=tmp_path / "cache", split="half").info


def test_data_are_found_through_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    characters(tmp_path / "omniglot")
    monkeypatch.setenv("AUTOMETA_DATA", str(tmp_path))
    assert len(Omniglot(split="random", cache=tmp_path / "cache", **FEW).load().images) == 240


def test_download_fetches_what_is_missing_and_checks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = characters(tmp_path / "served")
    downloads = {}
    for part in omniglot_files.PARTS:
        path = served / f"{part}.zip"
        downloads[path.name] = (path.as_uri(), hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(omniglot_files, "DOWNLOADS", downloads)
    sampler = Omniglot(root=tmp_path / "new", cache=tmp_path / "cache", split="random", download=True, **FEW)
    assert len(sampler.load().images) == 240
    assert (tmp_path / "new" / "images_evaluation.zip").exists()

    monkeypatch.setitem(downloads, "images_background.zip", (downloads["images_background.zip"][0], "0" * 32))
    with pytest.raises(am.MissingData, match=f"instead of {'0' * 32}"):
        sampler.set_params(root=tmp_path / "other").load()
    assert not (tmp_path / "other" / "images_background.zip").exists()

    monkeypatch.setitem(downloads, "images_background.zip", ((tmp_path / "gone.zip").as_uri(), "0" * 32))
    with pytest.raises(am.MissingData, match=r"gone\.zip cannot be fetched"):
        sampler.set_params(root=tmp_path / "third").load()


@pytest.mark.slow
def test_the_real_omniglot_has_the_sizes_of_the_papers(data_root: Path, decoded: Callable[[str], Path]) -> None:
    root = data_root / "omniglot"
    if not root.is_dir():
        pytest.skip(f"Omniglot is not in {root}")
    sizes = {"vinyals": [4112, 688, 1692], "random": [4400, 400, 1692]}
    for split, counts in sizes.items():
        sampler = Omniglot(root=root, cache=decoded("omniglot"), split=split)
        assert list(sampler.describe()["classes"].values()) == counts
        assert sampler.describe()["images"] == 4 * 32460
    batch = sampler.sample(100, split="test", seed=0)
    nearest = torch.cdist(batch.query.x.flatten(2), batch.support.x.flatten(2)).argmin(-1)
    accuracies = (batch.support.y.gather(1, nearest) == batch.query.y).double().mean(dim=1)
    assert_better(accuracies, chance(sampler.info), sampler.info)
    assert 0.35 < accuracies.mean() < 0.55  # a fact about the pixels: nothing is trained


def test_downloaded_split_files_are_those_of_the_paper(data_root: Path) -> None:
    for name, (_, md5) in omniglot_files.DOWNLOADS.items():
        path = data_root / "omniglot" / name
        if path.suffix == ".txt" and path.exists():
            assert hashlib.md5(path.read_bytes()).hexdigest() == md5
