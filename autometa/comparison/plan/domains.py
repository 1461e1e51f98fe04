"""Task distributions of a comparison, and whether what is trained on one can be judged on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from autometa.comparison.plan.entrants import Tasks, labelled, open_tasks
from autometa.comparison.plan.settings import Settings
from autometa.contracts.objectives import Objective
from autometa.contracts.plugin_code import plugin_code
from autometa.contracts.problems import Problem, find_objective
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.errors import InvalidParameter
from autometa.files.description import describe
from autometa.training import MetaTraining, evaluate


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A task distribution under its label, with the seeds of what is drawn from it."""

    label: str
    sampler: TaskSampler
    settings: Settings

    @property
    def info(self) -> TaskInfo:
        """What its tasks look like."""
        return self.sampler.info

    @property
    def objective(self) -> Objective | None:
        """What learners are tuned and judged by; None: by the metric of the problem."""
        return find_objective(self.info.problem_record, self.settings.objective)

    @property
    def problem(self) -> Problem:
        """The problem, with the metric, direction and unit of what learners are tuned and judged by."""
        return self.info.problem_record.judged_by(self.objective)

    def seed(self, *labels: int | str) -> int:
        """Return a seed that depends only on ``random_state``, the label of this distribution and ``labels``."""
        return derive_seed(self.settings.random_state, self.label, *labels)

    def on(self, device: torch.device) -> Self:
        """Return the same distribution, its tasks drawn on a device."""
        return self if device.type == "cpu" else replace(self, sampler=self.sampler.to(device))


def open_domains(given: Tasks | Sequence[Tasks] | Mapping[str, Tasks], settings: Settings) -> dict[str, Domain]:
    """Open the distributions to train and judge on, by label.

    Raises
    ------
    InvalidParameter
        The problem of one has no such objective.
    """
    found = {
        label: Domain(label=label, sampler=open_tasks(label, tasks), settings=settings)
        for label, tasks in labelled("tasks", given).items()
    }
    for label, domain in found.items():
        try:
            find_objective(domain.info.problem_record, settings.objective)
        except InvalidParameter as error:
            raise InvalidParameter(f"tasks {label!r} cannot take part: {error}") from None
    return found


def open_test_domains(
    given: Tasks | Sequence[Tasks] | Mapping[str, Tasks], trained_on: Mapping[str, Domain], settings: Settings
) -> dict[str, Domain]:
    """Open the distributions to judge on; one that is trained on as well is the same object under the same label.

    Only their meta-test part is drawn from, here and later.

    Raises
    ------
    InvalidParameter
        A label stands for another distribution in ``trained_on``.
    """
    found: dict[str, Domain] = {}
    for label, tasks in labelled("test_tasks", given).items():
        sampler = open_tasks(label, tasks, splits=("test",))
        if label not in trained_on:
            found[label] = Domain(label=label, sampler=sampler, settings=settings)
            continue
        found[label] = trained_on[label]
        if describe(sampler) != describe(trained_on[label].sampler):
            raise InvalidParameter(
                f"test_tasks {label!r} has other parameters than tasks {label!r}; give it a label of its own, "
                f"such as test_tasks={{'other {label}': ...}}."
            )
    return found


def misfit(here: Domain, there: Domain) -> str | None:
    """Return why nothing trained on one distribution can be judged on another, or None if it can."""
    for name in ("problem", "input_shape", "feature_kinds", "feature_columns", "action_bounds"):
        ours, theirs = getattr(here.info, name), getattr(there.info, name)
        if ours != theirs:
            return f"{name} is {ours} in {here.label!r}, which is trained on, and {theirs} in {there.label!r}."
    return None


def refusal(training: MetaTraining, learner: str, here: Domain, there: Domain) -> str | None:
    """Return why a learner set up for one distribution cannot be judged on another, or None if it can.

    θ was made for the outputs of the distribution trained on. If the other has as many outputs with the same
    meaning, nothing needs to be tried; else one of its tasks is. A learner that fails on its own tasks too, before
    any meta-training, is not refused: its failure says nothing about the other distribution.
    """
    ours, theirs = here.info, there.info
    if (ours.n_outputs, ours.shared_classes) == (theirs.n_outputs, theirs.shared_classes):
        return None
    if _failure(training, here.sampler) is not None:
        return None
    failure = _failure(training, there.sampler)
    if failure is None:
        return None
    return (
        f"learner {learner!r} meta-trained on {here.label!r} ({_outputs(ours)}) cannot do {there.label!r} "
        f"({_outputs(theirs)}): its parameters depend on them ({failure})."
    )


def _failure(training: MetaTraining, sampler: TaskSampler) -> str | None:
    try:
        with plugin_code():
            evaluate(training.learner, training.module, sampler, split="test", n_tasks=1, seed=0)
    except Exception as error:  # a learner of a plugin may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _outputs(info: TaskInfo) -> str:
    if info.problem_record.acts:
        return f"{info.n_outputs} {'choices' if info.action_bounds is None else 'real actions'}"
    what = "real target" if not info.problem_record.has_classes else "class label" if info.shared_classes else "class"
    ending = ("es" if what == "class" else "s") * (info.n_outputs != 1)
    return f"{info.n_outputs} {what}{ending}{' that mean the same in every task' * info.shared_classes}"
