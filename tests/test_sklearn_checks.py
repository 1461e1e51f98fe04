"""Every one of scikit-learn's estimator checks passes, for both defaults and with every installed learner."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, check_estimator

import autometa as am
from autometa.host.catalog import components

ESTIMATORS = {"classification": am.FewShotClassifier, "regression": am.FewShotRegressor}
# A few, as the estimators' code is the same for all; the others are checked by the slow suite.
TIERS = {"auto": [], "prototypical": [pytest.mark.thorough], "ridge": [pytest.mark.thorough]}


def learners(problem: str) -> list[str]:
    """Names of all learners that claim a problem, third-party ones included."""
    return [c.name for c in components("learner") if problem in c.spec.problems and not c.spec.needs]


def estimators() -> list[Any]:
    return [
        pytest.param(kind(name), marks=TIERS.get(name, [pytest.mark.slow]), id=repr(kind(name)))
        for problem, kind in ESTIMATORS.items()
        for name in ("auto", *learners(problem))
    ]


@pytest.mark.filterwarnings("default")  # as scikit-learn runs them: the checks provoke warnings
@pytest.mark.parametrize("estimator", estimators())
def test_scikit_learns_checks(estimator):
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    assert len(results) > 40
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert not failed, "\n".join(
        "".join(traceback.format_exception(exception)) + f"in {name}" for name, exception in failed.items()
    )


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ESTIMATORS.values())
def test_names_of_columns_are_checked(kind):
    check_dataframe_column_names_consistency(kind.__name__, kind())


@pytest.mark.parametrize("problem", ESTIMATORS)
def test_a_poor_score_is_excused_only_before_meta_training_of_learners_that_need_it(problem):
    for name in ("auto", *learners(problem)):
        estimator = ESTIMATORS[problem](name)
        tags = estimator.__sklearn_tags__()
        part = tags.classifier_tags if problem == "classification" else tags.regressor_tags
        needs = name != "auto" and problem in am.make_learner(name).needs_meta_training
        assert part.poor_score == needs


def test_bundled_learners_are_among_those_checked():
    assert {"prototypical", "ridge", "maml", "fine_tune", "multitask", "in_context", "sklearn"} <= set(
        learners("classification")
    )
    assert {"ridge", "maml", "fine_tune", "multitask", "in_context", "sklearn", "sklearn_pooled"} <= set(
        learners("regression")
    )
