"""Statistics beside those of autorank, scikit-posthocs and baycomp on the same scores (extra ``evidence``)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import autometa as am
from autometa.comparison.results.critical_difference import (
    friedman_p,
    groups_of,
    mean_ranks_of,
    nemenyi_distance,
    nemenyi_p,
    wilcoxon_holm_p,
)

WHY = "{} is not installed; pip install 'autometa[evidence]'"
DRAWS, THEIR_DRAWS = 20_000, 5000
BY_CHANCE = 4 * np.sqrt(0.25 / DRAWS + 0.25 / THEIR_DRAWS)
"""Four standard errors of a difference of two shares of so many draws, 0.03."""

SKILLS = {
    "apart": {"a": 0.70, "b": 0.72, "c": 0.73, "d": 0.80, "e": 0.81},
    "alike": {"a": 0.70, "b": 0.705, "c": 0.70, "d": 0.695},
    "near": {"a": 0.70, "b": 0.71, "c": 0.72, "d": 0.73, "e": 0.74, "f": 0.75},
}
CASES = [("apart", 14), ("alike", 20), ("near", 30), ("near", 10)]


def peer(name: str) -> Any:
    """Import a peer, whose module may warn of what it uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=WHY.format(name.replace("_", "-")))


def wide(case: str, n: int) -> pd.DataFrame:
    """Accuracies of 50 queries, with ties: one column per learner, one row per task."""
    rng = np.random.default_rng(n)
    of_tasks = rng.normal(0, 0.08, n)
    columns = {
        name: rng.binomial(50, np.clip(skill + of_tasks + rng.normal(0, 0.03, n), 0, 1)) / 50
        for name, skill in SKILLS[case].items()
    }
    return pd.DataFrame(columns)


def long(scores: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """The same as a table of one run of each learner."""
    rows = [
        ("digits", name, 0, task, metric, score) for name in scores.columns for task, score in enumerate(scores[name])
    ]
    return pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "metric", "score"])


def quietly(function: Any, *args: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **more)


@pytest.mark.parametrize(("case", "n"), CASES)
@pytest.mark.parametrize("rope", [0.005, 0.013, 0.031])  # where sums lie at its edge, theirs depends on the last digit
def test_probabilities_are_those_of_baycomp(case: str, n: int, rope: float) -> None:
    baycomp = peer("baycomp")
    scores = wide(case, n)
    found = am.practical_equivalence(long(scores), rope=rope, n_samples=DRAWS)
    for row in found.itertuples():
        theirs = baycomp.SignedRankTest.probs(
            scores[row.learner_b].to_numpy(),
            scores[row.learner_a].to_numpy(),
            rope,
            nsamples=THEIR_DRAWS,
            random_state=1,
        )
        ours = (row.p_b_models, row.p_equivalent_models, row.p_a_models)
        assert np.abs(np.subtract(ours, theirs)).max() < BY_CHANCE


@pytest.mark.parametrize(("case", "n"), CASES)
def test_decisions_beside_the_best_are_those_of_autorank(case: str, n: int) -> None:
    autorank = peer("autorank")
    scores, rope = wide(case, n), 0.013
    theirs = quietly(
        autorank.autorank,
        scores, approach="bayesian", rope=rope, rope_mode="absolute", nsamples=THEIR_DRAWS, random_state=1,
        force_mode="parametric",  # which sorts by the mean
    ).rankdf  # fmt: skip
    found = am.practical_equivalence(long(scores), rope=rope, pairs="best", n_samples=DRAWS)
    assert set(found["learner_a"]) == {theirs.index[0]}
    for row in found.itertuples():
        other = theirs.loc[row.learner_b]
        # autorank's "smaller" is that of the first of the pair's scores being larger, the first being the best
        assert row.p_a_models == pytest.approx(other["p_smaller"], abs=BY_CHANCE)
        assert row.p_equivalent_models == pytest.approx(other["p_equal"], abs=BY_CHANCE)


@pytest.mark.parametrize(("case", "n"), CASES)
def test_ranks_and_the_critical_distance_are_those_of_autorank(case: str, n: int) -> None:
    autorank = peer("autorank")
    scores = wide(case, n)
    theirs = quietly(autorank.autorank, scores, force_mode="nonparametric", order="descending")
    found = am.critical_difference(long(scores), test="nemenyi").set_index("learner")
    for learner, row in theirs.rankdf.iterrows():
        assert found.loc[learner, "mean_rank"] == pytest.approx(row["meanrank"], abs=1e-12)
    assert found["p_friedman"].iloc[0] == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found["critical_difference"].iloc[0] == pytest.approx(theirs.cd, rel=1e-4)  # of an approximate quantile
    from autorank._util import get_sorted_rank_groups  # what its diagram joins

    result = theirs._replace(rankdf=theirs.rankdf.sort_values("meanrank"))
    _, names, spans = get_sorted_rank_groups(result, False)
    members = found["groups"].explode().dropna()
    ours = {frozenset(members.index[members == number]) for number in set(members)}
    assert ours == {frozenset(names[start : end + 1]) for start, end in spans}


@pytest.mark.parametrize(("case", "n"), CASES)
def test_tests_of_all_pairs_are_those_of_scikit_posthocs(case: str, n: int) -> None:
    posthocs = peer("scikit_posthocs")
    scores = wide(case, n)
    means = scores.to_numpy()
    ranks = mean_ranks_of(means, higher_is_better=True)
    nemenyi = quietly(posthocs.posthoc_nemenyi_friedman, scores)
    assert np.abs(nemenyi_p(ranks, n) - nemenyi.to_numpy()).max() < 1e-9
    right = (50 * scores).round().astype(int).melt(var_name="learner", value_name="score")  # whole numbers tie exactly
    wilcoxon = quietly(
        posthocs.posthoc_wilcoxon,
        right, val_col="score", group_col="learner", zero_method="pratt", p_adjust="holm",
    )  # fmt: skip
    ours = wilcoxon_holm_p(means)
    assert np.abs(ours - wilcoxon.loc[scores.columns, scores.columns].to_numpy()).max() < 1e-9
    assert friedman_p(means) > 0


@pytest.mark.parametrize(("case", "n"), CASES)
@pytest.mark.parametrize("test", ["nemenyi", "wilcoxon"])
def test_groups_are_the_bars_of_scikit_posthocs(case: str, n: int, test: str) -> None:
    posthocs = peer("scikit_posthocs")
    from scikit_posthocs._plotting import _find_maximal_cliques

    scores = wide(case, n)
    ranks = mean_ranks_of(scores.to_numpy(), higher_is_better=True)
    p_values = nemenyi_p(ranks, n) if test == "nemenyi" else wilcoxon_holm_p(scores.to_numpy())
    table = pd.DataFrame(p_values, index=scores.columns, columns=scores.columns)
    alike = (posthocs.sign_array(table, 0.05) == 0).astype(int)
    bars = _find_maximal_cliques(pd.DataFrame(alike, table.index, table.columns))
    theirs = {frozenset(bar) for bar in bars if len(bar) > 1}
    ours = {frozenset(scores.columns[place] for place in group) for group in groups_of(p_values, ranks)}
    assert ours == theirs


def test_the_critical_distance_is_that_of_exact_quantiles() -> None:
    qsturng = peer("statsmodels.stats.libqsturng").qsturng
    for k in (2, 3, 5, 10, 20):
        theirs = qsturng(0.95, k, np.inf) * np.sqrt(k * (k + 1) / (12 * 30))
        assert nemenyi_distance(k, 30) == pytest.approx(theirs, rel=1e-3)
