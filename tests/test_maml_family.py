"""MAML's relatives: what each adapts, that its meta-gradient is exact, and that meta-training pays."""

from __future__ import annotations

import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

import autometa as am
from autometa.training import MetaTraining
from derivatives import build_moved, finite_differences
from learning import assert_better, judged, training_seed
from tiers import first_by_default
from toy_tasks import BLOBS, SINES, blobs, sines

DOUBLE = torch.float64
TINY = am.make_backbone("mlp", hidden=(5,), activation="tanh")
SINUSOID = am.make_tasks("sinusoid")


def learner(name: str, **parameters: object) -> am.Learner:
    return am.make_learner(name, **{"backbone": TINY, **parameters})


def gradients(learner: am.Learner, module: nn.Module, batch: am.TaskBatch, progress: float = 0.0) -> dict[str, Tensor]:
    """Return the meta-gradient of every parameter; zero where there is none."""
    names, parameters = zip(*module.named_parameters(), strict=True)
    loss = learner.meta_loss(module, batch, progress).mean()
    return dict(zip(names, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True))


EXACT = {
    "anil": {"steps": 2, "inner_lr": 0.3},
    "meta_sgd": {"steps": 2, "inner_lr": 0.2},
    "boil": {"steps": 2, "inner_lr": 0.3},
    "cavia": {"steps": 2, "inner_lr": 0.5, "n_context": 3},
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(("info", "batch"), [(SINES, sines()), (BLOBS, blobs())], ids=["regression", "classification"])
def test_meta_gradients_equal_finite_differences_of_the_query_loss(
    name: str, info: am.TaskInfo, batch: am.TaskBatch
) -> None:
    made = learner(name, **EXACT[name])
    module = build_moved(made, info)

    def objective() -> Tensor:
        with torch.no_grad():
            return am.query_losses(made, module, batch).mean()

    for parameter, slopes in gradients(made, module, batch).items():
        expected = finite_differences(objective, module.get_parameter(parameter))
        torch.testing.assert_close(
            slopes, expected, rtol=1e-5, atol=1e-8, msg=lambda text, name=parameter: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", EXACT)
def test_one_module_serves_tasks_with_any_number_of_classes(name: str) -> None:
    made = learner(name, **EXACT[name])
    module = build_moved(made, BLOBS)
    for n_way in (2, 9):
        batch = blobs(n_way=n_way)
        outputs = made.predict(module, made.adapt(module, batch.support), batch.query.x)
        assert outputs.shape == (3, 4 * n_way, n_way)
        assert outputs.isfinite().all()


@pytest.mark.parametrize("name", ["anil", "meta_sgd", "cavia"])
def test_renamed_classes_are_predicted_by_their_new_names(name: str) -> None:
    made = learner(name, **EXACT[name])
    module, batch = build_moved(made, BLOBS), blobs(n_way=4)
    outputs = made.predict(module, made.adapt(module, batch.support), batch.query.x)
    renamed = am.Examples(batch.support.x, (batch.support.y + 1) % 4, n_classes=4)
    again = made.predict(module, made.adapt(module, renamed), batch.query.x)
    torch.testing.assert_close(again.roll(-1, dims=-1), outputs)


@pytest.mark.parametrize("name", ["maml", "maml_plus_plus", "anil", "meta_lstm"])
def test_steps_of_the_head_alone_are_large_enough_to_tell_classes(name: str) -> None:
    digits = am.make_tasks("digits", n_query=5)
    by_default, by_small_steps = (
        learner(name, backbone="identity", **parameters) for parameters in ({}, {"inner_lr": 0.03})
    )
    results = [judged(made, made.build(digits.info), digits, n_tasks=100) for made in (by_default, by_small_steps)]
    assert_better(*results, digits.info)


@pytest.mark.parametrize(
    ("name", "usual", "parameters"),
    [
        ("maml", 0.03, {}),
        ("maml", 0.03, {"learn_lr": False}),
        ("maml_plus_plus", 0.03, {}),
        ("anil", 0.1, {}),
        ("anil", 0.1, {"learn_lr": False}),
        ("meta_lstm", 0.05, {}),
    ],
)
def test_steps_are_smaller_where_more_than_the_head_moves_and_for_real_targets(
    name: str, usual: float, parameters: dict[str, object]
) -> None:
    for backbone, info, batch in (("identity", SINES, sines()), (TINY, BLOBS, blobs())):
        adapted = []
        for rate in ("auto", usual):
            made = learner(name, backbone=backbone, inner_lr=rate, **parameters)
            torch.manual_seed(0)
            adapted.append(made.adapt(made.build(info), batch.support.to(dtype=torch.float32)))
        for key, value in adapted[0].items():
            torch.testing.assert_close(value, adapted[1][key], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "steps", "share"),
    first_by_default(1, [("anil", 5, 0.75), ("meta_sgd", 1, 0.9), ("boil", 3, 0.75), ("cavia", 2, 0.9)]),
)
def test_a_short_meta_training_on_sine_waves_beats_not_adapting_and_no_meta_training(
    name: str, steps: int, share: float
) -> None:
    made = learner(name, backbone=am.make_backbone("mlp", hidden=(40, 40)), steps=steps)
    update = am.make_meta_optimizer("gradient", lr=5e-3)
    run = MetaTraining(made, update, SINUSOID, n_steps=120, tasks_per_step=16, seed=training_seed())
    still = clone(made).set_params(steps=0)  # untrained, some diverge when they adapt
    before = judged(still, run.module, SINUSOID)
    run.run_to()
    after = judged(made, run.module, SINUSOID)
    assert_better(after, before, SINUSOID.info)
    assert_better(after, share * judged(still, run.module, SINUSOID), SINUSOID.info)


def test_anil_is_maml_whose_body_rates_are_zero() -> None:
    anil, maml = learner("anil", steps=3, inner_lr=0.3), learner("maml", steps=3, inner_lr=0.3, strategy="bmm")
    for info, batch in ((SINES, sines()), (BLOBS, blobs())):
        module, whole = build_moved(anil, info), build_moved(maml, info)
        whole.backbone.load_state_dict(module.backbone.state_dict())
        whole.head.load_state_dict(module.head[0].state_dict())
        names = [name for name, _ in whole.named_parameters() if name != "rates"]
        whole.rates.data.zero_()
        whole.rates.data[:, [names.index("head.weight"), names.index("head.bias")]] = module.rates.data
        mine, its = gradients(anil, module, batch), gradients(maml, whole, batch)
        torch.testing.assert_close(am.query_losses(anil, module, batch), am.query_losses(maml, whole, batch))
        for name, slopes in mine.items():
            if name != "rates":
                torch.testing.assert_close(slopes, its[name.replace("head.0", "head")])


def test_anil_computes_features_once_and_trains_inductive_batch_norm() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=3, n_shot=2, n_query=3)
    made = am.make_learner("anil", backbone=am.make_backbone("conv4", n_filters=8))
    training = MetaTraining(
        made, am.make_meta_optimizer("gradient", lr=3e-3), tasks, n_steps=2, tasks_per_step=3, seed=0
    )
    calls: list[int] = []
    training.module.backbone.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    before = training.module.state_dict()["backbone.blocks.1.running_mean"].clone()
    training.run_to()
    assert calls == [18, 27] * 2
    assert not torch.equal(training.module.state_dict()["backbone.blocks.1.running_mean"], before)


@pytest.mark.parametrize("name", ["meta_sgd", "boil", "cavia"])
def test_all_strategies_give_the_same_meta_gradients(name: str) -> None:
    strategies = ("loop", "vmap") if name == "cavia" else ("loop", "bmm", "vmap")
    for info, batch in ((SINES, sines()), (BLOBS, blobs())):
        module = build_moved(learner(name, **EXACT[name]), info)
        first, *others = (
            gradients(learner(name, strategy=strategy, **EXACT[name]), module, batch) for strategy in strategies
        )
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-9, atol=1e-11)


def test_meta_sgd_with_equal_step_sizes_is_maml_with_that_step_size() -> None:
    sgd, maml = learner("meta_sgd", steps=3), learner("maml", steps=3, inner_lr=0.2, learn_lr=False)
    for info, batch in ((SINES, sines()), (BLOBS, blobs())):
        module, plain = build_moved(sgd, info), build_moved(maml, info)
        plain.load_state_dict({name: value for name, value in module.state_dict().items() if "step_sizes" not in name})
        for size in module.step_sizes:
            size.data.fill_(0.2)
        torch.testing.assert_close(am.query_losses(sgd, module, batch), am.query_losses(maml, plain, batch))


def test_meta_sgd_starts_with_step_sizes_in_the_range_of_the_paper() -> None:
    module = am.make_learner("meta_sgd").build(SINES)
    sizes = torch.cat([size.detach().flatten() for size in module.step_sizes])
    assert len(sizes) == sum(value.numel() for value in [*module.backbone.parameters(), *module.head.parameters()])
    assert sizes.min() >= 0.005
    assert sizes.max() <= 0.1
    assert abs(sizes.mean() - 0.0525) < 0.005


def test_boil_leaves_the_head_and_moves_the_body() -> None:
    boil = learner("boil", **EXACT["boil"])
    for info, batch in ((SINES, sines()), (BLOBS, blobs())):
        module = build_moved(boil, info)
        adapted = boil.adapt(module, batch.support)
        assert "head.weight" not in adapted
        torch.testing.assert_close(adapted["head.bias"], module.head.bias.expand_as(adapted["head.bias"]))
        assert all(
            not torch.allclose(value, module.get_parameter(name).expand_as(value))
            for name, value in adapted.items()
            if name.startswith("backbone.")
        )


def test_boil_has_a_row_for_every_class_whatever_their_number() -> None:
    module = build_moved(learner("boil"), BLOBS)
    few, many = module.rows(5), module.rows(40)
    assert torch.equal(many[:3], module.head.weight)
    assert torch.equal(many[:5], few)
    assert torch.equal(build_moved(learner("boil"), BLOBS).rows(40), many)
    torch.testing.assert_close(many[3:].norm(dim=1), many[:3].norm(dim=1).mean().expand(37))
    assert torch.pdist(many.detach()).min() > 0.01


def test_boil_gives_a_backbone_without_weights_a_layer_to_adapt() -> None:
    module, batch = build_moved(learner("boil", backbone="identity", learn_lr=False), BLOBS), blobs()
    losses = []
    for steps in (0, 3):
        boil = learner("boil", backbone="identity", inner_lr=0.1, learn_lr=False, steps=steps)
        adapted = boil.adapt(module, batch.support)
        assert set(adapted) == {"backbone.1.weight", "backbone.1.bias", "head.bias"}
        losses.append(am.loss_on(batch.support)(boil.predict(module, adapted, batch.support.x)))
    before, after = losses
    assert (after < before).all()


@pytest.mark.parametrize("name", ["meta_sgd", "boil"])
def test_reptile_moves_what_is_adapted_and_nothing_else(name: str) -> None:
    made = learner(name, **EXACT[name])
    module = build_moved(made, BLOBS)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    reptile = am.make_meta_optimizer("reptile")
    reptile.start(made, module, BLOBS)
    reptile.step(blobs(n_way=2))  # fewer classes than the widest task
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    body = {"backbone.layers.0.weight", "backbone.layers.0.bias"}
    assert body <= moved <= body | ({"head.weight", "head.bias"} if name == "meta_sgd" else set())


def test_cavia_adapts_contexts_from_zero_and_nothing_of_the_network() -> None:
    module, batch = build_moved(learner("cavia", n_context=3), BLOBS), blobs()
    assert not any("task" in name or "classes" in name for name in module.state_dict())
    still = learner("cavia", steps=0).adapt(module, batch.support)
    assert {name: tuple(value.shape) for name, value in still.items()} == {"task": (3, 3), "classes": (3, 3, 3)}
    assert not any(value.any() for value in still.values())
    once = learner("cavia", steps=1).adapt(module, batch.support)
    torch.testing.assert_close(once["task"], still["task"])  # all classes are alike before the first step
    assert once["classes"].any()
    assert learner("cavia", steps=2).adapt(module, batch.support)["task"].any()


def test_cavias_outputs_do_not_depend_on_the_units_of_its_context() -> None:
    batch = sines()
    cavia = learner("cavia", steps=3, inner_lr=0.5, n_context=3)
    module = build_moved(cavia, SINES)
    adapted = cavia.adapt(module, batch.support)
    outputs = cavia.predict(module, adapted, batch.query.x)
    module.conditioned.features.backbone.layers[0].weight.data[:, -3:] *= 10
    cavia.set_params(inner_lr=0.5 / 10**2)
    again = cavia.adapt(module, batch.support)
    torch.testing.assert_close(again["task"], adapted["task"] / 10)
    torch.testing.assert_close(cavia.predict(module, again, batch.query.x), outputs)


@pytest.mark.thorough
def test_cavia_looks_at_images_once_and_modulates_their_channels() -> None:
    cavia = am.make_learner("cavia", backbone=am.make_backbone("conv4", n_filters=4), n_context=6, steps=3)
    tasks = am.make_tasks("glyphs", size=20, n_way=3, n_shot=2, n_query=3)
    torch.manual_seed(0)
    module, batch = cavia.build(tasks.info).eval(), tasks.sample(2, seed=0)
    calls: list[int] = []
    module.shared.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    outputs = cavia.predict(module, cavia.adapt(module, batch.support), batch.query.x)
    assert calls == [12, 18]
    assert outputs.shape == (2, 9, 3)
    features, context = torch.randn(2, 4), torch.randn(6)
    scale, shift = module.conditioned.features.film(context).view(2, 4)
    torch.testing.assert_close(module.conditioned.features(features, context), features * (1 + scale) + shift)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("anil", {"steps": -1}, "steps=-1 of learner 'anil'"),
        ("anil", {"inner_lr": 0}, "inner_lr=0 of learner 'anil'"),
        ("meta_sgd", {"steps": 0.5}, "steps=0.5 of learner 'meta_sgd'"),
        ("meta_sgd", {"inner_lr": -1}, "inner_lr=-1 of learner 'meta_sgd'"),
        ("cavia", {"steps": -2}, "steps=-2 of learner 'cavia'"),
        ("cavia", {"inner_lr": 0.0}, "inner_lr=0.0 of learner 'cavia'"),
        ("cavia", {"n_context": 0}, "n_context=0 of learner 'cavia'"),
        ("boil", {"steps": True}, "steps=True of learner 'boil'"),
        ("boil", {"inner_lr": "big"}, "inner_lr='big' of learner 'boil'"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(name: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        learner(name, **wrong).build(SINES)
