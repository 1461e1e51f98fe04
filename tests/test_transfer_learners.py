"""Baseline++, self-distillation and one network for all tasks: their own algebra, and that pretraining carries over."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import autometa as am
from autometa.testing.toys import Blobs, Lines, Shifts
from autometa.training import MetaTraining
from learning import assert_better, assert_lower, judged, trained, untrained_and_trained
from tiers import first_by_default
from toy_tasks import Haystack, Offsets

DOUBLE = torch.float64
MLP = am.make_backbone("mlp", hidden=(8,))


HIDDEN = Haystack(n_shot=2, n_query=8, n_features=12, n_telling=2, n_base=20, noise=3.0)


def build(learner: am.Learner, info: am.TaskInfo) -> nn.Module:
    torch.manual_seed(0)
    return learner.build(info).to(DOUBLE)


@pytest.mark.parametrize("name", first_by_default(1, ["baseline_plus_plus", "distill"]))
def test_pretraining_makes_new_tasks_easier(name: str) -> None:
    learner, pooled = am.make_learner(name, backbone=MLP), am.make_meta_optimizer("pooled", lr=0.01)
    before, after = untrained_and_trained(learner, pooled, HIDDEN, n_steps=150, values="losses")
    assert_lower(after, 0.8 * before)


# ---------------------------------------------------------------- Baseline++


def test_pretraining_logits_are_scaled_cosines_times_the_norm_of_the_class() -> None:
    learner, tasks = am.make_learner("baseline_plus_plus", backbone=MLP, scale=7.0), HIDDEN
    module, batch = build(learner, tasks.info), tasks.sample(2, seed=0).to(dtype=DOUBLE)
    nn.init.uniform_(module.norm, 0.5, 2.0)
    examples = batch.support.join(batch.query)
    y = batch.classes.gather(1, examples.y).flatten()
    features = module.backbone(examples.x.flatten(0, 1))
    cosines = functional.cosine_similarity(features[:, None], module.weight[None], dim=-1)
    expected = functional.cross_entropy(7.0 * module.norm * cosines, y)
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), expected)
    module.weight.data *= 3
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), expected)


def test_directions_start_at_class_means_and_every_step_lowers_the_support_loss() -> None:
    batch, losses = Blobs().sample(4, split="test", seed=0).to(dtype=DOUBLE), []
    for steps in (0, 5, 50):
        learner = am.make_learner("baseline_plus_plus", backbone="identity", steps=steps, scale=2.0)
        module = build(learner, Blobs().info)
        adapted = learner.adapt(module, batch.support)
        if steps == 0:
            unit = functional.normalize(batch.support.x, dim=-1)
            mean = torch.stack([unit[0][batch.support.y[0] == c].mean(0) for c in range(3)])
            torch.testing.assert_close(adapted["directions"][0], functional.normalize(mean, dim=-1))
        torch.testing.assert_close(adapted["directions"].norm(dim=-1), torch.ones(4, 3, dtype=DOUBLE))
        losses.append(am.loss_on(batch.support)(learner.predict(module, adapted, batch.support.x)))
    assert bool((losses[1] < losses[0]).all() and (losses[2] < losses[1]).all())


def test_steps_along_the_sphere_follow_the_gradient_of_the_loss() -> None:
    batch = Blobs().sample(1, split="test", seed=3).to(dtype=DOUBLE)
    made = [am.make_learner("baseline_plus_plus", backbone="identity", steps=n, lr=1e-6) for n in (0, 1)]
    module = build(made[0], Blobs().info)
    start, moved = (learner.adapt(module, batch.support) for learner in made)
    values = {name: value.requires_grad_() for name, value in start.items()}
    free = {"directions": functional.normalize(values["directions"], dim=-1), "norms": values["norms"]}
    loss = am.loss_on(batch.support)(made[0].predict(module, free, batch.support.x)).sum()
    for name, gradient in zip(values, torch.autograd.grad(loss, list(values.values())), strict=True):
        torch.testing.assert_close((values[name] - moved[name]) / 1e-6, gradient, rtol=1e-4, atol=1e-6)


def test_renamed_classes_are_learned_the_same() -> None:
    batch = Blobs().sample(2, split="test", seed=0).to(dtype=DOUBLE)
    learner = am.make_learner("baseline_plus_plus", backbone=MLP)
    module, names = build(learner, Blobs().info), torch.tensor([2, 0, 1])
    renamed = am.Examples(batch.support.x, names[batch.support.y])
    plain, other = (learner.predict(module, learner.adapt(module, s), batch.query.x) for s in (batch.support, renamed))
    torch.testing.assert_close(other[..., names], plain)


def test_features_that_are_all_zero_do_no_harm() -> None:
    learner = am.make_learner("baseline_plus_plus", backbone="identity")
    module = build(learner, Blobs().info)
    support = am.Examples(torch.zeros(1, 4, 6, dtype=DOUBLE), torch.tensor([[0, 1, 0, 1]]), n_classes=3)
    outputs = learner.predict(module, learner.adapt(module, support), torch.zeros(1, 2, 6, dtype=DOUBLE))
    assert not outputs.any()


def test_where_labels_mean_the_same_in_every_task_directions_start_as_pretrained() -> None:
    learner = am.make_learner("baseline_plus_plus", backbone="identity", steps=0)
    module, batch = build(learner, Shifts().info), Shifts().sample(2, seed=0).to(dtype=DOUBLE)
    adapted = learner.adapt(module, batch.support)
    torch.testing.assert_close(adapted["directions"][1], functional.normalize(module.weight, dim=-1))


# ---------------------------------------------------------------- self-distillation


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_the_teacher_is_the_network_as_it_was_when_its_generation_ended() -> None:
    tasks, learner = Blobs(), am.make_learner("distill", generations=2, backbone=MLP)
    pooled = am.make_meta_optimizer("pooled", lr=0.01)
    training = MetaTraining(learner, pooled, tasks, n_steps=9, tasks_per_step=4, seed=0)
    states = []
    for step in range(1, 10):
        training.run_to(step / 9)
        states.append((parameters(training.module.network), parameters(training.module.teacher)))
    for step in range(3, 9):
        taught_by = states[2 if step < 6 else 5][0]
        torch.testing.assert_close(states[step][1], taught_by, rtol=0, atol=0)
    assert int(training.module.generation) == 2


def test_a_student_that_agrees_with_its_teacher_learns_from_labels_alone() -> None:
    tasks, learner = Blobs(), am.make_learner("distill", share=0.3, backbone=MLP)
    module, batch = build(learner, tasks.info), tasks.sample(2, seed=0).to(dtype=DOUBLE)
    alone = learner.pooled_loss(module, batch, 0.0)
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), 0.7 * alone)
    nn.init.normal_(module.network.head.weight)
    examples = batch.support.join(batch.query)
    said, heard = ((part(examples.x) / 4.0).log_softmax(-1).flatten(0, 1) for part in (module.teacher, module.network))
    apart = functional.kl_div(heard, said, log_target=True, reduction="batchmean")
    expected = 0.7 * learner.pooled_loss(module, batch, 0.0) + 0.3 * 16 * apart
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.9), expected)


def test_a_teacher_learns_nothing_and_stays_in_evaluation_mode() -> None:
    learner = am.make_learner("distill", backbone=am.make_backbone("conv4", n_filters=4))
    tasks = am.make_tasks("glyphs", size=8, n_query=2)
    torch.manual_seed(0)
    module = learner.build(tasks.info).train()
    assert not any(part.training for part in module.teacher.modules())
    assert not any(name.startswith("teacher") for name, _ in module.named_parameters())
    before = None
    for _ in range(2):
        learner.pooled_loss(module, tasks.sample(2, seed=0), 0.5).backward()
        after = parameters(module.teacher)
        if before is not None:
            torch.testing.assert_close(after, before, rtol=0, atol=0)
        before = after


def test_distillation_goes_on_from_a_checkpoint_as_if_never_stopped() -> None:
    def training() -> MetaTraining:
        learner, pooled = am.make_learner("distill", backbone=MLP), am.make_meta_optimizer("pooled")
        return MetaTraining(learner, pooled, Blobs(), n_steps=8, tasks_per_step=4, seed=0)

    whole, half, rest = training(), training(), training()
    whole.run_to()
    half.run_to(0.75)
    rest.load_state_dict(half.state_dict())
    rest.run_to()
    torch.testing.assert_close(whole.module.state_dict(), rest.module.state_dict(), rtol=0, atol=0)


# ---------------------------------------------------------------- one network for all tasks


def test_all_tasks_are_one_and_a_new_one_takes_plain_gradient_steps() -> None:
    for tasks in (Lines(), Shifts()):
        learner, batch = am.make_learner("mean_parameters", steps=2, lr=0.05, backbone=MLP), tasks.sample(3, seed=0)
        module, batch = build(learner, tasks.info), batch.to(dtype=DOUBLE)
        nn.init.normal_(module.head.weight)
        examples = batch.support.join(batch.query)
        x, y = examples.x.flatten(0, 1), examples.y.flatten(0, 1)
        measure = functional.cross_entropy if tasks.info.problem == "classification" else functional.mse_loss
        torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), measure(module(x), y))
        values = dict(module.named_parameters())
        for _ in range(2):
            outputs = torch.func.functional_call(module, values, (batch.support.x[1],))
            slopes = torch.autograd.grad(measure(outputs, batch.support.y[1]), list(values.values()))
            values = {name: value - 0.05 * slope for (name, value), slope in zip(values.items(), slopes, strict=True)}
        adapted = learner.adapt(module, batch.support)
        torch.testing.assert_close({name: value[1] for name, value in adapted.items()}, values)


def test_the_meta_gradient_through_its_steps_is_that_of_finite_differences() -> None:
    tanh = am.make_backbone("mlp", hidden=(3,), activation="tanh")
    learner = am.make_learner("mean_parameters", steps=2, lr=0.1, backbone=tanh)
    module, batch = build(learner, Lines().info), Lines().sample(2, seed=0).to(dtype=DOUBLE)
    nn.init.normal_(module.head.weight)
    am.query_losses(learner, module, batch).mean().backward()
    for parameter in module.parameters():
        direction = torch.randn_like(parameter)
        sides = []
        for step in (1e-5, -1e-5):
            parameter.data += step * direction
            with torch.no_grad():
                sides.append(am.query_losses(learner, module, batch).mean())
            parameter.data -= step * direction
        difference = (sides[0] - sides[1]) / 2e-5
        torch.testing.assert_close((parameter.grad * direction).sum(), difference, rtol=1e-5, atol=1e-8)


def test_one_network_for_all_entities_adapts_to_one() -> None:
    learner, tasks = am.make_learner("mean_parameters", backbone=MLP, lr=0.05), Offsets()
    module = trained(learner, am.make_meta_optimizer("pooled", lr=0.01), tasks, n_steps=200).module
    stays = am.make_learner("mean_parameters", backbone=MLP, steps=0)
    assert_better(judged(learner, module, tasks), 0.7 * judged(stays, module, tasks), tasks.info)


def test_classes_drawn_anew_are_no_one_task() -> None:
    with pytest.raises(am.Incompatible, match="learner 'mean_parameters' needs labels that mean the same in every"):
        am.make_learner("mean_parameters").build(Blobs().info)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", ["baseline_plus_plus", "distill"])
def test_real_targets_are_refused(name: str) -> None:
    with pytest.raises(am.Incompatible, match=f"learner '{name}' needs classes; problem='regression' has none"):
        am.make_learner(name).build(Lines().info)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        (
            "baseline_plus_plus",
            {"steps": -1},
            "steps=-1 of learner 'baseline_plus_plus' must be an integer of at least 0",
        ),
        ("baseline_plus_plus", {"lr": 0}, "lr=0 of learner 'baseline_plus_plus' must be a positive number"),
        (
            "baseline_plus_plus",
            {"scale": "big"},
            "scale='big' of learner 'baseline_plus_plus' must be a positive number",
        ),
        ("distill", {"generations": 0.5}, "generations=0.5 of learner 'distill' must be an integer of at least 0"),
        ("distill", {"share": 2}, "share=2 of learner 'distill' must be a number from 0 to 1"),
        ("distill", {"C": 0}, "C=0 of learner 'distill' must be a positive number"),
        ("mean_parameters", {"steps": 1.5}, "steps=1.5 of learner 'mean_parameters' must be an integer of at least 0"),
        ("mean_parameters", {"lr": -1}, "lr=-1 of learner 'mean_parameters' must be a positive number"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(name: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        am.make_learner(name, backbone="identity", **wrong).build(Shifts().info)


# ---------------------------------------------------------------- fine-tuning


def test_fine_tuning_changes_the_whole_network_in_regression_and_the_head_for_classes() -> None:
    for tasks, whole in ((Lines(), True), (Blobs(), False)):
        learner, batch = am.make_learner("fine_tune", backbone=MLP), tasks.sample(2, seed=0).to(dtype=DOUBLE)
        module = build(learner, tasks.info)
        adapted = learner.adapt(module, batch.support)
        assert (set(adapted) == {name for name, _ in module.named_parameters()}) == whole


@pytest.mark.thorough
def test_fine_tuning_on_sinusoids_beats_fitting_the_head_alone() -> None:
    tasks, small = am.make_tasks("sinusoid"), am.make_backbone("mlp", hidden=(40, 40))
    learner = am.make_learner("fine_tune", backbone=small)
    module = trained(learner, am.make_meta_optimizer("pooled", lr=1e-3), tasks, n_steps=400).module
    head = am.make_learner("fine_tune", backbone=small, tune="head")
    assert_better(judged(learner, module, tasks), judged(head, module, tasks), tasks.info)
