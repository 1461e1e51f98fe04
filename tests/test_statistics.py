"""What a comparison says of learners: intervals, tests that count training runs, corrections and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, ttest_ind, wilcoxon

import autometa as am
from autometa.comparison.results.crossed_effects import (
    Scores,
    difference_of,
    interval_of,
    mean_of,
    run_spread,
    runs_that_decide,
)
from autometa.comparison.results.labelled_rows import best_by_rows
from autometa.comparison.results.references import References
from autometa.comparison.results.statistics import SIGNIFICANCE, holm, mean_ranks, one_sided, significance_of
from autometa.comparison.results.statistics import test_of_models as wilcoxon_over_tasks
from autometa.contracts.problems import problem_of_metric

RUN_SPREAD = 0.03


def normal(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=shape)


def two_learners(seed: int, runs: int, gap: float = 0.0, n_tasks: int = 200) -> tuple[Scores, Scores]:
    """Scores with spreads as measured on digits: the run moves a mean far more than the tasks do."""
    rng = np.random.default_rng(seed)
    tasks = rng.normal(0, 0.07, (n_tasks, 1))

    def one(skill: float) -> Scores:
        own = rng.normal(0, 0.03, (n_tasks, 1)) + rng.normal(0, RUN_SPREAD, (1, runs))
        return skill + tasks + own + rng.normal(0, 0.12, (n_tasks, runs))

    return one(0.57), one(0.57 + gap)


def share(found: list[bool]) -> float:
    return float(np.mean(found))


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("runs", [2, 3, 5])
def test_a_learner_compared_with_itself_is_rarely_called_different(runs: int) -> None:
    pairs = [two_learners(seed, runs) for seed in range(400)]
    false_alarms = share([difference_of(*pair).p_value < 0.05 for pair in pairs])
    # 5% with four standard errors of 400 tries; two runs leave one degree of freedom or two, and less than 5%
    assert false_alarms < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
    over_tasks = share([wilcoxon_over_tasks(a.mean(1), b.mean(1)) < 0.05 for a, b in pairs[:100]])
    assert over_tasks > 0.2  # which is why it says nothing about learners


def test_a_gap_of_four_spreads_of_runs_is_found_with_three_runs() -> None:
    gaps = [two_learners(seed, 3, gap=4 * RUN_SPREAD) for seed in range(200)]
    assert share([difference_of(*pair).p_value < 0.05 for pair in gaps]) > 0.75


@pytest.mark.parametrize("runs", [3, 5])
def test_an_interval_covers_the_true_mean_as_often_as_it_claims(runs: int) -> None:
    def covers(scores: Scores) -> bool:
        low, high = mean_of(scores).interval
        return low <= 0.57 <= high

    covered = share([covers(two_learners(seed, runs)[0]) for seed in range(400)])
    assert covered > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 400)


def test_the_spread_of_runs_is_that_of_their_means_and_of_a_gap_that_of_both() -> None:
    scores = np.array([[0.1, 0.3], [0.3, 0.5]])
    assert run_spread(scores) == pytest.approx(np.sqrt(0.02))
    assert run_spread(scores, scores) == pytest.approx(np.sqrt(0.04))
    assert np.isnan(run_spread(scores, scores[:, :1]))
    found = significance_of({"digits": {"a": scores, "b": scores + 1}}, {"digits": True})
    assert found["run_spread"].tolist() == [pytest.approx(0.2)]


def squared_errors(seed: int) -> Scores:
    """Of tasks that differ by far: the deviation over tasks is twice the mean, which is 1."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(-0.8, np.sqrt(1.6), (40, 1)) + rng.normal(0, 0.1, (1, 3)) + rng.normal(0, 0.05, (40, 3)))


def test_the_interval_of_an_error_stays_above_0_and_covers_the_true_mean_more_often() -> None:
    truth = float(np.mean([squared_errors(seed).mean() for seed in range(5000, 7000)]))
    found = [squared_errors(seed) for seed in range(400)]
    plain, positive = ([interval_of(one, positive=choice) for one in found] for choice in (False, True))
    assert all(0 < low < one.mean() < high for one, (low, high) in zip(found, positive, strict=True))
    covers = [share([low <= truth <= high for low, high in intervals]) for intervals in (plain, positive)]
    assert covers[1] > covers[0] > 0.7
    assert interval_of(np.zeros((5, 3)), positive=True) == (0.0, 0.0)


def test_an_interval_ends_where_scores_do_and_misses_no_more_means_for_it() -> None:
    accuracies = np.tile([[0.95, 0.99]], (40, 1))
    low, high = interval_of(accuracies, positive=False)
    assert low < accuracies.mean() < 1 < high
    assert interval_of(accuracies, positive=False, bounds=(0.0, 1.0)) == (low, 1.0)
    low, high = interval_of(2 * accuracies, positive=True, bounds=(0.0, 2.0))
    assert 0 < low < high == 2.0


@pytest.mark.parametrize(
    ("metric", "bounds"), [("accuracy", (0, 1)), ("calibration_error", (0, 1)), ("brier", (0, 2)), ("r2", (-np.inf, 1))]
)
def test_tables_know_where_scores_end(metric: str, bounds: tuple[float, float]) -> None:
    least, most, better = max(bounds[0], 0.0), bounds[1], problem_of_metric(metric).higher_is_better
    rows = [
        ("t", learner, seed, 5, task, metric, least + (most - least) * abs(level - 0.04 * seed))
        for learner, level in (("best", 0.99 if better else 0.03), ("own", 0.1), ("pooled", 0.9))
        for seed in range(2)
        for task in range(6)
    ]
    frame = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "rows", "task", "metric", "score"])
    found = best_by_rows(frame, References(own="own", pooled="pooled"), higher_is_better=better).iloc[0]
    assert bounds[0] <= found["ci_low"] <= found["score"] <= found["ci_high"] <= bounds[1]
    for what in ("own", "pooled"):
        assert bounds[0] - bounds[1] <= found[f"{what}_low"] <= found[f"{what}_high"] <= bounds[1] - bounds[0]


@pytest.mark.parametrize(("unit", "most"), [(1.0, 1.0), (100.0, np.inf)], ids=["shares", "percent"])
def test_differences_of_shares_end_at_all_of_them(unit: float, most: float) -> None:
    rows = [
        ("digits", learner, seed, task, "accuracy", unit * (level + spread * seed + 0.01 * (task % 3)))
        for learner, level, spread in (("a", 0.1, 0.8), ("b", 0.0, 0.1))
        for seed in range(2)
        for task in range(9)
    ]
    scores = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "metric", "score"])
    found = am.significance(scores).iloc[0]
    assert found["ci_low"] >= -most
    assert found["ci_high"] <= most
    assert found["ci_low"] <= found["difference"] <= found["ci_high"]
    assert (found["ci_high"] > unit) == (unit > 1)


def test_differences_end_where_means_do_also_where_single_tasks_are_beyond() -> None:
    """The share of one task in a calibration error may be below 0."""
    rows = [
        ("t", learner, seed, task, "calibration_error", level + spread * seed + 0.1 * (-1) ** task)
        for learner, level, spread in (("a", 0.1, 0.8), ("b", 0.0, 0.1))
        for seed in range(2)
        for task in range(8)
    ]
    scores = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "metric", "score"])
    assert scores["score"].min() < 0
    assert am.significance(scores).iloc[0]["ci_high"] == 1.0


def test_where_tasks_agree_it_is_students_test_of_run_means() -> None:
    a, b = (np.tile(normal(1, 6, seed=i), (50, 1)) for i in range(2))
    expected = ttest_ind(a[0], b[0], equal_var=False)
    found = difference_of(a, b)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval()))


def test_equal_runs_have_no_spread_and_leave_the_paired_test_over_tasks() -> None:
    a, b = (np.tile(normal(50, 1, seed=i), (1, 3)) for i in range(2))
    expected = ttest_1samp(a[:, 0] - b[:, 0], 0)
    assert difference_of(a, b).p_value == pytest.approx(expected.pvalue)
    one_is_random = np.tile(normal(50, 1), (1, 3)) + normal(1, 3, seed=2)
    assert len(difference_of(a, one_is_random).parts) == 2


def test_differences_are_paired_over_tasks() -> None:
    hard = np.tile(100 * normal(200, 1), (1, 2))
    found = difference_of(hard + 0.01 + normal(1, 2) / 1e4, hard)
    assert found.interval[0] > 0.005  # the spread of the tasks, ten thousand times larger, cancels


def test_equal_scores_are_no_evidence_even_when_they_differ_in_the_last_digit() -> None:
    a = normal(30, 2)
    assert difference_of(a, a).p_value == 1.0
    assert wilcoxon_over_tasks(a[:, 0], a[:, 0] + 1e-15) == 1.0


def test_as_many_runs_as_it_says_decide() -> None:
    for seed in range(20):
        a, b = two_learners(seed, 3, gap=2 * RUN_SPREAD)
        needed = runs_that_decide(a, b)
        if difference_of(a, b).p_value < 0.05:
            assert needed <= 3
        elif np.isfinite(needed):
            assert needed > 3
    same = normal(30, 3)
    assert np.isnan(runs_that_decide(same, same[:, ::-1]))


# ---------------------------------------------------------------- tests of models, and corrections


def test_the_test_of_models_is_wilcoxons() -> None:
    a, b = normal(40), normal(40, seed=1) + 0.4
    assert wilcoxon_over_tasks(a, b) == pytest.approx(wilcoxon(a, b).pvalue)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
@pytest.mark.parametrize("values", [1e6, 5, 2])
def test_over_few_tasks_every_sign_is_counted(n: int, values: float) -> None:
    for seed in range(3):
        difference = np.round(values * normal(n, seed=seed) / 2)  # the fewer values, the more ties and zeros
        expected = wilcoxon(difference, zero_method="pratt").pvalue if difference.any() else 1.0
        assert wilcoxon_over_tasks(difference, np.zeros(n)) == pytest.approx(expected, abs=1e-12)


def test_pairs_that_agree_take_part_in_the_ranking() -> None:
    a = np.r_[0.2, 0.2, 0.2, -0.4, np.zeros(40)]
    # Pratt ranks the zeros first: ranks 42, 42, 42 against 44, and not 2, 2, 2 against 4
    expected = wilcoxon(a, zero_method="pratt").pvalue
    assert wilcoxon_over_tasks(a, np.zeros(44)) == pytest.approx(expected)
    assert wilcoxon_over_tasks(a, np.zeros(44)) < wilcoxon(a, zero_method="wilcox").pvalue


def test_holm_equals_the_correction_by_hand() -> None:
    # sorted .01 .03 .04 -> .01*3, .03*2, .04*1, made monotone
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1.0, 1.0])
    np.testing.assert_allclose(holm(np.array([0.04, np.nan, 0.01])), [0.04, np.nan, 0.02])
    assert holm(np.array([])).shape == (0,)


def test_all_pairs_are_compared_and_corrected_within_their_distribution() -> None:
    scores = {name: normal(50, 3, seed=i) + 0.2 * i for i, name in enumerate("abc")}
    both = {"first": scores, "second": {"a": scores["a"], "b": scores["b"]}}
    table = significance_of(both, {"first": True, "second": True})
    assert list(zip(table["tasks"], table["learner_a"], table["learner_b"], strict=True)) == [
        ("first", "a", "b"),
        ("first", "a", "c"),
        ("first", "b", "c"),
        ("second", "a", "b"),
    ]
    np.testing.assert_allclose(table["p_holm"][:3], holm(table["p_value"][:3].to_numpy()))
    assert table["p_holm"][3] == table["p_value"][3]
    assert table["difference"][0] == pytest.approx(scores["a"].mean() - scores["b"].mean())


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_whoever_may_be_the_best_of_all_is_told_by_pairs_with_the_best_mean(higher_is_better: bool) -> None:
    sign = 1 if higher_is_better else -1
    scores = {name: sign * (normal(200, 4, seed=i) + 0.3 * i) for i, name in enumerate("abcd")}
    table = significance_of({"t": scores}, {"t": higher_is_better}).set_index(["learner_a", "learner_b"])
    with_best = [pair for pair in table.index if "d" in pair]
    assert table["p_beside_best"].notna().sum() == len(with_best) == 3
    wanted = np.minimum(1, 3 * table.loc[with_best, "p_value"] / 2)
    np.testing.assert_allclose(table.loc[with_best, "p_beside_best"], wanted)


def p_values_beside_best(skills: list[float], seed: int, runs: int) -> NDArray[np.float64]:
    """Two-sided p-values of learners of these skills beside the one that came out best, whose own is NaN."""
    rng = np.random.default_rng(seed)
    tasks = rng.normal(0, 0.07, (60, 1))
    scores = [skill + tasks + rng.normal(0, RUN_SPREAD, (1, runs)) + rng.normal(0, 0.1, (60, runs)) for skill in skills]
    best = int(np.argmax([one.mean() for one in scores]))
    return np.array([np.nan if k == best else difference_of(one, scores[best]).p_value for k, one in enumerate(scores)])


def test_those_not_found_to_differ_from_the_best_hold_the_best_of_all_as_often_as_promised() -> None:
    """Nine learners are alike and one is a little better, which is the hardest case: it often is not ahead."""
    skills = [*[0.0] * 9, 0.005]
    found = [p_values_beside_best(skills, seed, runs=4)[-1] for seed in range(300)]
    kept = share([np.isnan(p) or one_sided(p, 9) >= 0.05 for p in found])
    assert kept > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 300)
    assert np.isnan(found).mean() < 0.5


def test_a_learner_far_behind_is_told_from_the_best_among_many() -> None:
    """One of thirty is behind by six spreads of runs: corrected for all pairs it is found far less often."""
    skills = [-6 * RUN_SPREAD, *[0.0] * 29]
    found = [p_values_beside_best(skills, seed, runs=3)[0] for seed in range(60)]
    beside = share([one_sided(p, 29) < 0.05 for p in found])
    all_pairs = share([p * 30 * 29 / 2 < 0.05 for p in found])
    assert beside > all_pairs + 0.2


def test_of_one_run_nothing_is_decided_and_the_number_of_runs_that_decides_is_told() -> None:
    a, b = two_learners(0, 1, gap=1.0)
    (row,) = significance_of({"t": {"a": a, "b": b}}, {"t": True}).to_dict("records")
    assert (row["verdict"], row["better"], row["runs_needed"]) == ("not decided", None, 5)
    assert np.isnan([row[name] for name in ("p_value", "p_holm", "p_beside_best", "ci_low", "ci_high")]).all()
    assert row["p_models"] < 1e-10  # of these two models, over tasks


@pytest.mark.parametrize(("higher_is_better", "better"), [(True, "b"), (False, "a")])
def test_the_verdict_names_the_better_one(higher_is_better: bool, better: str) -> None:
    a, b = two_learners(0, 5, gap=0.4)
    (row,) = significance_of({"t": {"a": a, "b": b}}, {"t": higher_is_better}).to_dict("records")
    assert (row["verdict"], row["better"]) == ("different", better)


# ---------------------------------------------------------------- from a table of scores


def long(scores: dict[str, Scores], tasks: str = "digits", **columns: Any) -> pd.DataFrame:
    rows = [
        (tasks, learner, f"run {run}", f"task {task}", score)
        for learner, matrix in scores.items()
        for (task, run), score in np.ndenumerate(matrix)
    ]
    return pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "score"]).assign(**columns)


def test_a_table_of_another_librarys_scores_is_judged_whatever_the_order_of_its_rows() -> None:
    a, b = two_learners(1, 4, gap=0.2)
    table = long({"a": a, "b": b})
    found = am.significance(table.sample(frac=1, random_state=0).sort_values("learner"), higher_is_better=True)
    assert list(found.columns) == SIGNIFICANCE
    assert found["p_value"][0] == pytest.approx(difference_of(a, b).p_value)
    assert found["better"][0] == "b"
    by_metric = am.significance(table.assign(metric="mse"))
    assert by_metric["better"][0] == "a"
    pd.testing.assert_frame_equal(am.significance(table, higher_is_better={"digits": False}), by_metric)


def test_learners_trained_on_other_tasks_are_others() -> None:
    a, b = two_learners(1, 3)
    table = pd.concat([long({"a": a}, trained_on="digits"), long({"a": b}, trained_on="glyphs")])
    (row,) = am.significance(table, higher_is_better=True).to_dict("records")
    assert (row["learner_a"], row["trained_on_a"]) == ("a", "digits")
    assert (row["learner_b"], row["trained_on_b"]) == ("a", "glyphs")


def test_one_learner_alone_gives_an_empty_table_with_its_columns() -> None:
    found = am.significance(long({"a": normal(10, 2)}), higher_is_better=True)
    assert found.empty
    assert list(found.columns) == SIGNIFICANCE


GOOD = long({"a": normal(4, 2), "b": normal(4, 2, seed=1)})
NUMBERED = GOOD.assign(
    seed=GOOD["seed"].str.split().str[1].astype(int), task=GOOD["task"].str.split().str[1].astype(int)
)
SHARES = GOOD.assign(score=np.linspace(0.99, 0.5, len(GOOD)))
GOOD_VALUES = {**GOOD.iloc[0].to_dict(), "trained_on": "glyphs", "metric": "accuracy"}


def test_one_task_says_nothing_about_others_however_many_runs_there_are() -> None:
    found = am.significance(long({"a": normal(1, 5), "b": normal(1, 5, seed=1) + 9}), higher_is_better=True)
    assert found["verdict"].tolist() == ["not decided"]
    assert found[["p_value", "ci_low", "ci_high", "p_holm", "runs_needed"]].isna().all(axis=None)
    assert found["run_spread"].gt(0).all()
    assert np.isnan(interval_of(normal(1, 5), positive=False)).all()
    assert np.isfinite(interval_of(normal(2, 5), positive=False)).all()


@pytest.mark.parametrize(
    ("table", "settings", "error", "message"),
    [
        (GOOD.drop(columns="seed"), {"higher_is_better": True}, am.InvalidData, "lacks the columns 'seed'"),
        (GOOD.to_numpy(), {"higher_is_better": True}, am.InvalidData, "lacks the columns 'tasks', 'learner'"),
        (GOOD, {}, am.InvalidParameter, "higher_is_better is needed: .* no column 'metric'"),
        (GOOD.assign(metric="f1"), {}, am.InvalidParameter, "of metric 'f1', which is not autometa's"),
        (GOOD, {"higher_is_better": {"glyphs": True}}, am.InvalidParameter, "says nothing about 'digits'"),
        (pd.concat([GOOD, GOOD[:1]]), {"higher_is_better": True}, am.InvalidData, "two rows for learner 'a'"),
        (GOOD[1:], {"higher_is_better": True}, am.InvalidData, "lacks a finite score for learner 'a' .* 'run 0'"),
        (GOOD.replace({"score": {GOOD["score"][3]: np.nan}}), {"higher_is_better": True}, am.InvalidData, "'task 1'"),
        (GOOD[2:], {"higher_is_better": True}, am.InvalidData, "judged on different tasks"),
        (GOOD.assign(score="high"), {"higher_is_better": True}, am.InvalidData, "column 'score' holds 'high'"),
        (
            pd.concat([NUMBERED, NUMBERED[:1]]),
            {"higher_is_better": True},
            am.InvalidData,
            "for learner 'a' on 'digits', seed 0, task 0",
        ),
        (
            GOOD.assign(metric=np.where(GOOD["learner"] == "a", "mse", "accuracy")),
            {},
            am.InvalidData,
            "on 'digits' are of several metrics, 'mse' and 'accuracy', which cannot be compared",
        ),
        *(
            (
                SHARES.assign(metric=metric).replace({"score": {SHARES["score"][5]: score}}),
                {"higher_is_better": True},
                am.InvalidData,
                f"holds {score:g} for learner 'a' on 'digits', but '{metric}' is a number {wanted}; mend",
            )
            for metric, score, wanted in (
                ("accuracy", 7.0, "from 0 to 1, or percentages throughout"),
                ("accuracy", -1.0, "from 0 to 1, or percentages throughout"),
                *(("calibration_error", score, "from -1 to 1, or percentages throughout") for score in (1.1, -1.1)),
                ("brier", 2.1, "from 0 to 2"),
                ("r2", 1.1, "of at most 1"),
                *((metric, -0.1, "of at least 0") for metric in ("mse", "mae", "log_loss")),
            )
        ),
        (
            SHARES.assign(metric="accuracy", score=100 * SHARES["score"] + 30),
            {},
            am.InvalidData,
            "holds 1[0-9.]+ for learner 'a' on 'digits', but 'accuracy' is .* percentages throughout",
        ),
        *(
            (
                GOOD.assign(trained_on="glyphs", metric="accuracy").replace({name: {GOOD_VALUES[name]: None}}),
                {},
                am.InvalidData,
                f"column '{name}' of scores has no value in {n} of 16 rows; fill it",
            )
            for name, n in (("tasks", 16), ("learner", 8), ("seed", 8), ("task", 4), ("trained_on", 16), ("metric", 16))
        ),
    ],
)
def test_what_cannot_be_compared_is_named(table: Any, settings: Any, error: type[Exception], message: str) -> None:
    for verdict in (am.significance, am.practical_equivalence, am.critical_difference):
        with pytest.raises(error, match=message):
            verdict(table, **settings)


@pytest.mark.parametrize("sizes", [(0.5, 3, 2, 7), (0, 0, 0.2, 100, 99.9)])
def test_small_percentages_are_percentages(sizes: Sequence[float]) -> None:
    assert len(am.significance(_accuracies(sizes))) == 1


@pytest.mark.parametrize("sizes", [(0, 1, 1, 7), (0.4, 7, 0, 0), (0, 0, 1, 1, 100), (30, 40, 101)])
def test_shares_with_a_mistake_are_no_percentages(sizes: Sequence[float]) -> None:
    with pytest.raises(am.InvalidData, match="or percentages throughout"):
        am.significance(_accuracies(sizes))


def _accuracies(sizes: Sequence[float]) -> pd.DataFrame:
    rows = [
        ("digits", learner, seed, task, "accuracy", size)
        for learner, of in (("a", sizes), ("b", sizes[::-1]))
        for seed in range(2)
        for task, size in enumerate(of)
    ]
    return pd.DataFrame(rows, columns=["tasks", "learner", "seed", "task", "metric", "score"])


def test_rounding_takes_no_score_out_of_its_range() -> None:
    beyond = SHARES.assign(metric="accuracy").replace({"score": {SHARES["score"][0]: 1 + 1e-7}})
    assert len(am.significance(beyond)) == 1


# ---------------------------------------------------------------- ranks


def pairs_of(rows: list[tuple[str, str, str, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["learner_a", "learner_b", "verdict", "better"])


def test_mean_ranks_by_hand_rest_on_what_the_tests_find() -> None:
    level, still_open = ("a", "c", "no difference found", None), ("b", "c", "not decided", None)
    images = pairs_of([("a", "b", "different", "a"), level, still_open])
    functions = pairs_of([("a", "b", "different", "b"), ("a", "c", "different", "a"), ("b", "c", "different", "b")])
    table = mean_ranks({"images": (["a", "b", "c", "here alone"], images), "functions": (["a", "b", "c"], functions)})
    # images: a 1 + 0 + .5, b 1 + 1 + .5, c 1 + .5 + .5; functions: a 2, b 1, c 3
    assert dict(zip(table["learner"], table["mean_rank"], strict=True)) == {"a": 1.75, "b": 1.75, "c": 2.5}
    assert mean_ranks({"images": (["a", "b", "c"], images)}).empty
