"""Objectives: what they measure, their direction everywhere, and that trials are tuned on them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn import metrics
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.calibration import Probabilities
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import PLAN
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.settings import Settings
from autometa.comparison.report.advice import step_words
from autometa.comparison.results.crossed_effects import difference_of
from autometa.contracts.objectives import OBJECTIVES, Objective
from autometa.contracts.problems import PROBLEMS, find_objective, objective_names, objectives_of, problem_of_metric
from autometa.contracts.scores import LEAST_PROBABILITY
from autometa.engine.judging import adapt_and_judge
from autometa.engine.measure import Measure, log_density_of
from autometa.testing.toys import Lines, Shifts
from autometa.training import evaluate
from learning import STANDARD_ERRORS
from test_comparison import FAST

BLOBS: dict[str, Any] = {**FAST, "n_seeds": 2, "n_test_tasks": 60, "n_valid_tasks": 40, "max_steps": 1}


class Says(am.Learner):
    """Answers what it is told, whatever the tasks; with ``deviation`` also how sure it is."""

    default_meta_optimizer: ClassVar[str | None] = None

    def __init__(self, outputs: Any = None, deviation: Any = None) -> None:
        self.outputs, self.deviation = outputs, deviation

    @property
    def provides(self) -> frozenset[str]:
        return frozenset() if self.deviation is None else frozenset({"distribution"})

    predicts_unseen_classes: ClassVar[bool] = True

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return torch.zeros(len(support))

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return torch.as_tensor(self.outputs, dtype=x.dtype)

    def predict_distribution(self, module: nn.Module, adapted: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.predict(module, adapted, x)
        return mean, torch.as_tensor(self.deviation, dtype=x.dtype).expand_as(mean)


def measured(name: str, learner: Says, query: am.Examples, *, scale: float = 1.0) -> np.ndarray[Any, Any]:
    """Scores of tasks whose queries are given."""
    has_classes = query.is_classification
    info = am.TaskInfo(
        problem="classification" if has_classes else "regression",
        input_shape=(1,),
        n_outputs=query.n_classes if has_classes else 1,
        n_shot=1,
        n_query=query.y.shape[1],
        target_scale=scale,
    )
    measure = Measure(OBJECTIVES[name], learner, nn.Identity(), info)
    adapted, outcome = adapt_and_judge(learner, nn.Identity(), am.TaskBatch(support=query, query=query))
    measure(am.TaskBatch(support=query, query=query), adapted, outcome)
    return measure.scores()


def classes(y: list[list[int]], mask: list[list[bool]] | None = None, n_classes: int = 2) -> am.Examples:
    labels = torch.tensor(y)
    return am.Examples(torch.zeros(*labels.shape, 1), labels, None if mask is None else torch.tensor(mask), n_classes)


def targets(y: list[list[float]], mask: list[list[bool]] | None = None) -> am.Examples:
    values = torch.tensor(y, dtype=torch.float64)
    x = torch.zeros(*values.shape, 1, dtype=torch.float64)
    return am.Examples(x, values, None if mask is None else torch.tensor(mask))


# ---------------------------------------------------------------- exact values

PROBABILITIES = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]], [[0.9, 0.05, 0.05]] * 3])
LABELS = classes([[0, 1, 0], [0, 1, 2]], [[True, True, True], [True, True, False]], 3)


def test_log_loss_is_the_mean_surprise_of_the_right_class_over_the_queries() -> None:
    found = measured("log_loss", Says(PROBABILITIES.log()), LABELS)
    assert found == pytest.approx(
        [-(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3, -(math.log(0.9) + math.log(0.05)) / 2], rel=1e-6
    )
    assert found[0] == pytest.approx(metrics.log_loss([0, 1, 0], PROBABILITIES[0].numpy(), labels=[0, 1, 2]), rel=1e-6)


def test_brier_is_the_squared_distance_of_the_probabilities() -> None:
    found = measured("brier", Says(PROBABILITIES.log()), LABELS)
    of_queries = [0.25 + 2 * 0.0625, 0.04 + 2 * 0.01, 0.64 + 0.04 + 0.36]
    assert found == pytest.approx([sum(of_queries) / 3, (0.01 + 2 * 0.0025 + 0.81 + 0.9025 + 0.0025) / 2], rel=1e-6)


@pytest.mark.parametrize("impossible", [-math.inf, torch.finfo(torch.float32).min, -1e30])
def test_the_right_class_taken_to_be_impossible_costs_a_finite_amount(impossible: float) -> None:
    outputs = [[[0.0, impossible], [0.0, impossible]]]
    found = measured("log_loss", Says(outputs), classes([[1, 0]]))
    assert found == pytest.approx([-math.log(LEAST_PROBABILITY) / 2])
    assert measured("brier", Says(outputs), classes([[1, 0]])) == pytest.approx([1.0])
    assert measured("calibration_error", Says(outputs), classes([[1, 0]])) == pytest.approx([0.5])


def test_calibration_error_is_the_expected_calibration_error_of_all_queries_together() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = 2 * torch.randn(30, 20, 3, generator=generator)
    shares = outputs.softmax(-1).flatten(0, 1)
    labels = torch.multinomial(shares, 1, generator=generator).reshape(30, 20)
    query = am.Examples(torch.zeros(30, 20, 1), labels, n_classes=3)
    found = measured("calibration_error", Says(outputs), query)
    own = Probabilities()
    batch = am.TaskBatch(support=query, query=query)
    own(batch, None, adapt_and_judge(Says(outputs), nn.Identity(), batch)[1])
    assert found.mean() == pytest.approx(own.measured()["calibration_error"])
    assert found.min() < 0, "a single task may pull the other way than all together"


def test_what_a_calibrated_learner_is_off_by_falls_with_the_number_of_queries() -> None:
    rng, bound = np.random.default_rng(0), 1.3
    for n_tasks in (40, 640):
        sizes = []
        for _ in range(20):
            p = rng.uniform(0.5, 1, (n_tasks, 25))
            y = (rng.uniform(size=p.shape) > p).astype(int)  # class 0 with its probability
            outputs = torch.as_tensor(np.stack([np.log(p), np.log1p(-p)], axis=-1))
            query = am.Examples(torch.zeros(*p.shape, 1), torch.as_tensor(y), n_classes=2)
            sizes.append(measured("calibration_error", Says(outputs), query).mean())
        assert 0.2 * bound < np.mean(sizes) * math.sqrt(25 * n_tasks) < bound


REAL = targets([[1.0, 2.0, 4.0], [3.0, 5.0, 0.0]], [[True, True, True], [True, True, False]])
MEANS = [[[1.5], [2.0], [3.0]], [[3.0], [4.0], [99.0]]]


def test_errors_and_explained_variance_of_real_targets_are_those_of_scikit_learn() -> None:
    assert measured("mae", Says(MEANS), REAL, scale=10.0) == pytest.approx([5.0, 5.0])
    found = measured("r2", Says(MEANS), REAL, scale=10.0)
    assert found == pytest.approx([metrics.r2_score([1, 2, 4], [1.5, 2, 3]), metrics.r2_score([3, 5], [3, 4])])


def test_where_targets_do_not_differ_there_is_nothing_to_explain() -> None:
    same = targets([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]])
    assert measured("r2", Says([[[0.1]] * 3, [[0.2]] * 3]), same).tolist() == [1.0, 0.0]


def test_log_likelihood_is_the_mean_log_density_in_the_units_of_the_targets() -> None:
    learner = Says(MEANS, [[[0.5], [1.0], [2.0]], [[1.0], [1.0], [7.0]]])
    wanted = norm.logpdf([10, 20, 40], [15, 20, 30], [5, 10, 20]).mean()
    found = measured("log_likelihood", learner, REAL, scale=10.0)
    assert found == pytest.approx([wanted, norm.logpdf([30, 50], [30, 40], [10, 10]).mean()])


def test_a_deviation_of_nothing_has_a_finite_likelihood() -> None:
    found = measured("log_likelihood", Says([[[1.0], [2.0]]], 0.0), targets([[1.0, 2.0]]))
    assert found == pytest.approx([norm.logpdf(0, 0, 1e-6)])
    assert math.isfinite(measured("log_likelihood", Says([[[1.0], [9.0]]], 1e-38), targets([[1.0, 2.0]]))[0])


class Flat(Says):
    """Uniform between 0 and 4, about."""

    provides: ClassVar[frozenset[str]] = frozenset({"distribution", "density"})  # type: ignore[assignment]

    def predict_log_density(self, module: nn.Module, adapted: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.where((y >= 0) & (y <= 4), math.log(0.25), math.log(1e-9))


def test_a_density_of_the_learners_own_counts_in_place_of_the_gaussian() -> None:
    found = measured("log_likelihood", Flat([[[2.0], [2.0]]], 1.0), targets([[3.0, 5.0]]), scale=2.0)
    assert found == pytest.approx([(math.log(0.25) + math.log(1e-9)) / 2 - math.log(2)])


def test_the_likelihood_of_a_histogram_is_its_own() -> None:
    tasks, learner = am.make_tasks("sinusoid", n_shot=5), am.make_learner("pfn")
    module = learner.build(tasks.info).double()
    drawn = tasks.sample(3, split="test", seed=0).to(dtype=torch.float64)
    x, y = drawn.query.x, drawn.query.targets()
    with torch.no_grad():
        adapted = learner.adapt(module, drawn.support)
        found = log_density_of(learner, module, adapted, x, y)
        low, high = learner.predict_quantiles(module, adapted, x, torch.tensor([0.2, 0.2 + 1e-6], dtype=torch.float64))
        middle = log_density_of(learner, module, adapted, x, (low + high) / 2)
        mean, deviation = learner.predict_distribution(module, adapted, x)
    torch.testing.assert_close(middle.exp(), 1e-6 / (high - low), rtol=1e-4, atol=0)
    gaussian = torch.distributions.Normal(mean, deviation).log_prob(y)
    assert float((found - gaussian).abs().max()) > 0.05


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_answer_that_is_not_finite_has_no_score(name: str) -> None:
    if OBJECTIVES[name].problem == "classification":
        learner, query = Says([[[math.nan, 0.0]], [[2.0, 0.0]]]), classes([[0], [0]])
    else:
        learner, query = Says([[[math.nan]], [[2.0]]], 1.0), targets([[0.0], [2.0]])
    assert np.isfinite(measured(name, learner, query)).tolist() == [False, True]


# ---------------------------------------------------------------- records


def test_every_objective_has_a_name_of_its_own_and_a_problem() -> None:
    names = [name for problem in PROBLEMS.values() for name in objectives_of(problem)]
    assert len(names) == len(set(names)) == len(PROBLEMS) + len(OBJECTIVES)
    assert objective_names() == ("auto", *names)
    for problem in PROBLEMS.values():
        assert find_objective(problem, "auto") is find_objective(problem, problem.metric) is None
        assert problem_of_metric(problem.metric) is problem
    for name, objective in OBJECTIVES.items():
        judged = problem_of_metric(name)
        assert (judged.metric, judged.name) == (name, objective.problem)
        assert (judged.higher_is_better, judged.is_share) == (objective.higher_is_better, objective.is_share)
        with pytest.raises(am.Incompatible, match=f"it is judged by '{name}'"):
            judged.score  # noqa: B018


def margin(outputs: Tensor, query: am.Examples) -> Tensor:
    """By how much the logit of the right class is above the mean."""
    right = outputs.gather(2, query.y.unsqueeze(2)).squeeze(2)
    return ((right - outputs.mean(-1)) * query.mask).sum(1) / query.mask.sum(1)


def test_one_more_record_is_one_more_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Objective(
        name="margin",
        title="margin",
        problem="classification",
        higher_is_better=True,
        score_path=f"{__name__}:margin",
    )
    monkeypatch.setitem(OBJECTIVES, "margin", record)
    found = am.compare("digits", {"cold": Tempered(), "hot": Tempered(heat=10.0)}, objective="margin", **BLOBS)
    assert set(found.leaderboard["metric"]) == {"margin"}
    assert found.leaderboard["score"].is_monotonic_decreasing


def test_evaluation_tells_both_scores() -> None:
    tasks, learner = Shifts(), am.make_learner("prototypical")
    module = learner.build(tasks.info)
    own = evaluate(learner, module, tasks, split="test", n_tasks=30, seed=0)
    both = evaluate(learner, module, tasks, split="test", n_tasks=30, seed=0, objective=OBJECTIVES["log_loss"])
    assert own.scores is own.metric_scores
    np.testing.assert_array_equal(both.metric_scores, own.scores)
    assert not np.array_equal(both.scores, own.scores)
    lines, maml = Lines(), am.make_learner("maml")
    module, objective = maml.build(lines.info), OBJECTIVES["log_likelihood"]
    with pytest.raises(am.Incompatible, match="MAML predicts none"):
        evaluate(maml, module, lines, split="test", n_tasks=1, seed=0, objective=objective)


# ---------------------------------------------------------------- comparisons


class Tempered(am.Learner):
    """Prototypes whose logits have a temperature, which changes no answer."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, heat: float = 100.0) -> None:
        self.heat = heat

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        member = support.one_hot()
        return member.mT @ support.x.flatten(2) / member.sum(1).unsqueeze(-1).clamp(min=1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return -torch.cdist(x.flatten(2), adapted).square() / self.heat

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(heat=trial.suggest_float("heat", 0.01, 100.0, log=True))


@pytest.fixture(scope="module")
def tuned() -> dict[str, am.Comparison]:
    settings = {**BLOBS, "n_trials": 10}
    return {name: am.compare("digits", {"tempered": Tempered()}, objective=name, **settings) for name in OF_CLASSES}


OF_CLASSES = ("auto", "log_loss", "brier")


@pytest.mark.thorough
def test_trials_are_tuned_on_the_objective(tuned: dict[str, am.Comparison]) -> None:
    heat = {name: of.leaderboard["params"].iloc[0]["learner__heat"] for name, of in tuned.items()}
    assert heat["auto"] == 100.0, "no temperature changes an accuracy, so that the defaults stay"
    assert heat["log_loss"] < 50
    loss = tuned["log_loss"].leaderboard.iloc[0]
    (defaults,) = am.compare(
        "digits", {"tempered": Tempered()}, objective="log_loss", **{**BLOBS, "n_trials": 1}
    ).leaderboard["score"]
    assert loss["score"] < 0.8 * defaults
    assert loss["accuracy"] == tuned["auto"].leaderboard["score"].iloc[0]
    trials = tuned["log_loss"].trials
    assert trials.set_index("slot")["value"].idxmin() != 0
    assert tuned["log_loss"].studies["comparison/digits/tempered"].direction is optuna.study.StudyDirection.MINIMIZE


@pytest.mark.thorough
def test_the_metric_of_the_problem_stays_a_column_and_auto_has_no_other(tuned: dict[str, am.Comparison]) -> None:
    auto, loss = tuned["auto"], tuned["log_loss"]
    assert "accuracy" not in auto.leaderboard.columns
    assert list(auto.scores.columns) == ["tasks", "learner", "seed", "task", "metric", "score", "trained_on"]
    assert set(loss.scores["metric"]) == set(loss.leaderboard["metric"]) == {"log_loss"}
    assert loss.scores["accuracy"].mean() == pytest.approx(loss.leaderboard["accuracy"].iloc[0])
    np.testing.assert_array_equal(loss.scores["accuracy"], auto.scores["score"])


@pytest.mark.thorough
def test_the_metric_by_name_is_the_same_comparison_as_auto(tmp_path: Path, tuned: dict[str, am.Comparison]) -> None:
    settings = {**BLOBS, "n_trials": 10}
    named = am.compare("digits", {"tempered": Tempered()}, objective="accuracy", output=tmp_path / "run", **settings)
    pd.testing.assert_frame_equal(named.scores, tuned["auto"].scores)
    assert named.plan["settings"]["objective"] == "auto"
    assert am.compare("digits", {"tempered": Tempered()}, output=tmp_path / "run", **settings).complete


@pytest.mark.thorough
@pytest.mark.reports
def test_the_best_of_errors_is_the_lowest_everywhere(tmp_path: Path) -> None:
    learners = {"sure": Tempered(heat=1e-6), "fair": Tempered(heat=0.3), "flat": Tempered(heat=1e6)}
    settings = {**BLOBS, "n_trials": 1}
    found = am.compare("digits", learners, objective="log_loss", output=tmp_path / "run", **settings)
    board = found.leaderboard
    assert list(board["learner"]) == sorted(
        board["learner"], key=dict(zip(board["learner"], board["score"], strict=True)).get
    )  # type: ignore[arg-type]
    best = board["learner"].iloc[0]
    assert (board["accuracy"] == board["accuracy"].iloc[0]).all()
    assert (board["ci_low"] > 0).all(), "no log loss is below 0"
    assert board[["score", "ci_high"]].max(axis=None) <= -math.log(LEAST_PROBABILITY)
    pairs = found.significance.dropna(subset=["p_beside_best"])
    assert all(best in pair for pair in zip(pairs["learner_a"], pairs["learner_b"], strict=True))
    decided = found.significance[found.significance["verdict"] == "different"]
    score = board.set_index("learner")["score"]
    assert len(decided)
    for row in decided.itertuples():
        assert row.better == min(row.learner_a, row.learner_b, key=score.__getitem__)
    told = found.advice("digits")
    assert told is not None
    assert told.answer.startswith(f"{best} did best: log loss {score[best]:#.4g}")
    pd.testing.assert_frame_equal(am.significance(found.scores), found.significance)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "log loss" in page
    assert "lower is better" in page
    front = found.pareto.set_index("learner")
    assert front.loc[best, "on_front"]


def test_the_theta_that_counts_is_the_best_by_the_objective() -> None:
    tasks, settings = am.make_tasks("sinusoid", n_shot=5), {**BLOBS, "n_trials": 1, "max_steps": 8, "n_seeds": 1}
    found = am.compare({"sines": tasks}, "cnp", objective="log_likelihood", **settings)
    curve = found.curves[found.curves["axis"] == "outer steps"].set_index("value")["score"]
    assert len(curve) == 5
    assert problem_of_metric("log_likelihood").higher_is_better
    assert found.studies["comparison/sines/cnp"].direction is optuna.study.StudyDirection.MAXIMIZE
    model, domain = found.best_estimator(), Domain(label="sines", sampler=tasks, settings=Settings())
    judged = evaluate(
        model.learner_,
        model.module_,
        tasks,
        split="valid",
        n_tasks=settings["n_valid_tasks"],
        seed=domain.seed("valid"),
        objective=OBJECTIVES["log_likelihood"],
    )
    assert judged.scores.mean() == pytest.approx(curve.max())
    assert curve.max() > curve.min()
    assert found.leaderboard["mse"].iloc[0] > 0


def test_learners_without_a_distribution_are_left_out_of_likelihoods_with_the_reason() -> None:
    settings = {**FAST, "n_seeds": 1, "n_trials": 1}
    found = am.compare("sinusoid", "cnp", objective="log_likelihood", **{**settings, "baselines": True})
    assert list(found.leaderboard["learner"]) == ["cnp"]
    (row,) = found.skipped.itertuples()
    assert (row.tasks, row.learner, row.trained_on) == ("sinusoid", "sklearn", "sinusoid")
    assert row.reason.startswith("objective='log_likelihood' asks for a predictive distribution")
    with pytest.raises(am.Incompatible, match="learner 'ridge' fits none .* asks for a predictive distribution"):
        am.compare("sinusoid", ["ridge"], objective="log_likelihood", **settings)


@pytest.mark.thorough
def test_what_is_judged_elsewhere_is_judged_by_the_objective_too() -> None:
    letters, settings = am.make_tasks("glyphs", size=8, n_way=3), {**BLOBS, "n_seeds": 1, "n_trials": 1}
    found = am.compare({"letters": letters}, "prototypical", test_tasks="digits", objective="brier", **settings)
    assert found.leaderboard["tasks"].tolist() == ["letters", "digits"]
    assert set(found.leaderboard["metric"]) == {"brier"}
    assert found.leaderboard["accuracy"].between(0.34, 1).all()
    assert found.leaderboard["score"].between(0.01, 0.9).all()


def test_one_study_for_all_learners_chooses_by_the_objective() -> None:
    learners = {"sure": Tempered(heat=1e-6), "fair": Tempered(heat=30.0), "flat": Tempered(heat=1e6)}
    settings = {**BLOBS, "n_seeds": 1, "n_trials": 3, "search": "joint"}
    found = am.compare("digits", learners, objective="log_loss", **settings)
    assert found.trials.set_index("learner")["value"].idxmin() == found.leaderboard["learner"].iloc[0] == "fair"


@pytest.mark.parametrize(
    ("tasks", "objective", "text"),
    [
        (
            "sinusoid",
            "log_loss",
            "tasks 'sinusoid' .* objective='log_loss' is none of regression, which has 'auto', 'mse'",
        ),
        (["digits", "sinusoid"], "r2", "tasks 'digits' .*'r2' is none of classification"),
        ("bandit", "r2", "tasks 'bandit' .* none of control, which has 'auto', 'return'"),
        ("digits", "logloss", "objective='logloss' must be one of 'auto', 'accuracy', 'log_loss'"),
        ("digits", None, "objective=None must be one of"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(tasks: Any, objective: Any, text: str) -> None:
    with pytest.raises(am.InvalidParameter, match=text):
        am.compare(tasks, objective=objective, verbose=0)


@pytest.mark.parametrize(
    ("score", "other", "metric", "said"),
    [
        (0.5, 0.25, "log_loss", "100% above"),
        (0.02, 0.05, "calibration_error", "3.0 points below"),
        (-0.5, -2.0, "log_likelihood", "1.500 above"),
        (0.2, 0.9, "r2", "0.7000 below"),
        (1.0, 4.0, "mae", "75% below"),
    ],
)
def test_a_step_between_scores_is_told_as_it_means_something(
    score: float, other: float, metric: str, said: str
) -> None:
    assert step_words(score, other, metric) == said


# ---------------------------------------------------------------- growth


@pytest.mark.thorough
def test_a_folder_goes_on_with_its_objective_alone(tmp_path: Path) -> None:
    settings = {**FAST, "n_trials": 2, "n_seeds": 1}
    first = am.compare("sinusoid", ["ridge"], objective="mae", output=tmp_path / "run", **settings)
    with pytest.raises(am.InvalidParameter, match="objective='mae' there and 'auto' here"):
        am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **settings)
    more = {**settings, "n_trials": 4, "n_seeds": 2}
    grown = am.compare("sinusoid", ["ridge"], objective="mae", output=tmp_path / "run", **more)
    assert len(grown.trials) == 4
    pd.testing.assert_frame_equal(grown.scores, am.compare("sinusoid", ["ridge"], objective="mae", **more).scores)
    assert list(first.leaderboard.columns)[-1] == "mse"
    loaded = am.Comparison.load(tmp_path / "run")
    pd.testing.assert_frame_equal(loaded.scores, grown.scores)


def test_a_folder_of_before_there_were_objectives_goes_on(tmp_path: Path) -> None:
    settings = {**FAST, "n_trials": 2, "n_seeds": 1}
    before = am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **settings)
    study = optuna.load_study(storage=open_storage(str(tmp_path / "run" / "journal.log")), study_name="run")
    plan = json.loads(json.dumps(study.user_attrs[PLAN]))
    for name in ("objective", "max_latency", "max_memory"):
        del plan["settings"][name]
    study.set_user_attr(PLAN, plan)
    assert am.Comparison.load(tmp_path / "run").complete
    grown = am.compare("sinusoid", ["ridge"], output=tmp_path / "run", **{**settings, "n_seeds": 2})
    pd.testing.assert_frame_equal(grown.scores[grown.scores["seed"] == 0], before.scores)
    with pytest.raises(am.InvalidParameter, match="objective='auto' there and 'mae' here"):
        am.compare("sinusoid", ["ridge"], objective="mae", output=tmp_path / "run", **{**settings, "n_seeds": 2})


# ---------------------------------------------------------------- statistics


def calibration_of_runs(rng: np.random.Generator, n_runs: int, heat: float) -> np.ndarray[Any, Any]:
    """Scores [tasks, runs] of a learner of two classes that is sure by ``heat`` times too much, a little by run."""
    logits = rng.normal(0, 1.5, (100, 15))
    labels = torch.as_tensor((rng.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(int))
    query = am.Examples(torch.zeros(*logits.shape, 1), labels, n_classes=2)
    runs = heat * np.exp(0.1 * rng.normal(size=n_runs))
    told = (torch.as_tensor(np.stack([np.zeros_like(logits), run * logits], axis=-1)) for run in runs)
    return np.stack([measured("calibration_error", Says(outputs), query) for outputs in told], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_a_learner_is_not_found_to_be_better_calibrated_than_itself(heat: float) -> None:
    rng, n_times = np.random.default_rng(0), 200
    alarms = 0
    for _ in range(n_times):
        scores = calibration_of_runs(rng, 10, heat)
        alarms += difference_of(scores[:, :5], scores[:, 5:]).p_value < 0.05
    assert alarms / n_times <= 0.05 + STANDARD_ERRORS * math.sqrt(0.05 * 0.95 / n_times)
