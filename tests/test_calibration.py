"""Standard deviations that fit tasks which meta-training has not seen, and quantiles made of them."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from torch import nn

import autometa as am
from autometa.estimators.calibration import deviation_scale, needs_calibration, part_held_out

LOG_2 = float(np.log(2))
SMALL: dict[str, dict[str, Any]] = {
    "cnp": {"dim": 32, "encoder_layers": 2, "decoder_layers": 2},
    "anp": {"dim": 32, "n_heads": 2},
    "tnp": {"dim": 32, "n_heads": 2, "n_layers": 2, "embedding_layers": 2},
    "kernel_experts": {},
    "pfn": {"weights": None, "cell_width": 8, "row_width": 16, "row_blocks": 1},
    "mixed_effects": {},
    "linear_mixed": {},
}


def table(n_entities: int, n_rows: int = 15, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Entities of a level of their own each, and noise as large."""
    rng = np.random.default_rng(seed)
    entity = np.repeat(np.arange(n_entities), n_rows)
    x = rng.normal(size=(len(entity), 3))
    y = 50 + 10 * (x @ [1, -1, 0.5] + rng.normal(size=n_entities)[entity] + rng.normal(size=len(entity)))
    return pd.DataFrame(x, columns=list("abc")), y, entity


def meta_trained(name: str, x: pd.DataFrame, y: np.ndarray, entity: np.ndarray, max_steps: int, **more: Any) -> Any:
    learner = am.make_learner(name, **SMALL.get(name, {}))
    if "gradient" in learner.provides:
        more["meta_optimizer"] = am.make_meta_optimizer("gradient", lr=5e-3)
    estimator = am.FewShotRegressor(learner, max_steps=max_steps, device="cpu", random_state=0, **more)
    return estimator.meta_fit(x, y, task=entity.astype(str), n_shot=5)


def coverage(estimator: Any, x: pd.DataFrame, y: np.ndarray, entity: np.ndarray) -> float:
    """Share of the targets of new entities, after 5 rows of each, within their 90% intervals."""
    within = []
    for one in np.unique(entity):
        own = np.flatnonzero(entity == one)
        estimator.fit(x.iloc[own[:5]], y[own[:5]])
        low, high = estimator.predict_quantiles(x.iloc[own[5:]], [0.05, 0.95]).T
        within.append((low < y[own[5:]]) & (y[own[5:]] < high))
    return float(np.concatenate(within).mean())


class Wrong(am.Learner):
    """Answers 0, with a deviation that is so many times what it should be."""

    provides = frozenset({"distribution"})
    default_meta_optimizer = None

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Module()

    def adapt(self, module: nn.Module, support: am.Examples) -> torch.Tensor:
        return support.y.new_zeros(len(support))

    def predict(self, module: nn.Module, adapted: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(*x.shape[:2], 1)

    def predict_distribution(
        self, module: nn.Module, adapted: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.predict(module, adapted, x)
        return mean, self.factor * torch.ones_like(mean)


class Skewed(Wrong):
    """Knows that targets are exponentially distributed; its scale is so many times what it should be."""

    provides = frozenset({"distribution", "quantiles"})

    def predict(self, module: nn.Module, adapted: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x.new_ones(*x.shape[:2], 1)

    def predict_quantiles(
        self, module: nn.Module, adapted: torch.Tensor, x: torch.Tensor, q: torch.Tensor
    ) -> torch.Tensor:
        least = (1 - self.factor) * LOG_2  # the median is right
        return least - self.factor * torch.log1p(-q[:, None, None, None]).expand(-1, *x.shape[:2], 1)


class Noise(am.TaskSampler):
    """Targets are standard normal, or exponentially distributed."""

    def __init__(self, n_query: int = 20, skewed: bool = False) -> None:
        self.n_query = n_query
        self.skewed = skewed

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=1, n_shot=1, n_query=self.n_query)

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        am.check_draw(n_tasks, split, seed)
        rng, shape = np.random.default_rng(seed), (n_tasks, 1 + self.n_query, 1)
        y = torch.from_numpy(rng.exponential(size=shape) if self.skewed else rng.normal(size=shape)).float()
        examples = am.Examples(torch.zeros_like(y), y)
        return am.TaskBatch(support=examples.select(slice(1)), query=examples.select(slice(1, None)))


# the factor


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_the_factor_undoes_what_deviations_are_wrong_by(factor: float) -> None:
    learner = Wrong(factor)
    assert deviation_scale(learner, nn.Module(), Noise(), 0) == pytest.approx(1 / factor, rel=0.05)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_factor_of_a_learner_with_quantiles_makes_them_right(factor: float) -> None:
    assert deviation_scale(Skewed(factor), nn.Module(), Noise(skewed=True), 0) == pytest.approx(1 / factor, rel=0.05)


def test_deviations_of_zero_are_multiplied_by_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autometa.estimators.calibration._MOST", 50.0)
    assert deviation_scale(Wrong(0.0), nn.Module(), Noise(), 0) == 50.0


def test_deviations_that_are_right_are_left_as_they_are() -> None:
    found = [deviation_scale(Wrong(), nn.Module(), Noise(), seed) for seed in range(20)]
    assert np.abs(np.array(found) - 1).max() < 0.05
    assert 1.0 in found


def test_learners_that_calibrate_themselves_and_classes_are_left_alone() -> None:
    assert needs_calibration(am.make_learner("cnp"), False)
    assert not needs_calibration(am.make_learner("kernel_experts"), True)
    assert not any(needs_calibration(am.make_learner(name), False) for name in ("mixed_effects", "ridge"))


def test_a_table_of_few_entities_holds_none_out() -> None:
    for n_entities, held in ((7, None), (8, 2), (40, 10)):
        x, y, entity = table(n_entities)
        data = x.assign(y=y, entity=entity.astype(str))
        none = {"valid_fraction": 0, "test_fraction": 0, "every_entity": True}
        whole = am.make_tasks("table", data=data, task="entity", target="y", n_shot=5, **none)
        part = part_held_out(whole)
        assert held == (None if part is None else part.describe()["tasks"]["valid"])
        assert whole.describe()["tasks"]["train"] == n_entities


# with estimators


def test_every_entity_is_trained_on_though_deviations_are_measured() -> None:
    x, y, entity = table(12)
    estimator = meta_trained("cnp", x, y, entity, max_steps=3)
    assert estimator.task_info_.n_base_tasks == 12
    assert len(estimator.history_) == 3


def test_meta_valid_tasks_of_a_sampler_are_measured_on() -> None:
    estimator = am.FewShotRegressor(Wrong(0.5), device="cpu", random_state=0).meta_fit(Noise())
    estimator.fit(np.zeros((1, 1)), np.zeros(1))
    std = estimator.predict(np.zeros((4, 1)), return_std=True)[1]
    np.testing.assert_allclose(std, 1.0, rtol=0.05)


def test_the_factor_is_kept_in_files_and_clones(tmp_path: Path) -> None:
    x, y, entity = table(8)
    estimator = meta_trained("cnp", x, y, entity, max_steps=3)
    estimator._meta = replace(estimator._meta, deviation_scale=1.7)
    estimator.fit(x[:5], y[:5])
    expected = estimator.predict(x[:9], return_std=True)[1]
    plain = estimator.learner_.predict_distribution
    estimator.save(tmp_path / "model.autometa")
    loaded = am.load(tmp_path / "model.autometa")
    assert loaded._meta.deviation_scale == 1.7
    np.testing.assert_array_equal(loaded.predict(x[:9], return_std=True)[1], expected)
    np.testing.assert_array_equal(clone(loaded).fit(x[:5], y[:5]).predict(x[:9], return_std=True)[1], expected)
    inputs = torch.tensor(loaded._meta.encoder.transform(x[:9]))[None].float()
    raw = plain(estimator.module_, estimator._fitted.adapted, inputs)[1][0, :, 0].detach().numpy()
    np.testing.assert_allclose(expected, 1.7 * estimator._meta.encoder.target_scale_ * raw, rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["cnp"])
def test_intervals_of_new_entities_cover_what_they_say(name: str) -> None:
    x, y, entity = table(70)
    known = entity < 40
    estimator = meta_trained(name, x[known], y[known], entity[known], max_steps=100)
    assert 0.85 <= coverage(estimator, x[~known], y[~known], entity[~known]) <= 0.96


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_intervals_of_many_new_entities_cover_85_to_95_percent(name: str) -> None:
    found = []
    for seed in range(4):
        x, y, entity = table(100, seed=seed)
        known = entity < 40
        estimator = meta_trained(name, x[known], y[known], entity[known], max_steps=200)
        found.append(coverage(estimator, x[~known], y[~known], entity[~known]))
    assert 0.85 <= np.mean(found) <= 0.95, found


PROTOCOL = Path(__file__).parents[1] / "examples" / "benchmarks" / "tables" / "protocol.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["math_achievement_hsb", "parkinsons_updrs"])
def test_intervals_of_new_entities_of_real_tables_cover_85_to_95_percent(
    data_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = data_root / "tables"
    if not (folder / "grouped").is_dir():
        pytest.skip("the grouped tables are not here")
    monkeypatch.syspath_prepend(PROTOCOL.parent)
    protocol = importlib.import_module("protocol").load_protocol(folder)
    ((_, _, frame),) = protocol.load_pack(folder, ("grouped",), [name])
    episodes = protocol.episodes(frame, "grouped", 5, 0)
    x, y, train = frame.drop(columns=["task", "target"]), frame["target"], episodes[0]["train"]
    estimator = am.FewShotRegressor("cnp", max_steps=300, device="cpu", random_state=0)
    estimator.meta_fit(x.iloc[train], y.iloc[train], task=frame["task"].iloc[train], n_shot=5)
    within = []
    for episode in episodes:
        estimator.fit(x.iloc[episode["support"]], y.iloc[episode["support"]])
        mean, std = estimator.predict(x.iloc[episode["query"]], return_std=True)
        within.append(np.abs(mean - y.iloc[episode["query"]]) < norm.ppf(0.95) * std)
    assert 0.85 <= np.concatenate(within).mean() <= 0.95


# quantiles


def test_quantiles_are_those_of_a_gaussian() -> None:
    x, y, _ = table(4)
    estimator = am.FewShotRegressor().fit(x[:30], y[:30])
    mean, std = estimator.predict(x[30:], return_std=True)
    found = estimator.predict_quantiles(x[30:], [0.05, 0.5, 0.8])
    assert found.shape == (30, 3)
    np.testing.assert_allclose(found, mean[:, None] + std[:, None] * norm.ppf([0.05, 0.5, 0.8]))
    np.testing.assert_allclose(estimator.predict_quantiles(x[30:], 0.5)[:, 0], mean)
    two = am.FewShotRegressor().fit(x[:30], np.stack([y[:30], -y[:30]], axis=1))
    assert two.predict_quantiles(x[30:], [0.1, 0.9]).shape == (30, 2, 2)


def test_quantiles_are_the_learners_own_where_it_has_them() -> None:
    estimator = am.FewShotRegressor(Skewed(0.5), device="cpu", random_state=0).meta_fit(Noise(skewed=True))
    estimator.fit(np.zeros((1, 1)), np.zeros(1))
    q = [0.05, 0.5, 0.95, 0.2]
    found, std = (
        estimator.predict_quantiles(np.zeros((3, 1)), q),
        estimator.predict(np.zeros((3, 1)), return_std=True)[1],
    )
    scale = estimator._meta.deviation_scale
    assert scale == pytest.approx(2.0, rel=0.05)
    own = 0.5 * LOG_2 - 0.5 * np.log1p(-np.array(q))
    np.testing.assert_allclose(found, np.tile(LOG_2 + scale * (own - LOG_2), (3, 1)))
    np.testing.assert_allclose(std, 0.5 * scale)
    drawn = np.random.default_rng(1).exponential(size=20_000)
    assert np.mean((found[0, 0] < drawn) & (drawn < found[0, 2])) == pytest.approx(0.9, abs=0.01)


@pytest.mark.thorough
def test_quantiles_are_of_each_rows_entity() -> None:
    x, y, entity = table(10)
    task = entity.astype(str)
    estimator = am.FewShotRegressor("mixed_effects", device="cpu", random_state=0)
    estimator.fit(x, y, task=task)
    mean, std = estimator.predict(x, return_std=True, task=task)
    found = estimator.predict_quantiles(x, [0.1, 0.9], task=task)
    np.testing.assert_allclose(found, mean[:, None] + std[:, None] * norm.ppf([0.1, 0.9]))
    assert not np.allclose(found, estimator.predict_quantiles(x, [0.1, 0.9]))


@pytest.mark.parametrize("q", [0, 1, 1.5, -0.1, np.nan, [], [0.5, 1.0], "half", None, [[0.1, 0.9]]])
def test_an_impossible_quantile_is_named(q: Any) -> None:
    x, y, _ = table(2)
    with pytest.raises(am.InvalidParameter, match="between 0 and 1"):
        am.FewShotRegressor().fit(x, y).predict_quantiles(x, q)


def test_quantiles_of_a_learner_without_a_distribution_are_refused_like_its_deviations() -> None:
    x, y, _ = table(2)
    estimator = am.FewShotRegressor("ridge").fit(x, y)
    texts = []
    for ask in (lambda: estimator.predict(x, return_std=True), lambda: estimator.predict_quantiles(x, 0.5)):
        with pytest.raises(am.Incompatible, match="predicts numbers without a standard deviation") as raised:
            ask()
        texts.append(str(raised.value).partition(":")[2])
    assert texts[0] == texts[1]
