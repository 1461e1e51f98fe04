"""Intervals, paired tests, corrections and ranks of a comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from autometa.comparison.results.statistics import (
    bootstrap_means,
    holm,
    interval,
    mean_ranks,
    paired_test,
    significance,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_holm_equals_the_correction_by_hand() -> None:
    # sorted .01 .03 .04 -> .01*3, .03*2, .04*1, made monotone
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    assert holm(np.array([])).shape == (0,)


def test_the_paired_test_is_wilcoxons() -> None:
    a, b = normal(40), normal(40, seed=1) + 0.4
    assert paired_test(a, b) == pytest.approx(wilcoxon(a, b).pvalue)


def test_equal_scores_are_no_evidence_even_when_they_differ_in_the_last_digit() -> None:
    a = normal(30)
    assert paired_test(a, a) == 1.0
    assert paired_test(a, a + 1e-15) == 1.0


def test_pairs_that_agree_take_part_in_the_ranking() -> None:
    a = np.r_[0.2, 0.2, 0.2, -0.4, np.zeros(40)]
    # Pratt ranks the zeros first: ranks 42, 42, 42 against 44, and not 2, 2, 2 against 4
    expected = wilcoxon(a, zero_method="pratt").pvalue
    assert paired_test(a, np.zeros(44)) == pytest.approx(expected)
    assert paired_test(a, np.zeros(44)) < wilcoxon(a, zero_method="wilcox").pvalue


def test_with_one_seed_the_bootstrap_spread_is_the_standard_error_of_the_mean() -> None:
    scores = normal(400, 1)
    expected = scores.std() / np.sqrt(400)
    assert bootstrap_means(scores, 0).std() == pytest.approx(expected, rel=0.08)


def test_the_spread_of_training_runs_counts() -> None:
    one_task_effect = np.tile(np.array([[0.2, 0.4, 0.6]]), (100, 1))  # tasks agree, seeds do not
    low, high = interval(bootstrap_means(one_task_effect, 0))
    assert low < 0.3
    assert high > 0.5


def test_an_interval_covers_the_true_mean_about_as_often_as_it_claims() -> None:
    def covers(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        scores = 0.5 + rng.normal(0, 0.2, (60, 1)) + rng.normal(0, 0.01, (1, 5)) + rng.normal(0, 0.05, (60, 5))
        low, high = interval(bootstrap_means(scores, seed))
        return low <= 0.5 <= high

    assert 0.89 <= np.mean([covers(seed) for seed in range(150)]) <= 0.99


def test_differences_are_paired_over_tasks() -> None:
    hard = normal(200, 1)
    table = significance({"t": {"a": hard + 0.01, "b": hard}}, 0)
    row = table.iloc[0]
    assert row["ci_low"] == pytest.approx(0.01)  # the spread of the tasks, a hundred times larger, cancels
    assert row["ci_high"] == pytest.approx(0.01)
    assert row["p_value"] < 1e-10


def test_all_pairs_are_compared_and_corrected_within_their_distribution() -> None:
    scores = {name: normal(50, 2, seed=i) + 0.2 * i for i, name in enumerate("abc")}
    table = significance({"first": scores, "second": {"a": scores["a"], "b": scores["b"]}}, 0)
    assert list(zip(table["tasks"], table["learner_a"], table["learner_b"], strict=True)) == [
        ("first", "a", "b"),
        ("first", "a", "c"),
        ("first", "b", "c"),
        ("second", "a", "b"),
    ]
    np.testing.assert_allclose(table["p_holm"][:3], holm(table["p_value"][:3].to_numpy()))
    assert table["p_holm"][3] == table["p_value"][3]
    assert table["difference"][0] == pytest.approx(scores["a"].mean() - scores["b"].mean())


def test_learners_without_a_difference_are_rarely_called_different() -> None:
    def found(seed: int) -> bool:
        scores = {name: normal(40, 3, seed=10 * seed + i) for i, name in enumerate("abcd")}
        return bool((significance({"t": scores}, 0)["p_holm"] < 0.05).any())

    assert np.mean([found(seed) for seed in range(25)]) < 0.2


def test_one_seed_gives_one_table() -> None:
    scores = {"t": {name: normal(30, 3, seed=i) for i, name in enumerate("ab")}}
    pd.testing.assert_frame_equal(significance(scores, 3), significance(scores, 3))
    assert not significance(scores, 3).equals(significance(scores, 4))


def test_one_learner_alone_gives_an_empty_table_with_its_columns() -> None:
    table = significance({"t": {"a": normal(10, 1)}}, 0)
    assert table.empty
    assert "p_holm" in table


def test_mean_ranks_by_hand_with_a_tie_and_both_directions() -> None:
    means = {"images": {"a": 0.9, "b": 0.8, "c": 0.8, "only here": 1.0}, "functions": {"a": 2.0, "b": 1.0, "c": 3.0}}
    table = mean_ranks(means, {"images": True, "functions": False})
    assert dict(zip(table["learner"], table["mean_rank"], strict=True)) == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert mean_ranks({"images": means["images"]}, {"images": True}).empty
