"""Fine-tuning and multi-task learning: pooled training helps, and a new task gets what it needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import autometa as am
from learning import assert_lower, untrained_and_trained
from tiers import first_by_default
from toy_tasks import Haystack

DOUBLE = torch.float64
N_BASE = 12


class Lines(am.TaskSampler):
    """Linear functions of two of eight inputs."""

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(problem="regression", input_shape=(8,), n_outputs=1, n_shot=6, n_query=6)

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        generator = torch.Generator().manual_seed(am.derive_seed(seed, split))
        x = torch.randn(n_tasks, 12, 8, dtype=DOUBLE, generator=generator)
        y = (x[..., :2] * torch.randn(n_tasks, 1, 2, dtype=DOUBLE, generator=generator)).sum(-1)
        return am.TaskBatch(support=am.Examples(x[:, :6], y[:, :6]), query=am.Examples(x[:, 6:], y[:, 6:]))


BLOBS = Haystack(n_shot=2, n_query=4, n_features=8, n_telling=2, n_base=N_BASE, noise=2.0, dtype=DOUBLE)
LINES = Lines()


def build(learner: am.Learner, info: am.TaskInfo) -> nn.Module:
    torch.manual_seed(0)
    return learner.build(info).to(DOUBLE)


@pytest.mark.parametrize(
    ("name", "tasks"),
    first_by_default(1, [("fine_tune", BLOBS), ("multitask", BLOBS), ("multitask", LINES)]),
    ids=["fine_tune-blobs", "multitask-blobs", "multitask-lines"],
)
def test_pooled_training_makes_new_tasks_easier(name: str, tasks: am.TaskSampler) -> None:
    learner = am.make_learner(name, backbone=am.make_backbone("mlp", hidden=(16,)), steps=20)
    pooled = am.make_meta_optimizer("pooled", lr=0.01)
    before, after = untrained_and_trained(learner, pooled, tasks, n_steps=150, values="losses")
    assert_lower(after, 0.9 * before)


def test_fine_tuning_tells_base_classes_apart_by_their_global_names() -> None:
    learner = am.make_learner("fine_tune", backbone="identity")
    module, batch = build(learner, BLOBS.info), BLOBS.sample(2, seed=0)
    assert module.head.out_features == N_BASE
    nn.init.normal_(module.head.weight)
    examples = batch.support.join(batch.query)
    y = batch.classes.gather(1, examples.y)
    expected = nn.functional.cross_entropy(module.head(examples.x).flatten(0, 1), y.flatten())
    torch.testing.assert_close(learner.pooled_loss(module, batch, 0.5), expected)


def test_a_task_starts_from_the_pretrained_head_only_where_outputs_mean_the_same() -> None:
    for info, batch, same in [
        (BLOBS.info, BLOBS.sample(2, seed=0), False),
        (LINES.info, LINES.sample(2, seed=0), True),
    ]:
        learner = am.make_learner("fine_tune", backbone="identity", steps=0)
        module = build(learner, info)
        nn.init.normal_(module.head.weight)
        outputs = learner.predict(module, learner.adapt(module, batch.support), batch.query.x)
        expected = module.head(batch.query.x) if same else torch.zeros(2, 12, 3, dtype=DOUBLE)
        torch.testing.assert_close(outputs, expected)


@pytest.mark.parametrize("strategy", ["vmap", "loop"])
def test_tuning_the_whole_network_fits_the_support_closer_than_the_head_alone(strategy: str) -> None:
    losses = []
    for tune in ("head", "all"):
        backbone = am.make_backbone("mlp", hidden=(4,))
        learner = am.make_learner("fine_tune", backbone=backbone, tune=tune, steps=30, strategy=strategy)
        module, batch = build(learner, LINES.info), LINES.sample(3, seed=0)
        with torch.no_grad():
            adapted = learner.adapt(module, batch.support)
            losses.append(am.loss_on(batch.support)(learner.predict(module, adapted, batch.support.x)))
        assert not any(value.requires_grad for value in adapted.values())
    assert bool((losses[1] < losses[0]).all())


@pytest.mark.parametrize("name", ["fine_tune", "multitask"])
def test_without_meta_training_it_is_a_linear_model_that_works(name: str) -> None:
    learner = am.make_learner(name, backbone="identity")
    torch.manual_seed(0)
    x = torch.randn(1, 200, 5, dtype=DOUBLE)
    y = x @ torch.randn(5, 1, dtype=DOUBLE) + 3
    info = am.TaskInfo(problem="regression", input_shape=(5,), n_outputs=1, n_shot=100, n_query=100)
    module = build(learner, info)
    with torch.no_grad():
        outputs = learner.predict(module, learner.adapt(module, am.Examples(x[:, :100], y[:, :100])), x[:, 100:])
    assert ((outputs - y[:, 100:]).square().mean() / y.var()).item() < 0.01


def test_multitask_sees_a_fixed_set_of_tasks_by_number() -> None:
    learner = am.make_learner("multitask", n_tasks=4, backbone="identity")
    draws = []
    for _ in range(2):
        pooled = am.make_meta_optimizer("pooled")
        pooled.start(learner, build(learner, LINES.info), LINES.info)
        draws.append([pooled.draw(LINES, 8, seed=seed) for seed in range(5)])
    inputs: dict[int, torch.Tensor] = {}
    for first, second in zip(*draws, strict=True):
        torch.testing.assert_close(first.support.x, second.support.x)
        for number, x in zip(first.ids.tolist(), first.support.x, strict=True):
            torch.testing.assert_close(inputs.setdefault(number, x), x)
    assert set(inputs) == {0, 1, 2, 3}


def test_multitask_trains_each_head_on_its_own_task() -> None:
    learner = am.make_learner("multitask", n_tasks=4, backbone="identity")
    module = build(learner, LINES.info)
    pooled = am.make_meta_optimizer("pooled")
    pooled.start(learner, module, LINES.info)
    batch = pooled.draw(LINES, 3, seed=0)
    learner.pooled_loss(module, batch, 0.5).backward()
    touched = module.weight.grad.flatten(1).any(dim=1).nonzero().flatten().tolist()
    assert touched == sorted(set(batch.ids.tolist()))


def test_pooled_training_goes_on_from_a_checkpoint_as_if_never_stopped() -> None:
    learner, sampler = am.make_learner("fine_tune", backbone="identity"), BLOBS

    def run(module: nn.Module, first: int, last: int, state: dict[str, object] | None = None) -> dict[str, object]:
        pooled = am.make_meta_optimizer("pooled")
        pooled.start(learner, module, BLOBS.info)
        if state is not None:
            pooled.load_state_dict(state)
        for step in range(first, last):
            pooled.progress = step / 6
            pooled.step(pooled.draw(sampler, 4, seed=step))
        return pooled.state_dict()

    whole, halves = build(learner, BLOBS.info), build(learner, BLOBS.info)
    run(whole, 0, 6)
    run(halves, 3, 6, run(halves, 0, 3))
    torch.testing.assert_close(whole.state_dict(), halves.state_dict(), rtol=0, atol=0)


def test_pooling_labels_that_mean_something_else_in_every_task_is_refused() -> None:
    info = am.TaskInfo(problem="classification", input_shape=(8,), n_outputs=3, n_shot=2, n_query=4)
    learner = am.make_learner("fine_tune", backbone="identity")
    with pytest.raises(am.Incompatible, match="needs to know which classes a task's labels stand for"):
        am.make_meta_optimizer("pooled").start(learner, build(learner, info), info)


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("fine_tune", {"tune": "body"}, "tune='body' of learner 'fine_tune' must be one of 'auto', 'head', 'all'"),
        ("fine_tune", {"lr": 0.0}, "lr=0.0 of learner 'fine_tune' must be a positive number"),
        ("multitask", {"n_tasks": 0}, "n_tasks=0 of learner 'multitask' must be a positive integer"),
        ("multitask", {"lr": 0.0}, "lr=0.0 of learner 'multitask' must be a positive number"),
    ],
)
def test_impossible_parameters_are_named_before_any_work(name: str, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        build(am.make_learner(name, backbone="identity", **wrong), LINES.info)


def test_pooled_batches_mix_many_classes_where_every_task_has_its_own() -> None:
    glyphs = am.make_tasks("glyphs", size=8, n_query=5)
    pooled, learner = am.make_meta_optimizer("pooled"), am.make_learner("fine_tune", backbone="mlp")
    pooled.start(learner, learner.build(glyphs.info), glyphs.info)
    plain, mixed = glyphs.sample(8, split="train", seed=3), pooled.draw(glyphs, 8, 3)

    def classes_and_images(batch: am.TaskBatch) -> tuple[int, int]:
        examples = batch.support.join(batch.query)
        of_example = batch.classes.gather(1, examples.y)
        return len(of_example.unique()), int(examples.mask.sum())

    assert classes_and_images(plain)[0] <= 40
    assert classes_and_images(mixed)[0] > 120
    assert classes_and_images(mixed)[1] == classes_and_images(plain)[1]
    again = pooled.draw(glyphs, 8, 3)
    assert torch.equal(mixed.query.x, again.query.x)
