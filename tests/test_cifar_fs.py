"""CIFAR-FS: sizes of the paper, decoded once, found through the environment, and told where to get."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autometa_plugins.tasks import cifar_fs
from autometa_plugins.tasks.cifar_fs import CifarFS
from PIL import Image

import autometa as am
from learning import assert_better, chance

CLASSES = {"train": list("abcdefg"), "val": list("hijkl"), "test": list("mnopq")}


def photographs(root: Path, packed: bool = True) -> Path:
    """Twenty-five images of each of seventeen small classes; a class has a colour."""
    generator = np.random.default_rng(0)
    for split, names in CLASSES.items():
        for name in names:
            color = generator.integers(40, 215, 3)
            for number in range(25):
                path = root / split / name / f"{number:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = color + generator.integers(-40, 40, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
        if packed:
            with zipfile.ZipFile(root / f"{split}.zip", "w") as archive:
                for path in sorted((root / split).rglob("*.png")):
                    archive.write(path, path.relative_to(root / split))
            shutil.rmtree(root / split)
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("cifar")
    return {"root": photographs(folder / "cifar_fs"), "cache": folder / "cache"}


def test_splits_are_those_of_the_folders(small: dict[str, Any], tmp_path: Path) -> None:
    sampler = CifarFS(**small)
    assert sampler.info.input_shape == (3, 32, 32)
    assert [sampler.class_names(split) for split in am.SPLITS] == list(CLASSES.values())
    unpacked = CifarFS(root=photographs(tmp_path / "plain", packed=False), cache=tmp_path / "cache")
    assert torch.equal(sampler.sample(2, seed=0).query.x, unpacked.sample(2, seed=0).query.x)


def test_images_are_decoded_once(small: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = CifarFS(**small).load()
    (stored,) = small["cache"].glob("*.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr(cifar_fs, "_decode", lambda root: pytest.fail("decoded twice"))
        again = CifarFS(**small).load()
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert (list(first.names), dict(first.splits)) == (list(again.names), dict(again.splits))
    half = stored.with_name("half")
    half.write_bytes(stored.read_bytes()[:1000])
    half.replace(stored)  # not written in place: images read before are a map of the old file
    with pytest.warns(UserWarning, match="corrupt .* built anew"):
        assert torch.equal(CifarFS(**small).load().images, first.images)


def test_data_are_found_through_the_environment_and_their_absence_says_where_to_get_them(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOMETA_DATA", str(small["root"].parent))
    assert CifarFS(cache=small["cache"]).info.n_base_classes == 7
    monkeypatch.setenv("AUTOMETA_DATA", str(tmp_path / "nothing"))
    with pytest.raises(am.MissingData, match=r"nothing/cifar_fs.*train, val and test.*github\.com/bertinetto/r2d2"):
        _ = CifarFS(cache=tmp_path).info
    (tmp_path / "train").mkdir()
    with pytest.raises(am.MissingData, match="CIFAR-FS is not in"):
        _ = CifarFS(root=tmp_path).info


@pytest.mark.parametrize("sizes", [{}, {"n_way": "varied", "n_shot": "varied"}], ids=["fixed", "varied"])
def test_cifar_fs_conforms(small: dict[str, Any], sizes: dict[str, Any]) -> None:
    frame = am.check_plugin(CifarFS(**small, **sizes))
    assert not (frame["status"] == "failed").any(), frame.to_string()


@pytest.mark.slow
def test_the_real_cifar_fs_has_the_sizes_of_the_paper(data_root: Path, decoded: Callable[[str], Path]) -> None:
    root = data_root / "cifar_fs"
    if not root.is_dir():
        pytest.skip(f"CIFAR-FS is not in {root}")
    sampler = CifarFS(root=root, cache=decoded("cifar_fs"))
    facts = sampler.describe()
    assert facts["images"] == 60_000
    assert facts["classes"] == {"train": 64, "valid": 16, "test": 20}
    data = sampler.load()
    assert data.images.shape == (60_000, 3, 32, 32)
    assert (torch.bincount(data.labels) == 600).all()
    assert {"baby", "whale", "rocket"} <= set(sampler.class_names("test"))
    batch = sampler.sample(200, split="test", seed=0)
    nearest = torch.cdist(batch.query.x.flatten(2), batch.support.x.flatten(2)).argmin(-1)
    accuracies = (batch.support.y.gather(1, nearest) == batch.query.y).double().mean(dim=1)
    assert_better(accuracies, chance(sampler.info), sampler.info)
    assert 0.22 < accuracies.mean() < 0.4  # a fact about the pixels: nothing is trained
