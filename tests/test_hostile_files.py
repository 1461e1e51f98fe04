"""Files and records that somebody made to do harm: each ends in one clear error, in little memory and time."""

from __future__ import annotations

import copy
import inspect
import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import optuna
import pytest
import safetensors.torch
import torch
from optuna.trial import TrialState
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

import autometa as am
from autometa.comparison.execution.arm import open_arms
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.sealed import SEAL, checksum
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.execution.stored_plan import PLAN, register_plan, stored_plan
from autometa.comparison.results.tables import collect_frames
from autometa.files import container
from autometa.files.codec import ARRAY, decode_array, encode_array
from autometa.files.scikit_learn import NAMES_FOLDERS, needs_trust, scikit_learn
from autometa.schema import MOST_DEPTH, Closed, OneOf, Row, finite, misfit, read_json, whole
from autometa.testing.toys import Blobs, Lines

Document = dict[str, Any]


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"list": [value]}
    return value


def changed(document: Any, path: str, value: Any) -> Any:
    """A copy in which one place, such as ``"fitted.columns"``, holds another value."""
    document = copy.deepcopy(document)
    *outer, last = (int(key) if key.isdigit() else key for key in path.split("."))
    at = document
    for key in outer:
        at = at[key]
    at[last] = value
    return document


def taken_apart(path: Path) -> tuple[Document, dict[str, torch.Tensor]]:
    return container.unpack(path.read_bytes(), path)


def write(path: Path, document: Document, tensors: dict[str, torch.Tensor]) -> None:
    """Write a file whose checksum fits whatever is in it."""
    text = json.dumps(document)
    metadata = {"autometa": text, "sha256": container._digest(text, tensors)}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))


# -------------------------------------------------------------------- the schema


@pytest.mark.parametrize(
    ("value", "schema", "told"),
    [
        (True, int, "it is True and must be a whole number"),
        (1, float, None),
        ([1, "2"], [int], "[1] is '2' and must be a whole number"),
        ({"a": {"b": 3}}, {"a": {"b": str}}, "a.b is 3 and must be text"),
        ({}, {"a": str}, "a is missing"),
        ({}, {"a?": str}, None),
        ({"a": "x", "b": 1}, {str: str}, "b is 1 and must be text"),
        ("c", ("a", "b"), "it is 'c' and must be one of 'a', 'b'"),
        ([1, 2, 3], Row([int, int]), "it is a list of 3 and must be a list of 2"),
        ({"x": 1}, Closed({"a?": int}), "x is not known"),
        ({"x": 1}, OneOf({"a": int}), "it is an object of 1 and must be an object with one entry, one of a"),
        (float("nan"), finite, "it is nan and must be a finite number"),
        (-1, whole(), "it is -1 and must be a whole number from 0 to 9223372036854775807"),
        (None, (None, [int]), None),
        ({"kind": 3}, (None, str, {"kind": str}), "kind is 3 and must be text"),
    ],
)
def test_a_schema_tells_the_place_what_is_there_and_what_must_be(value: Any, schema: Any, told: str | None) -> None:
    assert misfit(value, schema) == told


@pytest.mark.parametrize("levels", [MOST_DEPTH + 1, 5_000, 1_000_000])
def test_no_document_is_nested_deeper_than_can_be_followed(levels: int) -> None:
    assert read_json("[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1))
    with pytest.raises(ValueError, match="nested deeper"):
        read_json("[" * levels + "]" * levels)


# -------------------------------------------------------------------- model files


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, dict[str, torch.Tensor]]:
    path = tmp_path_factory.mktemp("model") / "model"
    task = Blobs().sample(1, split="test", seed=0).support
    model = am.FewShotClassifier("prototypical", max_steps=1, tasks_per_step=1, random_state=0, device="cpu")
    model.meta_fit(Blobs()).fit(task.x[0].numpy(), task.y[0].numpy()).save(path)
    return taken_apart(path)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, dict[str, torch.Tensor]]:
    path = tmp_path_factory.mktemp("model") / "model"
    X = np.random.default_rng(0).normal(size=(9, 3))
    am.FewShotRegressor("maml").fit(X, X[:, 0]).save(path)
    return taken_apart(path)


def scale(offset: Any, scale: Any) -> list[Document]:
    return [{"dtype": "<f8", "shape": [1], "values": [value]} for value in (offset, scale)]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("meta.learner", deep(60), "nested deeper than 100 levels"),
        ("meta.learner", deep(400), "nested deeper than 100 levels"),
        ("classes", {"dtype": "<U500000000", "shape": [3], "values": ["a", "b", "c"]}, "far longer than the texts"),
        ("classes", {"dtype": "<i8", "shape": [5], "values": [0, 1, 2, 3, 4]}, "holds 5 classes for 3 outputs"),
        ("classes", {"dtype": "<i8", "shape": [10**12], "values": [0]}, "cannot reshape array of size 1"),
        ("classes", {"dtype": "|V9", "shape": [3], "values": [0, 1, 2]}, "must be the type of an array"),
        ("classes", {"dtype": "i4,,", "shape": [3], "values": [0, 1, 2]}, "'i4,,' and must be the type of an array"),
        ("classes", {"dtype": "(99999999999,)i4", "shape": [3], "values": [0, 1, 2]}, "must be the type of an array"),
        ("classes", {"dtype": "<U999999999", "shape": [3], "values": [0, 1, 2]}, "must be the type of an array"),
        ("classes", {"dtype": "<M8[2147483648s]", "shape": [3], "values": [0, 1, 2]}, "must be the type of an array"),
        ("fitted.columns", {"dtype": "<i8", "shape": [3], "values": [0, 1, 7]}, "not among the 3 there are"),
        ("fitted.info.n_outputs", 10**9, "tells of other tasks in fit than in meta_fit"),
        ("fitted.present", {"value": None}, "does not tell which classes"),
        ("fitted.adapted", {"tensor": "tensor99"}, "a tensor 'tensor99' that it does not hold"),
        ("fitted.adapted", {"dict": []}, "does not fit its Prototypical "),
        ("fitted.learner", {"value": 1}, "holds 1 where a learner must be"),
        ("fitted.seed", -1, "fitted.seed is -1"),
        ("meta.info.input_shape", [10**10], "tells 6 features for inputs of the shape|it holds .* of the network"),
        ("meta.info.problem", "ranking", "meta.info.problem is 'ranking'"),
        ("meta.info.problem", "control", "holds a FewShotClassifier for control"),
        ("meta.info.target_scale", float("nan"), "meta.info.target_scale is nan"),
        ("meta.history", {"step": [1, 2], "loss": [1]}, "same length"),
        ("meta.tasks_per_step", "many", "meta.tasks_per_step is 'many'"),
        ("meta.encoder", "[" * 5000, "not the text of a table encoder"),
        ("params", {"learner": {"component": {"kind": "learner", "name": [], "params": {}}}}, r"name is a list of 0"),
        ("n_features", -3, "n_features is -3"),
        ("estimator", ["FewShotClassifier"], "the file holds a"),
    ],
)
def test_a_description_made_to_do_harm_is_one_error(
    classifier: tuple[Document, dict[str, torch.Tensor]], tmp_path: Path, path: str, value: Any, told: str
) -> None:
    document, tensors = classifier
    write(tmp_path / "model", changed(document, path, value), tensors)
    with pytest.raises(am.InvalidFile, match=told):
        am.load(tmp_path / "model").predict(np.zeros((2, 6)))


def test_want_of_memory_is_no_fault_of_the_file(
    classifier: tuple[Document, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "model", *classifier)
    loaded = am.load(tmp_path / "model")

    def predict(*of: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(type(loaded._fitted.learner), "predict", predict)
    with pytest.raises(torch.OutOfMemoryError):
        loaded.predict(np.zeros((2, 6)))


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]), np.arange(3, dtype=np.uint8), np.arange(3, dtype=">i4"),
        np.arange(3, dtype=np.float16),
        np.array(["a", "bcd"]), np.array([], dtype="U1"), np.array(["a", 1, None], dtype=object),
        np.array(["2024-01-01"], dtype="M8[ns]"), np.array(["2024"], dtype="M8[25Y]"), np.array([3], dtype="m8"),
        np.array([3], dtype="m8[us]"),
    ],
)  # fmt: skip
def test_every_type_of_array_that_is_written_is_read(array: np.ndarray[Any, Any]) -> None:
    code = json.loads(json.dumps(encode_array(array, "it")))
    assert misfit(code, ARRAY) is None
    again = decode_array(code)
    assert (again.dtype, again.tolist()) == (array.dtype, array.tolist())


@pytest.mark.parametrize("wrong", [scale(0.0, float("nan")), scale(0.0, 0.0), scale(float("inf"), 1.0), scale(0, -2.0)])
def test_a_scale_that_is_none_is_refused(
    regressor: tuple[Document, dict[str, torch.Tensor]], tmp_path: Path, wrong: Any
) -> None:
    document, tensors = regressor
    write(tmp_path / "model", changed(document, "fitted.targets", wrong), tensors)
    with pytest.raises(am.InvalidFile, match="scale of the targets that is not of positive numbers"):
        am.load(tmp_path / "model")


def test_weights_that_are_not_finite_are_refused(
    classifier: tuple[Document, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    document, tensors = classifier
    for name in tensors:
        if tensors[name].is_floating_point():
            write(tmp_path / "model", document, tensors | {name: torch.full_like(tensors[name], torch.nan)})
            with pytest.raises(am.InvalidFile, match="not finite"):
                am.load(tmp_path / "model")


def places(document: Any, path: str = "") -> Iterator[str]:
    parts = document.items() if isinstance(document, dict) else enumerate(document[:4])
    for key, part in parts:
        here = f"{path}.{key}" if path else str(key)
        yield here
        if isinstance(part, dict | list):
            yield from places(part, here)


HOSTILE = [
    None, True, -1, 0, 3, 10**9, 2**63, 10**30, float("nan"), float("inf"), "", "x", [], {}, [[]], {"value": 1},
    {"list": []}, {"tensor": "tensor0"}, {"dict": [[{"list": []}, {"value": 1}]]}, {"code": "os:system"}, deep(30),
    {"dtype": "object", "shape": [2], "values": [1, 2]}, {"dtype": "<f8", "shape": [-1], "values": [1.0]},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["classifier", "regressor"])
def test_a_hundred_files_with_any_value_anywhere_load_or_are_one_error(
    request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    document, tensors = request.getfixturevalue(which)
    draw = random.Random(0)
    everywhere = list(places(document))
    for _ in range(100):
        write(tmp_path / "model", changed(document, draw.choice(everywhere), draw.choice(HOSTILE)), tensors)
        try:
            model = am.load(tmp_path / "model")
            model.predict(np.zeros((2, model.n_features_in_)))
        except (am.AutometaError, NotFittedError):
            continue


def test_a_file_is_not_read_before_its_header_agrees_with_its_size(tmp_path: Path) -> None:
    sparse, huge_header, pipe = tmp_path / "sparse", tmp_path / "header", tmp_path / "pipe"
    sparse.write_bytes(container.pack({"estimator": "FewShotClassifier"}, {}))
    os.truncate(sparse, 2**33)
    huge_header.write_bytes((2**40).to_bytes(8, "little"))
    os.truncate(huge_header, 2**33)
    os.mkfifo(pipe)
    for file, told in ((sparse, "tells .* bytes and it has 8589934592"), (huge_header, "its header would have")):
        with pytest.raises(am.InvalidFile, match=told):
            am.load(file)
        with pytest.raises(am.InvalidFile, match=told):
            am.FewShotClassifier(max_steps=1).meta_fit(Blobs(), checkpoint=file)
    for file in (pipe, Path("/dev/zero")):
        with pytest.raises(am.InvalidFile, match="is no regular file"):
            am.load(file)
        with pytest.raises(am.InvalidFile, match="is no regular file"):
            am.FewShotClassifier(max_steps=1).meta_fit(Blobs(), checkpoint=file)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F999", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"__metadata__": {"autometa": 3}}',
        b"{}",
        b"",
        b"\xff",
    ],
)
def test_a_header_made_to_do_harm_is_one_error(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    with pytest.raises(am.InvalidFile):
        am.load(tmp_path / "model")


# -------------------------------------------------------------------- estimators of scikit-learn


class Evil:
    """Runs code where a pickle of it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EVIL"],)


def in_a_file(path: Path, name: str, params: Document) -> None:
    """Write a sound model of scikit-learn's, with this estimator in the place of its own."""
    X = np.arange(10.0)[:, None]
    am.FewShotClassifier(am.make_learner("sklearn", estimator=LogisticRegression())).fit(X, X[:, 0] > 4).save(path)
    document, tensors = taken_apart(path)
    for where in ("params.learner", "fitted.learner"):
        estimator = {"scikit-learn": {"name": name, "params": params}}
        document = changed(document, f"{where}.component.params.estimator", estimator)
    write(path, document, tensors)


def test_a_cache_beside_a_file_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVIL", str(tmp_path / "ran"))
    step = {"tuple": [{"value": "scale"}, {"scikit-learn": {"name": "StandardScaler", "params": {}}}]}
    last = {"tuple": [{"value": "last"}, {"scikit-learn": {"name": "LogisticRegression", "params": {}}}]}
    params = {"steps": {"list": [step, last]}, "memory": {"value": "cache"}}
    in_a_file(tmp_path / "model", "Pipeline", params)
    X = np.arange(10.0)[:, None]
    Pipeline([("scale", StandardScaler()), ("last", LogisticRegression())], memory="cache").fit(X, X[:, 0] > 4)
    for stored in Path("cache").rglob("output.pkl"):
        joblib.dump(Evil(), stored)
    with pytest.raises(am.InvalidFile, match="the folder 'cache' as memory of 'Pipeline'"):
        am.load("model").predict(X)
    assert not Path("ran").exists()
    in_a_file(tmp_path / "model", "Pipeline", params | {"memory": {"value": None}})
    assert am.load("model").predict(X).tolist() == (X[:, 0] > 4).tolist()


def test_a_folder_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    inner = Pipeline([("last", LogisticRegression())], memory=str(tmp_path / "cache"))
    X = np.arange(10.0)[:, None]
    model = am.FewShotClassifier(am.make_learner("sklearn", estimator=inner)).fit(X, X[:, 0] > 4)
    with pytest.raises(am.InvalidParameter, match="learner__estimator__memory names a folder"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "name", ["CountVectorizer", "HashingVectorizer", "TfidfVectorizer", "FunctionTransformer", "GridSearchCV"]
)
def test_estimators_that_read_files_or_run_code_need_trust_by_name(tmp_path: Path, name: str) -> None:
    own = {"estimator": {"value": None}, "param_grid": {"value": None}} if name == "GridSearchCV" else {}
    step = {"tuple": [{"value": "it"}, {"scikit-learn": {"name": name, "params": own}}]}
    last = {"tuple": [{"value": "last"}, {"scikit-learn": {"name": "LogisticRegression", "params": {}}}]}
    in_a_file(tmp_path / "model", "Pipeline", {"steps": {"list": [step, last]}})
    with pytest.raises(am.InvalidFile, match=rf"'{name}' of scikit-learn.* trusted=\['sklearn\..*:{name}'\]") as error:
        am.load(tmp_path / "model")
    (path,) = re.findall(r"trusted=\['(.*)'\]", str(error.value))
    assert type(am.load(tmp_path / "model", trusted=[path]).learner.estimator.steps[0][1]).__name__ == name


def test_every_parameter_of_scikit_learn_that_names_a_path_is_guarded() -> None:
    """A new version may bring others: whoever sees this fail looks at them, and at the list of safe estimators."""
    words = re.compile("path|file|folder|dir$|directory|memory|cache|dispatch|url|import(?!ance)")
    known = {"memory", "cache_size", "pre_dispatch", "fit_path", "path_method"}
    for name, kind in scikit_learn().items():
        found = {parameter for parameter in inspect.signature(kind).parameters if words.search(parameter)}
        assert found <= known, name
        if "pre_dispatch" in found or "input" in inspect.signature(kind).parameters:
            assert needs_trust(kind), name
    assert "memory" in NAMES_FOLDERS


# -------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("plan", {}, "plan.version is missing"),
        ("plan.random_state", "5", "plan.random_state is '5'"),
        ("plan.tasks", {"sampler": 3, "info": []}, "plan.tasks.sampler is 3"),
        ("plan.learner.params", [], "plan.learner.params is a list of 0"),
        ("plan.learner", deep(400), "nested deeper"),
        ("rows", [{"step": 1, "seconds": 0.1}], r"rows\[0\].loss is missing"),
        ("rows", [{"step": 1, "seconds": 0.1, "loss": float("nan")}], r"rows\[0\].loss is nan"),
        ("state", {"value": 3}, "it is 3 and must be an object"),
        ("state", {"dict": []}, "module is missing"),
        ("state.dict.2.1", {"value": -7}, "step_count is -7"),
        ("state.dict.0.1", {"dict": []}, "does not fit this meta-training"),
    ],
)
def test_a_checkpoint_made_to_do_harm_is_one_error(tmp_path: Path, path: str, value: Any, told: str) -> None:
    file = tmp_path / "run"
    model = am.FewShotRegressor("ridge", max_steps=2, tasks_per_step=1, random_state=0)
    model.meta_fit(Lines(), checkpoint=file)
    document, tensors = taken_apart(file)
    assert [pair[0]["value"] for pair in document["state"]["dict"]] == [
        "module", "meta_optimizer", "step_count", "seconds",
    ]  # fmt: skip
    write(file, changed(document, path, value), tensors)
    with pytest.raises(am.InvalidFile, match=told):
        model.meta_fit(Lines(), checkpoint=file)


def test_a_checkpoint_of_weights_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run"
    model = am.FewShotRegressor("ridge", max_steps=2, tasks_per_step=1, random_state=0)
    model.meta_fit(Lines(), checkpoint=file)
    document, tensors = taken_apart(file)
    name = document["state"]["dict"][0][1]["dict"][0][1]["tensor"]
    write(file, document, tensors | {name: torch.full_like(tensors[name], torch.nan)})
    with pytest.raises(am.InvalidFile, match="weights that are not finite"):
        model.meta_fit(Lines(), checkpoint=file)


# -------------------------------------------------------------------- plans and records in a storage


@pytest.fixture(scope="module")
def storage() -> optuna.storages.InMemoryStorage:
    storage = optuna.storages.InMemoryStorage()
    am.compare(
        {"sines": am.make_tasks("sinusoid")}, {"ridge": "ridge"},
        test_tasks={"short": am.make_tasks("sinusoid", n_shot=5)},
        n_trials=1, max_steps=1, n_test_tasks=3, n_seeds=2, storage=storage, name="c", baselines=False,
    )  # fmt: skip
    return storage


PLANS: list[tuple[str, Any, str]] = [
    ("settings", [], "settings is a list of 0"),
    ("settings", {"further": 1}, "settings.further is not known"),
    ("settings.n_trials", {}, "settings.n_trials is an object of 0"),
    ("settings.n_trials", "many", "n_trials='many'"),
    ("settings.n_seeds", -1, "n_seeds=-1"),
    ("settings.search", None, "search=None"),
    ("tasks", None, "tasks is None"),
    ("tasks", {"sines": 3}, "tasks.sines is 3"),
    ("tasks", {}, "nothing that is meta-trained can be judged"),
    ("tasks.sines.kind", "learner", "tasks.sines.kind is 'learner'"),
    ("tasks.sines.params", None, "tasks.sines.params is None"),
    ("tasks.sines.params.n_shot", {"tuple": 5}, "tasks.sines.params"),
    ("tasks.sines.params.n_shot", {"mapping": deep(200)}, "nested deeper|damaged"),
    ("tasks.sines.name", "os:system", "'os:system' is not installed"),
    ("learners", [1], "learners is a list of 1"),
    ("learners.ridge", "ridge", "learners.ridge is 'ridge'"),
    ("learners.ridge.learner", {"opaque": "x", "hash": 3}, "learners.ridge.learner.kind is missing"),
    ("format", [], "was made by autometa"),
]


@pytest.mark.parametrize(("path", "value", "told"), PLANS)
def test_a_plan_made_to_do_harm_is_one_error(
    storage: optuna.storages.InMemoryStorage, path: str, value: Any, told: str
) -> None:
    study = optuna.load_study(storage=storage, study_name="c")
    plan = study.user_attrs[PLAN]
    sound = stored_plan(storage, "c")
    study.set_user_attr(PLAN, changed(plan, path, value))
    try:
        with pytest.raises(am.AutometaError, match=told):
            stored_plan(storage, "c")
        with suppress(am.AutometaError):  # or it is the same plan, as where only a name was changed
            register_plan(storage, sound, "the storage")
    finally:
        study.set_user_attr(PLAN, plan)


@pytest.mark.parametrize("plan", [3, "x", [], [{}], None])
def test_a_plan_that_is_no_document_is_one_error(storage: optuna.storages.InMemoryStorage, plan: Any) -> None:
    other = optuna.create_study(storage=storage, study_name=f"other {plan}")
    other.set_user_attr(PLAN, plan)
    with pytest.raises(am.AutometaError, match="damaged plan|did not make"):
        stored_plan(storage, other.study_name)


RECORDS: list[tuple[str, Any, str]] = [
    ("slot", "0", "slot is '0'"),
    ("slot", -1, "slot is -1"),
    ("slot", 10**30, "slot is 1000"),
    ("params", None, "params is None"),
    ("result", None, "result is None"),
    ("result", [], "result is a list of 0"),
    ("result.scores", [0.1, float("nan"), 0.2], r"result.scores\[1\] is nan"),
    ("result.scores", [0.1, 0.2], "2 scores of 3 tasks"),
    ("result.scores", "0.1", "result.scores is '0.1'"),
    ("result.tasks", [0, 1, 5], "which has no score"),
    ("result.tasks", [0, 1, "2"], r"result.tasks\[2\] is '2'"),
    ("result.history", [[1]], r"result.history\[0\] is a list of 1"),
    ("result.curve", {}, "result.curve is an object of 0"),
    ("result.axis", "<script>", "result.axis is '<script>'"),
    ("result.adapt_ms", float("inf"), "result.adapt_ms is inf"),
    ("result.labelled", {"tasks": [1, 2], "points": [{"rows": 0, "scores": [0.1]}]}, "1 scores of 2 tasks with 0 lab"),
    ("result.labelled", {"tasks": [1], "points": [{"rows": "0", "scores": [0.1]}]}, "result.labelled.points"),
    ("result.labelled", {"tasks": [1], "points": [{"rows": 0, "scores": [float("nan")]}]}, "result.labelled.points"),
    ("result.labelled", {"tasks": [1], "points": 3}, "result.labelled.points is 3"),
    ("result.elsewhere", {}, "has no scores on 'short'"),
    ("result.elsewhere", {"short": {"scores": 3}}, "result.elsewhere.short"),
]


@pytest.mark.parametrize(("path", "value", "told"), RECORDS)
def test_a_record_made_to_do_harm_is_one_error(
    storage: optuna.storages.InMemoryStorage, path: str, value: Any, told: str
) -> None:
    plan = stored_plan(storage, "c")
    assert len(collect_frames(plan, open_arms(plan, storage)).scores) == 12
    trial = storage._studies[storage.get_study_id_from_name("c/sines/ridge/final")].trials[0]
    kept = trial.user_attrs
    trial.user_attrs = changed(kept, path, value)
    trial.user_attrs[SEAL] = checksum(trial)  # whoever means harm can make one
    try:
        with pytest.raises(am.AutometaError, match=told):
            collect_frames(plan, open_arms(plan, storage))
    finally:
        trial.user_attrs = kept


OWNER = Owner.here().to_json()
RUNNING = {"slot": 0, "owner": OWNER, "token": "x", "beat": 0.0}
ATTRIBUTES: list[tuple[str, Any, str]] = [
    ("owner", None, "owner is None"),
    ("owner", {"a": 1}, "owner.a is not known"),
    ("owner", OWNER | {"pid": "1"}, "owner.pid is '1'"),
    ("owner", OWNER | {"pid": 2**40}, "owner.pid is 1099511627776"),
    ("owner", OWNER | {"host": 3}, "owner.host is 3"),
    ("token", [], "token is a list of 0"),
    ("beat", "z", "beat is 'z'"),
    ("supervisor", {"a": 1}, "supervisor.a is not known"),
    ("supervisor", OWNER | {"pid": -1}, "supervisor.pid is -1"),
    ("threads", [1], "threads is a list of 1"),
    ("threads", [1, "2"], "threads is a list of 2"),
    ("threads", 3, "threads is 3"),
    ("timeout", "z", "timeout is 'z'"),
    ("died", 9, "died is 9"),
    ("changed", "x", "changed is 'x'"),
    ("changed", [[]], r"changed\[0\] is a list of 0"),
    ("drawn", "yes", "drawn is 'yes'"),
]


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.FAIL])
@pytest.mark.parametrize(("name", "value", "told"), ATTRIBUTES)
def test_a_trial_of_another_process_that_carries_anything_else_is_one_error(
    state: TrialState, name: str, value: Any, told: str
) -> None:
    study = SlotStudy(optuna.storages.InMemoryStorage(), "s", n_slots=1, higher_is_better=True)
    study.study.add_trial(optuna.create_trial(state=state, user_attrs=RUNNING | {"error": "E: x", name: value}))
    readers = (study.reap, lambda: study.of_child(1)) if state == TrialState.RUNNING else (study.forgive,)
    for call in (*readers, study.slot_states):
        with pytest.raises(am.StorageError, match=rf"in trial 0 of study 's' {told}"):
            call()


@pytest.mark.parametrize("name", ["owner", "token", "beat"])
def test_a_running_trial_of_nobody_is_one_error(name: str) -> None:
    study = SlotStudy(optuna.storages.InMemoryStorage(), "s", n_slots=1, higher_is_better=True)
    rest = {key: value for key, value in RUNNING.items() if key != name}
    study.study.add_trial(optuna.create_trial(state=TrialState.RUNNING, user_attrs=rest))
    for call in (study.reap, lambda: study.of_child(1)):
        with pytest.raises(am.StorageError, match=f"in trial 0 of study 's' {name} is missing"):
            call()
