"""Folders of images as users have them: any mode and depth, links, other suffixes, splits half given."""

from __future__ import annotations

import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autometa_plugins.tasks.images import Images
from numpy.typing import NDArray
from PIL import Image

import autometa as am

FEW: dict[str, Any] = {"n_way": 2, "n_shot": 1, "n_query": 2}
LIGHT = np.linspace(0, 1, 16).reshape(4, 4)
WANTED = np.round(LIGHT * 255).astype(np.uint8)


def in_classes(root: Path, image: Image.Image, suffix: str = "png", n_classes: int = 5, **options: Any) -> Path:
    """The same image three times in every class folder."""
    for name in range(n_classes):
        for number in range(3):
            path = root / f"class_{name}" / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **options)
    return root


def paint(root: Path, *names: str, suffix: str = "png") -> None:
    for name in names:
        for number in range(3):
            path = root / name / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 4), 40 * number).save(path)


def read(root: Path, color: str = "gray", **parameters: Any) -> NDArray[np.uint8]:
    """The first image, [channels, 4, 4]."""
    data = Images(root=root, size=4, color=color, **FEW, **parameters).load()
    return np.asarray(data.images[0])


def deep(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint16))


def tiff(values: bytes, *, bits: int, sample_format: int = 1, photometric: int = 1) -> bytes:
    """A TIFF file of 4 x 4 samples, little-endian, uncompressed."""
    tags = [(256, 4), (257, 4), (258, bits), (259, 1), (262, photometric), (273, 0), (277, 1), (278, 4)]
    tags += [(279, len(values)), (339, sample_format)]
    offset = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, offset if tag == 273 else value, 0) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + values


def tiff_in_classes(root: Path, content: bytes) -> Path:
    in_classes(root, Image.new("L", (4, 4)), "tif")
    for path in root.rglob("*.tif"):
        path.write_bytes(content)
    return root


# modes and depths


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_are_scaled_by_their_depth(tmp_path: Path, suffix: str, color: str) -> None:
    found = read(in_classes(tmp_path, deep(LIGHT * 65535), suffix), color)
    assert found.shape == ({"gray": 1, "rgb": 3}[color], 4, 4)
    np.testing.assert_array_equal(found, np.broadcast_to(WANTED, found.shape))


@pytest.mark.parametrize("color", ["gray", "rgb"])
@pytest.mark.parametrize(
    "mode", ["L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa"]
)
def test_every_mode_of_eight_bits_gives_the_same_light(mode: str, color: str) -> None:
    plain = Image.fromarray(WANTED)
    steps = {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "LAB": ("RGB", "LAB")}.get(mode, (mode,))
    image = plain
    for step in steps:
        image = image.convert(step)
    found = np.asarray(am.PixelReader(color).read(image)).reshape(4, 4, -1)
    np.testing.assert_allclose(found, np.broadcast_to(WANTED[..., None], found.shape), atol=1)


@pytest.mark.parametrize("layout", ["<u2", ">u2"])
def test_both_byte_orders_of_sixteen_bits(layout: str) -> None:
    mode = "I;16" if layout == "<u2" else "I;16B"
    image = Image.frombytes(mode, (4, 4), (LIGHT * 65535).astype(layout).tobytes())
    np.testing.assert_array_equal(np.asarray(am.PixelReader("gray").read(image)), WANTED)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    checks = np.indices((4, 4)).sum(0) % 2 == 0
    np.testing.assert_array_equal(read(in_classes(tmp_path, Image.fromarray(checks)))[0], 255 * checks)


def test_floats_must_lie_in_the_unit_interval(tmp_path: Path) -> None:
    fine = in_classes(tmp_path / "fine", Image.fromarray(LIGHT.astype(np.float32)), "tif")
    np.testing.assert_array_equal(read(fine)[0], WANTED)
    for name, values, told in (
        ("large", LIGHT * 255, r"floats in \[0, 255\].*\[0, 1\]"),
        ("negative", LIGHT - 0.5, r"floats in \[-0\.5, 0\.5\]"),
        ("missing", np.where(LIGHT > 0.9, np.nan, LIGHT), "not all finite"),
    ):
        root = in_classes(tmp_path / name, Image.fromarray(values.astype(np.float32)), "tif")
        with pytest.raises(am.InvalidData, match=rf"class_0/0\.tif.*{told}"):
            read(root)


def test_whole_numbers_outside_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    root = in_classes(tmp_path / "large", Image.fromarray((LIGHT * 10**6).astype(np.int32)), "tif")
    with pytest.raises(am.InvalidData, match=r"class_0/0\.tif.*\[0, 1000000\].*16 bits in \[0, 65535\]"):
        read(root)
    signed = tiff((LIGHT * 30000 - 100).astype("<i2").tobytes(), bits=16, sample_format=2)
    with pytest.raises(am.InvalidData, match=r"\[-100, 29900\]"):
        read(tiff_in_classes(tmp_path / "signed", signed))


def test_twelve_bits_in_sixteen_are_said_and_can_be_stated(tmp_path: Path) -> None:
    root = in_classes(tmp_path, deep(LIGHT * 4095))
    with pytest.warns(UserWarning, match=r"is 4095, and white is 65535.*use 12 of their bits, give bits="):
        dark = read(root)
    assert dark.max() == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read(root, bits=12)[0], WANTED)
        deep(LIGHT * 65535).save(root / "class_0" / "0.png")  # one image that uses all bits
        read(root)
    with pytest.raises(am.InvalidData, match=r"class_0/0\.png.*\[0, 65535\].*12 bits in \[0, 4095\]"):
        read(root, bits=12)


@pytest.mark.parametrize("bits", [0, 7, 17, "12"])
def test_bits_must_be_a_depth(tmp_path: Path, bits: Any) -> None:
    with pytest.raises(am.InvalidParameter, match=f"bits={bits!r}"):
        read(in_classes(tmp_path, deep(LIGHT)), bits=bits)


def test_a_file_that_tells_its_twelve_bits_is_believed(tmp_path: Path) -> None:
    pairs = np.round(LIGHT * 4095).astype(int).reshape(-1, 2)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    np.testing.assert_array_equal(read(tiff_in_classes(tmp_path, tiff(packed, bits=12)))[0], WANTED)


@pytest.mark.parametrize(("bits", "layout", "most"), [(8, "u1", 255), (16, "<u2", 65535)])
def test_tiff_files_where_zero_is_white_are_turned(tmp_path: Path, bits: int, layout: str, most: int) -> None:
    content = tiff((LIGHT * most).astype(layout).tobytes(), bits=bits, photometric=0)
    np.testing.assert_array_equal(read(tiff_in_classes(tmp_path, content))[0], 255 - WANTED)


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_transparent_parts_are_white_in_every_mode(tmp_path: Path, color: str) -> None:
    eight = Image.fromarray(WANTED)
    images = {
        "L": (eight, {"transparency": 0}),
        "P": (eight.convert("P"), {"transparency": 0}),
        "RGB": (eight.convert("RGB"), {"transparency": (0, 0, 0)}),
        "16": (deep(LIGHT * 65535), {"transparency": 0}),
    }
    for name, (image, options) in images.items():
        found = read(in_classes(tmp_path / name, image, **options), color)
        assert (found[:, 0, 0] == 255).all()
        np.testing.assert_array_equal(found[0].ravel()[1:], WANTED.ravel()[1:])


def test_sixteen_bits_are_turned_as_the_camera_was_held(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    np.testing.assert_array_equal(read(in_classes(tmp_path, deep(LIGHT * 65535), exif=turned))[0], WANTED[::-1, ::-1])


@pytest.mark.parametrize("suffix", ["bmp", "BMP", "gif", "tif", "tiff", "ppm", "tga", "jfif"])
def test_further_formats_are_read(tmp_path: Path, suffix: str) -> None:
    options = {"format": "JPEG", "quality": 100} if suffix == "jfif" else {}
    found = read(in_classes(tmp_path, Image.fromarray(WANTED), suffix, **options))
    np.testing.assert_allclose(found[0], WANTED, atol=2)


# links and files that are not read


def test_linked_class_folders_are_followed(tmp_path: Path) -> None:
    paint(tmp_path / "store", "c", "d")
    paint(tmp_path / "root", "a", "b")
    for name in ("c", "d"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "store" / name)
    sampler = Images(root=tmp_path / "root", **FEW, valid_fraction=0.5, test_fraction=0.25)
    data = sampler.load()
    assert sorted(data.names) == ["a", "b", "c", "d"]
    assert len(data.images) == 12
    before = sampler.fingerprint()
    paint(tmp_path / "store", "c/more")
    assert sampler.fingerprint() != before


def test_linked_splits_and_images_are_followed(tmp_path: Path) -> None:
    paint(tmp_path / "store" / "learn", "a", "b")
    paint(tmp_path / "store" / "judge", "c", "d")
    root = tmp_path / "root"
    paint(root / "val", "e", "f")
    (root / "train").symlink_to(tmp_path / "store" / "learn")
    (root / "test").symlink_to(tmp_path / "store" / "judge")
    (root / "val" / "e" / "3.png").symlink_to(root / "val" / "f" / "0.png")
    sampler = Images(root=root, **FEW)
    assert [sampler.class_names(split) for split in am.SPLITS] == [["a", "b"], ["e", "f"], ["c", "d"]]
    assert sampler.describe()["images"] == 19


@pytest.mark.parametrize("target", [".", ".."])
def test_links_in_a_circle_are_refused(tmp_path: Path, target: str) -> None:
    paint(tmp_path / "root", "a", "b", "c", "d", "e")
    (tmp_path / "root" / "a" / "again").symlink_to(target)
    with pytest.raises(am.InvalidData, match=r"link .*again' leads back to"):
        _ = Images(root=tmp_path / "root", **FEW).info


def test_a_folder_linked_to_twice_is_refused(tmp_path: Path) -> None:
    paint(tmp_path, "a", "b", "c", "d", "e")
    (tmp_path / "f").symlink_to(tmp_path / "b")
    with pytest.raises(am.InvalidData, match="b' and '.*f' are one folder"):
        _ = Images(root=tmp_path, **FEW).info


@pytest.mark.parametrize("name", ["f", "a/3.png"])
def test_links_to_nothing_are_named(tmp_path: Path, name: str) -> None:
    paint(tmp_path, "a", "b", "c", "d", "e")
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(am.InvalidData, match=rf"{name}' leads to 'nowhere', which is not there"):
        _ = Images(root=tmp_path, **FEW).info


def test_folders_without_a_readable_image_are_told_in_one_warning(tmp_path: Path) -> None:
    paint(tmp_path, "a", "b", "c", "d", "e", "f")
    (tmp_path / "empty").mkdir()
    for name, suffix in (
        ("heic", "heic"),
        ("heic", "HEIC"),
        ("arrays", "npy"),
        ("bare", ""),
        ("a", "heic"),
        ("a", "txt"),
        ("b", "json"),
        ("", "csv"),
    ):
        path = tmp_path / name / (f"new.{suffix}" if suffix else "new")
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image")
    with pytest.warns(UserWarning, match="left out") as told:
        assert len(Images(root=tmp_path, **FEW).load().names) == 6
    message = str(told[0].message)
    assert "folders without an image that can be read are left out (4): 'arrays', 'bare', 'empty', 'heic';" in message
    assert "files that are not read: 3 .heic, 1 .txt, 1 .npy, 1 .json, 1 without suffix, the first of" in message
    assert "the first of them 'a/new.heic'; read are" in message
    assert ".bmp" in message
    assert len(told) == 1


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "../README.txt", "../labels.csv"])
def test_what_systems_leave_and_what_lies_beside_class_folders_is_not_told(tmp_path: Path, name: str) -> None:
    paint(tmp_path, "a", "b", "c", "d", "e", "f")
    (tmp_path / "a" / name).write_text("no image")
    assert len(Images(root=tmp_path, **FEW).load().names) == 6


def test_only_unread_files_are_named_by_the_error(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.heic").write_text("no image")
    with pytest.raises(am.InvalidData, match=r"holds no image .*it holds 1 \.heic"):
        _ = Images(root=tmp_path, **FEW).info


def test_an_unpacked_archive_beside_itself_is_refused(tmp_path: Path) -> None:
    paint(tmp_path, "pets/a", "pets/b")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as file:
        for path in sorted((tmp_path / "pets").rglob("*.png")):
            file.write(path, path.relative_to(tmp_path))
    with pytest.raises(am.InvalidData, match=r"'pets/a/0\.png' is there twice"):
        _ = Images(root=tmp_path, **FEW).info


# splits half given


def class_names(root: Path, **parameters: Any) -> dict[str, list[str]]:
    sampler = Images(root=root, **{"n_way": 2, "n_shot": 1, "n_query": 1}, **parameters)
    data = sampler.load()
    return {split: [data.names[c] for c in data.splits[split]] for split in am.SPLITS}


LETTERS = list("abcdefghij")


@pytest.mark.parametrize("given", [{"train"}, {"train", "test"}, {"train", "valid"}, {"train", "valid", "test"}])
def test_a_given_split_is_kept_and_a_missing_one_is_drawn_from_train(tmp_path: Path, given: set[str]) -> None:
    held = {"valid": ["v", "w"], "test": ["x", "y"]}
    paint(tmp_path / "train", *LETTERS)
    for split in given - {"train"}:
        paint(tmp_path / split, *held[split])
    found = class_names(tmp_path)
    for split in ("valid", "test"):
        if split in given:
            assert found[split] == held[split]
        else:
            assert len(found[split]) == 2
            assert set(found[split]) < set(LETTERS)
    assert sorted(set(found["train"]) | {c for c in found["valid"] + found["test"] if c in LETTERS}) == LETTERS
    assert not set(found["train"]) & {*found["valid"], *found["test"]}
    assert found == class_names(tmp_path)
    if given != {"train", "valid", "test"}:
        assert any(found != class_names(tmp_path, split_seed=seed) for seed in (1, 2, 3))


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("Train", "Val", "Test"),
        ("TRAIN", "DEV", "TEST"),
        ("training", "development", "testing"),
        ("meta-train", "meta_valid", "metatest"),
        ("Training Set", "validation_images", "test2017"),
        ("trainset", "dev-data", "TestSet"),
        ("trn", "val", "tst"),
        ("base", "val", "novel"),
        ("images_background", "dev", "images_evaluation"),
        ("base", "valid", "eval"),
    ],
)
def test_other_spellings_are_understood(tmp_path: Path, train: str, valid: str, test: str) -> None:
    paint(tmp_path / train, "a", "b")
    paint(tmp_path / valid, "c", "d")
    paint(tmp_path / test, "e", "f")
    assert class_names(tmp_path) == {"train": ["a", "b"], "valid": ["c", "d"], "test": ["e", "f"]}


def test_archives_may_spell_a_split_otherwise_than_the_folder_they_hold(tmp_path: Path) -> None:
    paint(tmp_path / "files" / "train", *LETTERS)
    paint(tmp_path / "files" / "valid", "x", "y")
    (tmp_path / "root").mkdir()
    for split, name in (("train", "Train"), ("valid", "VAL")):
        with zipfile.ZipFile(tmp_path / "root" / f"{name}.zip", "w") as file:
            for path in sorted((tmp_path / "files" / split).rglob("*.png")):
                file.write(path, path.relative_to(tmp_path / "files"))
    found = class_names(tmp_path / "root")
    assert found["valid"] == ["x", "y"]
    assert sorted(found["train"] + found["test"]) == LETTERS


def test_a_further_folder_beside_the_splits_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "train", *LETTERS)
    paint(tmp_path / "test", "x", "y")
    paint(tmp_path / "extra", "z")
    with pytest.warns(UserWarning, match=r"splits 'test', 'train'; left out are the images beside them: 'extra' \(3\)"):
        found = class_names(tmp_path)
    assert found["test"] == ["x", "y"]
    assert not {"z", "extra/z"} & {*found["train"], *found["valid"]}


def test_splits_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "only" / "test", *LETTERS)
    with pytest.raises(am.InvalidData, match="'test' but none for meta-training; name their folder 'train'"):
        class_names(tmp_path / "only")
    paint(tmp_path / "other" / "test", *LETTERS)
    paint(tmp_path / "other" / "rest", "x", "y")
    with pytest.raises(am.InvalidData, match=r"none for meta-training; beside it lie images: 'rest' \(6\)"):
        class_names(tmp_path / "other")
    for name in ("train", "val", "Validation"):
        paint(tmp_path / "double" / name, *LETTERS)
    with pytest.raises(am.InvalidData, match="'Validation' and 'val', which both mean 'valid'"):
        class_names(tmp_path / "double")
    paint(tmp_path / "flat", "train", "test", "val")
    with pytest.raises(am.InvalidData, match="holds .*'train'.* only directly below root, with class folders"):
        class_names(tmp_path / "flat")
    for above in ("data", "more"):
        paint(tmp_path / "deep" / above / "train", "a", "b")
        paint(tmp_path / "deep" / above / "test", "c", "d")
    with pytest.raises(am.InvalidData, match="'.*deep/data' holds 'test', 'train'"):
        class_names(tmp_path / "deep")
    paint(tmp_path / "few" / "train", "a", "b")
    with pytest.raises(
        am.InvalidData, match="2 class folders, too few to hold out 1 for meta-valid and 1 for meta-test"
    ):
        class_names(tmp_path / "few")


def test_a_class_may_be_named_like_a_split(tmp_path: Path) -> None:
    paint(tmp_path, "train", "plane", "car", "ship", "bus")
    assert sorted(name for names in class_names(tmp_path).values() for name in names) == [
        "bus", "car", "plane", "ship", "train",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "test"),
    [("images_background", "images_evaluation"), ("base", "novel"), ("trn", "tst"), ("background", "test")],
)
def test_held_out_folders_are_not_trained_on(tmp_path: Path, train: str, test: str) -> None:
    paint(tmp_path / train, *LETTERS)
    paint(tmp_path / test, "x", "y", "z")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = class_names(tmp_path)
    assert found["test"] == ["x", "y", "z"]
    assert sorted(found["train"] + found["valid"]) == LETTERS


@pytest.mark.parametrize("name", ["background", "base", "novel", "evaluation"])
def test_a_word_that_names_a_split_only_beside_another_may_name_a_class(tmp_path: Path, name: str) -> None:
    paint(tmp_path, name, "plane", "car", "ship", "bus")
    assert name in [one for names in class_names(tmp_path).values() for one in names]


def test_a_few_folders_of_class_folders_are_told_to_be_pooled(tmp_path: Path) -> None:
    for n, tops in ((1, ["ours"]), (4, ["seen", "unseen", "more", "others"]), (5, list("pqrst"))):
        for top in tops:
            paint(tmp_path / str(n) / top, *LETTERS)
    with pytest.warns(UserWarning, match=r"holds 4 folders of class folders, 'more', 'others', 'seen', 'unseen'.*pool"):
        assert sum(map(len, class_names(tmp_path / "4").values())) == 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_names(tmp_path / "1")
        class_names(tmp_path / "5")


def test_two_classes_are_held_out_where_there_are_enough(tmp_path: Path) -> None:
    paint(tmp_path / "train", *LETTERS[:6])
    paint(tmp_path / "test", "w", "x", "y", "z")
    sampler = Images(root=tmp_path, n_way=2, n_shot=1, n_query=1)
    assert sampler.sample(1, split="valid", seed=0).query.x.shape[1] == 2
    told = r"'valid' has 2 \(drawn from the 6 classes of 'train' by valid_fraction=0\.2\); use n_way <= 2, a larger"
    with pytest.raises(am.InvalidParameter, match=told):
        _ = Images(root=tmp_path, n_way=3, n_shot=1, n_query=1).info


@pytest.mark.parametrize(("most", "color"), [(1, "gray"), (16, "rgb")])
def test_images_of_eight_bits_that_are_nearly_black_are_told_once(tmp_path: Path, most: int, color: str) -> None:
    root = in_classes(tmp_path, Image.fromarray(np.round(LIGHT * most).astype(np.uint8)))
    with pytest.warns(UserWarning, match=rf"largest value in the images of .* is {most}, and white is 255") as told:
        read(root, color)
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Image.fromarray(np.full((4, 4), 17, np.uint8)).save(root / "class_0" / "0.png")
        read(root, color)


def test_the_root_may_be_a_link(tmp_path: Path) -> None:
    paint(tmp_path / "store", *LETTERS)
    os.symlink(tmp_path / "store", tmp_path / "root")
    assert len(Images(root=tmp_path / "root", **FEW).load().names) == 10


# files made to do harm


def bomb(side: int) -> bytes:
    """A PNG file of a few kilobytes with side x side white pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (side // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path,
) -> None:
    in_classes(tmp_path, Image.new("L", (4, 4)))
    (tmp_path / "class_1" / "1.png").write_bytes(bomb(8000))
    with pytest.raises(am.InvalidData, match=r"class_1.*8000 × 8000 pixels, more than max_pixels=50000000"):
        read(tmp_path)
    (tmp_path / "class_1" / "1.png").write_bytes(bomb(80))
    with pytest.raises(am.InvalidData, match="80 × 80 pixels, more than max_pixels=6399"):
        read(tmp_path, max_pixels=6399)
    with pytest.raises(am.InvalidParameter, match="max_pixels=0"):
        read(tmp_path, max_pixels=0)
    assert read(tmp_path, max_pixels=6400).max() == 0
    with Image.open(tmp_path / "class_1" / "1.png") as image, pytest.raises(am.InvalidData, match="80 × 80 pixels"):
        am.PixelReader("gray", max_pixels=99).read(image)


def test_a_file_of_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    in_classes(tmp_path / "folder", Image.new("L", (4, 4)))
    os.truncate(tmp_path / "folder" / "class_1" / "1.png", 2**33)
    with pytest.raises(am.InvalidData, match=r"class_1.*8589934592 bytes, more than max_bytes=500000000"):
        read(tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in range(5):
            archive.writestr(f"class_{name}/1.png", b"\0" * 2**22)
    with pytest.raises(am.InvalidData, match=r"bomb.zip:class_0/1.png.*4194304 bytes, more than max_bytes=1000000"):
        read(tmp_path / "bomb.zip", max_bytes=1_000_000)


def test_a_header_of_an_archive_that_lies_about_a_size_is_one_error(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lie.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in range(5):
            archive.writestr(f"class_{name}/1.png", b"\0" * 2**22)
    content = (tmp_path / "lie.zip").read_bytes().replace(struct.pack("<I", 2**22), struct.pack("<I", 100))
    (tmp_path / "lie.zip").write_bytes(content)
    with pytest.raises(am.InvalidData, match="class_0/1.png' cannot be decoded"):
        read(tmp_path / "lie.zip")


ARCHIVES = {
    "is encrypted": lambda sound: sound.replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"),
    "cannot be decoded": lambda sound: sound.replace(b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x63\0"),
    "cannot be read": lambda sound: sound[:-4],
    "not a zip file": lambda sound: b"",
}


@pytest.mark.parametrize("told", ARCHIVES)
def test_an_archive_that_cannot_be_read_is_named(tmp_path: Path, told: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in range(5):
            archive.writestr(f"class_{name}/1.png", b"x")
    sound = (tmp_path / "a.zip").read_bytes()
    changed = ARCHIVES[told](sound)
    assert changed != sound
    (tmp_path / "a.zip").write_bytes(changed)
    with pytest.raises(am.InvalidData, match=rf"a\.zip.*{told}"):
        read(tmp_path / "a.zip")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for root in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(am.InvalidData, match="neither a folder nor a regular file"):
            read(root)
        with pytest.raises(am.MissingData, match="is no regular file"):
            Images(root=root).content()
    in_classes(tmp_path / "images", Image.new("L", (4, 4)))
    os.mkfifo(tmp_path / "images" / "class_1" / "9.png")
    assert read(tmp_path / "images").max() == 0


@pytest.mark.parametrize("what", ["class", "image"])
@pytest.mark.parametrize("mode", [0, 0o400])
def test_what_may_not_be_read_is_named_and_not_left_out(tmp_path: Path, what: str, mode: int) -> None:
    in_classes(tmp_path / "images", Image.new("L", (4, 4)))
    closed = tmp_path / "images" / "class_1" / ("" if what == "class" else "1.png")
    closed.chmod(mode)
    me = os.geteuid()
    for folder in (tmp_path, *tmp_path.parents) if me == 0 else ():
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    try:
        if me == 0:  # who may read everything
            os.seteuid(65534)
            Path(tmp_path / "images" / "class_0" / "0.png").read_bytes()
        if what == "image" and me != 0 and mode:
            pytest.skip("its owner may read it")
        with pytest.raises((am.MissingData, am.InvalidData), match="class_1.*Permission denied"):
            read(tmp_path / "images")
    finally:
        os.seteuid(me)
        closed.chmod(0o700)
