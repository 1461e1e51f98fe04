"""The pretrained network: it starts at the mixture, and keeps every symmetry when its weights have moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from derivatives import build_moved
from mixed_tables import MIXED, PROBLEMS, info_of, mixed_rows, task
from tiers import first_by_default

SMALL = {"weights": None, "cell_width": 4, "row_width": 8, "n_heads": 2, "row_blocks": 2}
LEVELS = torch.tensor([0.02, 0.4, 0.9], dtype=torch.float64)
N_OUTPUTS = {"classification": 3, "regression": 1}


def moved(problem: str, layout: dict[str, Any] = MIXED, n_outputs: int | None = None) -> tuple[am.Learner, nn.Module]:
    """A learner and a network whose weights are no longer those of the start."""
    learner = am.make_learner("pfn", **SMALL)
    return learner, build_moved(learner, info_of(problem, 7, n_outputs or N_OUTPUTS[problem], layout))


def answer(learner: am.Learner, module: nn.Module, support: am.Examples, x: Tensor) -> Tensor:
    """Logits and their factors, or means, deviations and quantiles, side by side."""
    with torch.no_grad():
        adapted = learner.adapt(module, support)
        found = learner.predict_distribution(module, adapted, x)
        if not support.is_classification and "quantiles" in learner.provides:
            found = *found, *learner.predict_quantiles(module, adapted, x, LEVELS)
        return torch.cat(found, dim=-1)


# ---------------------------------------------------------------- the start


@pytest.mark.parametrize("problem", PROBLEMS)
def test_an_untrained_network_answers_exactly_as_the_kernel_experts(problem: str) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    info = info_of(problem, 7, N_OUTPUTS[problem], MIXED)
    answers = []
    for name in ("pfn", "kernel_experts"):
        learner = am.make_learner(name, max_rows=5, **({"weights": None} if name == "pfn" else {}))
        answers.append(answer(learner, learner.build(info).double(), support, x))
    n_told = answers[1].shape[-1]
    assert torch.equal(answers[0][..., :n_told], answers[1])
    mean, deviation, *quantiles = answers[0].unbind(-1) if problem == "regression" else (0, 1)
    for level, quantile in zip(LEVELS, quantiles, strict=False):
        torch.testing.assert_close(quantile, mean + deviation * torch.special.ndtri(level))
    assert not torch.equal(answer(*moved(problem), support, x), answers[0])


def test_the_experts_numbers_stay_as_they_are() -> None:
    _, module = moved("classification")
    assert {name for name, value in module.named_parameters() if not value.requires_grad} == {
        name for name, _ in module.named_parameters() if name.startswith("body.experts.")
    }


# ---------------------------------------------------------------- symmetries


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_rows_columns_and_levels_does_not_matter(problem: str) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    learner, module = moved(problem)
    before = answer(learner, module, support, x)
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(answer(learner, module, support.select(rows), x), before)
    features = [5, 6, 3, 1, 4, 2, 0]  # columns 2, 1, 0, and the levels of the category turned round
    info = info_of(problem, 7, N_OUTPUTS[problem], {name: tuple(MIXED[name][i] for i in features) for name in MIXED})
    turned = support.with_parts(x=support.x[..., features])
    torch.testing.assert_close(answer(learner, learner.reshaped(module, info), turned, x[..., features]), before)


def test_the_order_of_classes_and_those_a_task_lacks_do_not_matter() -> None:
    support, x = task("classification"), mixed_rows(2, 7, seed=9)
    learner, module = moved("classification")
    before = answer(learner, module, support, x)[..., :3]
    order = torch.tensor([2, 0, 1])
    renamed = answer(learner, module, support.with_parts(y=order[support.y]), x)[..., :3]
    torch.testing.assert_close(renamed[..., order], before)
    wide = answer(learner, module, support.with_parts(n_classes=12), x)[..., :3]
    torch.testing.assert_close(wide, before)
    one = support.with_parts(y=torch.zeros_like(support.y))
    alone = answer(learner, module, one.with_parts(n_classes=1), x)[..., 0]
    torch.testing.assert_close(answer(learner, module, one, x)[..., 0], alone)


@pytest.mark.parametrize("scaling", ["support", "support+query"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_ragged_tasks_are_learned_as_each_alone(problem: str, scaling: str) -> None:
    support, x = task(problem, n_tasks=4), mixed_rows(4, 7, seed=9)
    learner, module = moved(problem)
    learner.set_params(scaling=scaling)
    sizes = [12, 5, 1, 0]
    mask = torch.arange(12) < torch.tensor(sizes)[:, None]
    padded = support.with_parts(x=support.x * mask.unsqueeze(-1), y=support.y * mask, mask=mask)
    together = answer(learner, module, padded, x)
    for i, n in enumerate(sizes):
        alone = answer(learner, module, support[i : i + 1].select(slice(n)), x[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_query_is_answered_as_it_is_alone(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    learner, module = moved(problem)
    together = answer(learner, module, support, x)
    alone = torch.cat([answer(learner, module, support, x[:, i : i + 1]) for i in range(7)], dim=1)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-10)
    other = torch.cat([x[:, :3], 9 * x[:, 3:]], dim=1)
    torch.testing.assert_close(answer(learner, module, support, other)[:, :3], together[:, :3], rtol=0, atol=1e-10)
    monkeypatch.setattr("autometa_plugins.tabular.network.AT_ONCE", 250)
    torch.testing.assert_close(answer(learner, module, support, x), together, rtol=0, atol=1e-10)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_queries_count_in_the_scales_only_where_asked(problem: str) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    learner, module = moved(problem)
    others = torch.cat([x[:, :3], 5 * x[:, 3:]], dim=1)
    by_support = answer(learner, module, support, x)
    torch.testing.assert_close(answer(learner, module, support, others)[:, :3], by_support[:, :3])
    learner.set_params(scaling="support+query")
    by_both = answer(learner, module, support, x)
    assert not torch.allclose(by_both, by_support)
    assert not torch.allclose(answer(learner, module, support, others)[:, :3], by_both[:, :3])
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    torch.testing.assert_close(answer(learner, module, support, x[:, order]), by_both[:, order])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_many_rows_are_answered_by_blocks(problem: str) -> None:
    support, x = task(problem, n=40), mixed_rows(2, 7, seed=9)
    learner, module = moved(problem)
    learner.set_params(max_rows=15)
    before = answer(learner, module, support, x)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(answer(learner, module, support.select(rows), x), before)


def test_blocks_average_the_histograms_of_each() -> None:
    support, x = task("regression", n=24), mixed_rows(2, 7, seed=9)
    learner, module = moved("regression")
    learner.set_params(max_rows=12)
    adapted, found = learner.adapt(module, support), []
    for number in (0, 1):
        share = torch.zeros_like(adapted["share"])
        share[:, number] = 1
        found.append(learner._histogram(module, adapted | {"share": share}, x))
    both = learner._histogram(module, adapted, x)
    for name in ("centre", "spread", "shape"):
        torch.testing.assert_close(getattr(both, name), (getattr(found[0], name) + getattr(found[1], name)) / 2)


def test_units_of_columns_and_targets_do_not_matter() -> None:
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    learner, module = moved("regression")
    units = torch.tensor([1e-6, 1e6, 1, 1, 1, 1, 1], dtype=torch.float64)
    given = support.with_parts(x=support.x * units, y=1e3 * support.y)
    before = answer(learner, module, support, x)
    torch.testing.assert_close(answer(learner, module, given, x * units), 1e3 * before)


def test_several_targets_are_predicted_each_by_itself() -> None:
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    learner, module = moved("regression", n_outputs=2)
    two = support.with_parts(y=torch.stack([support.y, 5 + 2 * support.y], dim=-1))
    mean, deviation, *quantiles = answer(learner, module, two, x).chunk(5, dim=-1)
    torch.testing.assert_close(deviation[..., 1], 2 * deviation[..., 0])
    for value in (mean, *quantiles):
        torch.testing.assert_close(value[..., 1], 5 + 2 * value[..., 0])


# ---------------------------------------------------------------- θ


@pytest.mark.parametrize("problem", first_by_default(1, PROBLEMS))
def test_meta_gradients_are_finite_differences(problem: str) -> None:
    learner = am.make_learner("pfn", **SMALL | {"row_blocks": 1})
    module = build_moved(learner, info_of(problem, 7, N_OUTPUTS[problem], MIXED))
    batch = am.TaskBatch(support=task(problem, n=8), query=task(problem, n=6, seed=5))

    def loss() -> Tensor:
        return am.query_losses(learner, module, batch).sum()

    learned = {name: value for name, value in module.named_parameters() if value.requires_grad}
    gradients = torch.autograd.grad(loss(), list(learned.values()), allow_unused=True)
    unused = {name for name, gradient in zip(learned, gradients, strict=True) if gradient is None}
    assert unused == set()
    assert_slopes(loss, learned, dict(zip(learned, gradients, strict=True)))


def test_gradients_of_the_loss_on_real_targets_are_finite_differences() -> None:
    """Those of layers by which centres do not change; the likelihood takes centres as they are."""
    learner = am.make_learner("pfn", **SMALL | {"row_blocks": 1})
    module = build_moved(learner, info_of("regression", 7, 1, MIXED))
    batch = am.TaskBatch(support=task("regression", n=8), query=task("regression", n=6, seed=5))

    def loss() -> Tensor:
        return learner.meta_loss(module, batch, 0.0).sum()

    names = [f"body.head.{layer}.{part}" for layer in ("spread", "shape") for part in ("weight", "bias")]
    learned = {name: value for name, value in module.named_parameters() if name in names}
    assert sorted(learned) == sorted(names)
    assert_slopes(loss, learned, dict(zip(learned, torch.autograd.grad(loss(), list(learned.values())), strict=True)))


def assert_slopes(loss: Callable[[], Tensor], learned: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    """Compare in one random direction of every parameter: place by place it would take long."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in learned.items():
            step = 1e-6 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.add_(step)
            above = loss()
            value.sub_(2 * step)
            below = loss()
            value.add_(step)
            slope, found = (above - below) / 2e-6, (gradients[name] * step).sum() / 1e-6
            torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_deviations_and_bins_learn_from_the_likelihood() -> None:
    learner, module = moved("regression")
    batch = am.TaskBatch(support=task("regression", n=8), query=task("regression", n=6, seed=5))
    learner.meta_loss(module, batch, 0.0).sum().backward()
    body: Any = module.body
    for layer in (body.head.spread, body.head.shape):
        assert layer.weight.grad.abs().max() > 0
    times = am.TaskBatch(
        support=batch.support.with_parts(y=1e3 * batch.support.y), query=batch.query.with_parts(y=1e3 * batch.query.y)
    )
    torch.testing.assert_close(learner.meta_loss(module, times, 0.0), learner.meta_loss(module, batch, 0.0))


def test_the_same_theta_reads_tables_of_another_shape() -> None:
    learner, module = moved("classification")
    other = learner.reshaped(module, info_of("classification", 3, 5))
    x = torch.randn(2, 10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    learner.meta_loss(other, _tables(x, 5), 0.0).sum().backward()
    mine = dict(module.named_parameters())
    assert all(value is mine[name] for name, value in other.named_parameters())
    assert mine["body.read.weight"].grad is not None
    with pytest.raises(am.Incompatible, match="'pfn'"):
        learner.reshaped(module, info_of("regression", 3, 1))
    with pytest.raises(am.Incompatible, match="Ridge"):
        am.make_learner("ridge").reshaped(module, info_of("classification", 3, 5))


def _tables(x: Tensor, n_way: int) -> am.TaskBatch:
    y = torch.arange(x.shape[1]).expand(len(x), -1) % n_way
    examples = am.Examples(x, y, n_classes=n_way)
    return am.TaskBatch(support=examples, query=examples)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"row_width": 0}, "row_width"),
        ({"n_heads": 3}, "cell_width"),
        ({"weights": 3}, "weights"),
        ({"scaling": "query"}, "scaling"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{named}=.* of learner 'pfn' must be"):
        am.make_learner("pfn", **parameters).build(info_of("classification", 4, 2))


# ---------------------------------------------------------------- distributions


def test_the_bins_learn_the_distribution_of_the_errors() -> None:
    """Errors are 1 or -1, as often: two bins hold nearly all of it."""
    learner, info = am.make_learner("pfn", **SMALL), info_of("regression", 1, 1)
    torch.manual_seed(0)
    module = learner.build(info).double()
    head = module.get_submodule("body.head")
    optimizer = torch.optim.Adam([*head.get_submodule("shape").parameters()], lr=1.0)
    x = torch.zeros(1, 20, 1, dtype=torch.float64)
    y = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(1, 10)
    batch = am.TaskBatch(support=am.Examples(x, y), query=am.Examples(x, y))
    before = learner.meta_loss(module, batch, 0.0).mean()
    for _ in range(12):
        optimizer.zero_grad()
        loss = learner.meta_loss(module, batch, 0.0).mean()
        loss.backward()
        optimizer.step()
    assert loss < before - 1.5
    quantiles = learner.predict_quantiles(module, learner.adapt(module, batch.support), x[:, :1], LEVELS)
    torch.testing.assert_close(quantiles[0], -quantiles[2], rtol=0.1, atol=0)
    torch.testing.assert_close(quantiles[2], torch.ones_like(quantiles[2]), rtol=0.1, atol=0)


def test_mean_and_deviation_are_those_of_all_quantiles() -> None:
    learner, module = moved("regression")
    with torch.no_grad():
        module.get_submodule("body.head.shape").bias += torch.linspace(-2, 2, 34, dtype=torch.float64)
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    with torch.no_grad():
        adapted = learner.adapt(module, support)
        mean, deviation = learner.predict_distribution(module, adapted, x)
        levels = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
        quantiles = learner.predict_quantiles(module, adapted, x, levels)
    torch.testing.assert_close(quantiles.mean(dim=0), mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(quantiles.std(dim=0), deviation, rtol=1e-2, atol=0)
    assert not torch.allclose(learner._histogram(module, adapted, x).centre, mean, rtol=0.1)


def test_weights_that_know_no_histogram_are_those_of_the_gaussian() -> None:
    learner, module = moved("regression")
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    state = {name: value for name, value in module.state_dict().items() if ".shape." not in name}
    assert len(state) == len(module.state_dict()) - 2
    module.load_state_dict(state)
    with torch.no_grad():
        found = learner._histogram(module, learner.adapt(module, support), x)
    assert (found.shape == 0).all()
    assert (found.centre != 0).all()
    with pytest.raises(RuntimeError, match=r"head\.shape\.bias"):
        module.load_state_dict(state | {"body.head.shape.weight": module.state_dict()["body.head.shape.weight"]})


@pytest.mark.parametrize("scaling", ["support", "support+query"])
def test_a_saved_estimator_tells_the_same_quantiles(scaling: str, tmp_path: Path) -> None:
    support, x = task("regression", n_tasks=1), mixed_rows(1, 5, seed=3)[0].numpy()
    regressor = am.FewShotRegressor(am.make_learner("pfn", scaling=scaling))
    regressor.fit(support.x[0].numpy(), support.y[0].numpy())
    regressor.save(tmp_path / "saved")
    loaded, q = am.load(tmp_path / "saved"), [0.05, 0.5, 0.95]
    found = regressor.predict_quantiles(x, q)
    assert found.shape == (5, 3)
    np.testing.assert_array_equal(loaded.predict_quantiles(x, q), found)
    np.testing.assert_array_equal(loaded.predict(x), regressor.predict(x))
