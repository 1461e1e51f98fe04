"""Estimators in files: what is loaded predicts what was saved, and nothing else is ever loaded."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from torch import nn

import autometa as am
from autometa.estimators import persistence
from autometa.files import container
from autometa.host.catalog import components
from tiers import representatives_by_default


@pytest.fixture(scope="module")
def digits():
    return am.make_tasks("digits", n_shot=5)


@pytest.fixture(scope="module")
def letters(digits):
    task = digits.sample(1, split="test", seed=3)
    names = np.array(["seven", "eight", "nine"])
    return task.support.x[0].numpy(), names[task.support.y[0].numpy()], task.query.x[0].numpy()


@pytest.fixture(scope="module")
def classifier(digits, letters):
    estimator = am.FewShotClassifier(max_steps=3, tasks_per_step=2, random_state=0, device="cpu").meta_fit(digits)
    return estimator.fit(*letters[:2])


@pytest.fixture
def saved(classifier, tmp_path):
    path = tmp_path / "model.autometa"
    classifier.save(path)
    return path


def learners(problem: str) -> list[str]:
    return [c.name for c in components("learner") if problem in c.spec.problems and not c.spec.needs]


def school_table(n_schools: int = 12, rows: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    hours = rng.uniform(0, 10, n_schools * rows)
    table = pd.DataFrame(
        {
            "hours": np.where(rng.random(len(hours)) < 0.1, np.nan, hours),
            "kind": rng.choice(["day", "boarding"], len(hours)),
            "score": 50 + 2 * hours + rng.normal(0, 1, len(hours)),
            "school": np.repeat(np.arange(n_schools), rows),
        }
    )
    return table.assign(grade=np.where(table["score"] > 60, "good", "poor"))


# -------------------------------------------------------------------- round trips


CLAIMS = [(learner, problem) for problem in ("classification", "regression") for learner in learners(problem)]


@pytest.mark.parametrize(("learner", "problem"), representatives_by_default(CLAIMS))
def test_every_learner_predicts_the_same_after_loading(learner, problem, tmp_path):
    table = school_table()
    features, target = table[["hours", "kind"]], table["grade" if problem == "classification" else "score"]
    kind = am.FewShotClassifier if problem == "classification" else am.FewShotRegressor
    estimator = kind(learner, max_steps=2, tasks_per_step=2, random_state=0, device="cpu")
    estimator.meta_fit(features, target, task=table["school"], n_shot=3).fit(features[:12], target[:12])
    estimator.save(tmp_path / "model.autometa")
    loaded = am.load(tmp_path / "model.autometa")
    ask = "predict_proba" if problem == "classification" else "predict"
    np.testing.assert_array_equal(getattr(loaded, ask)(features), getattr(estimator, ask)(features))
    # and what was meta-trained is there for the next task
    again, expected = (clone(e).fit(features[12:24], target[12:24]) for e in (loaded, estimator))
    np.testing.assert_array_equal(getattr(again, ask)(features), getattr(expected, ask)(features))


def test_images_strings_and_all_attributes_come_back(classifier, saved, letters):
    loaded = am.load(saved)
    np.testing.assert_array_equal(loaded.predict_proba(letters[2]), classifier.predict_proba(letters[2]))
    np.testing.assert_array_equal(loaded.predict(letters[2]), classifier.predict(letters[2]))
    assert list(loaded.classes_) == ["eight", "nine", "seven"]
    assert loaded.task_info_ == classifier.task_info_
    assert loaded.get_params(deep=False) == classifier.get_params(deep=False)
    pd.testing.assert_frame_equal(loaded.history_, classifier.history_)
    assert type(loaded.meta_optimizer_).__name__ == "Gradient"


def test_names_of_columns_come_back(tmp_path):
    frame = load_iris(as_frame=True)
    am.FewShotClassifier().fit(frame.data, frame.target).save(tmp_path / "iris.autometa")
    loaded = am.load(tmp_path / "iris.autometa")
    assert list(loaded.feature_names_in_) == list(frame.data.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.data.rename(columns={"sepal length (cm)": "length"}))


def test_a_plain_estimator_comes_back(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    estimator = am.FewShotRegressor("ridge", backbone="mlp", random_state=0).fit(X, np.column_stack([y, -y]))
    estimator.save(tmp_path / "plain.autometa")
    np.testing.assert_array_equal(am.load(tmp_path / "plain.autometa").predict(X), estimator.predict(X))


def test_an_estimator_that_was_only_meta_trained_comes_back_unfitted(classifier, letters, tmp_path):
    clone(classifier).save(tmp_path / "meta.autometa")
    loaded = am.load(tmp_path / "meta.autometa")
    with pytest.raises(NotFittedError):
        loaded.predict(letters[2])
    loaded.fit(*letters[:2])
    np.testing.assert_array_equal(loaded.predict_proba(letters[2]), classifier.predict_proba(letters[2]))


def test_changed_parameters_of_adaptation_and_another_precision_come_back(digits, letters, tmp_path):
    maml = am.FewShotClassifier("maml", max_steps=2, tasks_per_step=2, random_state=0, device="cpu").meta_fit(digits)
    maml.set_params(learner__steps=7, precision="64").fit(*letters[:2])
    maml.save(tmp_path / "maml.autometa")
    loaded = am.load(tmp_path / "maml.autometa")
    np.testing.assert_array_equal(loaded.predict_proba(letters[2]), maml.predict_proba(letters[2]))
    assert loaded.learner.steps == 7
    np.testing.assert_array_equal(
        clone(loaded).fit(*letters[:2]).predict_proba(letters[2]), maml.predict_proba(letters[2])
    )


@pytest.mark.parametrize(
    "inner", [RandomForestClassifier(n_estimators=3, random_state=1), OneVsRestClassifier(LogisticRegression(C=0.5))]
)
def test_scikit_learns_own_estimators_come_back_by_name(inner, tmp_path):
    X, y = load_iris(return_X_y=True)
    estimator = am.FewShotClassifier(am.make_learner("sklearn", estimator=inner)).fit(X, y)
    estimator.save(tmp_path / "sk.autometa")
    loaded = am.load(tmp_path / "sk.autometa")
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
    assert repr(loaded.learner.estimator) == repr(inner)


@pytest.mark.parametrize(
    "labels", [np.array([3, 7]), np.array([True, False]), np.array([1.0, 2.0]), np.array(["x", "y"], dtype=object),
               np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")]
)  # fmt: skip
def test_labels_of_every_type_come_back(labels, tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 3))
    estimator = am.FewShotClassifier().fit(X, np.tile(labels, 10))
    estimator.save(tmp_path / "labels.autometa")
    loaded = am.load(tmp_path / "labels.autometa")
    assert loaded.classes_.dtype == estimator.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


@pytest.mark.thorough
def test_a_file_says_the_same_in_another_process(classifier, saved, letters, tmp_path):
    np.save(tmp_path / "query.npy", letters[2])
    code = (
        "import sys, numpy as np, autometa as am\n"
        "x = np.load(sys.argv[2]); np.save(sys.argv[3], am.load(sys.argv[1]).predict_proba(x))"
    )
    arguments = [str(saved), str(tmp_path / "query.npy"), str(tmp_path / "out.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), classifier.predict_proba(letters[2]), rtol=1e-5)


# -------------------------------------------------------------------- what cannot be saved


class Homemade(am.Learner):
    """A learner that no plugin offers."""

    def build(self, info):
        return nn.Identity()

    def adapt(self, module, support):
        return support.targets().mean(1)

    def predict(self, module, adapted, x):
        return adapted.unsqueeze(1).expand(-1, x.shape[1], -1)


def test_a_learner_that_no_plugin_offers_is_loaded_with_trust(tmp_path):
    X, y = load_iris(return_X_y=True)
    estimator = am.FewShotClassifier(Homemade()).fit(X, y)
    estimator.save(tmp_path / "model.autometa")
    path = f"{__name__}:Homemade"
    with pytest.raises(am.InvalidFile, match=f"names '{path}', code that is no part of it"):
        am.load(tmp_path / "model.autometa")
    loaded = am.load(tmp_path / "model.autometa", trusted=[path])
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))


def test_a_class_inside_a_function_is_refused_before_anything_is_written(tmp_path):
    class Mine(LogisticRegression):
        pass

    X, y = load_iris(return_X_y=True)
    estimator = am.FewShotClassifier(am.make_learner("sklearn", estimator=Mine())).fit(X, y)
    with pytest.raises(am.InvalidParameter, match="learner__estimator cannot be saved: another process cannot import"):
        estimator.save(tmp_path / "model.autometa")
    assert not list(tmp_path.iterdir())


def test_parameters_that_are_no_plain_values_are_refused(tmp_path):
    X, y = load_iris(return_X_y=True)
    estimator = am.FewShotClassifier(random_state=np.random.RandomState(0)).fit(X, y)
    with pytest.raises(am.InvalidParameter, match="random_state=RandomState"):
        estimator.save(tmp_path / "model.autometa")


def test_nothing_learned_is_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError, match="nothing to save"):
        am.FewShotClassifier().save(tmp_path / "model.autometa")


def test_a_folder_that_is_not_there_is_named(classifier, tmp_path):
    with pytest.raises(am.StorageError, match=r"path='.*missing/model\.autometa' cannot be written"):
        classifier.save(tmp_path / "missing" / "model.autometa")


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    model = am.FewShotRegressor("ridge", max_steps=0, device="cpu").fit(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(am.StorageError, match=r"path='.*pipe' cannot be written: it is a device or a pipe"):
        model.save(pipe)
    assert pipe.is_fifo()


def test_a_save_that_fails_keeps_the_file_that_was_there(classifier, saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(am.StorageError, match="No space left"):
        classifier.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.autometa"]


# -------------------------------------------------------------------- what cannot be loaded


def parts(path) -> tuple[dict, dict]:
    """Tensors and metadata of a file."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return safetensors.torch.load(data), header["__metadata__"]


def rewrite(path, tensors, metadata, *, checksum: bool = False) -> None:
    if checksum:
        metadata = metadata | {"sha256": container._digest(metadata["autometa"], tensors)}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


def edited(path, **changes) -> None:
    """Change entries of the description and make the checksum right again."""
    tensors, metadata = parts(path)
    text = json.dumps(json.loads(metadata["autometa"]) | changes)
    rewrite(path, tensors, {"autometa": text}, checksum=True)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(am.InvalidFile, match=r"model\.autometa is truncated or not a file of autometa"):
        am.load(saved)


def test_every_flipped_byte_is_noticed(saved):
    data = saved.read_bytes()
    for place in np.linspace(0, len(data) - 1, 60).astype(int):
        flipped = bytearray(data)
        flipped[place] ^= 1
        saved.write_bytes(bytes(flipped))
        with pytest.raises(am.InvalidFile):
            am.load(saved)


def test_changed_numbers_and_changed_text_are_noticed(saved):
    tensors, metadata = parts(saved)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    rewrite(saved, tensors | {name: tensors[name] + 1}, metadata)
    with pytest.raises(am.InvalidFile, match="checksum does not match"):
        am.load(saved)
    rewrite(
        saved, tensors, metadata | {"autometa": metadata["autometa"].replace("FewShotClassifier", "FewShotRegressor")}
    )
    with pytest.raises(am.InvalidFile, match="checksum does not match"):
        am.load(saved)
    rewrite(saved, tensors, metadata | {"autometa": "{"})
    with pytest.raises(am.InvalidFile, match="no longer readable"):
        am.load(saved)


def test_a_safetensors_file_of_something_else_is_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(am.InvalidFile, match="autometa did not write"):
        am.load(tmp_path / "other.safetensors")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (tmp_path / "model.autometa").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(am.InvalidFile, match="not a file of autometa"):
        am.load(tmp_path / "model.autometa")
    assert not (tmp_path / "exploded").exists()


def test_a_file_of_a_later_format_names_both_versions(saved):
    edited(saved, format=2, version="3.0.0")
    with pytest.raises(am.InvalidFile, match=r"format 2, saved by autometa 3\.0\.0; autometa .* reads format 1"):
        am.load(saved)


def component(name: str) -> dict:
    return {"component": {"kind": "learner", "name": name, "params": {}}}


def test_a_missing_plugin_is_named(saved):
    params = json.loads(parts(saved)[1]["autometa"])["params"]
    edited(saved, params=params | {"learner": component("prototypicall")})
    with pytest.raises(am.UnknownName, match="learner 'prototypicall' is not installed; did you mean"):
        am.load(saved)


@pytest.mark.parametrize("name", ["os.system", "Pipe", "subprocess:Popen"])
def test_only_estimators_of_scikit_learn_are_made_by_name(saved, name):
    params = json.loads(parts(saved)[1]["autometa"])["params"]
    edited(saved, params=params | {"learner": {"scikit-learn": {"name": name, "params": {}}}})
    with pytest.raises(am.InvalidFile, match=f"'{name}', which the installed scikit-learn does not have"):
        am.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"estimator": "Popen"},
        {"meta": {}},
        {"params": {"learner": {"code": "import os"}}},
        {"params": {"no_such_parameter": {"value": 1}}},
        {"fitted": {"learner": component("ridge")}},
    ],
)
def test_a_description_that_fits_nothing_is_refused(saved, changes):
    edited(saved, **changes)
    with pytest.raises(am.AutometaError):
        am.load(saved)


def test_tensors_that_do_not_fit_the_network_are_refused(saved):
    tensors, metadata = parts(saved)
    name = next(name for name, value in tensors.items() if value.dim() == 4)
    rewrite(saved, tensors | {name: torch.zeros(1, 1, 1, 1)}, metadata, checksum=True)
    with pytest.raises(am.InvalidFile, match="does not fit the components installed here"):
        am.load(saved)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(am.UnknownName, match=r"'omniglott' is neither a file nor a bundled estimator \(bundled: "):
        am.load("omniglott")
    with pytest.raises(am.MissingData, match=r"there is no file '.*model\.autometa'"):
        am.load(tmp_path / "model.autometa")
    with pytest.raises(am.MissingData, match="is a folder"):
        am.load(tmp_path)


def test_bundled_estimators_are_found_by_name(saved, classifier, letters, monkeypatch):
    monkeypatch.setattr(persistence, "files", lambda package: saved.parent)
    (saved.parent / "pretrained").mkdir()
    saved.rename(saved.parent / "pretrained" / "tiny.autometa")
    np.testing.assert_array_equal(am.load("tiny").predict_proba(letters[2]), classifier.predict_proba(letters[2]))
    with pytest.raises(am.UnknownName, match="bundled: tiny"):
        am.load("tinyy")


@pytest.mark.parametrize("value", [None, 1, 2.5, [1], b"model.autometa"])
def test_what_is_no_path_is_refused_by_name(value):
    estimator = am.FewShotClassifier("prototypical", max_steps=1, device="cpu")
    with pytest.raises(am.InvalidParameter, match="path=.* must be a path, as text or a pathlib.Path"):
        am.load(value)
    with pytest.raises(am.InvalidParameter, match="path=.* must be a path"):
        estimator.save(value)
    if value is not None:
        with pytest.raises(am.InvalidParameter, match="checkpoint=.* must be a path"):
            estimator.meta_fit("glyphs", checkpoint=value)
