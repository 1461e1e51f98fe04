"""The in-context transformer sees what it may see, in no particular order, and learns to learn."""

from __future__ import annotations

import pytest
import torch

import autometa as am
from autometa.contracts.forward import forward, query_losses
from autometa.engine.random_state import fresh_module
from autometa.training import evaluate
from learning import assert_better, untrained_and_trained
from toy_tasks import queries, support_of

N_WAY, N_SUPPORT, SHAPE = 3, 9, (4,)
PROBLEMS = ["classification", "regression"]


def build(problem: str, **parameters: object) -> tuple[am.Learner, torch.nn.Module]:
    info = am.TaskInfo(problem=problem, input_shape=SHAPE, n_outputs=3, n_shot=3, n_query=5)
    learner = am.make_learner("in_context", dim=16, n_heads=2, **parameters)
    torch.manual_seed(0)
    module = learner.build(info).double()
    for parameter in module.parameters():  # Nothing may hide behind a parameter that starts at zero.
        torch.nn.init.normal_(parameter, std=0.3)
    return learner, module


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_query_never_changes_another_querys_output(problem: str) -> None:
    learner, module = build(problem)
    x = queries()
    changed = x.clone()
    changed[:, 2] += 10
    before, after = (forward(learner, module, support_of(problem), q) for q in (x, changed))
    others = torch.arange(5) != 2
    torch.testing.assert_close(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 2], after[:, 2])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_order_of_the_support_does_not_matter(problem: str) -> None:
    learner, module = build(problem)
    support, order = support_of(problem), torch.randperm(N_SUPPORT, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        forward(learner, module, support, queries()), forward(learner, module, support.select(order), queries())
    )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_support_example_counts(problem: str) -> None:
    learner, module = build(problem)
    support = support_of(problem)
    for row in range(N_SUPPORT):
        x = support.x.clone()
        x[:, row] += 1
        changed = am.Examples(x, support.y)
        assert not torch.allclose(
            forward(learner, module, support, queries()), forward(learner, module, changed, queries())
        )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_padded_rows_change_nothing_whatever_they_hold(problem: str) -> None:
    learner, module = build(problem)
    support = support_of(problem)
    padding = am.Examples(
        torch.full_like(support.x[:, :4], 50.0), support.y[:, :4], torch.zeros(3, 4, dtype=torch.bool)
    )
    torch.testing.assert_close(
        forward(learner, module, support, queries()), forward(learner, module, support.join(padding), queries())
    )


@pytest.mark.parametrize("problem", PROBLEMS)
def test_tasks_together_equal_each_alone(problem: str) -> None:
    learner, module = build(problem)
    support, x = support_of(problem), queries()
    together = forward(learner, module, support, x)
    for task in range(3):
        torch.testing.assert_close(
            together[task : task + 1], forward(learner, module, support[task : task + 1], x[task : task + 1])
        )


def test_renaming_the_classes_renames_the_outputs() -> None:
    learner, module = build("classification")
    support, new_name = support_of("classification"), torch.tensor([2, 0, 1])
    renamed = am.Examples(support.x, new_name[support.y])
    torch.testing.assert_close(
        forward(learner, module, support, queries()), forward(learner, module, renamed, queries())[..., new_name]
    )


def test_who_is_of_one_class_matters_to_every_layer() -> None:
    learner, module = build("classification")
    support = support_of("classification")
    regrouped = am.Examples(support.x, support.y.sort(dim=1).values)
    one, other = (learner.adapt(module, s)["keys"] for s in (support, regrouped))
    assert torch.equal(one[:, 0], other[:, 0])
    assert not torch.allclose(one[:, 1], other[:, 1])


def test_any_number_of_classes_may_follow_meta_training() -> None:
    learner, module = build("classification")
    support = am.Examples(torch.randn(2, 100, *SHAPE, dtype=torch.float64), torch.arange(100).repeat(2, 1))
    logits = forward(learner, module, support, queries(n_tasks=2))
    assert logits.shape == (2, 5, 100)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 5, dtype=torch.float64))


def test_a_class_without_examples_has_a_finite_loss_and_gradient() -> None:
    learner, module = build("classification")
    whole = support_of("classification")
    support = am.Examples(whole.x, whole.y.clamp(max=1), n_classes=N_WAY)
    query = am.Examples(queries(), torch.zeros(3, 5, dtype=torch.int64), n_classes=N_WAY)
    query_losses(learner, module, am.TaskBatch(support=support, query=query)).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_predictions_follow_the_location_and_scale_of_the_targets() -> None:
    learner, module = build("regression")
    support = support_of("regression")
    moved = am.Examples(support.x, 1000 * support.y - 7)
    torch.testing.assert_close(
        forward(learner, module, moved, queries()), 1000 * forward(learner, module, support, queries()) - 7
    )


@pytest.mark.parametrize("n", [1, 4])
def test_constant_targets_give_finite_predictions(n: int) -> None:
    learner, module = build("regression")
    support = am.Examples(queries(n), torch.full((3, n, 3), 1e6, dtype=torch.float64))
    outputs = forward(learner, module, support, queries())
    assert (outputs - 1e6).abs().max() < 100


def test_gradients_reach_every_parameter_and_equal_finite_differences() -> None:
    learner, module = build("classification", n_layers=2)
    batch = am.TaskBatch(support=support_of("classification"), query=support_of("classification"))
    query_losses(learner, module, batch).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
    weight = module.blocks[0].key_value.weight
    step, i = 1e-6, (3, 5)
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[i] += sign * step
            losses.append(query_losses(learner, module, batch).sum())
            weight[i] -= sign * step
    torch.testing.assert_close((losses[0] - losses[1]) / (2 * step), weight.grad[i], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_meta_training_predicts_new_sinusoids() -> None:
    tasks = am.make_tasks("sinusoid", n_shot=10)
    learner = am.make_learner("in_context", dim=32, n_layers=2, backbone=am.make_backbone("mlp", hidden=(32,)))
    meta_optimizer = am.make_meta_optimizer("gradient", lr=3e-3)
    before, after = untrained_and_trained(learner, meta_optimizer, tasks, n_steps=300, tasks_per_step=25)
    assert_better(after, before / 2, tasks.info)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [({"dim": 30, "n_heads": 4}, "28"), ({"n_layers": 0}, "n_layers=0"), ({"dim": 2.5}, "dim=2.5")],
)
def test_an_impossible_size_is_named(parameters: dict[str, object], named: str) -> None:
    info = am.TaskInfo(problem="regression", input_shape=SHAPE, n_outputs=1, n_shot=3, n_query=5)
    with pytest.raises(am.InvalidParameter, match=named):
        am.make_learner("in_context", **parameters).build(info)


def test_meta_training_begins_with_comparing_features() -> None:
    """Where nothing can be learned from four digits, the answer is as good as that of the pixels."""
    tasks = am.make_tasks("digits", n_query=5)
    scores = {}
    for name in ("in_context", "prototypical"):
        learner = am.make_learner(name, backbone="identity")
        module = fresh_module(learner, tasks.info, seed=0)
        scores[name] = evaluate(learner, module, tasks, split="test", n_tasks=200, seed=1).per_task()[1]
    behind = scores["prototypical"] - scores["in_context"]
    assert scores["prototypical"].mean() > 0.7
    assert behind.mean() < 0.02
