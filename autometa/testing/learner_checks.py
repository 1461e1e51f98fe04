"""What every learner must do on a small task distribution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor, nn

from autometa.contracts.base_learner import check_promises
from autometa.contracts.examples import Examples, TaskBatch
from autometa.contracts.forward import forward
from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.problems import PROBLEMS
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.engine.judging import judge
from autometa.engine.random_state import fresh_module, seeded
from autometa.engine.replay import PLAIN_CALLS, Replay
from autometa.errors import Incompatible
from autometa.host import make_meta_optimizer
from autometa.testing.distribution_checks import expect_distribution
from autometa.testing.expectations import (
    clearly_positive,
    copied,
    draw,
    expect,
    expect_close,
    same_state,
    tensors_of,
    untouched_random_state,
)
from autometa.testing.search_checks import check_search_space as check_space
from autometa.testing.toys import SHARED
from autometa.training.outer_loop import MetaTraining

LOOKS = (40, 80, 160, 320, 640, 1280)
"""Steps of the one meta-training after which it is judged; it ends with the first clear success."""
N_JUDGED = 128


@dataclass(frozen=True)
class LearnerCase:
    """A learner and the task distribution it is checked on."""

    learner: Learner
    tasks: TaskSampler

    def module(self) -> nn.Module:
        """Return a copy of θ in double precision after two steps of meta-training, in evaluation mode."""
        return copied(self._started)

    def trained(self) -> tuple[nn.Module, str | None]:
        """Return a copy of the meta-trained θ, and the reason why it does not count as trained, or None."""
        module, objection = self._trained
        return copied(module), objection

    @functools.cached_property
    def _started(self) -> nn.Module:
        training = self.training(2, torch.float64)
        training.run_to()
        return training.module.eval()

    @functools.cached_property
    def _trained(self) -> tuple[nn.Module, str | None]:
        training = self.training(LOOKS[-1], torch.float32)
        for n_steps in LOOKS:
            training.run_to(n_steps / LOOKS[-1])
            module = copied(training.module).eval()
            objection = _no_use_of_support(self, module)
            if objection is None or training.progress == 1.0:
                break
        return module, objection

    def meta_optimizer(self) -> MetaOptimizer | None:
        """Return the learner's default meta-optimizer, with a learning rate for short runs if it has one."""
        name = self.learner.default_meta_optimizer
        if name is None:
            return None
        made = make_meta_optimizer(name)
        return made.set_params(lr=0.01) if "lr" in made.get_params() else made

    def training(self, n_steps: int, dtype: torch.dtype) -> MetaTraining:
        """Return a meta-training with a fixed seed that has not started."""
        return MetaTraining(
            clone(self.learner),
            self.meta_optimizer(),
            self.tasks,
            n_steps=n_steps,
            tasks_per_step=8,
            seed=0,
            dtype=dtype,
        )

    def outputs(self, module: nn.Module, support: Examples, x: Tensor) -> Tensor:
        """Predict without an autograd graph."""
        with torch.no_grad():
            return forward(self.learner, module, support, x)


Check = Callable[[LearnerCase], None]


def _x(examples: Examples) -> Tensor:
    assert isinstance(examples.x, Tensor)
    return examples.x


def check_promises_are_kept(case: LearnerCase) -> None:
    """Properties such as ``replayable`` are of the kind that they are read as, and name what there is."""
    learner = case.learner
    check_promises(learner)
    for name in ("adaptation_parameters", "names_code"):
        unknown = sorted(getattr(learner, name) - set(learner.get_params(deep=False)))
        expect(not unknown, f"{name} of {type(learner).__name__} names {unknown}, which are no parameters of it.")
    unknown = sorted(learner.needs_meta_training - PROBLEMS.keys())
    expect(
        not unknown,
        f"needs_meta_training of {type(learner).__name__} names {unknown}; problems are {sorted(PROBLEMS)}.",
    )


def check_build_is_seeded(case: LearnerCase) -> None:
    """The same seed builds the same θ, and another one another (if it has parameters that start at random)."""
    info = case.tasks.info
    with untouched_random_state("build()"):
        a, b = (fresh_module(clone(case.learner), info, seed=3).state_dict() for _ in range(2))
    expect(same_state(a, b), "build() gives another θ for the same torch seed.")
    strange = [name for name, value in a.items() if not isinstance(value, Tensor)]
    expect(not strange, f"state_dict() of θ holds {strange}, which are no tensors and cannot be saved.")


def check_shapes(case: LearnerCase) -> None:
    """Outputs are finite, [tasks, n, n_outputs], of the inputs' type; adapted tensors lead with [tasks]."""
    batch = case.tasks.sample(3, split="valid", seed=0)
    module = case.module().float()
    with torch.no_grad():
        adapted = case.learner.adapt(module, batch.support)
        outputs = case.learner.predict(module, adapted, _x(batch.query))
    for leaf in tensors_of(adapted):
        expect(isinstance(leaf, Tensor), f"adapt() returned a {type(leaf).__name__} among its tensors.")
        expect(
            leaf.dim() and len(leaf) == 3,
            f"adapt() of 3 tasks returned a tensor {tuple(leaf.shape)}; it must lead with [tasks].",
        )
    wanted = (*batch.query.y.shape[:2], case.tasks.info.n_outputs)
    expect(outputs.shape == wanted, f"predict() returned {tuple(outputs.shape)}; [tasks, n, n_outputs] is {wanted}.")
    expect(outputs.dtype == torch.float32, f"predict() returned {outputs.dtype} for float32 inputs.")
    expect(outputs.isfinite().all(), "predict() returned outputs that are not finite.")


def check_adapt_is_pure(case: LearnerCase) -> None:
    """Adapting and predicting change neither θ, nor the learner, nor the examples, and give the same twice."""
    batch, module, learner = draw(case.tasks, 3), case.module(), case.learner
    state, held, mode = copied(module.state_dict()), copied(vars(learner)), module.training
    before = copied((_x(batch.support), batch.support.y, _x(batch.query)))
    first = case.outputs(module, batch.support, _x(batch.query))
    second = case.outputs(module, batch.support, _x(batch.query))
    expect(same_state(state, module.state_dict()), "adapt() or predict() changes θ; leave that to the meta-optimizer.")
    expect(all(p.grad is None for p in module.parameters()), "adapt() or predict() leaves gradients in θ.")
    expect(module.training == mode, "adapt() or predict() switches θ between training and evaluation mode.")
    expect(
        repr(held) == repr(vars(learner)),
        "adapt() or predict() changes the learner; all it learns belongs in `adapted`.",
    )
    after = (_x(batch.support), batch.support.y, _x(batch.query))
    expect(
        all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "adapt() or predict() changes its inputs."
    )
    expect_close(second, first, "the second adaptation differs from the first", 1e-12)


def check_tasks_are_independent(case: LearnerCase) -> None:
    """Adapting to many tasks at once is adapting to one after the other, in any order."""
    batch, module = draw(case.tasks, 4), case.module()
    together = case.outputs(module, batch.support, _x(batch.query))
    single = [batch[i : i + 1] for i in range(len(batch))]
    alone = torch.cat([case.outputs(module, one.support, _x(one.query)) for one in single])
    expect_close(together, alone, "outputs of a task depend on the other tasks of the batch")
    order = torch.tensor([2, 0, 3, 1])
    shuffled = batch[order]
    expect_close(
        case.outputs(module, shuffled.support, _x(shuffled.query)),
        together[order],
        "outputs depend on the order of tasks",
    )


def check_support_order_does_not_matter(case: LearnerCase) -> None:
    """The support is a set."""
    batch, module = draw(case.tasks, 3), case.module()
    order = torch.randperm(batch.support.y.shape[1], generator=torch.Generator().manual_seed(0))
    expect_close(
        case.outputs(module, batch.support.select(order), _x(batch.query)),
        case.outputs(module, batch.support, _x(batch.query)),
        "outputs depend on the order of support examples",
    )


def check_queries_are_independent(case: LearnerCase) -> None:
    """What is predicted for one query does not depend on the queries beside it."""
    batch, module = draw(case.tasks, 3), case.module()
    together = case.outputs(module, batch.support, _x(batch.query))
    backwards = case.outputs(module, batch.support, _x(batch.query).flip(1)).flip(1)
    expect_close(backwards, together, "outputs depend on the order of queries")
    alone = case.outputs(module, batch.support, _x(batch.query)[:, :1])
    expect_close(alone, together[:, :1], "the output for a query depends on the queries beside it")


def check_padding_changes_nothing(case: LearnerCase) -> None:
    """Tasks of different sizes, padded to one length, are learned as they are alone."""
    batch, module = draw(case.tasks, 2), case.module()
    support, n = batch.support, batch.support.y.shape[1]
    keep = n - 1
    mask = support.mask.clone()
    mask[1, keep:] = False
    x, y = _x(support).clone(), support.y.clone()
    x[1, keep:], y[1, keep:] = 0, 0
    ragged = case.outputs(module, support.with_parts(x=x, y=y, mask=mask), _x(batch.query))
    whole = case.outputs(module, support[:1], _x(batch.query)[:1])
    short = case.outputs(module, support.select(slice(keep))[1:], _x(batch.query)[1:])
    expect_close(ragged, torch.cat([whole, short]), "padded places of the support (mask False) change outputs")


def check_supports_of_few_rows(case: LearnerCase) -> None:
    """Where labels mean the same in every task, a support of one row, of one class or of none is answered."""
    tasks = next((toy for toy in (case.tasks, *SHARED) if _means_the_same(toy.info, case.tasks.info)), None)
    if tasks is None:
        raise SkipTest("labels are drawn anew for each task")
    try:
        case = LearnerCase(case.learner, tasks)
        module = case.module()
    except Incompatible as error:
        raise SkipTest(f"it refuses labels that mean the same in every task: {error}") from error
    batch = draw(tasks, 3)
    support, x = batch.support, _x(batch.query)
    few = {"one row": support.select(slice(1))}
    if support.is_classification:
        few["one class"] = support.with_parts(y=torch.ones_like(support.y))
    if not case.learner.needs_support:
        few["no row"] = _emptied(support, torch.ones(len(support), dtype=torch.bool))
    for what, rows in few.items():
        with torch.no_grad():
            own = case.learner.predict(module, case.learner.adapt(module, rows), x)
        outputs = case.outputs(module, rows, x)
        sound = outputs.isfinite().all() and not own.isnan().any()
        expect(sound, f"outputs are not finite for a support of {what}.")
        if "distribution" in case.learner.provides and not support.is_classification:
            expect_distribution(case.learner, module, replace(batch, support=rows))
    if case.learner.needs_support:
        return
    first = torch.arange(len(support)) == 0
    beside = case.outputs(module, _emptied(support, first), x)
    expect_close(beside[1:], case.outputs(module, support, x)[1:], "a task without rows changes those beside it")
    expect_close(beside[:1], case.outputs(module, few["no row"], x)[:1], "tasks change one without rows beside them")


def _means_the_same(info: TaskInfo, like: TaskInfo) -> bool:
    return info.problem == like.problem and (info.shared_classes or not info.problem_record.has_classes)


def _emptied(support: Examples, tasks: Tensor) -> Examples:
    """Return the support sets with all places of some ``tasks`` padded."""
    kept = ~tasks.unsqueeze(1) & support.mask
    x = _x(support) * kept.reshape(*kept.shape, *(1,) * (_x(support).dim() - 2))
    return support.with_parts(x=x, y=support.y * (kept if support.y.dim() == 2 else kept.unsqueeze(-1)), mask=kept)


def check_no_graph_without_gradients(case: LearnerCase) -> None:
    """Under ``torch.no_grad()`` no returned tensor holds a graph, so that evaluating costs no memory."""
    batch, module = draw(case.tasks, 2), case.module()
    with torch.no_grad():
        adapted = case.learner.adapt(module, batch.support)
        outputs = case.learner.predict(module, adapted, _x(batch.query))
    graph = [t for t in [*tensors_of(adapted), outputs] if isinstance(t, Tensor) and t.requires_grad]
    expect(not graph, f"{len(graph)} tensors returned under no_grad require gradients; return them detached.")


def check_provides(case: LearnerCase) -> None:
    """The learner has what ``provides`` promises to meta-optimizers and estimators."""
    batch, module, provides = draw(case.tasks, 2, split="train"), case.module(), case.learner.provides
    named = dict(module.named_parameters())
    if "gradient" in provides and any(p.requires_grad for p in named.values()):
        _expect_gradient(case.learner.meta_loss(module, batch, 0.5).mean(), module, "meta_loss()")
    if "inner_gradient" in provides:
        with torch.no_grad():
            adapted = case.learner.adapt(module, batch.support)
        expect(
            isinstance(adapted, dict), f"adapt() returned a {type(adapted).__name__}; 'inner_gradient' promises a dict."
        )
        unknown = sorted(set(adapted) - set(named))
        expect(not unknown, f"adapt() returned {unknown}, which are no parameters of θ.")
    if "inner_objective" in provides:
        _check_inner_objective(case, batch, module)
    expect(
        "distribution" in provides or "quantiles" not in provides,
        "provides names 'quantiles' without 'distribution': estimators ask for means and deviations, too.",
    )
    if "distribution" in provides and not batch.query.is_classification:
        expect_distribution(case.learner, module, batch)
    if "pooled" in provides and case.learner.n_pooled_tasks(case.tasks.info) is None:
        _expect_gradient(case.learner.pooled_loss(module, batch, 0.5), module, "pooled_loss()")
    if "memory" in provides:
        module = fresh_module(clone(case.learner), case.tasks.info, seed=0).double()
        before = copied(module.state_dict())
        case.learner.remember(module, draw(case.tasks, 2, seed=5, split="train"))
        expect(not same_state(before, module.state_dict()), "remember() leaves θ as it was.")


def _check_inner_objective(case: LearnerCase, batch: TaskBatch, module: nn.Module) -> None:
    with torch.no_grad():
        adapted = case.learner.adapt(module, batch.support)
    real = isinstance(adapted, dict) and all(value.is_floating_point() for value in adapted.values())
    expect(real, "adapt() returned no dict of real tensors; 'inner_objective' promises one.")
    for value in adapted.values():
        value.requires_grad_()
    own = case.learner.inner_objective(module, adapted, batch.support)
    expect(own.shape == (2,), f"inner_objective() of 2 tasks returned {tuple(own.shape)}; it must return [tasks].")
    slopes = torch.autograd.grad(own.sum(), list(adapted.values()), create_graph=True, materialize_grads=True)
    expect(any(slope.requires_grad for slope in slopes), "inner_objective() is not twice differentiable in `adapted`.")
    with torch.no_grad():
        swapped = {name: value.flip(0) for name, value in adapted.items()}
        other = case.learner.inner_objective(module, swapped, batch.support)
    expect(
        (own <= other).all(),
        "adapted to another task, inner_objective() is lower than adapted to its own: adapt() does not minimize it.",
    )


def _expect_gradient(loss: Tensor, module: nn.Module, what: str) -> None:
    expect(loss.dim() == 0 and loss.requires_grad, f"{what} is not differentiable in θ.")
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    expect(
        gradients and all(g.isfinite().all() for g in gradients), f"the gradient of {what} is missing or not finite."
    )
    expect(any(g.any() for g in gradients), f"the gradient of {what} is zero in all of θ.")


def check_other_task_sizes(case: LearnerCase) -> None:
    """A task may have other numbers of classes and examples than those meta-trained on."""
    module = case.module()
    names = case.tasks.get_params()
    sizes: list[dict[str, Any]] = [{"n_shot": 1, "n_query": 3}, {"n_shot": 9}]
    if "n_way" in names:
        sizes += [{"n_way": 2, "n_shot": 2}, {"n_way": 5}]
    for size in sizes:
        if not set(size) <= set(names):
            continue
        tasks = clone(case.tasks).set_params(**size)
        batch = draw(tasks, 2)
        outputs = case.outputs(module, batch.support, _x(batch.query))
        wanted = (*batch.query.y.shape[:2], tasks.info.n_outputs)
        expect(outputs.shape == wanted, f"tasks with {size}: predict() returned {tuple(outputs.shape)}, not {wanted}.")
        expect(outputs.isfinite().all(), f"tasks with {size}: outputs are not finite.")


def check_state_dict_round_trip(case: LearnerCase) -> None:
    """θ loaded into a freshly built module predicts the same."""
    batch, module = draw(case.tasks, 3), case.module()
    other = fresh_module(clone(case.learner), case.tasks.info, seed=99).double().eval()
    other.load_state_dict(copied(module.state_dict()))
    expect_close(
        case.outputs(other, batch.support, _x(batch.query)),
        case.outputs(module, batch.support, _x(batch.query)),
        "a freshly built module with the same state_dict predicts otherwise; keep all of θ in parameters and buffers",
    )


def check_learns(case: LearnerCase) -> None:
    """After a short meta-training, adapting to a task's own support beats adapting to another task's."""
    _, objection = case.trained()
    expect(objection is None, str(objection))


def _no_use_of_support(case: LearnerCase, module: nn.Module) -> str | None:
    """Return what is wrong with a meta-trained θ, or None if a task's own support set helps."""
    batch = case.tasks.sample(N_JUDGED, split="test", seed=1)
    own = _judged(case, module, batch)
    other = _judged(case, module, replace(batch, support=batch[torch.arange(len(batch)).roll(1)].support))
    gains = [others - mine for mine, others in zip(own, other, strict=True)]
    if any(clearly_positive(gain) for gain in gains):
        return None
    return (
        f"adapted to its own support, a task has the loss {own[0].mean():.3f}; adapted to another task's, "
        f"{other[0].mean():.3f}: the support set does not help."
    )


def check_permuted_labels_score_chance(case: LearnerCase) -> None:
    """With labels shuffled within each support set the accuracy is that of chance."""
    info = case.tasks.info
    if not info.problem_record.has_classes or info.shared_classes or case.learner.predicts_unseen_classes:
        raise SkipTest("labels mean something beyond the support set")
    batch = case.tasks.sample(2 * N_JUDGED, split="test", seed=2)
    generator = torch.Generator().manual_seed(0)
    y, padded = batch.support.y, (~batch.support.mask).to(torch.float32)
    order = (torch.rand(y.shape, generator=generator) + padded).argsort(dim=1)
    support = batch.support.with_parts(y=y.scatter(1, padded.argsort(dim=1, stable=True), y.gather(1, order)))
    module, _ = case.trained()
    with torch.no_grad():
        scores = judge(case.learner, module, replace(batch, support=support)).scores.double()
    chance = 1 / info.n_outputs
    expect(
        abs(scores.mean() - chance) < 5 * scores.std() / len(scores) ** 0.5,
        f"with shuffled support labels the accuracy is {scores.mean():.3f}, and chance is {chance:.3f}: "
        "labels reach the learner by another way.",
    )


def _judged(case: LearnerCase, module: nn.Module, batch: TaskBatch) -> tuple[Tensor, Tensor]:
    """Return the loss and the error of every task: smaller is better."""
    with torch.no_grad():
        outcome = judge(case.learner, module, batch)
        return outcome.losses.double(), outcome.errors.double()


def check_search_space(case: LearnerCase) -> None:
    """Names are constructor parameters, defaults lie inside, and whatever is drawn can be built and used."""
    info, batch = case.tasks.info, case.tasks.sample(2, seed=0)
    for learner in check_space(case.learner, info):
        module = fresh_module(learner, info, seed=0).eval()
        with torch.no_grad():
            forward(learner, module, batch.support, _x(batch.query))


def check_devices_agree(case: LearnerCase) -> None:
    """An accelerator, where there is one, predicts what the CPU does."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        raise SkipTest("there is no accelerator here")
    batch, module = case.tasks.sample(3, split="valid", seed=0), case.module().float()
    here = case.outputs(module, batch.support, _x(batch.query))
    there = batch.to(device)
    expect_close(
        case.outputs(module.to(device), there.support, _x(there.query)), here, f"outputs on {device} differ", 1e-3
    )


def check_replays(case: LearnerCase) -> None:
    """A replayable learner gives the same loss and gradients when a CUDA device repeats its operations."""
    if not case.learner.replayable:
        return
    if not torch.cuda.is_available():
        raise SkipTest("there is no CUDA device here")
    device, meta_optimizer = torch.device("cuda"), case.meta_optimizer()
    module = case.module().float().to(device).train()
    twin = copied(module).to(device)  # which lays out what recurrent networks want in one piece
    if meta_optimizer is not None:
        meta_optimizer.start(case.learner, module, case.tasks.info)
    loss = case.learner.pooled_loss if "pooled" in case.learner.provides else case.learner.meta_loss

    def differentiate(module: nn.Module, batch: TaskBatch) -> list[Tensor | None]:
        value = loss(module, batch, 0.5).mean()
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        return [value.detach(), *torch.autograd.grad(value, learned, allow_unused=True)]

    replay: Replay[Tensor | None] = Replay(True)
    for seed in range(PLAIN_CALLS + 3):
        drawn = case.tasks.sample(4, seed=seed) if meta_optimizer is None else meta_optimizer.draw(case.tasks, 4, seed)
        batch = drawn.to(device, torch.float32)
        with seeded(seed, device):
            found = replay(functools.partial(differentiate, module), batch)
        with seeded(seed, device):
            wanted = differentiate(twin, batch)
        for mine, other in zip(found, wanted, strict=True):
            expect((mine is None) == (other is None), "repeating reaches other parameters than calling.")
            if mine is not None and other is not None:
                expect_close(mine, other, "a repeated gradient differs from the one called", 1e-3)
    expect(replay.n_recorded > 0, "it says that it is replayable, and waits for the device.")


LEARNER_CHECKS: tuple[Check, ...] = (
    check_promises_are_kept,
    check_build_is_seeded,
    check_shapes,
    check_adapt_is_pure,
    check_tasks_are_independent,
    check_support_order_does_not_matter,
    check_queries_are_independent,
    check_padding_changes_nothing,
    check_supports_of_few_rows,
    check_no_graph_without_gradients,
    check_provides,
    check_other_task_sizes,
    check_state_dict_round_trip,
    check_learns,
    check_permuted_labels_score_chance,
    check_search_space,
    check_devices_agree,
    check_replays,
)
