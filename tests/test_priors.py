"""Priors draw tables laid out as real ones, as easy and as odd as asked, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
import torch
from autometa_plugins.tabular.columns import TableColumns
from autometa_plugins.tabular.priors.draft import Size
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.families import WEIGHTS, PriorTables
from autometa_plugins.tabular.priors.missing import draw_missing
from autometa_plugins.tabular.priors.prior import BLOCK
from autometa_plugins.tabular.priors.rules import RULES, draw_rule
from autometa_plugins.tabular.priors.sizes import MOST_CELLS, draw_sizes
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression

import autometa as am
from autometa.testing.expectations import same_task, same_tasks
from autometa.testing.toys import Blobs
from tiers import first_by_default

NAMES = [f"prior_{kind}" for kind in ("tables", "mlp", "scm", "tree", "additive", "smooth", "mixture", "rules")]
EVERY_PRIOR = pytest.mark.parametrize("name", first_by_default(3, NAMES))
EVERY_PROBLEM = pytest.mark.parametrize("problem", ["classification", "regression"])


def test_all_priors_are_offered_by_the_tabular_plugin() -> None:
    frame = am.plugins()
    offered = frame[(frame["kind"] == "task sampler") & (frame["plugin"] == "tabular")]
    assert sorted(offered["name"]) == sorted([*NAMES, "prior_entities"])


@EVERY_PROBLEM
@EVERY_PRIOR
def test_a_task_does_not_depend_on_how_many_are_drawn(name: str, problem: str) -> None:
    prior = am.make_tasks(name, problem=problem, n_columns=5, missing=True)
    n = 2 * BLOCK + 1
    few, many = prior.sample(n, seed=3), prior.sample(n + BLOCK, seed=3)
    assert all(same_task(few, i, many, i) for i in range(n))


@EVERY_PROBLEM
def test_threads_change_no_table(problem: str) -> None:
    prior = PriorTables(problem=problem, n_columns=40, n_shot=30)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = prior.sample(2, seed=0)
        torch.set_num_threads(2)
        assert same_tasks(one, prior.sample(2, seed=0))
    finally:
        torch.set_num_threads(n_threads)


# how a table is laid out


@EVERY_PROBLEM
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("n_categorical", [0, 2, 5])
def test_features_are_laid_out_as_those_of_a_real_table(problem: str, missing: bool, n_categorical: int) -> None:
    prior = PriorTables(problem=problem, n_columns=5, n_categorical=n_categorical, n_levels=3, missing=missing)
    frame = pd.DataFrame(
        {f"c{i}": [0.5, 1.5, 2.5] if i < 5 - n_categorical else ["a", "b", "c"] for i in range(5)}, dtype=object
    )
    if missing:
        frame.loc[3] = [None] * 5
    frame = frame.infer_objects()
    encoder = am.TableEncoder().fit(frame)
    assert prior.info.feature_kinds == encoder.kinds_
    assert prior.info.feature_columns == encoder.sources_
    batch = prior.sample(6, seed=0)
    assert batch.support.x.shape[2:] == prior.info.input_shape == (len(encoder.kinds_),)


@EVERY_PRIOR
def test_cells_are_read_back_as_they_are_marked(name: str) -> None:
    prior = am.make_tasks(name, n_columns=6, n_categorical=3, n_levels=4, missing=True, n_shot=20)
    info, x = prior.info, prior.sample(12, seed=1).support.x
    assert isinstance(x, torch.Tensor)
    assert info.feature_kinds is not None
    assert info.feature_columns is not None
    cells = TableColumns(info).read(x)
    features = list(zip(info.feature_kinds, info.feature_columns, strict=True))
    for column in range(6):
        marked = x[..., features.index(("missing", column))] == 1
        assert torch.equal(cells.known[..., column], ~marked)
        levels = [i for i, feature in enumerate(features) if feature == ("categorical", column)]
        if levels:
            assert torch.equal(x[..., levels].sum(-1), (~marked).float())
    share = 1 - cells.known.float().mean()
    assert 0.03 < share < 0.3


def test_a_missing_number_becomes_one_value_of_its_table() -> None:
    prior = PriorTables(n_columns=3, n_categorical=0, missing=True, n_shot=30)
    batch = prior.sample(8, seed=0)
    x = torch.cat([batch.support.x, batch.query.x], dim=1)
    for task in range(8):
        for column in range(3):
            filled = x[task, :, 2 * column][x[task, :, 2 * column + 1] == 1]
            assert filled.unique().numel() <= 1


def test_values_are_missing_by_chance_by_another_column_and_by_themselves() -> None:
    size = Size(n_tables=40, n_rows=400, n_columns=2, n_categorical=0, n_levels=2, n_classes=2, n_each=2)
    own, other = [], []
    for seed in range(30):
        draws = Draws(seed)
        columns = draws.normal(40, 400, 2)
        lost = draw_missing(draws, columns, size).double()
        rank = columns.argsort(dim=1).argsort(dim=1).double() / 400 - 0.5
        lean = (lost - lost.mean(dim=1, keepdim=True)) / (lost.std(dim=1, keepdim=True) + 1e-9)
        own.append((lean * rank).mean(dim=(1)).abs().mean())
        other.append((lean * rank.flip(2)).mean(dim=1).abs().mean())
    by_itself, by_another = torch.stack(own), torch.stack(other)
    at_random = (by_itself < 0.02) & (by_another < 0.02)
    assert 8 < at_random.sum() < 24
    assert (by_itself > 3 * by_another).any()
    assert ((by_another > 0.02) & (by_itself < 3 * by_another)).any()


# rows and classes


@EVERY_PRIOR
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_every_class_has_as_many_rows_as_asked(name: str, n_classes: int) -> None:
    batch = am.make_tasks(name, n_classes=n_classes, n_shot=4, n_query=6, n_columns=3).sample(6, seed=0)
    for part, n in ((batch.support, 4), (batch.query, 6)):
        assert part.one_hot().sum(dim=1).eq(n).all()


@EVERY_PRIOR
def test_rows_as_they_come_have_uneven_classes_and_one_of_each(name: str) -> None:
    prior = am.make_tasks(name, n_classes=4, n_shot=20, n_query=30, stratified=False)
    batch = prior.sample(24, seed=0)
    assert batch.support.x.shape[1] == 20
    assert batch.query.x.shape[1] == 30
    counts = batch.support.one_hot().sum(dim=1)
    assert counts.min() >= 1
    assert (counts.amax(dim=1) > 2 * counts.amin(dim=1)).float().mean() > 0.5


def test_fewer_rows_than_classes_are_refused_where_they_come_as_they_are() -> None:
    with pytest.raises(am.InvalidParameter, match="n_shot=2 of task sampler 'prior_.*' must be an integer"):
        PriorTables(n_classes=3, n_shot=2, stratified=False).sample(1, seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("problem", "control"), ("n_columns", 0), ("n_categorical", 9), ("n_levels", 1), ("n_classes", 1),
     ("n_shot", 0), ("n_query", 0), ("stratified", "yes"), ("missing", 1)],
)  # fmt: skip
def test_a_wrong_parameter_is_named(name: str, value: object) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{name}="):
        _ = PriorTables(**{name: value}).info  # type: ignore[arg-type]


def test_targets_are_of_unit_scale_and_some_are_skewed_or_have_outliers() -> None:
    batch = PriorTables(problem="regression", n_shot=60, n_query=36).sample(80, seed=0)
    y = torch.cat([batch.support.y, batch.query.y], dim=1).squeeze(-1)
    assert y.std(dim=1).median().sub(1).abs() < 0.1
    z = (y - y.mean(dim=1, keepdim=True)) / y.std(dim=1, keepdim=True)
    assert (z.pow(3).mean(dim=1).abs() > 1).float().mean() > 0.1
    assert (z.abs().amax(dim=1) < 3).float().mean() > 0.2


# what can be learned


def scores(name: str, learner: str = "kernel_experts", **parameters: object) -> torch.Tensor:
    prior = am.make_tasks(name, **parameters)
    return scores_of(learner, prior, prior.sample(40, split="test", seed=0))


def scores_of(learner: str, prior: am.TaskSampler, batch: am.TaskBatch) -> torch.Tensor:
    made = am.make_learner(learner)
    with torch.no_grad():
        return am.judge(made, made.build(prior.info), batch).scores


@EVERY_PRIOR
def test_classes_can_be_learned_from_few_rows(name: str) -> None:
    accuracy = scores(name, n_shot=10, n_classes=2)
    assert accuracy.mean() - 0.5 > 4 * accuracy.std() / 40**0.5
    assert accuracy.mean() < 0.98


@EVERY_PRIOR
def test_real_targets_can_be_learned_from_few_rows(name: str) -> None:
    prior = am.make_tasks(name, problem="regression", n_shot=40, n_query=40)
    batch = prior.sample(40, split="test", seed=0)
    variance = (batch.query.y - batch.support.y.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
    explained = 1 - scores_of("kernel_experts", prior, batch) / variance
    assert explained.median() > 0.02


@EVERY_PRIOR
def test_labels_of_other_rows_score_chance(name: str) -> None:
    prior = am.make_tasks(name, n_shot=10, n_classes=2)
    batch = prior.sample(40, split="test", seed=0)
    order = torch.rand(batch.support.y.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    mixed = am.TaskBatch(support=batch.support.with_parts(y=batch.support.y.gather(1, order)), query=batch.query)
    accuracy = scores_of("kernel_experts", prior, mixed)
    assert abs(accuracy.mean() - 0.5) < 4 * accuracy.std() / 40**0.5


def test_most_tables_are_as_easy_as_real_ones() -> None:
    chosen = scores("prior_mlp", n_shot=5, n_query=20)
    assert 0.45 < chosen.median() < 0.85


@pytest.mark.thorough
@pytest.mark.parametrize("rule", ["xor", "parity"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_trees_learn_rules_that_linear_models_do_not(rule: str, n_classes: int) -> None:
    size = Size(
        n_tables=4, n_rows=1200, n_columns=4, n_categorical=0, n_levels=4, n_classes=n_classes, n_each=2
    )  # fmt: skip
    draft = draw_rule(Draws(0), size, rule)
    assert draft.labels is not None
    found: dict[str, list[float]] = {"linear": [], "trees": []}
    for x, y in zip(draft.columns.numpy(), draft.labels.numpy(), strict=True):
        for name, model in (("linear", LogisticRegression()), ("trees", ExtraTreesClassifier(40, random_state=0))):
            found[name].append(model.fit(x[:900], y[:900]).score(x[900:], y[900:]))
    linear, trees = (sum(found[name]) / 4 for name in ("linear", "trees"))
    assert abs(linear - 1 / n_classes) < 0.06
    assert trees > linear + 0.15


@pytest.mark.parametrize("rule", first_by_default(2, sorted(RULES)))
def test_a_rule_tells_classes_apart_but_for_its_noise(rule: str) -> None:
    size = Size(n_tables=4, n_rows=600, n_columns=3, n_categorical=1, n_levels=4, n_classes=2, n_each=2)
    draft = draw_rule(Draws(2), size, rule)
    assert draft.labels is not None
    assert draft.exact is not None
    for x, y in zip(draft.columns.numpy(), draft.labels.numpy(), strict=True):
        forest = ExtraTreesClassifier(40, min_samples_leaf=2, random_state=0)
        assert forest.fit(x[:450], y[:450]).score(x[450:], y[450:]) > 0.6


def test_a_tenth_of_the_mix_are_rules() -> None:
    weights = dict.fromkeys((family.draw.__name__ for family, _ in WEIGHTS), 0.0)
    for family, weight in WEIGHTS:
        weights[family.draw.__name__] += weight
    assert weights["draw_rules"] / sum(weights.values()) == pytest.approx(0.1, abs=0.002)
    drawn = Counter(PriorTables()._choose(Draws(seed)).draw.__name__ for seed in range(2000))
    assert drawn.keys() == weights.keys()
    assert 0.07 < drawn["draw_rules"] / 2000 < 0.13


# other sizes


def test_a_sampler_has_one_size_unless_it_says_otherwise() -> None:
    tasks = Blobs()
    assert tasks.varied(3) is tasks


@EVERY_PROBLEM
@EVERY_PRIOR
def test_a_varied_prior_is_the_same_prior_of_another_size(name: str, problem: str) -> None:
    prior = am.make_tasks(name, problem=problem)
    before = repr(prior)
    varied = prior.varied(4)
    assert type(varied) is type(prior)
    assert varied.info.problem == problem
    assert repr(varied) == repr(prior.varied(4)) == repr(varied.varied(4))
    assert repr(prior) == before
    assert len({repr(prior.varied(seed)) for seed in range(20)}) > 15
    batch = varied.sample(2, seed=0)
    assert batch.support.x.shape[2:] == varied.info.input_shape


@EVERY_PROBLEM
def test_sizes_are_those_of_tables_with_few_labelled_rows(problem: str) -> None:
    drawn = [draw_sizes(problem, seed) for seed in range(1500)]
    frame = pd.DataFrame(drawn)
    groups = frame["n_classes"].where(frame["stratified"], 1) if problem == "classification" else 1
    support = groups * frame["n_shot"]
    features = frame["n_columns"] + frame["n_categorical"] * (frame["n_levels"] - 1)
    assert (features * (support + groups * frame["n_query"])).max() <= MOST_CELLS
    assert support.min() <= 3
    assert 300 < support.max() <= 1000
    assert 0.8 < (support <= 100).mean() < 0.97
    assert frame["n_columns"].min() == 1
    assert 60 < frame["n_columns"].max() <= 100
    assert 4 <= frame["n_columns"].median() <= 12
    assert 0.25 < frame["missing"].mean() < 0.35
    assert 0.35 < (frame["n_categorical"] > 0).mean() < 0.55
    assert frame["n_levels"].max() > 15
    if problem == "classification":
        assert set(frame["n_classes"]) == set(range(2, 11))
        assert 0.55 < frame["stratified"].mean() < 0.65


@EVERY_PROBLEM
def test_tables_of_every_size_are_finite(problem: str) -> None:
    prior = PriorTables(problem=problem)
    for seed in range(25):
        batch = prior.varied(seed).sample(1, seed=seed)
        for part in (batch.support, batch.query):
            assert isinstance(part.x, torch.Tensor)
            assert part.x.isfinite().all()
            assert part.targets().isfinite().all()


def test_a_prior_without_numbers_and_one_of_a_single_column() -> None:
    for parameters in ({"n_columns": 3, "n_categorical": 3}, {"n_columns": 1, "n_categorical": 0}):
        for name in NAMES:
            batch = am.make_tasks(name, **parameters, missing=True).sample(2, seed=0)
            assert isinstance(batch.support.x, torch.Tensor)
            assert batch.support.x.isfinite().all()
