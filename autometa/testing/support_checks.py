"""What a learner must do with support sets and queries of any order, size and padding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import SkipTest

import torch
from sklearn.base import clone
from torch import Tensor

from autometa.contracts.examples import Examples
from autometa.contracts.tasks import TaskInfo
from autometa.errors import Incompatible
from autometa.testing.distribution_checks import expect_distribution
from autometa.testing.expectations import draw, expect, expect_close
from autometa.testing.learner_case import LearnerCase, inputs_of
from autometa.testing.toys import SHARED


def check_tasks_are_independent(case: LearnerCase) -> None:
    """Adapting to many tasks at once is adapting to one after the other, in any order."""
    batch, module = draw(case.tasks, 4), case.module()
    together = case.outputs(module, batch.support, inputs_of(batch.query))
    single = [batch[i : i + 1] for i in range(len(batch))]
    alone = torch.cat([case.outputs(module, one.support, inputs_of(one.query)) for one in single])
    expect_close(together, alone, "outputs of a task depend on the other tasks of the batch")
    order = torch.tensor([2, 0, 3, 1])
    shuffled = batch[order]
    expect_close(
        case.outputs(module, shuffled.support, inputs_of(shuffled.query)),
        together[order],
        "outputs depend on the order of tasks",
    )


def check_support_order_does_not_matter(case: LearnerCase) -> None:
    """The support is a set."""
    batch, module = draw(case.tasks, 3), case.module()
    order = torch.randperm(batch.support.y.shape[1], generator=torch.Generator().manual_seed(0))
    expect_close(
        case.outputs(module, batch.support.select(order), inputs_of(batch.query)),
        case.outputs(module, batch.support, inputs_of(batch.query)),
        "outputs depend on the order of support examples",
    )


def check_queries_are_independent(case: LearnerCase) -> None:
    """What is predicted for one query does not depend on the queries beside it."""
    batch, module = draw(case.tasks, 3), case.module()
    together = case.outputs(module, batch.support, inputs_of(batch.query))
    backwards = case.outputs(module, batch.support, inputs_of(batch.query).flip(1)).flip(1)
    expect_close(backwards, together, "outputs depend on the order of queries")
    alone = case.outputs(module, batch.support, inputs_of(batch.query)[:, :1])
    expect_close(alone, together[:, :1], "the output for a query depends on the queries beside it")


def check_padding_changes_nothing(case: LearnerCase) -> None:
    """Tasks of different sizes, padded to one length, are learned as they are alone."""
    batch, module = draw(case.tasks, 2), case.module()
    support, n = batch.support, batch.support.y.shape[1]
    keep = n - 1
    mask = support.mask.clone()
    mask[1, keep:] = False
    x, y = inputs_of(support).clone(), support.y.clone()
    x[1, keep:], y[1, keep:] = 0, 0
    ragged = case.outputs(module, support.with_parts(x=x, y=y, mask=mask), inputs_of(batch.query))
    whole = case.outputs(module, support[:1], inputs_of(batch.query)[:1])
    short = case.outputs(module, support.select(slice(keep))[1:], inputs_of(batch.query)[1:])
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
    support, x = batch.support, inputs_of(batch.query)
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
    x = inputs_of(support) * kept.reshape(*kept.shape, *(1,) * (inputs_of(support).dim() - 2))
    return support.with_parts(x=x, y=support.y * (kept if support.y.dim() == 2 else kept.unsqueeze(-1)), mask=kept)


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
        outputs = case.outputs(module, batch.support, inputs_of(batch.query))
        wanted = (*batch.query.y.shape[:2], tasks.info.n_outputs)
        expect(outputs.shape == wanted, f"tasks with {size}: predict() returned {tuple(outputs.shape)}, not {wanted}.")
        expect(outputs.isfinite().all(), f"tasks with {size}: outputs are not finite.")
