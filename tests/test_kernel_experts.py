"""Kernel experts: closed forms that hold, symmetries, odd tables, and real ones where they are present."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.tabular.blocks import deal
from autometa_plugins.tabular.columns import TableColumns
from autometa_plugins.tabular.comparison import compare
from autometa_plugins.tabular.encoding import encode, fit_encoding
from autometa_plugins.tabular.gaussian import gaussian_classes
from autometa_plugins.tabular.kernel_ridge import fit_kernel_ridge
from autometa_plugins.tabular.naive_bayes import naive_bayes
from torch import Tensor, nn

import autometa as am
from derivatives import build_moved, finite_differences
from mixed_tables import MIXED, PROBLEMS, info_of, mixed_rows, task
from tiers import first_by_default
from toy_tasks import clouds

FEW_ROWS = Path(__file__).parents[1] / "examples" / "benchmarks" / "tables" / "few_rows.py"


def answer(support: am.Examples, x: Tensor, layout: dict[str, Any] | None = None, **parameters: Any) -> Tensor:
    """Outputs of a fresh θ, [tasks, n, n_outputs], the deviations beside the means of a regression."""
    learner = am.make_learner("kernel_experts", **parameters)
    n_outputs = support.n_classes if support.is_classification else support.targets().shape[-1]
    problem = "classification" if support.is_classification else "regression"
    module = learner.build(info_of(problem, x.shape[-1], n_outputs, layout)).to(x.dtype)
    with torch.no_grad():
        adapted = learner.adapt(module, support)
        if support.is_classification:
            return learner.predict(module, adapted, x)
        return torch.cat(learner.predict_distribution(module, adapted, x), dim=-1)


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a script, which may import those beside it, as a module."""
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------- closed forms


def test_leave_one_out_predictions_are_those_of_fits_without_the_row() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 7:] = False
    y = y * mask.unsqueeze(-1)
    kernel, ridge = (-torch.cdist(x, x)).exp(), torch.tensor(0.2, dtype=torch.float64)
    left_out = fit_kernel_ridge(kernel, y, mask, ridge).left_out
    for row in range(7):
        without = mask.clone()
        without[:, row] = False
        fit = fit_kernel_ridge(kernel, y * without.unsqueeze(-1), without, ridge)
        torch.testing.assert_close(left_out[:, row], (kernel[:, row : row + 1] @ fit.coefficients)[:, 0])


def test_two_rows_are_solved_as_by_hand() -> None:
    kernel = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]], dtype=torch.float64)
    y = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    fit = fit_kernel_ridge(kernel, y, torch.ones(1, 2, dtype=torch.bool), torch.tensor(0.1, dtype=torch.float64))
    # (1.1 a + 0.5 b, 0.5 a + 1.1 b) = (1, -1); without a row, the other one's coefficient is y / 1.1.
    torch.testing.assert_close(fit.coefficients.flatten(), torch.tensor([1, -1], dtype=torch.float64) / 0.6)
    torch.testing.assert_close(fit.left_out.flatten(), torch.tensor([-0.5, 0.5], dtype=torch.float64) / 1.1)


def test_densities_of_left_out_rows_are_those_without_the_row() -> None:
    support = task("classification", n=9, n_tasks=1)
    columns = TableColumns(info_of("classification", 7, 3, MIXED)).double()
    cells, members = columns.read(support.x), support.one_hot()
    encoding = fit_encoding(cells, support.mask, 1)
    rows = encode(cells, encoding)
    weights = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64)
    decay = torch.tensor(2.0, dtype=torch.float64)
    compared = compare(rows, rows, weights, decay)
    by_kernel = naive_bayes(compared, members, first=0)
    by_gaussian = gaussian_classes(rows.bent, rows.bent, members, encoding.speaks, own=members)
    for row in range(9):
        others = [i for i in range(9) if i != row]
        one, rest = rows.part([row]), rows.part(others)
        without = naive_bayes(compare(one, rest, weights, decay), members[:, others])
        torch.testing.assert_close(by_kernel[:, row], without[:, 0])
        without = gaussian_classes(one.bent, rest.bent, members[:, others], encoding.speaks)
        torch.testing.assert_close(by_gaussian[:, row], without[:, 0])


# ---------------------------------------------------------------- encoding


def test_cells_are_read_from_features() -> None:
    columns = TableColumns(info_of("regression", 7, 1, MIXED)).double()
    x = torch.tensor([[[1.5, 2.0, 0, 0, 1, 0, 0], [0.5, 0.1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]]]).double()
    cells = columns.read(x)
    torch.testing.assert_close(cells.entries[0], torch.tensor([[1.5, 2, 2], [0.5, 0.1, 0], [0, 0, 0]]).double())
    assert cells.known[0].tolist() == [[True, True, True], [True, False, False], [True, True, False]]


def test_numbers_are_standardised_ranked_and_categories_matched() -> None:
    columns = TableColumns(info_of("regression", 7, 1, MIXED)).double()
    x = torch.zeros(1, 4, 7, dtype=torch.float64)
    x[0, :, 0] = torch.tensor([0.0, 2, 2, 4])
    x[0, 0, 3] = x[0, 1, 4] = x[0, 2, 5] = x[0, 3, 5] = 1
    cells = columns.read(x)
    mask = torch.tensor([[True, True, True, True]])
    encoding = fit_encoding(cells, mask, 1)
    rows = encode(cells, encoding)
    z = torch.tensor([-1, 0, 0, 1]) * 2**0.5
    torch.testing.assert_close(rows.clipped[0, :, 0], z.double())
    torch.testing.assert_close(rows.bent[0, :, 0], z.double().asinh())
    assert rows.ranks[0, :, 0].tolist() == [-0.75, 0, 0, 0.75]
    assert rows.levels[0, :, 0].tolist() == [1, 2, 3, 3]
    assert (rows.bent[0, :, 1] == 0).all()  # the second number is constant
    weights = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64)
    compared = compare(rows, rows, weights, torch.tensor(2.0, dtype=torch.float64))
    distance = 3 * compared.distance[0, 0]
    assert distance[2, 3] == pytest.approx(float(z[3].double().asinh()))
    assert distance[0, 1] == pytest.approx(float(z[3].double().asinh()) + 1.5)
    assert 3 * compared.product[0, 0, 2, 3] == pytest.approx(1.5)


def test_two_levels_count_as_a_number_and_an_unseen_one_as_their_mean() -> None:
    columns = TableColumns(info_of("regression", 7, 1, MIXED)).double()
    x = torch.zeros(1, 4, 7, dtype=torch.float64)
    x[0, :2, 3] = x[0, 2:, 5] = 1
    cells = columns.read(x)
    encoding = fit_encoding(cells, torch.ones(1, 4, dtype=torch.bool), 1)
    assert encode(cells, encoding).clipped[0, :, 2].tolist() == [-1, -1, 1, 1]
    other = torch.zeros(1, 1, 7, dtype=torch.float64)
    other[0, 0, 4] = 1
    rows = encode(columns.read(other), encoding)
    assert (rows.clipped[0, 0, 2], rows.ranks[0, 0, 2], rows.levels[0, 0, 0]) == (0, 0, 0)


# ---------------------------------------------------------------- symmetries


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_rows_columns_and_levels_does_not_matter(problem: str) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    before = answer(support, x, MIXED)
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(answer(support.select(rows), x, MIXED), before)
    features = [5, 6, 3, 1, 4, 2, 0]  # columns 2, 1, 0, and the levels of the category turned round
    layout = {name: tuple(MIXED[name][i] for i in features) for name in MIXED}
    moved = support.with_parts(x=support.x[..., features])
    torch.testing.assert_close(answer(moved, x[..., features], layout), before)


def test_the_order_of_classes_does_not_matter() -> None:
    support, x = task("classification"), mixed_rows(2, 7, seed=9)
    order = torch.tensor([2, 0, 1])
    renamed = answer(support.with_parts(y=order[support.y]), x, MIXED)
    torch.testing.assert_close(renamed[..., order], answer(support, x, MIXED))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_query_is_answered_as_it_is_alone(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    support, x = task(problem), mixed_rows(2, 7, seed=9)
    together = answer(support, x, MIXED)
    alone = torch.cat([answer(support, x[:, i : i + 1], MIXED) for i in range(7)], dim=1)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-10)
    monkeypatch.setattr("autometa_plugins.tabular.network.AT_ONCE", 250)
    torch.testing.assert_close(answer(support, x, MIXED), together, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scaling", ["support", "support+query"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_ragged_tasks_are_learned_as_each_alone(problem: str, scaling: str) -> None:
    support, x = task(problem, n_tasks=3), mixed_rows(3, 7, seed=9)
    sizes = [12, 5, 1]
    mask = torch.arange(12) < torch.tensor(sizes)[:, None]
    padded = support.with_parts(x=support.x * mask.unsqueeze(-1), y=support.y * mask, mask=mask)
    together = answer(padded, x, MIXED, scaling=scaling)
    for i, n in enumerate(sizes):
        alone = answer(support[i : i + 1].select(slice(n)), x[i : i + 1], MIXED, scaling=scaling)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_queries_count_in_the_scales_only_where_asked() -> None:
    support, x = task("classification"), mixed_rows(2, 7, seed=9)
    moved = torch.cat([x[:, :3], 5 * x[:, 3:]], dim=1)
    torch.testing.assert_close(answer(support, moved, MIXED)[:, :3], answer(support, x, MIXED)[:, :3])
    by_both = answer(support, x, MIXED, scaling="support+query")
    assert not torch.allclose(answer(support, moved, MIXED, scaling="support+query")[:, :3], by_both[:, :3])
    order = torch.tensor([3, 1, 0, 2, 6, 5, 4])
    torch.testing.assert_close(answer(support, x[:, order], MIXED, scaling="support+query"), by_both[:, order])


def test_units_of_columns_and_targets_do_not_matter() -> None:
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    before = answer(support, x, MIXED)
    units = torch.tensor([1e-6, 1e6, 1, 1, 1, 1, 1], dtype=torch.float64)
    given = support.with_parts(x=support.x * units, y=1e3 * support.y)
    torch.testing.assert_close(answer(given, x * units, MIXED), 1e3 * before)


def test_several_targets_are_predicted_each_in_its_unit() -> None:
    support, x = task("regression"), mixed_rows(2, 7, seed=9)
    one = answer(support, x, MIXED)
    both = answer(support.with_parts(y=torch.stack([support.y, 5 - 2 * support.y], dim=-1)), x, MIXED)
    mean, deviation = both.chunk(2, dim=-1)
    torch.testing.assert_close(mean, torch.cat([one[..., :1], 5 - 2 * one[..., :1]], dim=-1))
    torch.testing.assert_close(deviation, torch.cat([one[..., 1:], 2 * one[..., 1:]], dim=-1))


# ---------------------------------------------------------------- θ


@pytest.mark.parametrize("problem", first_by_default(1, PROBLEMS))
def test_meta_gradients_are_finite_differences(problem: str) -> None:
    learner = am.make_learner("kernel_experts")
    query = task(problem, n=6, seed=5)
    batch = am.TaskBatch(support=task(problem, n=8), query=query)
    module = build_moved(learner, info_of(problem, 7, 3 if problem == "classification" else 1, MIXED))

    def loss() -> Tensor:
        return am.query_losses(learner, module, batch).sum()

    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
    unused = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    assert unused == (set() if problem == "classification" else {"mixture.log_shrinkage", "mixture.log_widening"})
    with torch.no_grad():
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            if gradient is not None:
                slopes = finite_differences(loss, parameter)
                torch.testing.assert_close(gradient, slopes, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_deviations_learn_from_the_likelihood_and_means_do_not() -> None:
    learner = am.make_learner("kernel_experts")
    batch = am.TaskBatch(support=task("regression", n=8), query=task("regression", n=6, seed=5))
    module = build_moved(learner, info_of("regression", 7, 1, MIXED))
    learner.meta_loss(module, batch, 0.0).sum().backward()
    mixture: Any = module.mixture
    assert mixture.log_shrinkage.grad.abs() > 0
    assert mixture.log_widening.grad.abs() > 0


def test_meta_training_lowers_the_loss_on_tasks_it_has_not_met() -> None:
    tasks = am.make_tasks("sinusoid", n_shot=6)
    learner = am.make_learner("kernel_experts")
    module = learner.build(tasks.info)
    optimizer = am.make_meta_optimizer("gradient", lr=0.05)
    optimizer.start(learner, module, tasks.info)
    batch = tasks.sample(32, split="valid", seed=0)
    with torch.no_grad():
        before = am.query_losses(learner, module, batch).mean()
    for step in range(12):
        optimizer.step(tasks.sample(8, seed=step))
    with torch.no_grad():
        assert am.query_losses(learner, module, batch).mean() < 0.95 * before


# ---------------------------------------------------------------- odd tables


def odd_tables() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(1, 8, 4, generator=generator, dtype=torch.float64)
    huge = plain.clone()
    huge[0, 0, 1], huge[0, 1, 2] = 1e30, -1e30
    return {
        "plain": plain,
        "duplicate rows": plain[:, :1].expand(1, 8, 4).contiguous(),
        "huge values": huge,
        "huge column": plain * torch.tensor([1, 1e30, 1e-30, 1]),
        "constant columns": torch.full_like(plain, 3.7),
        "zeros": torch.zeros_like(plain),
    }


@pytest.mark.parametrize("dtype", first_by_default(1, [torch.float32, torch.float64]))
@pytest.mark.parametrize("scaling", first_by_default(1, ["support", "support+query"]))
@pytest.mark.parametrize("name", odd_tables())
def test_odd_tables_have_finite_answers(name: str, scaling: str, dtype: torch.dtype) -> None:
    x = odd_tables()[name].to(dtype)
    queries = torch.cat([x, torch.full((1, 1, 4), 1e30, dtype=dtype), odd_tables()["plain"].to(dtype)], dim=1)
    y = torch.tensor([[0, 1, 2, 0, 1, 1, 0, 2]])
    for rows in (8, 2, 1, 0):
        kept = am.Examples(x[:, :rows], y[:, :rows], n_classes=3)
        logits = answer(kept, queries, scaling=scaling)
        assert logits.dtype == dtype
        assert logits.isfinite().all()
        for target in (y.to(dtype), torch.full((1, 8), -2.5, dtype=dtype), 1e30 * y.to(dtype)):
            found = answer(am.Examples(x[:, :rows], target[:, :rows]), queries, scaling=scaling)
            assert found.isfinite().all()
            assert (found[..., 1] > 0).all()


def test_one_row_and_constant_targets_are_predicted_as_they_are() -> None:
    x = odd_tables()["plain"]
    one = answer(am.Examples(x[:, :1], torch.tensor([[4.0]]).double()), x)
    constant = answer(am.Examples(x, torch.full((1, 8), 4.0).double()), x)
    torch.testing.assert_close(one[..., 0], torch.full((1, 8), 4.0).double())
    torch.testing.assert_close(constant[..., 0], torch.full((1, 8), 4.0).double())
    assert (one[..., 1] > constant[..., 1]).all()


def test_columns_that_tell_nothing_leave_the_labels_shares() -> None:
    y = torch.tensor([[0, 0, 0, 1, 1, 2]])
    shares = answer(am.Examples(odd_tables()["constant columns"][:, :6], y), odd_tables()["plain"]).softmax(-1)
    torch.testing.assert_close(shares, shares[:, :1].expand_as(shares))
    assert shares[0, 0, 0] > shares[0, 0, 1] > shares[0, 0, 2]


def test_a_class_that_a_task_lacks_gets_no_probability() -> None:
    support = clouds(n_tasks=1, n_way=3)
    wide = am.Examples(support.x, support.y, n_classes=5)
    classifier = am.FewShotClassifier("kernel_experts").fit(support.x[0].numpy(), support.y[0].numpy())
    narrow = answer(support, support.x)
    torch.testing.assert_close(answer(wide, support.x)[..., :3], narrow)
    # An estimator standardises as well, which changes nothing.
    shares = classifier.predict_proba(support.x[0].numpy())
    np.testing.assert_allclose(shares, narrow[0].softmax(-1).numpy(), atol=1e-9)


@pytest.mark.parametrize("parameters", [{"scaling": "query"}, {"max_rows": 0}, {"max_rows": 2.5}])
def test_a_wrong_parameter_is_named(parameters: dict[str, Any]) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{next(iter(parameters))}=.* of learner 'kernel_experts' must be"):
        am.make_learner("kernel_experts", **parameters).build(info_of("classification", 4, 2))


# ---------------------------------------------------------------- many rows


@pytest.mark.parametrize("problem", PROBLEMS)
def test_rows_are_dealt_to_blocks_with_targets_alike(problem: str) -> None:
    x = torch.randn(2, 25, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 25, dtype=torch.bool)
    mask[1, 9:] = False
    y = (x[..., 0] > 0).long() if problem == "classification" else x[..., 0]
    support = am.Examples(x * mask.unsqueeze(-1), y * mask, mask, n_classes=2 if problem == "classification" else 0)
    blocks = deal(support, support.x, max_rows=10)
    assert blocks.mask.sum(dim=2).tolist() == [[9, 8, 8], [9, 0, 0]]
    for place in range(2):
        dealt = blocks.x[place][blocks.mask[place]]
        whole = x[place][mask[place]]
        torch.testing.assert_close(dealt.sort(dim=0).values, whole.sort(dim=0).values)
    means = [float(blocks.targets[0, i][blocks.mask[0, i]].mean(dim=0)[-1]) for i in range(3)]
    assert max(means) - min(means) < 0.3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_many_rows_does_not_matter(problem: str) -> None:
    support, x = task(problem, n=40), mixed_rows(2, 7, seed=9)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    before = answer(support, x, MIXED, max_rows=15)
    torch.testing.assert_close(answer(support.select(rows), x, MIXED, max_rows=15), before)
    mask = torch.arange(40) < torch.tensor([40, 12])[:, None]
    padded = support.with_parts(x=support.x * mask.unsqueeze(-1), y=support.y * mask, mask=mask)
    alone = answer(support[1:].select(slice(12)), x[1:], MIXED, max_rows=15)
    torch.testing.assert_close(answer(padded, x, MIXED, max_rows=15), torch.cat([before[:1], alone]))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_rows_whose_features_have_equal_sums_does_not_matter(problem: str) -> None:
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(4, (1, 60, 3), generator=generator)
    x = torch.nn.functional.one_hot(levels, 4).flatten(2).double()
    y = (levels[..., 0] + levels[..., 1] > 3).long()
    classes = problem == "classification"
    support = am.Examples(x, y if classes else y.double(), n_classes=2 if classes else 0)
    shuffled = support.select(torch.randperm(60, generator=generator))
    layout = {"kinds": ("categorical",) * 12, "columns": tuple(i // 4 for i in range(12))}
    before = answer(support, x, layout, max_rows=20)
    torch.testing.assert_close(answer(shuffled, x, layout, max_rows=20), before)


def test_many_classes_of_one_row_are_dealt_to_all_blocks() -> None:
    x = torch.randn(2, 40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    support = am.Examples(x, torch.arange(40).expand(2, 40), torch.arange(40) < torch.tensor([[40], [23]]), 40)
    assert deal(support, x, max_rows=10).mask.sum(dim=2).tolist() == [[10, 10, 10, 10], [8, 8, 7, 0]]
    assert deal(support, x, max_rows=23).mask.sum(dim=2).tolist() == [[20, 20], [23, 0]]
    three = am.Examples(x, torch.arange(40).expand(2, 40) % 3, n_classes=3)
    counts = deal(three, x, max_rows=10).targets.sum(dim=2)
    assert (counts.amax(dim=1) - counts.amin(dim=1)).max() <= 1


def test_blocks_predict_nearly_as_well_as_all_rows_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 700, 3, dtype=torch.float64, generator=generator)
    y = (
        x[..., 0].sin()
        + x[..., 1] * x[..., 2] / 2
        + 0.3 * torch.randn(1, 700, dtype=torch.float64, generator=generator)
    )
    support = am.Examples(x[:, :400], y[:, :400])
    errors = [(answer(support, x[:, 400:], max_rows=n)[..., 0] - y[:, 400:]).square().mean() for n in (400, 100)]
    assert errors[0] < errors[1] < 1.5 * errors[0] < 0.3 * y.var()


# ---------------------------------------------------------------- calibration and real tables


@pytest.mark.parametrize("n", [5, 20, 100])
def test_intervals_cover_what_they_say(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(60, n + 20, 4, generator=generator)
    linear = (x @ torch.randn(60, 4, 1, generator=generator))[..., 0]
    kinds = torch.stack([linear, 2 * linear.sin(), 3.0 * (linear > 0), 2 * x[..., 0] * x[..., 1]])
    y = kinds[torch.arange(60) % 4, torch.arange(60)]
    y = y + 1.5 * torch.rand(60, 1, generator=generator) * torch.randn(60, n + 20, generator=generator)
    found = answer(am.Examples(x[:, :n], y[:, :n]), x[:, n:])
    covered = ((found[..., 0] - y[:, n:]).abs() < 1.645 * found[..., 1]).double().mean()
    assert 0.85 < covered < 0.95


@pytest.mark.parametrize("n", first_by_default(1, [20, 300]))
def test_logits_are_as_sure_as_they_may_be(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(12, n + 40, 4, generator=generator)
    slopes = torch.randn(12, 4, 1, generator=generator)
    wrong = torch.rand(12, n + 40, generator=generator) < 0.1
    y = (((x @ slopes)[..., 0] > 0) ^ wrong).long()
    logits = answer(am.Examples(x[:, :n], y[:, :n]), x[:, n:])
    factors = torch.tensor([0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.5])
    losses = [nn.functional.cross_entropy((f * logits).flatten(0, 1), y[:, n:].flatten()) for f in factors]
    assert losses[3] < min(losses) + 0.03


def test_a_saved_estimator_predicts_the_same(tmp_path: Path) -> None:
    support, x = task("regression", n_tasks=1), mixed_rows(1, 5, seed=3)[0].numpy()
    for scaling in ("support", "support+query"):
        regressor = am.FewShotRegressor(am.make_learner("kernel_experts", scaling=scaling))
        regressor.fit(support.x[0].numpy(), support.y[0].numpy())
        regressor.save(tmp_path / "saved")
        np.testing.assert_array_equal(am.load(tmp_path / "saved").predict(x), regressor.predict(x))


@pytest.mark.slow
def test_it_is_ahead_of_the_best_baseline_on_real_tables(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_rows = imported(FEW_ROWS, monkeypatch)
    folder = data_root / "tables"
    missing = imported(FEW_ROWS.with_name("protocol.py"), monkeypatch).missing_in(folder, few_rows.KINDS)
    if missing:
        pytest.skip(f"{folder} lacks {', '.join(missing)}")
    rows = few_rows.score_tables(folder, few_rows.load_protocol(folder), 0, ["kernel_experts"])
    own, baselines = pd.DataFrame(rows), few_rows.read_baselines(folder)
    for kind, shots in few_rows.SHOTS.items():
        metric = few_rows.METRICS[kind][0]
        best = baselines[baselines["kind"] == kind].groupby(["shots", "method"])[metric].mean().groupby("shots").max()
        mean = own[own["kind"] == kind].groupby("shots")[metric].mean()
        assert set(mean.index) == set(shots)
        assert (mean > best[mean.index] + 0.01).all(), (mean, best)
    assert own.groupby("shots")["coverage_90"].mean().dropna().between(0.85, 0.95).all()
