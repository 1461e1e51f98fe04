"""MAML's meta-gradients are those of its paper, and a task may have any number of classes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from autometa_plugins.optimization.per_step_norm import PerStepNorm, at_step, with_per_step_norm
from torch import Tensor, nn

import autometa as am
from autometa.training import MetaTraining, evaluate
from derivatives import build_moved, finite_differences
from learning import assert_alike, assert_better, chance, training_seed
from toy_tasks import BLOBS, SINES, blobs, sines

DOUBLE = torch.float64


PLAIN = {"first_order_until": 0.0, "multi_step_loss": 0.0}
"""MAML++ with nothing but per-step norm."""


def learner(name: str = "maml", **parameters: object) -> am.Learner:
    backbone = am.make_backbone("mlp", hidden=(5,), activation="tanh")
    plain = PLAIN if name == "maml_plus_plus" else {}
    return am.make_learner(
        name, **{"backbone": backbone, "inner_lr": 0.3, "steps": 2, "strategy": "vmap", **plain, **parameters}
    )


@pytest.mark.parametrize(("info", "batch"), [(SINES, sines()), (BLOBS, blobs())], ids=["regression", "classification"])
def test_exact_meta_gradients_equal_finite_differences_of_the_query_loss(
    info: am.TaskInfo, batch: am.TaskBatch
) -> None:
    maml = learner()
    module = build_moved(maml, info)

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(maml, module, batch).mean()

    am.query_losses(maml, module, batch).mean().backward()
    for name, parameter in module.named_parameters():
        expected = finite_differences(objective, parameter)
        torch.testing.assert_close(
            parameter.grad, expected, rtol=1e-5, atol=1e-8, msg=lambda text, name=name: name + text
        )


def test_first_order_meta_gradients_are_the_query_gradients_at_the_adapted_parameters() -> None:
    maml = learner(first_order=True, learn_lr=False)
    module, batch = build_moved(maml, SINES), sines()
    am.query_losses(maml, module, batch).mean().backward()
    with torch.no_grad():
        adapted = maml.adapt(module, batch.support)
    leaves = {name: value.requires_grad_() for name, value in adapted.items()}
    outputs = maml.predict(module, leaves, batch.query.x)
    slopes = torch.autograd.grad(am.task_losses(maml, outputs, batch.query).mean(), list(leaves.values()))
    for name, slope in zip(leaves, slopes, strict=True):
        torch.testing.assert_close(module.get_parameter(name).grad, slope.sum(dim=0))
    exact = build_moved(learner(learn_lr=False), SINES)
    am.query_losses(learner(learn_lr=False), exact, batch).mean().backward()
    assert not torch.allclose(exact.head.weight.grad, module.head.weight.grad)


def meta_gradient(maml: am.Learner, module: nn.Module, batch: am.TaskBatch, progress: float) -> list[Tensor]:
    parameters = list(module.parameters())
    return list(torch.autograd.grad(maml.meta_loss(module, batch, progress).mean(), parameters, materialize_grads=True))


@pytest.mark.parametrize("progress", [0.0, 0.29, 0.3, 1.0])
def test_derivatives_are_of_first_order_until_their_share_of_meta_training_is_over(progress: float) -> None:
    batch = sines()
    module = build_moved(learner(), SINES)
    first, second = (meta_gradient(learner(first_order=order), module, batch, 0.0) for order in (True, False))
    annealed = meta_gradient(learner("maml_plus_plus", first_order_until=0.3), module, batch, progress)
    torch.testing.assert_close(annealed, first if progress < 0.3 else second)
    assert not torch.allclose(first[-1], second[-1])


@pytest.mark.parametrize(("info", "batch"), [(SINES, sines()), (BLOBS, blobs())], ids=["regression", "classification"])
def test_losses_after_every_step_give_way_to_that_after_the_last(info: am.TaskInfo, batch: am.TaskBatch) -> None:
    module = build_moved(learner(steps=3), info)
    after = [am.query_losses(learner(steps=steps), module, batch) for steps in (1, 2, 3)]
    maml = learner("maml_plus_plus", steps=3, multi_step_loss=0.5)
    torch.testing.assert_close(maml.meta_loss(module, batch, 0.0), sum(after) / 3)
    torch.testing.assert_close(maml.meta_loss(module, batch, 0.25), (after[0] + after[1]) / 6 + after[2] * 2 / 3)
    for progress in (0.5, 1.0):
        torch.testing.assert_close(maml.meta_loss(module, batch, progress), after[2])
    torch.testing.assert_close(maml.meta_loss(module, batch, 0.5 - 1e-9), after[2])


def test_multi_step_meta_gradients_equal_finite_differences() -> None:
    maml, batch = learner("maml_plus_plus", steps=3, multi_step_loss=1.0, inner_lr=0.2), sines()
    module = build_moved(maml, SINES)

    def objective() -> Tensor:
        with torch.no_grad():
            return maml.meta_loss(module, batch, 0.4).mean()

    for parameter, slopes in zip(module.parameters(), meta_gradient(maml, module, batch, 0.4), strict=True):
        torch.testing.assert_close(slopes, finite_differences(objective, parameter), rtol=1e-5, atol=1e-8)


PATTERNS = am.make_tasks("glyphs", size=8, n_way=3, n_shot=2, n_query=2)


def per_step(**parameters: object) -> am.Learner:
    backbone = am.make_backbone("conv4", n_filters=2)
    return am.make_learner(
        "maml_plus_plus", **{"backbone": backbone, "steps": 2, "per_step_norm": True, **PLAIN, **parameters}
    )


def norms(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, PerStepNorm)]


@pytest.mark.thorough
def test_per_step_norms_keep_statistics_of_every_step_and_share_them_among_tasks() -> None:
    maml = per_step()
    torch.manual_seed(0)
    module = maml.build(PATTERNS.info).train()
    layers, batch = norms(module), PATTERNS.sample(3, seed=0)
    assert len(layers) == 4
    assert [tuple(layer.weight.shape) for layer in layers] == [(3, 2)] * 4
    adapted = maml.adapt(module, batch.support)
    assert not any("blocks.1." in name for name in adapted)
    moved = [(layer.running_mean != 0).all(dim=1).tolist() for layer in layers]
    assert moved == [[True, True, False]] * 4  # the last is of the adapted weights, which the query shows
    maml.predict(module, adapted, batch.query.x)
    assert all((layer.running_mean[2] != 0).all() for layer in layers)
    assert not any(torch.equal(layer.running_var[0], layer.running_var[2]) for layer in layers)
    gradient = dict(
        zip(
            dict(module.named_parameters()),
            meta_gradient(maml, module, batch, 0.0),
            strict=True,
        )
    )
    assert gradient["backbone.blocks.1.weight"].abs().sum(dim=1).gt(0).all()


def test_per_step_norm_predicts_inductively_and_changes_nothing_after_meta_training() -> None:
    maml = per_step()
    torch.manual_seed(0)
    module, batch = maml.build(PATTERNS.info).double().train(), PATTERNS.sample(2, seed=0).to(dtype=DOUBLE)
    maml.meta_loss(module, batch, 0.0)
    module.eval()
    before = [value.clone() for value in module.state_dict().values()]
    adapted = maml.adapt(module, batch.support)
    outputs = maml.predict(module, adapted, batch.query.x)
    torch.testing.assert_close(maml.predict(module, adapted, batch.query.x[:, :1]), outputs[:, :1])
    torch.testing.assert_close(list(module.state_dict().values()), before, rtol=0, atol=0)
    vectorised = per_step(strategy="vmap")
    torch.testing.assert_close(
        vectorised.predict(module, vectorised.adapt(module, batch.support), batch.query.x), outputs
    )
    assert per_step(steps=4).predict(module, adapted, batch.query.x).shape == (2, 6, 3)


def test_per_step_norm_meta_gradients_equal_finite_differences() -> None:
    maml = per_step(inner_lr=0.1)
    torch.manual_seed(0)
    module, batch = maml.build(PATTERNS.info).double().eval(), PATTERNS.sample(2, seed=0).to(dtype=DOUBLE)
    for layer in norms(module):  # every step by statistics and gains of its own
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            value.data += 0.2 * torch.rand_like(value)

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(maml, module, batch).mean()

    slopes = dict(zip(dict(module.named_parameters()), meta_gradient(maml, module, batch, 0.0), strict=True))
    for name in ("head.weight", "rates", "backbone.blocks.1.weight", "backbone.blocks.13.bias"):
        expected = finite_differences(objective, module.get_parameter(name))
        torch.testing.assert_close(slopes[name], expected, rtol=1e-4, atol=1e-7)


def test_per_step_norm_sees_a_support_set_by_itself_without_padding_and_queries_by_averages() -> None:
    maml = per_step()
    torch.manual_seed(0)
    module, batch = maml.build(PATTERNS.info).double().train(), PATTERNS.sample(2, seed=0).to(dtype=DOUBLE)
    maml.meta_loss(module, batch, 0.0)
    module.eval()

    def outputs(support: am.Examples) -> Tensor:
        return maml.predict(module, maml.adapt(module, support), batch.query.x)

    before = outputs(batch.support)
    for layer in norms(module):
        layer.running_mean[:2] += 1
    torch.testing.assert_close(outputs(batch.support), before)
    mask = batch.support.mask.clone()
    mask[1, 4:] = False
    x = batch.support.x * mask[..., None, None, None]
    padded = am.Examples(x, batch.support.y * mask, mask, n_classes=3)
    short = am.Examples(x[1:, :4], padded.y[1:, :4], n_classes=3)
    torch.testing.assert_close(outputs(padded)[0], before[0])
    torch.testing.assert_close(outputs(padded)[1:], maml.predict(module, maml.adapt(module, short), batch.query.x[1:]))
    for layer in norms(module):
        layer.running_mean[2] += 1
    assert not torch.allclose(outputs(batch.support), before)


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.1), (0.5, 0.1), (0.5, None)])
@pytest.mark.parametrize("training", [True, False])
def test_per_step_norm_side_by_side_gives_the_numbers_and_averages_of_one_task_after_the_other(
    training: bool, progress: float, momentum: float | None
) -> None:
    torch.manual_seed(0)
    start = per_step().build(PATTERNS.info).double().train(training)
    for layer in norms(start):
        layer.momentum = momentum
        for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            value.data += 0.2 * torch.rand_like(value)
    batch, found = PATTERNS.sample(5, seed=0).to(dtype=DOUBLE), {}
    for strategy in ("loop", "vmap", "auto"):
        maml, module = per_step(strategy=strategy, multi_step_loss=0.6, first_order_until=0.1), copy.deepcopy(start)
        found[strategy] = meta_gradient(maml, module, batch, progress), dict(module.named_buffers())
    for strategy in ("vmap", "auto"):
        torch.testing.assert_close(found[strategy], found["loop"], rtol=1e-9, atol=1e-11)
    if training:
        assert not torch.equal(found["loop"][1]["backbone.blocks.1.running_mean"], norms(start)[0].running_mean)


@pytest.mark.parametrize("is_support", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_a_view_for_many_examples_is_the_per_step_norm_itself(training: bool, is_support: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, affine=False, momentum=0.3))
    assert with_per_step_norm(network, 2)
    network.double().train(training)
    results = []
    for n in (1, 7):  # one example has the layers themselves
        own = copy.deepcopy(network)
        outputs = at_step(own, 1, n=n, is_support=is_support)(torch.randn(7, 3, generator=_seeded(), dtype=DOUBLE))
        results.append([outputs, torch.autograd.grad(outputs.square().sum(), own[0].weight), dict(own.named_buffers())])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("momentum", [None, 0.0, 0.3])
def test_the_averages_of_a_step_are_those_of_torch_on_the_batches_of_that_step(momentum: float | None, n: int) -> None:
    network = nn.Sequential(nn.BatchNorm1d(3, momentum=momentum))
    wanted = [copy.deepcopy(network[0]) for _ in range(2)]
    assert with_per_step_norm(network, 2)
    torch.manual_seed(0)
    for step in (0, 1, 1, 0, 1):
        batch = torch.randn(5, 3)
        at_step(network, step, n=n, is_support=True)(batch)
        wanted[step](batch)
    for name, found in network[0].named_buffers():
        torch.testing.assert_close(found, torch.stack([getattr(layer, name) for layer in wanted]))


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_norm_that_is_used_twice_stays_one() -> None:
    norm = nn.BatchNorm1d(3)
    network = nn.Sequential(norm, nn.Linear(3, 3), norm)
    assert with_per_step_norm(network, 2)
    for view in (network, at_step(network, 0, n=1, is_support=True), at_step(network, 0, n=5, is_support=True)):
        assert view[0] is view[2] is not norm


@pytest.mark.thorough
def test_per_step_norm_lets_inductive_batch_norm_learn() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=3, n_shot=3, n_query=3)
    maml = per_step(backbone=am.make_backbone("conv4", n_filters=8), first_order_until=1.0)
    update = am.make_meta_optimizer("gradient", lr=0.01)
    training = MetaTraining(maml, update, tasks, n_steps=40, tasks_per_step=4, seed=training_seed())
    training.run_to()
    judged = evaluate(maml, training.module, tasks, split="test", n_tasks=100, seed=0)
    assert judged.normalization == "batch (inductive)"
    assert_better(judged.scores, 1.2 * chance(tasks.info), tasks.info)


def test_per_step_norm_on_threads_gives_the_same_as_without() -> None:
    results = []
    for threads in (1, 2):
        maml = per_step()
        update = am.make_meta_optimizer("gradient", optimizer="sgd", lr=0.1, chunk=1, threads=threads)
        torch.manual_seed(0)
        module = maml.build(PATTERNS.info).train()
        update.start(maml, module, PATTERNS.info)
        for step in range(3):
            update.step(PATTERNS.sample(3, seed=step))
        results.append(module.state_dict())
    torch.testing.assert_close(results[0], results[1])


def test_per_step_norm_needs_batch_norm() -> None:
    for backbone in ("mlp", am.make_backbone("conv4", norm="group")):
        with pytest.raises(
            am.InvalidParameter, match="per_step_norm=True of learner 'maml_plus_plus' needs a backbone with inductive"
        ):
            per_step(backbone=backbone).build(PATTERNS.info)


def test_one_module_serves_tasks_with_any_number_of_classes_in_any_order() -> None:
    maml = learner(steps=4)
    module = build_moved(maml, BLOBS)
    for n_way in (2, 7):
        batch = blobs(n_way=n_way)
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
        assert outputs.shape == (3, 4 * n_way, n_way)
        renamed = am.Examples(batch.support.x, (batch.support.y + 1) % n_way, n_classes=n_way)
        again = maml.predict(module, maml.adapt(module, renamed), batch.query.x)
        torch.testing.assert_close(again.roll(-1, dims=-1), outputs)


def test_steps_beyond_those_meta_trained_reuse_the_last_learned_size() -> None:
    module, batch = build_moved(learner(steps=2), SINES), sines()
    long = learner(steps=4).adapt(module, batch.support)
    module.rates = nn.Parameter(torch.cat([module.rates, module.rates[-1:], module.rates[-1:]]))
    torch.testing.assert_close(learner(steps=4).adapt(module, batch.support), long)


def test_the_step_size_may_change_after_meta_training_only_where_it_is_fixed() -> None:
    assert "inner_lr" in learner(learn_lr=False).adaptation_parameters
    assert "inner_lr" not in learner(learn_lr=True).adaptation_parameters
    assert {"steps", "strategy"} <= learner().adaptation_parameters


def test_without_meta_training_it_is_a_linear_classifier_that_works() -> None:
    maml = learner(backbone="identity", steps=20)
    module, batch = maml.build(BLOBS).to(DOUBLE), blobs(n_tasks=60)
    with torch.no_grad():
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
    accuracies = (outputs.argmax(-1) == batch.query.y).double().mean(dim=1)
    assert_better(accuracies, 2 / 3, BLOBS)  # twice chance


@pytest.mark.thorough
def test_evaluation_holds_no_graph_and_no_memory(live_tensors: Callable[[], int]) -> None:
    maml = learner()
    module, batch = build_moved(maml, SINES), sines()

    def evaluate() -> None:
        with torch.no_grad():
            adapted = maml.adapt(module, batch.support)
            outputs = maml.predict(module, adapted, batch.query.x)
        assert not any(value.requires_grad for value in (*adapted.values(), outputs))

    evaluate()
    before = live_tensors()
    for _ in range(100):
        evaluate()
    assert live_tensors() == before


def test_labels_permuted_within_tasks_score_chance() -> None:
    maml = learner(steps=5)
    torch.manual_seed(training_seed())
    module = maml.build(BLOBS).to(DOUBLE)
    update = am.make_meta_optimizer("gradient", lr=0.01)
    update.start(maml, module, BLOBS)

    def permuted(batch: am.TaskBatch, seed: int) -> am.TaskBatch:
        order = torch.randperm(batch.query.y.shape[1], generator=torch.Generator().manual_seed(seed))
        query = am.Examples(batch.query.x, batch.query.y[:, order], n_classes=3)
        return am.TaskBatch(support=batch.support, query=query)

    for step in range(10):
        update.step(permuted(blobs(n_tasks=8, seed=step), step))
    batch = permuted(blobs(n_tasks=200), 99)
    with torch.no_grad():
        outputs = maml.predict(module, maml.adapt(module, batch.support), batch.query.x)
    assert_alike((outputs.argmax(-1) == batch.query.y).double().mean(dim=1), chance(BLOBS))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("maml", {"steps": -1}),
        ("maml", {"steps": 1.5}),
        ("maml", {"inner_lr": 0}),
        ("maml_plus_plus", {"steps": True}),
        ("maml_plus_plus", {"inner_lr": -0.1}),
        ("maml_plus_plus", {"first_order_until": 1.5}),
        ("maml_plus_plus", {"multi_step_loss": -0.1}),
        ("maml_plus_plus", {"per_step_norm": "yes"}),
    ],
)
def test_impossible_parameters_are_named_before_any_work(name: str, wrong: dict[str, object]) -> None:
    ((parameter, value),) = wrong.items()
    with pytest.raises(am.InvalidParameter, match=f"{parameter}={value!r} of learner '{name}'"):
        learner(name, **wrong).build(SINES)


@pytest.mark.parametrize(("info", "batch"), [(SINES, sines()), (BLOBS, blobs())], ids=["regression", "classification"])
def test_without_its_switches_maml_plus_plus_is_maml(info: am.TaskInfo, batch: am.TaskBatch) -> None:
    module = build_moved(learner(), info)
    plain, switched = (meta_gradient(learner(name), module, batch, 0.0) for name in ("maml", "maml_plus_plus"))
    torch.testing.assert_close(switched, plain)


def test_maml_plus_plus_takes_per_step_norm_where_the_backbone_has_batch_norm() -> None:
    images, vectors = (am.make_learner("maml_plus_plus").build(info) for info in (PATTERNS.info, SINES))
    assert len(norms(images)) == 4
    assert norms(vectors) == []
    assert norms(am.make_learner("maml_plus_plus", per_step_norm=False).build(PATTERNS.info)) == []


def test_parameters_that_moved_to_maml_plus_plus_load_where_they_said_nothing() -> None:
    said = {"first_order_until": 0.0, "multi_step_loss": 0.0, "per_step_norm": False}
    assert repr(am.make_learner("maml", steps=3, **said)) == repr(am.make_learner("maml", steps=3))
    with pytest.raises(am.InvalidParameter, match="learner 'maml' has no parameter 'per_step_norm'"):
        am.make_learner("maml", per_step_norm=True)
