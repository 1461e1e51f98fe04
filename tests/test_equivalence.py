"""Practical equivalence and critical differences: what they say of learners, and of a learner beside itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import autometa as am
from autometa.comparison.results.critical_difference import (
    friedman_p,
    groups_of,
    mean_ranks_of,
    nemenyi_distance,
    wilcoxon_holm_p,
)
from autometa.comparison.results.crossed_effects import Estimate, Part
from autometa.comparison.results.equivalence import of_mean
from autometa.comparison.results.signed_rank import signed_rank, signed_rank_with_errors
from autometa.errors import InvalidData, InvalidParameter

SKILL = {"a": 0.70, "b": 0.702, "c": 0.80}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_table(
    skill: dict[str, float] = SKILL,
    *,
    tasks: str = "digits",
    runs: int = 3,
    n: int = 40,
    spread: float = 0.002,
    seed: int = 0,
) -> pd.DataFrame:
    draw = rng(seed)
    of_tasks = draw.normal(0, 0.05, n)
    rows = []
    for learner, mean in skill.items():
        for run in range(runs):
            moved = draw.normal(0, spread)
            rows += [
                (tasks, learner, run, task, mean + moved + of_tasks[task] + draw.normal(0, 0.03)) for task in range(n)
            ]
    return pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"])


def verdicts(found: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str | None]]:
    return {(row.learner_a, row.learner_b): (row.verdict, row.better) for row in found.itertuples()}


# ---------------------------------------------------------------- the Bayesian signed-rank test


def brute_force(z: NDArray[np.float64], rope: float, n_samples: int, seed: int) -> list[float]:
    """All sums of two, draw by draw, as the paper writes them."""
    draw, z = rng(seed), np.append(0.0, z)
    sums = z[:, None] + z[None, :]
    wins = np.zeros(3)
    for weights in draw.dirichlet([0.5, *np.ones(len(z) - 1)], n_samples):
        pairs = np.outer(weights, weights)
        wins[
            np.argmax([pairs[sums < -2 * rope].sum(), pairs[abs(sums) <= 2 * rope].sum(), pairs[sums > 2 * rope].sum()])
        ] += 1
    return list(wins / n_samples)


@pytest.mark.parametrize(
    ("n", "mean", "rope"), [(12, 0.01, 0.01), (30, 0.0, 0.02), (8, 0.03, 0.01), (25, -0.012, 0.01)]
)
def test_the_posterior_is_that_of_all_sums_of_two(n: int, mean: float, rope: float) -> None:
    z = rng(n).normal(mean, 0.02, n)
    found = signed_rank(z, rope, n_samples=10_000, rng=rng(1))
    told = np.array([found.below, found.within, found.above])
    assert told.sum() == pytest.approx(1)
    # both are shares of draws, of 10000 and of 2000
    assert np.abs(told - brute_force(z, rope, 2000, 2)).max() < 4 * np.sqrt(0.25 / 2000 + 0.25 / 10_000)


def test_the_other_way_round_it_says_the_same() -> None:
    z = rng(3).normal(0.008, 0.02, 20)
    one, other = (signed_rank(sign * z, 0.01, n_samples=20_000, rng=rng(1)) for sign in (1, -1))
    assert one.above == pytest.approx(other.below, abs=0.02)
    assert one.within == pytest.approx(other.within, abs=0.02)


def test_equal_scores_are_equivalent_and_far_ones_are_not() -> None:
    assert signed_rank(np.zeros(20), 0.01, n_samples=500, rng=rng()).within == 1
    assert signed_rank(np.full(20, 0.5), 0.01, n_samples=500, rng=rng()).above > 0.99
    assert signed_rank(np.zeros(20), 0.0, n_samples=2000, rng=rng()).within == 0  # without a region there is no within


def test_an_error_that_tasks_share_takes_sureness_away() -> None:
    z = rng(0).normal(0.02, 0.03, 100)
    wide = Estimate(0.0, (Part(0.02**2, 2.0),))
    alone = signed_rank(z, 0.01, n_samples=5000, rng=rng(1))
    shared = signed_rank(z, 0.01, n_samples=5000, rng=rng(1), shared_error=wide)
    apart = signed_rank_with_errors(z[:5], [wide] * 5, 0.01, n_samples=2000, rng=rng(1))
    assert alone.above > 0.99
    assert 0.5 < shared.above < 0.8  # it exceeds 0.01 unless the error takes half of the difference away: t of 0.5, 2
    assert apart.above < signed_rank(z[:5], 0.01, n_samples=2000, rng=rng(1)).above


def test_errors_of_nothing_change_nothing() -> None:
    z = rng(0).normal(0.01, 0.02, 8)
    one = signed_rank_with_errors(z, [Estimate(0.0, ())] * 8, 0.01, n_samples=2000, rng=rng(1))
    assert one.above == pytest.approx(signed_rank(z, 0.01, n_samples=20_000, rng=rng(1)).above, abs=4 * 0.5 / 2000**0.5)


def test_the_posterior_of_a_mean_is_the_t_distribution_of_its_p_value() -> None:
    mean = Estimate(0.03, (Part(0.01**2, 4.0),))
    assert of_mean(mean, 0.0).below == pytest.approx(mean.p_value / 2)
    assert of_mean(mean, 0.03).above == pytest.approx(0.5)
    assert of_mean(Estimate(0.005, ()), 0.01).within == 1


# ---------------------------------------------------------------- of learners


def test_learners_are_called_equivalent_different_or_neither() -> None:
    found = am.practical_equivalence(a_table(), rope=0.01, higher_is_better=True)
    assert verdicts(found) == {
        ("a", "b"): ("not decided", None),  # on most tasks they differ by more, one way or the other
        ("a", "c"): ("different", "c"),
        ("b", "c"): ("different", "c"),
    }
    wide = am.practical_equivalence(a_table(), rope=0.04, higher_is_better=True)
    assert verdicts(wide)["a", "b"] == ("practically equivalent", None)
    means = am.practical_equivalence(a_table(), rope=0.02, method="mean", higher_is_better=True)
    assert verdicts(means) == {**verdicts(found), ("a", "b"): ("practically equivalent", None)}
    row = found.iloc[1]
    assert row["difference"] == pytest.approx(-0.1, abs=0.01)
    assert (row["n"], row["rope"], row["rope_words"]) == (40, 0.01, "as asked for")
    assert row["p_b"] + row["p_equivalent"] + row["p_a"] == pytest.approx(1)
    worse = am.practical_equivalence(a_table(), rope=0.01, higher_is_better=False)
    assert verdicts(worse)["a", "c"] == ("different", "a")


@pytest.mark.thorough
def test_a_learner_is_rarely_different_from_itself_although_its_models_often_are() -> None:
    n, ask = 30, {"rope": 0.01, "higher_is_better": True, "n_samples": 200}
    tables = [a_table({"a": 0.7, "b": 0.7}, spread=0.03, seed=seed, n=60) for seed in range(n)]
    found = pd.concat([am.practical_equivalence(table, **ask) for table in tables])
    means = pd.concat([am.practical_equivalence(table, method="mean", **ask) for table in tables])
    alarms = (found["verdict"] == "different").mean()
    assert (means["verdict"] == "different").mean() < 0.1 + 4 * np.sqrt(0.1 * 0.9 / n)
    models = (found[["p_a_models", "p_b_models"]].max(axis=1) >= 0.95).mean()
    assert alarms < 0.1 + 4 * np.sqrt(0.1 * 0.9 / n)  # 5% either way
    assert models > 0.4


def test_one_run_decides_nothing_about_learners() -> None:
    found = am.practical_equivalence(a_table(runs=1), rope=0.01, higher_is_better=True)
    assert set(found["verdict"]) == {"not decided"}
    assert found[["p_a", "p_equivalent", "p_b"]].isna().all(axis=None)
    assert found.iloc[1]["p_b_models"] > 0.95


@pytest.mark.parametrize("method", ["signed_rank", "mean"])
def test_one_task_says_nothing_of_others(method: str) -> None:
    table = a_table(runs=3)
    one = table[table["task"] == table["task"].iloc[0]]
    found = am.practical_equivalence(one, rope=0.01, higher_is_better=True, method=method)
    assert set(found["verdict"]) == {"not decided"}
    assert found[["p_a", "p_equivalent", "p_b", "p_a_models", "p_b_models"]].isna().all(axis=None)


def test_the_best_beside_each_other_and_equal_calls_equal_answers() -> None:
    once, again = (
        am.practical_equivalence(a_table(), rope=0.01, pairs="best", higher_is_better=True) for _ in range(2)
    )
    assert set(zip(once["learner_a"], once["learner_b"], strict=True)) == {("c", "a"), ("c", "b")}
    pd.testing.assert_frame_equal(once, again)
    every = am.practical_equivalence(a_table(), rope=0.01, higher_is_better=True, random_state=1)
    assert len(every) == 3


def test_the_region_is_told_in_units_of_the_score() -> None:
    accuracy = am.practical_equivalence(a_table().assign(metric="accuracy"), n_samples=100)
    assert set(zip(accuracy["rope"], accuracy["rope_words"], strict=True)) == {(0.01, "1 point of accuracy")}
    errors = a_table({"a": 2.0, "b": 3.0, "sklearn": 10.0}).assign(metric="mse")
    beside = am.practical_equivalence(errors, baseline="sklearn", n_samples=100)
    assert beside["rope"].iloc[0] == pytest.approx(0.1, rel=0.02)
    assert beside["rope_words"].iloc[0] == "a hundredth of the mean squared error of sklearn"
    median = am.practical_equivalence(errors, n_samples=100)
    assert median["rope"].iloc[0] == pytest.approx(0.03, rel=0.02)
    assert "median learner" in median["rope_words"].iloc[0]
    returns = am.practical_equivalence(errors.assign(metric="return"), n_samples=100)
    assert returns["rope"].iloc[0] == pytest.approx(0.08, rel=0.02)


def of_distributions(n: int, skill: dict[str, float] = SKILL, spread: float = 0.002) -> pd.DataFrame:
    return pd.concat([a_table(skill, tasks=f"d{k}", seed=k, spread=spread) for k in range(n)], ignore_index=True)


@pytest.mark.thorough
def test_over_distributions_each_counts_once_in_units_of_its_region() -> None:
    table = of_distributions(6)
    scaled = table["tasks"] == "d0"  # errors in another unit, of which smaller ones are better
    table.loc[scaled, "score"] = 1000 - 1000 * table.loc[scaled, "score"]
    found = am.practical_equivalence(
        table,
        rope={f"d{k}": 10.0 if k == 0 else 0.01 for k in range(6)},
        over="distributions",
        higher_is_better={f"d{k}": k > 0 for k in range(6)},
        n_samples=1000,
    )
    assert verdicts(found)["a", "c"] == ("different", "c")
    means = am.practical_equivalence(
        of_distributions(6), over="distributions", rope=0.01, method="mean", higher_is_better=True
    )
    assert verdicts(means)["a", "b"] == ("practically equivalent", None)
    assert verdicts(means)["a", "c"] == ("different", "c")
    assert found["difference"].iloc[1] == pytest.approx(-10, abs=0.5)
    assert set(found["n"]) == {6}
    assert set(found["tasks"]) == {"all"}


@pytest.mark.thorough
def test_over_distributions_runs_count_too() -> None:
    alarms = models = 0
    n = 20
    for k in range(n):
        table = pd.concat(
            [a_table({"a": 0.7, "b": 0.7}, tasks=f"d{d}", seed=10 * k + d, spread=0.03, n=20) for d in range(3)]
        )
        row = am.practical_equivalence(
            table, rope=0.002, over="distributions", higher_is_better=True, n_samples=200
        ).iloc[0]
        alarms += row["verdict"] == "different"
        models += max(row["p_a_models"], row["p_b_models"]) >= 0.95
    assert alarms <= n * 0.1 + 4 * np.sqrt(n * 0.1 * 0.9)
    assert alarms < models


# ---------------------------------------------------------------- ranks and groups


def test_ranks_share_places_and_know_the_direction() -> None:
    means = np.array([[0.9, 0.8, 0.8], [0.7, 0.9, 0.1]])
    assert mean_ranks_of(means, higher_is_better=True).tolist() == [1.5, 1.75, 2.75]
    assert mean_ranks_of(means, higher_is_better=False).tolist() == [2.5, 2.25, 1.25]


def test_the_critical_distance_is_that_of_the_papers_table() -> None:
    # Demšar 2006, table 5a: q = 2.569 for four; its example: 14 data sets, 1.25
    assert nemenyi_distance(4, 14) == pytest.approx(1.25, abs=0.005)
    assert nemenyi_distance(10, 1) / np.sqrt(10 * 11 / 6) == pytest.approx(3.164, abs=5e-4)


def test_groups_are_the_largest_sets_of_which_no_pair_is_told_apart() -> None:
    p = np.ones((4, 4))
    for a, b in [(0, 3), (0, 2)]:
        p[a, b] = p[b, a] = 0.01
    assert groups_of(p, np.array([1.0, 2.0, 3.0, 4.0])) == [(0, 1), (1, 2, 3)]
    assert groups_of(np.full((3, 3), 0.001), np.arange(3.0)) == []
    assert groups_of(np.full((3, 3), np.nan), np.arange(3.0)) == [(0, 1, 2)]  # nothing is decided


@pytest.mark.parametrize("test", ["learners", "nemenyi", "wilcoxon"])
def test_learners_that_differ_are_in_no_group_together(test: Any) -> None:
    found = am.critical_difference(a_table(), test=test, higher_is_better=True).set_index("learner")
    assert found.index[0] == "c"
    assert found.loc["c", "groups"] == ()
    assert found.loc["a", "groups"] == found.loc["b", "groups"] == (1,)
    assert found["p_friedman"].iloc[0] < 0.001
    assert found["critical_difference"].notna().all() == (test == "nemenyi")


def test_spread_of_runs_joins_learners_that_tasks_alone_would_tell_apart() -> None:
    table = a_table({"a": 0.7, "b": 0.7, "c": 0.7}, spread=0.03, seed=1, n=200)
    of = {test: am.critical_difference(table, test=test, higher_is_better=True) for test in ("learners", "wilcoxon")}
    assert set(of["learners"]["groups"]) == {(1,)}
    assert set(of["wilcoxon"]["groups"]) != {(1,)}


def test_over_distributions_they_are_ranked_once_each() -> None:
    found = am.critical_difference(of_distributions(12), over="distributions", higher_is_better=True)
    assert found["learner"].tolist()[0] == "c"
    assert found["mean_rank"].iloc[0] == 1
    assert set(found["n"]) == {12}
    assert found["critical_difference"].iloc[0] == pytest.approx(nemenyi_distance(3, 12))
    assert "trained_on" not in found.columns


def test_few_learners_have_no_friedman_test() -> None:
    assert np.isnan(friedman_p(rng().normal(size=(5, 2))))
    assert np.isnan(friedman_p(np.ones((5, 4))))
    assert wilcoxon_holm_p(np.ones((5, 1))).tolist() == [[1.0]]
    one = am.critical_difference(a_table({"a": 0.7}), higher_is_better=True)
    assert one["groups"].tolist() == [()]


# ---------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rope": -0.1}, "rope=-0.1"),
        ({"rope": {}}, "says nothing about 'digits'"),
        ({"rope": {"digits": "wide"}}, "rope='wide'"),
        ({}, "rope is needed"),
        ({"over": "runs"}, "over='runs'"),
        ({"rope": 0.01, "pairs": "some"}, "pairs='some'"),
        ({"rope": 0.01, "method": "median"}, "method='median'"),
        ({"rope": 0.01, "n_samples": 10}, "n_samples=10"),
        ({"rope": 0.01, "random_state": -1}, "random_state=-1"),
    ],
)
def test_hostile_arguments_are_named(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParameter, match=says):
        am.practical_equivalence(a_table(), higher_is_better=True, **asked)


def test_distributions_must_have_learners_in_common() -> None:
    for function, more in ((am.practical_equivalence, {"rope": 0.01}), (am.critical_difference, {})):
        with pytest.raises(InvalidData, match="two or more of them"):
            function(a_table(), over="distributions", higher_is_better=True, **more)
    with pytest.raises(InvalidParameter, match="by itself"):
        am.critical_difference(of_distributions(3), over="distributions", test="learners", higher_is_better=True)
    with pytest.raises(InvalidParameter, match="told in ropes"):
        am.practical_equivalence(of_distributions(3), rope=0, over="distributions", higher_is_better=True)
    with pytest.raises(InvalidParameter, match="test='t'"):
        am.critical_difference(a_table(), test="t", higher_is_better=True)  # type: ignore[arg-type]


def test_what_was_trained_elsewhere_is_another_learner() -> None:
    table = pd.concat([a_table().assign(trained_on="digits"), a_table(seed=1).assign(trained_on="letters")])
    found = am.practical_equivalence(table, rope=0.01, higher_is_better=True, n_samples=100)
    assert len(found) == 15
    assert {"trained_on_a", "trained_on_b"} <= set(found.columns)
    ranks = am.critical_difference(table, higher_is_better=True)
    assert set(ranks["trained_on"]) == {"digits", "letters"}
