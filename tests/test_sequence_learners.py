"""Sequence learners: cells never look ahead and can go on reading, and adaptation takes the support for a set."""

from __future__ import annotations

import pytest
import torch
from autometa_plugins.model.cells.cell import Cell, read_in_chunks
from autometa_plugins.model.sequence_orders import content_orders, fixed_codes
from torch import Tensor

import autometa as am
from autometa.contracts.forward import forward, task_scores
from autometa.testing.toys import Blobs
from learning import assert_alike, assert_better, chance, judged, trained
from toy_tasks import Offsets

SMALL = {
    "lstm": {"hidden_size": 8, "n_layers": 2},
    "gru": {"hidden_size": 8, "n_layers": 2},
    "mann": {"hidden_size": 8, "n_slots": 6, "slot_size": 5, "n_heads": 2},
    "snail": {"n_filters": 4, "attention": ((4, 3), (5, 4))},
    "plastic": {"hidden_size": 8},
}
NAMES = list(SMALL)
PROBLEMS = ["classification", "regression"]
WIDTH, LENGTH = 5, 9
every_cell = pytest.mark.parametrize("name", NAMES)
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def cell_of(name: str) -> Cell:
    torch.manual_seed(0)
    cell: Cell = am.make_learner(name, **SMALL[name]).build_cell(WIDTH, LENGTH).double()
    for parameter in cell.parameters():  # Nothing may hide behind a parameter that starts small.
        torch.nn.init.normal_(parameter, std=0.4)
    return cell


def sequences(n: int = LENGTH, seed: int = 1) -> Tensor:
    return torch.randn(3, n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def all_there(tokens: Tensor) -> Tensor:
    return torch.ones(tokens.shape[:2], dtype=torch.bool)


def read(cell: Cell, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    return cell.read(tokens, all_there(tokens) if mask is None else mask, cell.start(tokens))


@every_cell
def test_a_later_token_never_changes_an_earlier_feature(name: str) -> None:
    cell, tokens = cell_of(name), sequences()
    changed = tokens.clone()
    changed[:, 5] += 1
    before, after = read(cell, tokens)[0], read(cell, changed)[0]
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert not torch.allclose(after[:, 5], before[:, 5])
    assert not torch.allclose(after[:, 6:], before[:, 6:])


@every_cell
def test_a_query_is_answered_as_the_next_token_of_the_whole_sequence(name: str) -> None:
    cell, tokens, queries = cell_of(name), sequences(), sequences(4, seed=2)
    answers = cell.answer(read(cell, tokens)[1], queries)
    for number in range(4):
        whole, _ = read(cell, torch.cat([tokens, queries[:, number : number + 1]], dim=1))
        torch.testing.assert_close(answers[:, number], whole[:, -1])


@every_cell
def test_a_sequence_in_parts_is_the_whole_sequence(name: str) -> None:
    cell, tokens = cell_of(name), sequences()
    mask = torch.arange(LENGTH) < torch.tensor([[LENGTH], [5], [2]])
    whole, state = read(cell, tokens, mask)
    for chunk in (1, 2, 4):
        parts, after = read_in_chunks(cell, tokens, mask, chunk)
        torch.testing.assert_close(parts[mask], whole[mask])
        query = sequences(2, seed=3)
        torch.testing.assert_close(cell.answer(after, query), cell.answer(state, query))


@every_cell
def test_a_padded_sequence_leaves_the_state_of_the_sequence_alone(name: str) -> None:
    cell, tokens, query = cell_of(name), sequences(), sequences(2, seed=3)
    lengths = [LENGTH, 5, 0]
    mask = torch.arange(LENGTH) < torch.tensor(lengths).unsqueeze(1)
    together = cell.answer(read(cell, tokens, mask)[1], query)
    for number, length in enumerate(lengths):
        alone = tokens[number : number + 1, :length]
        state = read(cell, alone)[1] if length else cell.start(alone)
        torch.testing.assert_close(together[number : number + 1], cell.answer(state, query[number : number + 1]))


def batch_of(problem: str, n_support: int = 9, n_way: int = 3, n_tasks: int = 3) -> am.TaskBatch:
    generator = torch.Generator().manual_seed(4)

    def examples(n: int) -> am.Examples:
        x = torch.randn(n_tasks, n, 4, generator=generator, dtype=torch.float64)
        if problem == "classification":
            return am.Examples(x, torch.arange(n).expand(n_tasks, -1) % n_way, n_classes=n_way)
        return am.Examples(x, torch.randn(n_tasks, n, 2, generator=generator, dtype=torch.float64))

    return am.TaskBatch(support=examples(n_support), query=examples(6))


def built(name: str, problem: str, n_way: int = 3, **parameters: object) -> tuple[am.Learner, torch.nn.Module]:
    learner = am.make_learner(name, **SMALL[name], **parameters)
    n_outputs = n_way if problem == "classification" else 2
    torch.manual_seed(0)
    module = learner.build(
        am.TaskInfo(problem=problem, input_shape=(4,), n_outputs=n_outputs, n_shot=3, n_query=2)
    ).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return learner, module


@every_cell
@every_problem
def test_chunks_give_the_same_gradient(name: str, problem: str) -> None:
    gradients = []
    for chunk in (None, 2):
        learner, module = built(name, problem, chunk=chunk)
        torch.manual_seed(1)
        learner.meta_loss(module, batch_of(problem), 0.0).sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


@every_cell
@every_problem
def test_the_arrangement_of_rows_never_matters_and_every_row_counts(name: str, problem: str) -> None:
    learner, module = built(name, problem)
    batch, order = batch_of(problem), torch.randperm(9, generator=torch.Generator().manual_seed(5))
    outputs = forward(learner, module, batch.support, batch.query.x)
    torch.testing.assert_close(forward(learner, module, batch.support.select(order), batch.query.x), outputs)
    without = forward(learner, module, batch.support.select(slice(8)), batch.query.x)
    assert not torch.allclose(without, outputs)


def test_orders_put_padding_last_and_differ_from_each_other() -> None:
    support = batch_of("regression").support
    mask = support.mask.clone()
    mask[1, 6:] = False
    orders = content_orders(am.Examples(support.x, support.y, mask), 4)
    assert (orders.sort(dim=2).values == torch.arange(9)).all()
    assert (orders[1, :, 6:] >= 6).all()
    assert len({tuple(order) for order in orders[0].tolist()}) == 4


@every_cell
def test_the_answer_is_the_mean_over_orders(name: str) -> None:
    learner, module = built(name, "regression", n_orders=3)
    batch = batch_of("regression")
    adapted = learner.adapt(module, batch.support)
    single = [
        learner.predict(
            module,
            {"last": adapted["last"][:, [o]], "state": {k: v[:, [o]] for k, v in adapted["state"].items()}},
            batch.query.x,
        )
        for o in range(3)
    ]
    torch.testing.assert_close(learner.predict(module, adapted, batch.query.x), torch.stack(single).mean(0))


@every_cell
@every_problem
def test_along_predicts_each_example_before_its_label_is_told(name: str, problem: str) -> None:
    learner, module = built(name, problem)
    support = batch_of(problem).support
    outputs = learner.along(module, support)
    y = support.y.clone()
    y[:, 4] = (y[:, 4] + 1) % 3 if problem == "classification" else y[:, 4] + 1
    told = learner.along(module, am.Examples(support.x, y, n_classes=support.n_classes))
    torch.testing.assert_close(told[:, :5], outputs[:, :5])
    assert not torch.allclose(told[:, 5], outputs[:, 5])


def test_codes_are_exact_up_to_the_slots_and_do_not_depend_on_the_number_of_classes() -> None:
    few, many = (fixed_codes(2, n, 4, shuffled=True)[0] for n in (3, 7))
    torch.testing.assert_close(many[:, :3], few)
    torch.testing.assert_close(many[:, :4] @ many[:, :4].mT, torch.eye(4, dtype=torch.float64).expand(2, -1, -1))
    torch.testing.assert_close(many.norm(dim=-1), torch.ones(2, 7, dtype=torch.float64))


@every_cell
def test_more_classes_than_slots_are_told_apart(name: str) -> None:
    learner, module = built(name, "classification")
    batch = batch_of("classification", n_support=15, n_way=5)
    probabilities = forward(learner, module, batch.support, batch.query.x).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, 6, dtype=torch.float64))
    assert (probabilities.std(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_orders": 0}, "n_orders=0 of learner 'lstm' must be a positive integer"),
        ({"chunk": -1}, "chunk=-1 of learner 'lstm' must be a positive integer, or None"),
        ({"n_labels": 1}, "n_labels=1 of learner 'lstm' must be an integer of at least 2"),
        ({"along_weight": -1.0}, "along_weight=-1.0 of learner 'lstm' must be a number of at least 0"),
        ({"hidden_size": 0}, "hidden_size=0 of learner 'lstm' must be a positive integer"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        am.make_learner("lstm", **parameters).build(Blobs().info)


def meta_trained(learner: am.Learner, tasks: am.TaskSampler, n_steps: int) -> torch.nn.Module:
    return trained(learner, am.make_meta_optimizer("gradient", lr=0.01), tasks, n_steps=n_steps).module.eval()


def scores(learner: am.Learner, module: torch.nn.Module, tasks: am.TaskSampler, *, roll: int = 0) -> Tensor:
    """Scores of unseen tasks, each adapted to the support of the task so many places before it; 0: to its own."""
    batch = tasks.sample(200, split="test", seed=1)
    supports = batch[torch.arange(200).roll(roll)].support
    with torch.no_grad():
        return task_scores(forward(learner, module, supports, batch.query.x), batch.query)


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "n_steps"), [pytest.param("snail", 120, marks=pytest.mark.slow), ("plastic", 80)])
def test_unseen_classes_are_learned_from_the_support(name: str, n_steps: int) -> None:
    tasks, learner = Blobs(), am.make_learner(name)
    module = meta_trained(learner, tasks, n_steps)
    assert_better(scores(learner, module, tasks), chance(tasks.info) + 0.1, tasks.info)
    assert_alike(scores(learner, module, tasks, roll=1), chance(tasks.info))


@pytest.mark.slow
def test_unseen_functions_are_learned_from_the_support() -> None:
    tasks, learner = Offsets(), am.make_learner("lstm")
    module = meta_trained(learner, tasks, 160)
    assert_better(scores(learner, module, tasks), scores(learner, module, tasks, roll=1) / 2, tasks.info)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plastic", "lstm"])
def test_images_are_learned_through_a_convolutional_backbone(name: str) -> None:
    tasks = am.make_tasks("glyphs", n_drawers=20, size=8, n_way=2, n_shot=3, n_query=3)
    learner = am.make_learner(name, backbone=am.make_backbone("conv4", n_filters=16))
    module = meta_trained(learner, tasks, 200)
    assert_better(judged(learner, module, tasks), chance(tasks.info), tasks.info)


@pytest.mark.thorough
def test_the_features_of_an_image_have_mean_0_and_spread_1_and_vectors_stay_as_they_are() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=3)
    network = am.make_learner("lstm", backbone="conv4").build(tasks.info)
    features = network.features(tasks.sample(2, seed=0).support.x)
    torch.testing.assert_close(features.mean(-1), torch.zeros(features.shape[:2]), atol=1e-5, rtol=0)
    assert features.std(-1).min() > 0.9
    functions = am.make_tasks("sinusoid").sample(2, seed=0).support.x
    network = am.make_learner("lstm").build(am.make_tasks("sinusoid").info)
    assert torch.equal(network.features(functions), functions)
