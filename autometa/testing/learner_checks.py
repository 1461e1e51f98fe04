"""What every learner must do on a small task distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor

from autometa.contracts.base_learner import check_promises
from autometa.contracts.forward import forward
from autometa.contracts.problems import PROBLEMS
from autometa.engine.judging import judge
from autometa.engine.random_state import fresh_module
from autometa.testing.expectations import (
    copied,
    draw,
    expect,
    expect_close,
    same_state,
    tensors_of,
    untouched_random_state,
)
from autometa.testing.learner_case import N_JUDGED, LearnerCase, inputs_of
from autometa.testing.promise_checks import check_provides, check_replays
from autometa.testing.search_checks import check_search_space as check_space
from autometa.testing.support_checks import (
    check_other_task_sizes,
    check_padding_changes_nothing,
    check_queries_are_independent,
    check_support_order_does_not_matter,
    check_supports_of_few_rows,
    check_tasks_are_independent,
)

Check = Callable[[LearnerCase], None]


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
        outputs = case.learner.predict(module, adapted, inputs_of(batch.query))
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
    before = copied((inputs_of(batch.support), batch.support.y, inputs_of(batch.query)))
    first = case.outputs(module, batch.support, inputs_of(batch.query))
    second = case.outputs(module, batch.support, inputs_of(batch.query))
    expect(same_state(state, module.state_dict()), "adapt() or predict() changes θ; leave that to the meta-optimizer.")
    expect(all(p.grad is None for p in module.parameters()), "adapt() or predict() leaves gradients in θ.")
    expect(module.training == mode, "adapt() or predict() switches θ between training and evaluation mode.")
    expect(
        repr(held) == repr(vars(learner)),
        "adapt() or predict() changes the learner; all it learns belongs in `adapted`.",
    )
    after = (inputs_of(batch.support), batch.support.y, inputs_of(batch.query))
    expect(
        all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "adapt() or predict() changes its inputs."
    )
    expect_close(second, first, "the second adaptation differs from the first", 1e-12)


def check_no_graph_without_gradients(case: LearnerCase) -> None:
    """Under ``torch.no_grad()`` no returned tensor holds a graph, so that evaluating costs no memory."""
    batch, module = draw(case.tasks, 2), case.module()
    with torch.no_grad():
        adapted = case.learner.adapt(module, batch.support)
        outputs = case.learner.predict(module, adapted, inputs_of(batch.query))
    graph = [t for t in [*tensors_of(adapted), outputs] if isinstance(t, Tensor) and t.requires_grad]
    expect(not graph, f"{len(graph)} tensors returned under no_grad require gradients; return them detached.")


def check_state_dict_round_trip(case: LearnerCase) -> None:
    """θ loaded into a freshly built module predicts the same."""
    batch, module = draw(case.tasks, 3), case.module()
    other = fresh_module(clone(case.learner), case.tasks.info, seed=99).double().eval()
    other.load_state_dict(copied(module.state_dict()))
    expect_close(
        case.outputs(other, batch.support, inputs_of(batch.query)),
        case.outputs(module, batch.support, inputs_of(batch.query)),
        "a freshly built module with the same state_dict predicts otherwise; keep all of θ in parameters and buffers",
    )


def check_learns(case: LearnerCase) -> None:
    """After a short meta-training, adapting to a task's own support beats adapting to another task's."""
    _, objection = case.trained()
    expect(objection is None, str(objection))


def check_permuted_labels_score_chance(case: LearnerCase) -> None:
    """With labels shuffled within each support set the accuracy is that of chance."""
    info = case.tasks.info
    if not info.problem_record.has_classes or info.shared_classes or case.learner.predicts_unseen_classes:
        raise SkipTest("labels mean something beyond the support set")
    batch = case.tasks.sample(N_JUDGED, split="test", seed=2)
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


def check_search_space(case: LearnerCase) -> None:
    """Names are constructor parameters, defaults lie inside, and whatever is drawn can be built and used."""
    info, batch = case.tasks.info, case.tasks.sample(2, seed=0)
    for learner in check_space(case.learner, info):
        module = fresh_module(learner, info, seed=0).eval()
        with torch.no_grad():
            forward(learner, module, batch.support, inputs_of(batch.query))


def check_devices_agree(case: LearnerCase) -> None:
    """An accelerator, where there is one, predicts what the CPU does."""
    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        raise SkipTest("there is no accelerator here")
    batch, module = case.tasks.sample(3, split="valid", seed=0), case.module().float()
    here = case.outputs(module, batch.support, inputs_of(batch.query))
    there = batch.to(device)
    expect_close(
        case.outputs(module.to(device), there.support, inputs_of(there.query)),
        here,
        f"outputs on {device} differ",
        1e-3,
    )


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
