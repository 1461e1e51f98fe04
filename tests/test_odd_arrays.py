"""Rows in any layout, byte order and container mean the same numbers; what they cannot mean is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import autometa as am

Array = np.ndarray[Any, Any]


def mapped(X: Array, folder: Path) -> Array:
    np.save(folder / "rows.npy", X)
    return np.load(folder / "rows.npy", mmap_mode="r")


def frozen(X: Array, folder: Path) -> Array:
    X = X.copy()
    X.flags.writeable = False
    return X


FORMS: dict[str, Callable[[Array, Path], Any]] = {
    "rows reversed": lambda X, _: X[::-1].copy()[::-1],
    "columns reversed": lambda X, _: X[:, ::-1].copy()[:, ::-1],
    "both reversed": lambda X, _: X[::-1, ::-1].copy()[::-1, ::-1],
    "every other row": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "Fortran": lambda X, _: np.asfortranarray(X),
    "big-endian": lambda X, _: X.astype(">f8"),
    "big-endian single": lambda X, _: X.astype(">f4"),
    "half": lambda X, _: X.astype(np.float16),
    "objects": lambda X, _: X.astype(object),
    "memory-mapped": mapped,
    "read-only": frozen,
    "long double": lambda X, _: X.astype(np.longdouble),
    "frame of reversed": lambda X, _: pd.DataFrame(X[::-1].copy()[::-1]),
}


def model(which: str) -> Any:
    if which == "plain":
        return am.FewShotRegressor("ridge", random_state=0)
    tasks = am.make_tasks("linear", n_features=3)
    return am.FewShotRegressor("ridge", max_steps=1, tasks_per_step=1, random_state=0, device="cpu").meta_fit(tasks)


@pytest.mark.parametrize("which", ["plain", "meta-trained"])
def test_the_form_of_the_rows_does_not_matter(which: str, tmp_path: Path) -> None:
    X = (np.random.default_rng(0).integers(-8, 8, size=(10, 3)) / 4).astype(np.float64)
    y = X @ [1.0, 2.0, 3.0]
    estimator = model(which)
    expected = estimator.fit(X, y).predict(X)
    for name, form in FORMS.items():
        found = estimator.fit(form(X, tmp_path), y[::-1].copy()[::-1]).predict(form(X, tmp_path))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)
    one = np.broadcast_to(X[:1], X.shape)
    np.testing.assert_allclose(estimator.fit(X, y).predict(one), expected[0].repeat(10), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 8, 8), (4, 64)])
def test_images_of_any_layout_are_taken(shape: tuple[int, ...]) -> None:
    tasks = am.make_tasks("digits", n_shot=2)
    estimator = am.FewShotClassifier(max_steps=1, tasks_per_step=1, random_state=0, device="cpu").meta_fit(tasks)
    X, y = np.random.default_rng(0).random((4, 64)).reshape(shape), np.array([0, 1, 0, 1])
    expected = estimator.fit(X, y).predict_proba(X)
    for form in (X[::-1].copy()[::-1], X[..., ::-1].copy()[..., ::-1], np.asfortranarray(X), X.astype(">f8")):
        np.testing.assert_allclose(estimator.fit(form, y[::-1].copy()[::-1]).predict_proba(form), expected, atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 30])
@pytest.mark.parametrize("precision", ["auto", "64"])
def test_one_enormous_feature_is_right_or_a_clear_error(n: int, precision: str) -> None:
    tasks = am.make_tasks("linear", n_features=4)
    rng = np.random.default_rng(0)
    for backbone in ("identity", "auto"):
        estimator = am.FewShotRegressor(
            am.make_learner("ridge", backbone=backbone), max_steps=0, random_state=0, precision=precision, device="cpu"
        ).meta_fit(tasks)
        for size in (1e10, 1e15, 1e30):
            X = rng.normal(size=(n, 4))
            X[:, 1] *= size
            with pytest.raises(am.InvalidData, match="column 1 of X reaches .* scale X"):
                estimator.fit(X, X[:, 0])
        X = rng.normal(size=(n, 4)) * [1, 1000, 1, 1]
        predicted = estimator.fit(X, X[:, 0]).predict(X)
        features = estimator.module_.backbone.double()(torch.from_numpy(X)).detach().numpy()
        exact = ridge(features, X[:, 0])
        np.testing.assert_allclose(predicted, exact, atol=2e-3)


def ridge(X: Array, y: Array) -> Array:
    """Predictions of a ridge regression with a penalty of 1, of the intercept too, for its own rows.

    By singular values, in double precision.
    """
    u, s, _ = np.linalg.svd(np.c_[X, np.ones(len(X))], full_matrices=False)
    return u @ (s**2 / (s**2 + 1) * (u.T @ y))


def test_a_plain_estimator_standardises_an_enormous_feature() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))
    y = X @ [1.0, 2.0, 3.0]
    expected = am.FewShotRegressor("ridge").fit(X, y).predict(X)
    found = am.FewShotRegressor("ridge").fit(X * [1, 1e10, 1e-10], y).predict(X * [1, 1e10, 1e-10])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("which", ["plain", "meta-trained"])
@pytest.mark.parametrize("names", [[0, 1, 2], [10, 20, 30], [1.5, 2.5, 3.5]])
def test_numbered_columns_in_another_order_are_refused(which: str, names: list[float], tmp_path: Path) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(8, 3)), columns=names)
    y = X[names[0]].to_numpy()
    estimator = model(which).fit(X, y)
    expected = estimator.predict(X)
    np.testing.assert_array_equal(estimator.predict(X.to_numpy()), expected)
    estimator.save(tmp_path / "model")
    for one in (estimator, am.load(tmp_path / "model")):
        np.testing.assert_array_equal(one.predict(X), expected)
        with pytest.raises(am.InvalidData, match="the columns of X are named .* in the same order"):
            one.predict(X[names[::-1]])
    estimator.fit(X[names[::-1]], y)
    estimator.predict(X[names[::-1]])
    estimator.fit(X.to_numpy(), y).predict(X[names[::-1]])


def test_numbered_columns_of_a_table_are_those_of_meta_training() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=[7, 8])
    y, task = X[7] + X[8], np.repeat(np.arange(6), 10)
    estimator = am.FewShotRegressor("ridge", max_steps=1, random_state=0).meta_fit(X, y, task=task, n_shot=4)
    estimator.fit(X[:5], y[:5]).predict(X)
    for call in (lambda: estimator.predict(X[[8, 7]]), lambda: estimator.fit(X[[8, 7]], y)):
        with pytest.raises(am.InvalidData, match="in the same order"):
            call()
