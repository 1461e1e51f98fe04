"""Images given to a meta-trained estimator: the same pixels give the same answer in every container, or an error."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import autometa as am
from autometa.estimators.images import check_range, range_met
from autometa.files import container

SIDE = 6


class Scaled(am.ClassEpisodes):
    """Noise around an image of each class, float32, in [low, high]."""

    def __init__(self, *, channels: int = 1, low: float = 0.0, high: float = 1.0) -> None:
        self.channels = channels
        self.low = low
        self.high = high
        self.n_way, self.n_shot, self.n_query = 3, 2, 3

    def load(self) -> am.ClassImages:
        random = torch.Generator().manual_seed(0)
        shape = (self.channels, SIDE, SIDE)
        centre = torch.rand(9, 1, *shape, generator=random)
        images = (0.7 * centre + 0.3 * torch.rand(9, 6, *shape, generator=random)).flatten(0, 1)
        images = torch.round(images * 255) / 255
        return am.ClassImages(
            images=self.low + images * (self.high - self.low),
            labels=torch.arange(9).repeat_interleave(6),
            splits={"train": range(3), "valid": range(3, 6), "test": range(6, 9)},
        )


def meta_trained(**parameters: Any) -> am.FewShotClassifier:
    estimator = am.FewShotClassifier(
        "prototypical", backbone="mlp", max_steps=3, tasks_per_step=4, random_state=0, device="cpu"
    )
    return estimator.meta_fit(Scaled(**parameters))


@pytest.fixture(scope="module", params=[1, 3])
def trained(request: pytest.FixtureRequest) -> am.FewShotClassifier:
    return meta_trained(channels=request.param)


@pytest.fixture(scope="module")
def colored() -> am.FewShotClassifier:
    return meta_trained(channels=3)


def task(channels: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """Support images and labels, and queries, of a held-out task; uint8."""
    drawn = Scaled(channels=channels).sample(1, split="test", seed=0)
    as_bytes = [(part.x[0].numpy() * 255).round().astype(np.uint8) for part in (drawn.support, drawn.query)]
    return as_bytes[0], drawn.support.y[0].numpy(), as_bytes[1]


def pictures(images: NDArray[np.uint8]) -> list[Image.Image]:
    return [Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)) for image in images]


def frame(rows: NDArray[Any], dtype: Any) -> pd.DataFrame:
    return pd.DataFrame(rows.reshape(len(rows), -1), columns=[f"p{i}" for i in range(rows[0].size)]).astype(dtype)


def objects(items: list[Any]) -> NDArray[np.object_]:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


CONTAINERS: dict[str, Any] = {
    "uint8": lambda x: x,
    "torch.uint8": torch.from_numpy,
    "flat": lambda x: x.reshape(len(x), -1),
    "flat torch.uint8": lambda x: torch.from_numpy(x).flatten(1),
    "channels last": lambda x: x.transpose(0, 2, 3, 1),
    "channels last, torch": lambda x: torch.from_numpy(x).permute(0, 2, 3, 1),
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of channels last": lambda x: list(x.transpose(0, 2, 3, 1)),
    "list of flat arrays": lambda x: list(x.reshape(len(x), -1)),
    "list of tensors": lambda x: list(torch.from_numpy(x)),
    "lists of lists of arrays": lambda x: [[list(channel) for channel in image] for image in x],
    "array of objects": lambda x: objects(list(x)),
    "objects of numpy.uint8": lambda x: objects([list(row) for row in x.reshape(len(x), -1)]),
    "Pillow": pictures,
    "array of Pillow": lambda x: objects(pictures(x)),
    "Series of Pillow": lambda x: pd.Series(pictures(x)),
    "column of Pillow": lambda x: pd.DataFrame({"image": objects(pictures(x))}),
    "Pillow and arrays": lambda x: [pictures(x[:1])[0], *x[1:]],
    "float64": lambda x: x / 255,
    "float32": lambda x: x.astype(np.float32) / 255,
    "torch.float32": lambda x: torch.from_numpy(x) / 255,
    "torch.float64": lambda x: torch.from_numpy(x).double() / 255,
    "nested lists of floats": lambda x: (x / 255).tolist(),
    "flat lists of floats": lambda x: (x / 255).reshape(len(x), -1).tolist(),
    "floats, channels last": lambda x: (x / 255).transpose(0, 2, 3, 1),
    "bytes and floats": lambda x: [x[0], *(x[1:] / 255)],
    "tensor that needs a gradient": lambda x: (torch.from_numpy(x) / 255).requires_grad_(),
    "DataFrame of uint8": lambda x: frame(x, np.uint8),
    "DataFrame of UInt8": lambda x: frame(x, "UInt8"),
    "DataFrame of floats": lambda x: frame(x / 255, float),
    "DataFrame of objects": lambda x: frame(x / 255, object),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_same_pixels_give_the_same_answer_in_every_container(trained: am.FewShotClassifier, name: str) -> None:
    support, labels, query = task(trained.task_info_.input_shape[0])
    expected = clone(trained).fit(support / 255, labels).predict_proba(query / 255)
    held = CONTAINERS[name]
    estimator = clone(trained).fit(held(support), labels)
    np.testing.assert_allclose(estimator.predict_proba(held(query)), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(estimator.predict(held(query)), estimator.classes_[expected.argmax(1)])
    assert estimator.score(held(support), labels) == (estimator.predict(held(support)) == labels).mean()


OTHER_RANGES: dict[str, Any] = {
    "int64": lambda x: x.astype(np.int64),
    "int16": lambda x: x.astype(np.int16),
    "torch.int64": lambda x: torch.from_numpy(x).long(),
    "nested lists": lambda x: x.tolist(),
    "floats to 255": lambda x: x.astype(np.float32),
    "DataFrame of int64": lambda x: frame(x, np.int64),
    "objects of int": lambda x: x.astype(object),
}


@pytest.mark.parametrize("name", OTHER_RANGES)
def test_pixels_in_another_range_are_an_error_that_names_both(trained: am.FewShotClassifier, name: str) -> None:
    support, labels, query = task(trained.task_info_.input_shape[0])
    held = OTHER_RANGES[name]
    told = r"X lies in \[\d+, 2\d\d\], but FewShotClassifier was meta-trained on images in \[0, 1\]; .*uint8"
    with pytest.raises(am.InvalidData, match=told):
        clone(trained).fit(held(support), labels)
    first = frame(support / 255, float) if "DataFrame" in name else support
    estimator = clone(trained).fit(first, labels)
    for ask in (estimator.predict, estimator.predict_proba, lambda x: estimator.score(x, np.zeros(len(query)))):
        with pytest.raises(am.InvalidData, match=told):
            ask(held(query))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x.astype(np.uint16) * 257, r"X lies in \[\d+, \d+\].* in \[0, 1\]; divide X .*65535"),
        (lambda x: x / 127.5 - 1, r"X lies in \[-[\d.]+, [\d.]+\].* in \[0, 1\]; scale X"),
        (lambda x: (x / 255 - 0.5) / 0.25, r"X lies in \[-[\d.]+, [\d.]+\].* in \[0, 1\]; scale X"),
    ],
)
def test_other_scalings_are_refused_with_their_remedy(colored: am.FewShotClassifier, change: Any, told: str) -> None:
    support, labels, _ = task(3)
    with pytest.raises(am.InvalidData, match=told):
        clone(colored).fit(change(support), labels)


def test_black_and_white_of_any_type_and_a_little_beyond_the_range_are_taken(colored: am.FewShotClassifier) -> None:
    support, labels, query = task(3)
    edges = (support > 127).astype(np.int64)
    expected = clone(colored).fit(edges.astype(float), labels).predict_proba(query)
    for held in (edges, edges > 0, edges.tolist(), torch.from_numpy(edges)):
        np.testing.assert_array_equal(clone(colored).fit(held, labels).predict_proba(query), expected)
    clone(colored).fit(support / 255 * 1.05 - 0.02, labels)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 255.0), (-2.1, 2.6)])
def test_floats_of_another_range_are_taken_where_training_met_it(low: float, high: float) -> None:
    estimator = meta_trained(low=low, high=high)
    support, labels, _ = task(1)
    clone(estimator).fit(low + support / 255 * (high - low), labels)
    with pytest.raises(am.InvalidData, match=r"is of type uint8 .*\[0, 1\], but .* was meta-trained on images in \["):
        clone(estimator).fit(support, labels)
    with pytest.raises(am.InvalidData, match=r"X lies in \[.*, but .* was meta-trained on images in \["):
        clone(estimator).fit(support.astype(float) * 3 * max(1, high - 1), labels)


def test_one_image_is_refused_with_the_remedy(trained: am.FewShotClassifier) -> None:
    support, labels, query = task(trained.task_info_.input_shape[0])
    estimator = clone(trained).fit(support, labels)
    several = estimator.predict_proba(query)
    np.testing.assert_allclose(estimator.predict_proba(query[:1]), several[:1], rtol=1e-4)
    np.testing.assert_allclose(estimator.predict_proba(pictures(query)[:1]), several[:1], rtol=1e-4)
    with pytest.raises(am.InvalidData, match=r"X is one image \(6, 6\); give a list"):
        estimator.predict(pictures(query)[0])
    with pytest.raises(am.InvalidData, match=r"shape \(6, 6(, 3)?\) of one image; give several, or X\[None\]"):
        estimator.predict(np.asarray(pictures(query)[0]))
    if len(query[0]) == 3:
        with pytest.raises(am.InvalidData, match=r"shape \(3, 6, 6\) of one image"):
            estimator.predict(query[0])


def test_what_are_no_images_of_meta_training_is_named(colored: am.FewShotClassifier) -> None:
    support, labels, _ = task(3)
    refused = {
        r"must have one shape: X\[0\] has \(3, 6, 6\) and X\[2\] has \(3, 6, 5\)": [*support[:2], support[2, :, :, :5]],
        r"shape \(6, 3, 5, 6\); .* meta-trained on \(n, 3, 6, 6\) or \(n, 6, 6, 3\) or \(n, 108\)": support[:, :, :5],
        r"shape \(6, 6, 6\); .* meta-trained on": support[:, 0],
        r"shape \(6, 3, 9, 9\)": [image.resize((9, 9)) for image in pictures(support)],
        r"has 107 features, but FewShotClassifier was meta-trained on 108": support.reshape(6, -1)[:, :107],
        r"holds 'a\.png', which is no image; open it": ["a.png"] * 6,
        r"image 1 of X cannot be used: its values are floats in \[0, 9\]": [
            *pictures(support)[:1], Image.fromarray(np.eye(6, dtype=np.float32) * 9), *pictures(support)[2:],
        ],
    }  # fmt: skip
    for told, X in refused.items():
        with pytest.raises(am.InvalidData, match=told):
            clone(colored).fit(X, labels)
    with pytest.raises(TypeError, match="[Ss]parse"):
        clone(colored).fit(sparse.csr_matrix(support.reshape(6, -1)), labels)
    with pytest.raises(ValueError, match="NaN"):
        clone(colored).fit(np.where(support > 200, np.nan, support / 255), labels)


def test_pillow_images_of_any_mode_are_read_as_the_sampler_reads_them(trained: am.FewShotClassifier) -> None:
    channels = trained.task_info_.input_shape[0]
    support, labels, query = task(1)
    wide = np.repeat(support, channels, axis=1)
    expected = clone(trained).fit(wide, labels).predict_proba(np.repeat(query, channels, axis=1))
    for change in (
        lambda image: image.convert("RGBA"),
        lambda image: image.convert("P"),
        lambda image: Image.fromarray(np.asarray(image).astype(np.uint16) * 257),
        lambda image: Image.fromarray(np.asarray(image).astype(np.float32) / 255),
    ):
        given = [[change(image) for image in pictures(part)] for part in (support, query)]
        found = clone(trained).fit(given[0], labels).predict_proba(given[1])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.warns(UserWarning, match="16-bit images of X is .* nearly black"):
        clone(trained).fit([Image.fromarray(image[0].astype(np.uint16) * 16) for image in support], labels)


def test_bytes_of_zeros_and_ones_are_told_to_be_nearly_black(colored: am.FewShotClassifier) -> None:
    support, labels, _ = task(3)
    binary = (support > 127).astype(np.uint8)
    for given in (binary, list(binary), pictures(binary), frame(binary, np.uint8)):
        with pytest.warns(UserWarning, match="holds 0 and 1 only; as white is 255, its images are nearly black"):
            clone(colored).fit(given, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for given in (binary * 255, binary * 17, binary.astype(float), binary.astype(bool)):
            fitted = clone(colored).fit(given, labels)
        fitted.predict(np.zeros_like(binary))


def test_bytes_of_another_scale_are_told_to_be_nearly_black(colored: am.FewShotClassifier) -> None:
    support, labels, _ = task(3)
    light = support / support.max()
    faint = np.round(light * 16).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"no value above 16; .* nearly black. If 16 .* X\.astype\(float\) / 16\."):
        clone(colored).fit(faint, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        clone(colored).fit(faint / 16, labels)
        clone(colored).fit(np.round(light * 17).astype(np.uint8), labels)


@pytest.mark.parametrize(("high", "scale"), [(255, 1), (255, 1 / 255), (16, 1 / 16), (65535, 255), (65535, 1)])
def test_images_of_a_much_smaller_scale_are_refused_and_black_ones_are_not(high: int, scale: float) -> None:
    support, labels, query = (part / 255 if part.ndim > 1 else part for part in task(1))
    trained = meta_trained(high=high).fit(support * high, labels)
    match = rf"meta-trained on images in {re.escape(str(trained._meta.input_range))}; scale X to that range"
    with pytest.raises(am.InvalidData, match=match):
        clone(trained).fit(support * scale, labels)
    with pytest.raises(am.InvalidData, match=match):
        trained.predict(query * scale)
    for seen in (np.zeros_like(query), query * high / 10):
        assert trained.predict(seen).shape == (len(query),)


def test_images_of_a_narrow_range_may_be_faint() -> None:
    support, labels, query = (part / 255 if part.ndim > 1 else part for part in task(1))
    trained = meta_trained(low=-2.1, high=2.6).fit(support, labels)
    assert trained.predict(query * 0.001).shape == (len(query),)


def test_images_of_12_bits_are_read_as_the_sampler_read_them(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "images" / str(label)).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "images" / str(label) / f"{number}.png")
    of_files = {"root": tmp_path / "images", "n_way": 2, "n_shot": 1, "n_query": 1, "size": SIDE, "color": "gray"}
    sampler = am.make_tasks("images", bits=12, **of_files)
    assert am.make_tasks("augmented_shot", tasks=sampler, n_way=2, n_shot=1, n_query=1).pixel_bits == 12
    learner = am.FewShotClassifier(
        "prototypical", backbone="mlp", max_steps=2, tasks_per_step=2, random_state=0, device="cpu"
    )
    learner.meta_fit(sampler).save(tmp_path / "trained")
    deep = [random.integers(0, 4096, (SIDE, SIDE)).astype(np.uint16) for _ in range(6)]
    labels = np.arange(6) % 2
    light = np.stack(deep)[:, None] / 4095
    for trained in (learner, clone(learner), am.load(tmp_path / "trained")):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            found = trained.fit([Image.fromarray(pixels) for pixels in deep], labels).predict_proba(light)
        np.testing.assert_allclose(found, trained.fit(light, labels).predict_proba(light), atol=5e-3)


def test_lists_of_images_work_in_cross_validation(colored: am.FewShotClassifier) -> None:
    support, labels, _ = task(3)
    scores = [cross_val_score(colored, held, labels, cv=2) for held in (support, pictures(support), list(support))]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_names_of_columns_are_kept(trained: am.FewShotClassifier) -> None:
    support, labels, _ = task(trained.task_info_.input_shape[0])
    data = frame(support, np.uint8)
    assert list(clone(trained).fit(data, labels).feature_names_in_) == list(data.columns)


def test_the_range_is_kept_in_files_and_old_files_have_none(colored: am.FewShotClassifier, tmp_path: Path) -> None:
    support, labels, query = task(3)
    colored.save(tmp_path / "new")
    with pytest.raises(am.InvalidData, match=r"images in \[0, 1\]"):
        am.load(tmp_path / "new").fit(support.astype(float), labels)

    document, tensors = container.unpack((tmp_path / "new").read_bytes(), tmp_path / "new")
    del document["meta"]["input_range"], document["meta"]["pixel_bits"]
    (tmp_path / "old").write_bytes(container.pack(json.loads(json.dumps(document)), tensors))
    old = am.load(tmp_path / "old")
    assert old.fit(support.astype(float), labels).predict(query.astype(float)).shape == (len(query),)
    expected = clone(colored).fit(support, labels).predict_proba(query)
    np.testing.assert_array_equal(old.fit(support, labels).predict_proba(query), expected)


def test_the_range_is_measured_on_images_only() -> None:
    assert range_met(am.make_tasks("sinusoid"), 4, 0) is None
    met = range_met(Scaled(low=-3, high=5), 4, 0)
    assert met is not None
    assert -3 <= met.low < -1
    assert 3 < met.high <= 5
    check_range(np.array([[1e9]]), False, None, "any")


def test_vectors_are_not_touched() -> None:
    tasks = am.make_tasks("sinusoid")
    estimator = am.FewShotRegressor("ridge", max_steps=2, tasks_per_step=2, random_state=0).meta_fit(tasks)
    x, y = np.arange(10, dtype=np.uint8)[:, None] * 25, np.arange(10.0)
    found = clone(estimator).fit(x, y).predict(x)
    np.testing.assert_array_equal(found, clone(estimator).fit(x.astype(float), y).predict(x.astype(float)))
