"""Judging on other task distributions than those trained on: which they are, and what can be judged on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autometa.comparison.plan.entrants import Tasks, labelled, open_tasks
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.errors import InvalidParameter
from autometa.files.description import describe
from autometa.training import MetaTraining, evaluate

Elsewhere = Mapping[str, TaskSampler]
"""Test distributions by label, other than the one trained on."""


def add_test_tasks(
    samplers: Mapping[str, TaskSampler], given: Tasks | Sequence[Tasks] | Mapping[str, Tasks]
) -> dict[str, TaskSampler]:
    """Open the distributions to judge on; one that is trained on as well is the same object under the same label.

    Only their meta-test part is drawn from, here and later.

    Raises
    ------
    InvalidParameter
        A label stands for another distribution among ``samplers``.
    """
    found: dict[str, TaskSampler] = {}
    for label, tasks in labelled("test_tasks", given).items():
        sampler = open_tasks(label, tasks, splits=("test",))
        if label in samplers:
            if describe(sampler) != describe(samplers[label]):
                raise InvalidParameter(
                    f"test_tasks {label!r} has other parameters than tasks {label!r}; give it a label of its own, "
                    f"such as test_tasks={{'other {label}': ...}}."
                )
            sampler = samplers[label]
        found[label] = sampler
    return found


def misfit(trained_on: str, ours: TaskInfo, judged_on: str, theirs: TaskInfo) -> str | None:
    """Why nothing trained on one distribution can be judged on another; None where it can."""
    facts = {
        "problem": (ours.problem, theirs.problem),
        "input_shape": (ours.input_shape, theirs.input_shape),
        "feature_kinds": (ours.feature_kinds, theirs.feature_kinds),
    }
    for name, (here, there) in facts.items():
        if here != there:
            return f"{name} is {here} in {trained_on!r}, which is trained on, and {there} in {judged_on!r}."
    return None


def refusal(training: MetaTraining, trained_on: str, learner: str, judged_on: str, sampler: TaskSampler) -> str | None:
    """Why a learner set up for one distribution cannot be judged on another that fits it; None where it can.

    θ was made for the outputs of the distribution trained on. Where those of the other are as many and mean as much,
    there is nothing to find out; else one task is tried. A learner that cannot do its own tasks before any
    meta-training tells nothing by failing.
    """
    ours, theirs = training.sampler.info, sampler.info
    if (ours.n_outputs, ours.shared_classes) == (theirs.n_outputs, theirs.shared_classes):
        return None
    if _failure(training, training.sampler) is not None:
        return None
    failure = _failure(training, sampler)
    if failure is None:
        return None
    return (
        f"learner {learner!r} meta-trained on {trained_on!r} ({_outputs(ours)}) cannot do {judged_on!r} "
        f"({_outputs(theirs)}): its parameters depend on them ({failure})."
    )


def _failure(training: MetaTraining, sampler: TaskSampler) -> str | None:
    try:
        evaluate(training.learner, training.module, sampler, split="test", n_tasks=1, seed=0)
    except Exception as error:  # a learner of a plugin may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _outputs(info: TaskInfo) -> str:
    what = "real target" if info.problem == "regression" else "class label" if info.shared_classes else "class"
    ending = ("es" if what == "class" else "s") * (info.n_outputs != 1)
    return f"{info.n_outputs} {what}{ending}{' that mean the same in every task' * info.shared_classes}"
