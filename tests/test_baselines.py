"""Scikit-learn's estimators as learners: on the support set alone, and pooled with remembered rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVR

import autometa as am
from autometa.contracts.forward import forward
from autometa.training import MetaTraining
from learning import assert_better, judged
from tiers import first_by_default

CLASSIFIERS = [
    "auto",
    "logistic_regression",
    "ridge",
    "knn",
    "naive_bayes",
    "svm",
    "random_forest",
    "hist_gradient_boosting",
    "gaussian_process",
]
REGRESSORS = ["auto", "ridge", "knn", "svm", "random_forest", "hist_gradient_boosting", "gaussian_process"]
SHAPE = (2, 3)


def info(problem: str, n_outputs: int, shared_classes: bool = False) -> am.TaskInfo:
    return am.TaskInfo(
        problem=problem, input_shape=SHAPE, n_outputs=n_outputs, n_shot=4, n_query=4, shared_classes=shared_classes
    )


def classes(n_tasks: int = 2, n_way: int = 3, n_shot: int = 8, seed: int = 0) -> am.Examples:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n_way).repeat_interleave(n_shot).repeat(n_tasks, 1)
    centres = 3 * torch.eye(6)[:n_way].reshape(n_way, *SHAPE)
    return am.Examples(centres[y] + 0.3 * torch.randn(*y.shape, *SHAPE, generator=generator), y)


def real(n_tasks: int = 2, n: int = 20, n_outputs: int = 1, slope: float = 1.0, seed: int = 0) -> am.Examples:
    x = torch.randn(n_tasks, n, *SHAPE, generator=torch.Generator().manual_seed(seed))
    return am.Examples(x, slope * x.flatten(2)[..., :n_outputs] + 1)


def ragged(whole: am.Examples) -> am.Examples:
    mask = torch.arange(whole.y.shape[1]) < torch.tensor([[whole.y.shape[1]], [whole.y.shape[1] - 3]])
    return am.Examples(whole.x, whole.y, mask, whole.n_classes)


def rows(x: torch.Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy()


# On the support set alone


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_every_named_classifier_learns_separated_classes(estimator: str) -> None:
    learner = am.make_learner("sklearn", estimator=estimator)
    logits = forward(learner, learner.build(info("classification", 3)), classes(), classes(seed=1).x)
    assert (logits.argmax(-1) == classes().y).float().mean() > 0.9
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 24), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("estimator", REGRESSORS)
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_every_named_regressor_beats_the_mean(estimator: str, n_outputs: int) -> None:
    learner = am.make_learner("sklearn", estimator=estimator)
    query = real(n_outputs=n_outputs, seed=1)
    outputs = forward(learner, learner.build(info("regression", n_outputs)), real(n_outputs=n_outputs, n=60), query.x)
    assert outputs.shape == query.y.shape
    assert (outputs - query.y).square().mean() < 0.8 * query.y.var()


@pytest.mark.parametrize("n_shot", first_by_default(1, [1, 2]))
@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_every_named_classifier_takes_one_example_per_class(estimator: str, n_shot: int) -> None:
    learner = am.make_learner("sklearn", estimator=estimator)
    logits = forward(learner, learner.build(info("classification", 3)), classes(n_shot=n_shot), classes(seed=1).x)
    assert logits.isfinite().all()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("estimator", REGRESSORS)
def test_every_named_regressor_takes_a_handful_of_examples(estimator: str, n: int) -> None:
    learner = am.make_learner("sklearn", estimator=estimator)
    assert forward(learner, learner.build(info("regression", 1)), real(n=n), real().x).isfinite().all()


def test_any_estimator_gives_the_probabilities_it_gives_by_itself() -> None:
    support, query = ragged(classes()), classes(seed=1)
    learner = am.make_learner("sklearn", estimator=LogisticRegression(C=0.1))
    logits = forward(learner, learner.build(info("classification", 3)), support, query.x)
    for task in range(2):
        mask = support.mask[task]
        alone = LogisticRegression(C=0.1).fit(rows(support.x[task][mask]), support.y[task][mask].numpy())
        np.testing.assert_allclose(logits[task].exp(), alone.predict_proba(rows(query.x[task])), rtol=1e-4)


def test_a_regressor_predicts_as_it_does_by_itself() -> None:
    support, query = ragged(real()), real(seed=1)
    learner = am.make_learner("sklearn", estimator=Ridge(alpha=3.0))
    outputs = forward(learner, learner.build(info("regression", 1)), support, query.x)
    for task in range(2):
        mask = support.mask[task]
        alone = Ridge(alpha=3.0).fit(rows(support.x[task][mask]), support.y[task][mask].numpy())
        np.testing.assert_allclose(outputs[task], alone.predict(rows(query.x[task])).reshape(-1, 1), rtol=1e-4)


def test_a_regressor_of_one_target_serves_several() -> None:
    learner = am.make_learner("sklearn", estimator=SVR())
    assert forward(learner, learner.build(info("regression", 3)), real(n_outputs=3), real().x).shape == (2, 20, 3)


def test_a_classifier_without_probabilities_predicts_as_it_does_by_itself() -> None:
    support, query = classes(n_tasks=1, n_way=2), classes(n_tasks=1, n_way=2, seed=1)
    learner = am.make_learner("sklearn", estimator=Perceptron())
    logits = forward(learner, learner.build(info("classification", 2)), support, query.x)
    alone = Perceptron(random_state=0).fit(rows(support.x[0]), support.y[0].numpy())
    np.testing.assert_array_equal(logits[0].argmax(-1), alone.predict(rows(query.x[0])))


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_a_single_class_is_predicted(estimator: str) -> None:
    support = am.Examples(torch.randn(1, 4, *SHAPE), torch.ones(1, 4, dtype=torch.int64), n_classes=3)
    learner = am.make_learner("sklearn", estimator=estimator)
    assert (forward(learner, learner.build(info("classification", 3)), support, support.x).argmax(-1) == 1).all()


def test_classes_without_examples_are_the_least_likely() -> None:
    support = am.Examples(classes().x, classes().y.clamp(max=1) * 2, n_classes=4)
    learner = am.make_learner("sklearn")
    module = learner.build(info("classification", 4))
    logits = learner.predict(module, learner.adapt(module, support), support.x)
    assert logits.isfinite().all()
    assert (logits[..., [1, 3]].max() < logits[..., [0, 2]].min()).all()


def test_the_same_support_gives_the_same_predictions() -> None:
    learner = am.make_learner("sklearn", estimator=RandomForestClassifier(5, random_state=None))
    module = learner.build(info("classification", 3))
    assert torch.equal(*(forward(learner, module, classes(), classes(seed=1).x) for _ in range(2)))


@pytest.mark.parametrize("learner_name", ["sklearn", "sklearn_pooled"])
@pytest.mark.parametrize("problem", ["classification", "regression"])
def test_tasks_together_equal_each_alone(learner_name: str, problem: str) -> None:
    support = ragged(classes() if problem == "classification" else real())
    learner = am.make_learner(learner_name)
    module = learner.build(info(problem, 3 if problem == "classification" else 1, shared_classes=True))
    together = forward(learner, module, support, support.x)
    for task in range(2):
        one = slice(task, task + 1)
        alone = forward(learner, module, support[one].select(support.mask[task].nonzero().flatten()), support.x[one])
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learner_name", ["sklearn", "sklearn_pooled"])
@pytest.mark.parametrize(
    ("problem", "estimator", "named"),
    [
        ("regression", "logistic_regression", "hist_gradient_boosting"),
        ("classification", "forest", "random_forest"),
        ("classification", LinearRegression(), "classifier"),
        ("regression", LogisticRegression(), "regressor"),
        ("regression", 3, "regressor"),
    ],
)
def test_an_estimator_that_does_not_fit_the_problem_is_named(
    learner_name: str, problem: str, estimator: object, named: str
) -> None:
    with pytest.raises(am.InvalidParameter, match=named) as raised:
        am.make_learner(learner_name, estimator=estimator).build(info(problem, 3, shared_classes=True))
    assert f"{estimator!r}" in str(raised.value)


# Pooled with remembered rows


def pooled_after(batches: list[am.TaskBatch], problem: str, **parameters: object) -> tuple[am.Learner, torch.nn.Module]:
    learner = am.make_learner("sklearn_pooled", **parameters)
    task_info = info(problem, 3 if problem == "classification" else 1, shared_classes=True)
    module = learner.build(task_info)
    meta_optimizer = am.make_meta_optimizer("collect")
    meta_optimizer.start(learner, module, task_info)
    for batch in batches:
        assert meta_optimizer.step(batch)["loss"] == 0
    return learner, module


@pytest.mark.parametrize("share", [None, 0.2])
def test_predictions_come_from_remembered_and_own_rows_together(share: float | None) -> None:
    memory = am.TaskBatch(support=ragged(real(slope=2.0)), query=real(slope=2.0, seed=1))
    support, query = real(n_tasks=1, n=5, slope=-1.0, seed=2), real(n_tasks=1, seed=3)
    learner, module = pooled_after([memory], "regression", estimator=Ridge(), support_share=share)
    outputs = forward(learner, module, support, query.x)
    parts = [memory.support, memory.query, support]
    x = np.concatenate([rows(part.x[part.mask]) for part in parts])
    y = np.concatenate([part.y[part.mask].numpy() for part in parts])
    own_weight = 1.0 if share is None else (len(x) - 5) / 5 / 4
    alone = Ridge().fit(x, y[:, 0], sample_weight=np.repeat([1.0, own_weight], [len(x) - 5, 5]))
    np.testing.assert_allclose(outputs[0, :, 0], alone.predict(rows(query.x[0])), rtol=1e-4)


def test_a_weight_is_repetition_where_the_estimator_takes_none() -> None:
    memory = am.TaskBatch(support=real(slope=2.0), query=real(slope=2.0, seed=1))
    support, query = real(n_tasks=1, n=5, slope=-1.0, seed=2), real(n_tasks=1, seed=3)
    weighted, repeated = (
        forward(*pooled_after([memory], "regression", estimator=estimator, support_share=0.2), support, query.x)
        for estimator in (Ridge(), make_pipeline(FunctionTransformer(), Ridge()))
    )
    torch.testing.assert_close(weighted, repeated, rtol=1e-4, atol=1e-4)


def test_a_row_seen_again_is_remembered_once() -> None:
    batch = am.TaskBatch(support=real(), query=real(seed=1))
    _, module = pooled_after([batch, batch], "regression")
    assert module.count == 80


def test_a_full_memory_changes_no_more() -> None:
    batches = [am.TaskBatch(support=real(seed=2 * i), query=real(seed=2 * i + 1)) for i in range(3)]
    _, full = pooled_after(batches[:1], "regression", max_rows=50)
    _, later = pooled_after(batches, "regression", max_rows=50)
    assert full.count == 50
    assert all(torch.equal(full.state_dict()[name], value) for name, value in later.state_dict().items())


def test_a_memory_survives_its_state_dict() -> None:
    learner, module = pooled_after([am.TaskBatch(support=classes(), query=classes(seed=1))], "classification")
    other = learner.build(info("classification", 3, shared_classes=True))
    other.load_state_dict(module.state_dict())
    support = classes(n_way=2, n_shot=2, seed=3)
    assert torch.equal(*(forward(learner, m, support, classes(seed=4).x) for m in (module, other)))


def test_a_class_known_from_other_tasks_may_be_predicted() -> None:
    learner, module = pooled_after([am.TaskBatch(support=classes(), query=classes(seed=1))], "classification")
    support = am.Examples(classes(n_way=2).x, classes(n_way=2).y, n_classes=3)
    query = classes(seed=2)
    outputs = forward(learner, module, support, query.x)
    assert (outputs.argmax(-1) == query.y).float().mean() > 0.9


def test_without_meta_training_the_pool_is_the_support() -> None:
    pooled, alone = (am.make_learner(name, estimator=Ridge()) for name in ("sklearn_pooled", "sklearn"))
    outputs = [forward(each, each.build(info("regression", 1)), real(), real(seed=1).x) for each in (pooled, alone)]
    torch.testing.assert_close(*outputs)


def test_pooling_classes_drawn_anew_for_each_task_is_refused() -> None:
    with pytest.raises(am.Incompatible, match="shared_classes"):
        am.make_learner("sklearn_pooled").build(info("classification", 3))


def test_collect_needs_a_learner_with_a_memory() -> None:
    tasks = am.make_tasks("sinusoid")
    with pytest.raises(am.Incompatible, match="memory"):
        MetaTraining(
            am.make_learner("ridge"), am.make_meta_optimizer("collect"), tasks, n_steps=1, tasks_per_step=1, seed=0
        )


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"max_rows": 0}, "max_rows=0"),
        ({"support_share": 0.0}, "support_share=0.0"),
        ({"support_share": 1.0}, "support_share=1.0"),
    ],
)
def test_an_impossible_pool_is_named(parameters: dict[str, object], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        am.make_learner("sklearn_pooled", **parameters).build(info("regression", 1))


def test_sinusoids_are_fitted_from_their_support_and_not_from_their_pool() -> None:
    tasks = am.make_tasks("sinusoid", n_shot=10)
    learner = am.make_learner("sklearn", estimator="gaussian_process")
    alone = judged(learner, learner.build(tasks.info), tasks, n_tasks=50)
    pooled = am.make_learner("sklearn_pooled", estimator=KNeighborsRegressor())
    run = MetaTraining(pooled, am.make_meta_optimizer("collect"), tasks, n_steps=20, tasks_per_step=25, seed=0)
    run.run_to(1.0)
    assert_better(alone, judged(pooled, run.module, tasks, n_tasks=50), tasks.info)


def test_collecting_ends_when_nothing_new_comes():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"entity": np.repeat(np.arange(20), 12), "x": rng.normal(size=240), "y": rng.normal(size=240)})
    table = am.make_tasks("table", data=rows, task="entity", target="y", n_shot=5)
    run = MetaTraining(
        am.make_learner("sklearn_pooled"),
        am.make_meta_optimizer("collect"),
        table,
        n_steps=10_000,
        tasks_per_step=8,
        seed=0,
    )
    run.run_to(1.0)
    assert run.step_count < 200
    assert run.progress == 1.0
