"""Neural processes read a set, tell a Gaussian for every query, and learn to tell the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import autometa as am
from learning import assert_lower, trained
from tiers import first_by_default

SMALL: dict[str, dict[str, int]] = {
    "cnp": {"dim": 16, "encoder_layers": 2, "decoder_layers": 2},
    "anp": {"dim": 16, "n_heads": 2},
    "tnp": {"dim": 16, "n_heads": 2, "n_layers": 2, "embedding_layers": 2},
}
EACH = pytest.mark.parametrize("name", SMALL)
N, SHAPE, N_OUTPUTS = 9, (3,), 2


def build(name: str, **parameters: Any) -> tuple[am.Learner, torch.nn.Module]:
    info = am.TaskInfo(problem="regression", input_shape=SHAPE, n_outputs=N_OUTPUTS, n_shot=N, n_query=5)
    learner = am.make_learner(name, **SMALL[name] | parameters)
    torch.manual_seed(0)
    return learner, learner.build(info).double()


def examples(n: int = N, n_tasks: int = 3, seed: int = 1) -> am.Examples:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n_tasks, n, width, generator=generator, dtype=torch.float64) for width in (*SHAPE, N_OUTPUTS))
    return am.Examples(x, y)


def told(learner: am.Learner, module: torch.nn.Module, support: am.Examples, x: Tensor) -> Tensor:
    """Means and deviations side by side."""
    return torch.cat(learner.predict_distribution(module, learner.adapt(module, support), x), dim=-1)


# a set is read


@EACH
def test_the_order_of_the_support_does_not_matter(name: str) -> None:
    learner, module = build(name)
    support, x = examples(), examples(5, seed=2).x
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        told(learner, module, support.select(order), x), told(learner, module, support, x), rtol=1e-12, atol=1e-12
    )


@EACH
def test_a_support_told_twice_says_no_more(name: str) -> None:
    learner, module = build(name)
    support, x = examples(), examples(5, seed=2).x
    torch.testing.assert_close(told(learner, module, support.join(support), x), told(learner, module, support, x))


@EACH
def test_every_pair_of_the_support_counts_and_so_does_its_target(name: str) -> None:
    learner, module = build(name)
    support, x = examples(), examples(5, seed=2).x
    before = told(learner, module, support, x)
    for row in range(N):
        for part in ("x", "y"):
            changed = {"x": support.x.clone(), "y": support.y.clone()}
            changed[part][:, row] += 1
            assert not torch.allclose(told(learner, module, am.Examples(**changed), x), before)


@EACH
def test_padded_pairs_change_nothing_whatever_they_hold(name: str) -> None:
    learner, module = build(name)
    support, x = examples(), examples(5, seed=2).x
    rubbish = am.Examples(50 + support.x[:, :4], 50 + support.y[:, :4], torch.zeros(3, 4, dtype=torch.bool))
    torch.testing.assert_close(told(learner, module, support.join(rubbish), x), told(learner, module, support, x))


@EACH
def test_a_query_never_sees_another(name: str) -> None:
    learner, module = build(name)
    x = examples(5, seed=2).x
    changed = x.clone()
    changed[:, 2] += 10
    before, after = (told(learner, module, examples(), query) for query in (x, changed))
    others = torch.arange(5) != 2
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])


@EACH
def test_one_pair_is_enough(name: str) -> None:
    learner, module = build(name)
    assert told(learner, module, examples(1), examples(5, seed=2).x).isfinite().all()


def test_cnp_decodes_the_mean_of_the_encoded_pairs() -> None:
    learner, module = build("cnp")
    support, x = examples(), examples(5, seed=2).x
    reader: Any = module.reader
    found = told(learner, module, support, x)
    for task in range(3):
        codes = [reader.encoder(torch.cat([support.x[task, i], support.y[task, i]])) for i in range(N)]
        mean = torch.stack(codes).mean(0)
        for i in range(5):
            mu, raw = reader.decoder(torch.cat([mean, x[task, i]])).split(N_OUTPUTS)
            sigma = 0.1 + 0.9 * torch.log1p(raw.exp())
            torch.testing.assert_close(found[task, i], torch.cat([mu, sigma]))


def test_anp_attends_by_inputs_alone() -> None:
    learner, module = build("anp")
    support = examples()
    other = am.Examples(support.x, support.y + 1)
    one, two = (learner.adapt(module, part) for part in (support, other))
    assert torch.equal(one["place"], two["place"])
    assert not torch.allclose(one["content"], two["content"])


def test_tnp_tells_a_blank_from_a_target_of_zero() -> None:
    _, module = build("tnp")
    reader: Any = module.reader
    x = examples().x
    tokens = [reader.embedding(torch.cat([x, torch.zeros(3, N, 2).double(), flag], -1)) for flag in _flags()]
    assert not torch.allclose(*tokens)


def _flags() -> list[Tensor]:
    return [torch.full((3, N, 1), value, dtype=torch.float64) for value in (0.0, 1.0)]


# what is told and how it is trained


@EACH
def test_meta_training_descends_the_negative_log_likelihood_of_unpadded_queries(name: str) -> None:
    learner, module = build(name)
    support, query = examples(), examples(5, seed=2)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    batch = am.TaskBatch(support=support, query=am.Examples(query.x, query.y, mask))
    found = learner.meta_loss(module, batch, 0.0)
    mean, std = learner.predict_distribution(module, learner.adapt(module, support), query.x)
    for task in range(3):
        normal = torch.distributions.Normal(mean[task, mask[task]], std[task, mask[task]])
        torch.testing.assert_close(found[task], -normal.log_prob(query.y[task, mask[task]]).sum(-1).mean())
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


@EACH
def test_tasks_are_judged_by_the_squared_error_of_the_means(name: str) -> None:
    learner, module = build(name)
    batch = am.TaskBatch(support=examples(), query=examples(5, seed=2))
    adapted = learner.adapt(module, batch.support)
    mean = learner.predict(module, adapted, batch.query.x)
    assert torch.equal(mean, learner.predict_distribution(module, adapted, batch.query.x)[0])
    torch.testing.assert_close(am.query_losses(learner, module, batch), (mean - batch.query.y).square().mean((1, 2)))


@EACH
def test_no_deviation_is_below_the_least(name: str) -> None:
    far = am.Examples(1e3 * examples().x, 1e3 * examples().y)
    for min_std in (0.0, 0.3):
        learner, module = build(name, min_std=min_std)
        for support in (examples(), far):
            _, std = learner.predict_distribution(module, learner.adapt(module, support), examples(5).x)
            assert (std > 0).all()
            assert (std >= min_std).all()


@EACH
def test_images_go_through_a_network_and_vectors_enter_as_they_are(name: str) -> None:
    learner, module = build(name)
    assert not list(module.backbone.parameters())
    info = am.TaskInfo(problem="regression", input_shape=(1, 16, 16), n_outputs=1, n_shot=4, n_query=3)
    module = learner.build(info)
    assert list(module.backbone.parameters())
    support = am.Examples(torch.randn(2, 4, 1, 16, 16), torch.randn(2, 4, 1))
    assert told(learner, module, support, torch.randn(2, 3, 1, 16, 16)).shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("name", "parameters", "named"),
    [
        ("cnp", {"dim": 0}, "dim=0 of learner 'cnp'"),
        ("cnp", {"encoder_layers": 1.5}, "encoder_layers=1.5"),
        ("anp", {"min_std": 1.0}, r"min_std=1.0 of learner 'anp' must be a number of at least 0 and below 1"),
        ("anp", {"dim": 30, "n_heads": 8}, "dim=30 .* 24 would work"),
        ("tnp", {"dim": 30, "n_heads": 4}, "dim=30 .* 28 would work"),
        ("tnp", {"n_layers": True}, "n_layers=True"),
    ],
)
def test_impossible_parameters_are_named(name: str, parameters: dict[str, Any], named: str) -> None:
    with pytest.raises(am.InvalidParameter, match=named):
        build(name, **parameters)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "parameters", "n_steps"),
    [
        ("cnp", {"dim": 64}, 400),
        pytest.param("anp", {"dim": 32, "n_heads": 4}, 300, marks=pytest.mark.slow),
        pytest.param("tnp", {"dim": 32, "n_layers": 2, "embedding_layers": 2}, 250, marks=pytest.mark.slow),
    ],
)
def test_meta_training_tells_where_new_functions_go_and_how_surely(
    name: str, parameters: dict[str, Any], n_steps: int
) -> None:
    tasks = am.make_tasks("gaussian_process", n_shot=12, n_query=12)
    learner = am.make_learner(name, **parameters)
    gradient = am.make_meta_optimizer("gradient", lr=3e-3)
    module = trained(learner, gradient, tasks, n_steps=n_steps, tasks_per_step=16).module.eval()
    batch = tasks.sample(500, split="test", seed=0)
    y = batch.query.y
    with torch.no_grad():
        mean, std = learner.predict_distribution(module, learner.adapt(module, batch.support), batch.query.x)
        others = batch.support[torch.arange(500).roll(1)]
        elsewhere = learner.predict_distribution(module, learner.adapt(module, others), batch.query.x)

    def surprise(mean: Tensor | float, std: Tensor) -> Tensor:
        return -torch.distributions.Normal(mean, std).log_prob(y).mean((1, 2))

    told = surprise(mean, std)
    # Without adapting no Gaussian does better than the one of the targets' own variance.
    assert_lower(told, surprise(0.0, y.std()))
    assert_lower(told, surprise(*elsewhere))
    assert_lower((y - mean).square().mean((1, 2)), y.square().mean((1, 2)))
    # Deviations are larger where errors are, and neither twice too large nor twice too small.
    assert_lower(told, surprise(mean, (y - mean).square().mean().sqrt()))
    assert_lower(told, surprise(mean, 2 * std))
    assert_lower(told, surprise(mean, std / 2))


# through the estimator


def dosages(scale: float = 1.0) -> pd.DataFrame:
    """Response to a dose, by patient."""
    generator = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), 12)
    dose = generator.uniform(-1, 1, len(patient))
    response = generator.normal(size=30)[patient] + np.sin(3 * dose) + 0.1 * generator.normal(size=len(patient))
    return pd.DataFrame({"patient": patient, "dose": dose, "response": 40 + scale * response})


def meta_fitted(name: str, scale: float = 1.0) -> tuple[am.FewShotRegressor, pd.DataFrame]:
    table = dosages(scale)
    regressor = am.FewShotRegressor(am.make_learner(name, **SMALL[name]), max_steps=20, device="cpu", random_state=0)
    regressor.meta_fit(table[["dose"]], table["response"], task=table["patient"], n_shot=10)
    return regressor, table[table["patient"] == 0]


@pytest.mark.parametrize("name", first_by_default(1, SMALL))
def test_deviations_are_in_the_units_of_the_targets(name: str) -> None:
    found = []
    for scale in (1.0, 10.0):
        regressor, patient = meta_fitted(name, scale)
        regressor.fit(patient[["dose"]], patient["response"])
        mean, std = regressor.predict(patient[["dose"]], return_std=True)
        assert mean.shape == std.shape == (12,)
        np.testing.assert_array_equal(mean, regressor.predict(patient[["dose"]]))
        assert (std > 0).all()
        found.append((mean - 40, std))
    for one, ten in zip(*found, strict=True):
        np.testing.assert_allclose(ten, 10 * one, rtol=1e-3, atol=1e-3)


@EACH
def test_without_meta_training_too_deviations_scale_with_the_targets(name: str) -> None:
    X = np.linspace(-1, 1, 20)[:, None]
    y = np.sin(3 * X[:, 0])
    stds = []
    for scale in (1.0, 10.0):
        regressor = am.FewShotRegressor(am.make_learner(name, **SMALL[name]), random_state=0).fit(X, scale * y)
        stds.append(regressor.predict(X, return_std=True)[1])
    np.testing.assert_allclose(stds[1], 10 * stds[0], rtol=1e-9)


@pytest.mark.parametrize("name", first_by_default(1, SMALL))
def test_a_saved_estimator_keeps_its_deviations(name: str, tmp_path: Path) -> None:
    regressor, patient = meta_fitted(name)
    regressor.fit(patient[["dose"]], patient["response"]).save(tmp_path / "model.autometa")
    loaded = am.load(tmp_path / "model.autometa")
    assert isinstance(loaded, am.FewShotRegressor)
    for mine, its in zip(*(r.predict(patient[["dose"]], return_std=True) for r in (regressor, loaded)), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_learners_without_a_distribution_say_so() -> None:
    X = np.linspace(-1, 1, 20)[:, None]
    regressor = am.FewShotRegressor("ridge", device="cpu").fit(X, X[:, 0])
    with pytest.raises(am.Incompatible, match=r"return_std=True: Ridge.*such as 'tnp'"):
        regressor.predict(X, return_std=True)


@pytest.mark.thorough
def test_the_automatic_regressor_tells_the_deviations_of_its_winner() -> None:
    tasks = am.make_tasks("gaussian_process", n_shot=5, n_query=5)
    chosen = am.AutoFewShotRegressor(
        learners={"small": am.make_learner("cnp", **SMALL["cnp"])},
        n_trials=1,
        n_test_tasks=20,
        n_valid_tasks=10,
        max_steps=5,
        device="cpu",
    ).meta_fit(tasks)
    support = tasks.sample(1, split="test", seed=0).support
    X, y = support.x[0].numpy(), support.y[0, :, 0].numpy()
    mean, std = chosen.fit(X, y).predict(X, return_std=True)
    np.testing.assert_array_equal(mean, chosen.predict(X))
    assert (std >= 0.1).all()
