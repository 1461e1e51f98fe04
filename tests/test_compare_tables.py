"""A comparison on a table: scores by labelled rows, gaps to the pooled model, who gains, calibration, the advice."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from scipy.stats import ttest_rel
from sklearn.metrics import log_loss
from torch import Tensor, nn

import autometa as am
from autometa.cli.screen import show_leaderboard
from autometa.comparison.execution.calibration import Probabilities, expected_calibration_error
from autometa.comparison.execution.labelled_rows import by_labelled_rows
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.entrants import with_baselines
from autometa.comparison.plan.settings import Settings
from autometa.comparison.report.advice import step_words
from autometa.comparison.report.canvas import styles
from autometa.comparison.report.figures import curve_figure, interval_figure
from autometa.comparison.results.crossed_effects import difference_of
from autometa.comparison.results.entities import entities_of
from autometa.comparison.results.gaps import gaps_to
from autometa.comparison.results.labelled_rows import best_by_rows
from autometa.comparison.results.references import References
from autometa.contracts.seeding import derive_seed
from autometa.engine.judging import judge
from autometa.training import MetaTraining
from tiers import first_by_default

pytestmark = pytest.mark.pictures

FAST: dict[str, Any] = {
    "n_trials": 1,
    "n_test_tasks": 30,
    "n_valid_tasks": 5,
    "n_seeds": 2,
    "max_steps": 3,
    "tasks_per_step": 4,
    "device": "cpu",
    "verbose": 0,
}


def table(classes: bool = False, n: int = 40) -> pd.DataFrame:
    """Schools of 6 to 13 pupils, each with a level of its own."""
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(n), 6 + np.arange(n) % 8)
    rows = pd.DataFrame({"school": [f"school {i}" for i in school], "hours": rng.uniform(0, 9, len(school))})
    score = rng.normal(0, 3, n)[school] + rows["hours"] + rng.normal(0, 1, len(rows))
    return rows.assign(score=np.where(score > score.median(), "good", "bad") if classes else score)


def schools(classes: bool = False, **given: Any) -> am.TaskSampler:
    given = {"data": table(classes), "n_shot": 3, "n_query": 4, "stratified": False, "every_entity": True, **given}
    return am.make_tasks("table", task="school", target="score", **given)


def trained(learner: am.Learner | str, tasks: am.TaskSampler) -> MetaTraining:
    from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer

    made = resolve_learner(learner, tasks.info.problem)
    training = MetaTraining(
        made, resolve_meta_optimizer("auto", made), tasks, n_steps=2, tasks_per_step=4, seed=0, device="cpu"
    )
    training.run_to(1.0)
    return training


def domain_of(tasks: am.TaskSampler, n_test_tasks: int = 30) -> Domain:
    return Domain(label="schools", sampler=tasks, settings=Settings(n_test_tasks=n_test_tasks))


class Level(am.Learner):
    """Predicts the mean of the support targets, with a deviation that is given."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset({"distribution"})
    needs_support: ClassVar[bool] = True

    def __init__(self, deviation: float = 1.0, least_rows: int = 1) -> None:
        self.deviation = deviation
        self.least_rows = least_rows

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if int(support.mask.sum(1).max()) < self.least_rows:
            raise RuntimeError("too few rows")
        return support.targets().sum(1) / support.mask.sum(1, keepdim=True)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.unsqueeze(1).expand(-1, x.shape[1], -1)

    def predict_distribution(self, module: nn.Module, adapted: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.predict(module, adapted, x)
        return mean, torch.full_like(mean, self.deviation)


class LopsidedLevel(Level):
    """Knows that no target lies below the mean."""

    provides: ClassVar[frozenset[str]] = frozenset({"distribution", "quantiles"})

    def predict_quantiles(self, module: nn.Module, adapted: Tensor, x: Tensor, q: Tensor) -> Tensor:
        return self.predict(module, adapted, x) + 2 * self.deviation * q[:, None, None, None]


@pytest.mark.parametrize("classes", [False, True])
def test_points_are_what_judging_each_entity_alone_gives(classes: bool) -> None:
    tasks = schools(classes)
    training, domain = trained(am.make_learner("mixed_effects", pool="linear"), tasks), domain_of(tasks)
    found = by_labelled_rows(training, domain)["labelled"]
    n_test = tasks.describe()["tasks"]["test"]
    assert found["tasks"] == sorted(found["tasks"])
    assert len(found["tasks"]) == n_test == 8
    assert [point["rows"] for point in found["points"]] == [0, 1, 2, 5], "half of the schools have 7 to label at most"
    module, unit = training.module.eval(), tasks.info.target_scale**tasks.info.problem_record.unit_power
    for point in found["points"]:
        scores: dict[int, list[float]] = {}
        for time in range(30 // n_test):
            for batch in tasks.each_task(20, split="test", seed=derive_seed(domain.seed("labelled rows"), time)):
                for i, task in enumerate(batch.ids.tolist()):
                    one, n = batch[i : i + 1], min(point["rows"], int(batch.support.mask[i].sum()))
                    rows = one.support.select(slice(n)) if n else one.support.select(slice(1))
                    mask = rows.mask if n else torch.zeros_like(rows.mask)
                    known = am.TaskBatch(support=rows.with_parts(mask=mask), query=one.query)
                    outcome = judge(training.learner, module, known)
                    scores.setdefault(task, []).append(unit * float(outcome.scores))
        np.testing.assert_allclose(point["scores"], [np.mean(scores[task]) for task in found["tasks"]], rtol=1e-4)


def test_entities_are_as_few_as_tasks_were_asked_for_and_drawn_often_where_they_are_few() -> None:
    tasks = schools()
    assert len(by_labelled_rows(trained("baselines/sklearn", tasks), domain_of(tasks, 3))["labelled"]["tasks"]) == 3
    waves = am.make_tasks("sinusoid")
    assert by_labelled_rows(trained("optimization/ridge", waves), domain_of(waves)) == {}


def test_a_learner_that_needs_labels_has_no_point_without_any_and_one_that_fails_says_why() -> None:
    tasks = schools()
    points = by_labelled_rows(trained(Level(least_rows=3), tasks), domain_of(tasks))["labelled"]["points"]
    assert [(point["rows"], point.get("error")) for point in points] == [
        (1, "RuntimeError: too few rows"),
        (2, "RuntimeError: too few rows"),
        (5, None),
    ]


def test_coverage_is_the_share_of_queries_within_the_interval() -> None:
    tasks = schools()
    domain = domain_of(tasks, 8)
    (batch,) = tasks.each_task(20, split="test", seed=derive_seed(domain.seed("labelled rows"), 0))
    off = [(batch.query.y[i, batch.query.mask[i], 0] - batch.support.y[i, :2, 0].mean()).numpy() for i in range(8)]
    for kind, low, high in ((Level, -1.6448536, 1.6448536), (LopsidedLevel, 0.1, 1.9)):
        for deviation in (0.1, 0.5, 1.0):
            points = by_labelled_rows(trained(kind(deviation), tasks), domain)["labelled"]["points"]
            found = next(point["coverage"] for point in points if point["rows"] == 2)
            within = [np.mean((low * deviation <= row) & (row <= high * deviation)) for row in off]
            assert found == pytest.approx(np.mean(within))


def test_log_loss_and_calibration_error_are_those_of_all_queries() -> None:
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(4, 6, 3)))
    query = am.Examples(torch.zeros(4, 6, 1), torch.tensor(rng.integers(0, 3, (4, 6))), n_classes=3)
    batch = am.TaskBatch(support=query, query=query)
    measure = Probabilities()

    class Answers:
        outputs = logits

    measure(batch, None, Answers())  # type: ignore[arg-type]
    probabilities, y = logits.softmax(-1).numpy().reshape(-1, 3), query.y.numpy().ravel()
    measured = measure.measured()
    assert measured["log_loss"] == pytest.approx(log_loss(y, probabilities, labels=[0, 1, 2]))
    sure, right = probabilities.max(1), probabilities.argmax(1) == y
    bins = np.digitize(sure, np.linspace(0.1, 0.9, 9))
    wanted = sum(abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    assert measured["calibration_error"] == pytest.approx(wanted)
    assert expected_calibration_error(np.array([1.0, 0.5, 0.5]), np.array([True, True, False])) == 0
    impossible = torch.full((4, 6, 3), torch.finfo(torch.float32).min)
    Answers.outputs = impossible.masked_fill(nn.functional.one_hot((query.y + 1) % 3, 3).bool(), 0.0)
    (worst := Probabilities())(batch, None, Answers())  # type: ignore[arg-type]
    assert worst.measured() == pytest.approx({"log_loss": -np.log(1e-6), "calibration_error": 1.0})


def test_a_gap_is_the_paired_difference_with_its_error() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(20, 1)) + np.zeros((1, 3))  # runs that are equal, as of a learner without chance
    other = base + 0.5 + rng.normal(0, 0.4, (20, 1))
    noisy = base + rng.normal(0, 1, (20, 3))
    gaps = gaps_to("pooled", {"pooled": base, "other": other, "noisy": noisy})
    assert set(gaps) == {"other", "noisy"}
    tested = ttest_rel(other[:, 0], base[:, 0])
    assert gaps["other"].value == pytest.approx((other - base).mean())
    assert gaps["other"].p_value == pytest.approx(tested.pvalue)
    assert gaps["other"].error == pytest.approx(abs(gaps["other"].value / tested.statistic))
    assert (gaps["other"].low, gaps["other"].high) == pytest.approx(tested.confidence_interval())
    assert gaps["other"].p_holm == pytest.approx(2 * tested.pvalue)
    assert gaps["noisy"].p_value == pytest.approx(difference_of(noisy, base).p_value)
    assert gaps["other"].verdict(higher_is_better=False) == "worse"
    assert gaps["other"].verdict(higher_is_better=True) == "better"
    assert gaps["noisy"].verdict(higher_is_better=True) == ""
    single = gaps_to("pooled", {"pooled": base[:, :1], "other": other[:, :1]})["other"]
    assert np.isnan([single.error, single.p_value, single.p_holm]).all()
    assert single.verdict(higher_is_better=True) == ""
    assert gaps_to("pooled", {"other": other}) == {}


def test_gains_of_entities_are_differences_to_both_references() -> None:
    scores = pd.DataFrame(
        [
            (learner, seed, task, value + 0.1 * seed)
            for learner, values in {"own": (4, 1, 2), "pooled": (3, 3, 3), "best": (1, 2, 2), "last": (9, 9, 9)}.items()
            for seed in range(2)
            for task, value in zip((5, 6, 7), values, strict=True)
        ],
        columns=["learner", "seed", "task", "score"],
    )
    references = References(own="own", pooled="pooled")
    names = [f"school {i}" for i in range(8)]
    found = entities_of("table", scores, references, names, higher_is_better=False)
    assert found["entity"].tolist() == ["school 6", "school 7", "school 5"], "the one hurt most comes first"
    assert set(found["learner"]) == {"best"}
    np.testing.assert_allclose(found["gain_over_own"], [-1, 0, 3], atol=1e-12)
    np.testing.assert_allclose(found["gain_over_pooled"], [1, 1, 2], atol=1e-12)
    higher = entities_of("table", scores, references, None, higher_is_better=True)
    assert set(higher["learner"]) == {"last"}
    assert higher["entity"].tolist() == ["5", "7", "6"]
    two = scores[scores["learner"].isin(["own", "pooled"])]
    assert set(entities_of("table", two, references, names, higher_is_better=False)["learner"]) == {"pooled"}
    assert entities_of("table", scores, References(own=None, pooled="pooled"), names, higher_is_better=False).empty


def test_the_best_for_each_number_of_rows_is_held_against_both_references() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(size=12)
    level = {"own": (9.0, 1.0), "pooled": (3.0, 3.0), "best": (2.0, 2.0)}
    rows = [
        ("t", learner, seed, k, task, "mse", value + easy[task] + 0.1 * rng.normal())
        for learner, values in level.items()
        for k, value in zip((0, 5), values, strict=True)
        for seed in range(3)
        for task in range(12)
    ]
    labelled = pd.DataFrame(rows, columns=["tasks", "learner", "seed", "rows", "task", "metric", "score"])
    found = best_by_rows(labelled, References(own="own", pooled="pooled"), higher_is_better=False).set_index("rows")
    assert found["learner"].tolist() == ["best", "own"]
    mean = labelled.groupby(["rows", "learner"])["score"].mean()
    assert found.loc[0, "gap_to_pooled"] == pytest.approx(mean[0, "best"] - mean[0, "pooled"])
    assert found.loc[0, "pooled_low"] < found.loc[0, "gap_to_pooled"] < found.loc[0, "pooled_high"] < 0
    assert found.loc[0, "own_p_holm"] < 0.001
    assert np.isnan(found.loc[5, "gap_to_own"]), "it is the reference itself"
    assert found.loc[5, "own"] == found.loc[5, "score"]
    assert (found["n_entities"] == 12).all()


@pytest.fixture(scope="module", params=first_by_default(1, [False, True]), ids=["regression", "classification"])
def compared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[am.Comparison, Path]:
    folder = tmp_path_factory.mktemp("tables")
    table(request.param).to_csv(folder / "schools.csv", index=False)
    learners: dict[str, Any] = {name: name for name in ("maml", "sklearn", "sklearn_pooled")}
    learners["mixed_effects"] = am.make_learner("mixed_effects", pool="linear")
    tasks = {"schools": schools(data=folder / "schools.csv")}
    return am.compare(tasks, learners, output=folder / "out", baselines=False, **FAST), folder / "out"


def test_every_learner_is_judged_on_the_same_entities_whatever_the_rows(compared: tuple[am.Comparison, Path]) -> None:
    labelled = compared[0].labelled_rows
    groups = labelled.groupby(["learner", "seed", "rows"])["task"].apply(tuple)
    assert len(groups) == 4 * 2 * 4
    assert len(set(groups)) == 1
    curve = compared[0].curves.query("axis == 'labelled rows'").set_index(["learner", "seed", "value"])["score"]
    means = labelled.groupby(["learner", "seed", "rows"])["score"].mean()
    np.testing.assert_allclose(means, [curve[key] for key in means.index])
    assert "shots" not in set(compared[0].curves["axis"])
    assert "adaptation steps" in set(compared[0].curves["axis"]), "maml has steps beside"


def test_the_leaderboard_tells_the_gap_to_pooled(compared: tuple[am.Comparison, Path]) -> None:
    comparison = compared[0]
    board = comparison.leaderboard.set_index("learner")
    assert np.isnan(board.loc["sklearn_pooled", "gap_to_pooled"])
    matrices = {
        name: rows.pivot_table(index="task", columns="seed", values="score").to_numpy()
        for name, rows in comparison.scores.groupby("learner")
    }
    for name in ("mixed_effects", "maml", "sklearn"):
        wanted = difference_of(matrices[name], matrices["sklearn_pooled"])
        assert board.loc[name, "gap_to_pooled"] == pytest.approx(
            board.loc[name, "score"] - board.loc["sklearn_pooled", "score"]
        )
        assert board.loc[name, "gap_error"] == pytest.approx(wanted.error)
        assert board.loc[name, "gap_p_value"] == pytest.approx(wanted.p_value)
        assert board.loc[name, "gap_p_holm"] >= board.loc[name, "gap_p_value"]


def test_the_tables_are_read_back_and_written_beside_the_others(compared: tuple[am.Comparison, Path]) -> None:
    comparison, output = compared
    again = am.Comparison.load(output)
    for name in ("labelled_rows", "best_by_rows", "calibration", "entities", "leaderboard"):
        frame = getattr(comparison, name)
        assert len(frame)
        pd.testing.assert_frame_equal(getattr(again, name), frame)
        assert len(pd.read_csv(output / f"{name}.csv")) == len(frame)
    assert again.advice("schools") == comparison.advice("schools") is not None


def test_calibration_is_measured_for_those_that_tell_their_doubt(compared: tuple[am.Comparison, Path]) -> None:
    calibration = compared[0].calibration
    if compared[0].leaderboard["metric"].iloc[0] == "mse":
        assert set(calibration["learner"]) == {"mixed_effects"}
        assert calibration["coverage"].between(0.6, 1).all()
        assert calibration[["log_loss", "calibration_error"]].isna().all(axis=None)
    else:
        assert set(calibration["learner"]) == {"mixed_effects", "maml", "sklearn", "sklearn_pooled"}
        assert (calibration["log_loss"] > 0).all()
        assert calibration["calibration_error"].between(0, 1).all()
        assert calibration["coverage"].isna().all()


def test_entities_have_their_names(compared: tuple[am.Comparison, Path]) -> None:
    comparison = compared[0]
    held_out = schools(comparison.leaderboard["metric"].iloc[0] == "accuracy").describe()["held out"]["test"]
    assert sorted(comparison.entities["entity"]) == sorted(held_out)
    assert comparison.entities["gain_over_own"].is_monotonic_increasing


def test_the_report_and_the_screen_begin_with_what_to_use_for_a_new_school(
    compared: tuple[am.Comparison, Path],
) -> None:
    comparison, output = compared
    advice = comparison.advice("schools")
    best = comparison.leaderboard["learner"].iloc[0]
    assert advice is not None
    words = f"use {best}" if "may be chance" not in advice.sureness else f"{best}( \\(.*?\\))? did best"
    assert re.match(f"For a new school with 3 labelled rows, {words}: ", advice.answer)
    assert "chance (p" in advice.sureness
    assert "Judged on 8 held-out entities" in advice.sureness
    page = (output / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="tasks-0"') :]
    assert re.sub(r"<[^>]+>", "", section).startswith(f"schools{advice.answer}")
    counted = comparison.entities["gain_over_own"]
    assert f"{(counted > 0).sum()} of 8 entities gain with" in section
    assert re.search(f"{(counted < 0).sum()} (is|are) hurt", section)
    for words in (
        "by the number of labelled rows",
        "gap to pooled",
        "calibration, or can its own doubt be believed?",
        "8 to judge on",
    ):
        assert words in section
    assert "Score over labelled rows" in section
    screen = io.StringIO()
    show_leaderboard(comparison, Console(file=screen, width=400, highlight=False))
    assert advice.answer in screen.getvalue()


@pytest.mark.thorough
def test_a_name_in_a_table_is_text_in_the_report(tmp_path: Path) -> None:
    rows = table().replace({"school": {f"school {i}": f"<b>school {i}" for i in range(40)}})
    tasks = am.make_tasks("table", data=rows.rename(columns={"school": "<i>x"}), task="<i>x", target="score", n_shot=3)
    am.compare({"t": tasks}, ["ridge", "sklearn"], output=tmp_path / "out", baselines=False, **FAST)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>school" not in page
    assert "<i>x" not in page
    assert "&lt;b&gt;school" in page


def test_what_fails_with_few_rows_is_named_and_the_rest_counts() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = am.compare({"schools": schools()}, {"level": Level(least_rows=3)}, baselines=False, **FAST)
    assert set(found.failures["stage"]) == {"judging with 1 labelled rows", "judging with 2 labelled rows"}
    assert set(found.labelled_rows["rows"]) == {5}
    assert found.leaderboard["learner"].tolist() == ["level"]
    assert any("level on schools" in str(warning.message) for warning in caught)


def test_every_baseline_joins_on_a_table_and_one_elsewhere() -> None:
    table_info, waves = schools().info, am.make_tasks("sinusoid").info
    letters = am.make_tasks("glyphs", size=8).info
    assert set(with_baselines({"ridge": "ridge"}, [waves])) == {"ridge", "sklearn"}
    assert set(with_baselines({"ridge": "ridge"}, [letters])) == {"ridge", "sklearn"}
    assert set(with_baselines({"ridge": "ridge"}, [table_info, waves])) == {"ridge", "sklearn"}
    of_family = {row.name for row in am.plugins().itertuples() if row.kind == "learner" and "baselines" in row.plugin}
    assert {"sklearn", "sklearn_pooled"} <= of_family
    assert set(with_baselines({"ridge": "ridge"}, [table_info])) == {"ridge", *of_family}
    mine = am.make_learner("sklearn", estimator="knn")
    assert "sklearn" not in with_baselines({"mine": mine}, [waves]), "it takes part already"
    assert set(with_baselines({"sklearn": "ridge"}, [waves])) == {"sklearn", "baselines.sklearn"}


@pytest.mark.parametrize(
    ("score", "other", "metric", "said"),
    [
        (88.0, 100.0, "mse", "12% below"),
        (110.0, 100.0, "mse", "10% above"),
        (0.75, 0.719, "accuracy", "3.1 points above"),
        (0.5, 0.0, "mse", "0.5000 above"),
    ],
)
def test_a_step_is_told_in_percent_or_points(score: float, other: float, metric: str, said: str) -> None:
    assert step_words(score, other, metric) == said


def test_errors_far_apart_are_drawn_on_a_logarithmic_axis_though_an_interval_reaches_below_zero() -> None:
    rows = pd.DataFrame({"learner": ["a", "b", "c"], "metric": "mse", "score": [1.0, 2.0, 5000.0]})
    rows = rows.assign(ci_low=[0.5, 1.0, -9000.0], ci_high=[1.5, 3.0, 19000.0])
    drawn = interval_figure(rows, styles(rows["learner"]))
    assert {">1<", ">100<", ">10,000<"} <= set(re.findall(r">[\d,]+<", drawn))


def test_one_learner_that_fails_with_one_row_does_not_flatten_the_others() -> None:
    rows = [(name, 0, k, 1.0 if k else 2.0) for name in "abc" for k in (0, 1, 2, 5)] + [
        ("d", 0, 1, 1e9),
        ("d", 0, 2, 1.0),
    ]
    curves = pd.DataFrame(rows, columns=["learner", "seed", "value", "score"])
    drawn = curve_figure(curves, "mse", styles("abcd"), "labelled rows")
    assert "1e+0" not in drawn
    assert {">0<", ">1<", ">2<", ">5<"} <= set(re.findall(r">[\d,]+<", drawn))
