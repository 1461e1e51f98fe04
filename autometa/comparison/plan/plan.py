"""What a comparison is going to do, checked before any of it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sklearn.base import clone

from autometa._version import __version__
from autometa.comparison.plan.domains import Elsewhere, add_test_tasks, misfit, refusal
from autometa.comparison.plan.entrants import (
    Entrant,
    Learners,
    Tasks,
    check_count,
    check_name,
    every_learner,
    labelled,
    make_entrant,
    open_tasks,
    with_baseline,
)
from autometa.comparison.plan.search_space import Candidate, SearchSpace
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskSampler
from autometa.errors import AutometaError, Incompatible, InvalidParameter, PluginError
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.files.description import describe, restore
from autometa.host.catalog import find, name_of
from autometa.training import MetaTraining

FORMAT = 1
"""Changes when an older plan or its results can no longer be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The numbers of a comparison; see :func:`autometa.compare`."""

    n_trials: int = 20
    budget: float | None = None
    n_test_tasks: int = 600
    n_valid_tasks: int = 100
    n_seeds: int = 3
    max_steps: int = 500
    tasks_per_step: int = 16
    random_state: int = 0
    search: Literal["separate", "joint"] = "separate"

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_test_tasks", "n_valid_tasks", "n_seeds", "max_steps", "tasks_per_step"):
            check_count(name, getattr(self, name))
        check_count("random_state", self.random_state, least=0)
        if self.budget is not None and not (isinstance(self.budget, int | float) and 0 < self.budget < float("inf")):
            raise InvalidParameter(
                f"budget={self.budget!r} must be a positive number of seconds, or None for no limit."
            )
        if self.search not in ("separate", "joint"):
            raise InvalidParameter(f"search={self.search!r} must be 'separate' or 'joint'.")

    @property
    def seconds_per_run(self) -> float | None:
        """Meta-training time of one trial or final run."""
        return None if self.budget is None else self.budget / (self.n_trials + self.n_seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One learner on one task distribution."""

    tasks: str
    candidate: Candidate
    space: SearchSpace
    family: str
    elsewhere: Sequence[str] = ()
    """Other task distributions that its final runs are judged on."""

    @property
    def learner(self) -> str:
        """Label of the learner."""
        return self.candidate.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A learner that cannot take part on one task distribution, or be judged on it after training on another."""

    tasks: str
    learner: str
    reason: str
    trained_on: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Task distributions times learners, and how much of everything."""

    name: str
    settings: Settings
    samplers: Mapping[str, TaskSampler]
    """To tune, meta-train and judge on."""
    test_samplers: Mapping[str, TaskSampler]
    """To judge every final run on; one that is among ``samplers`` too has the same label there."""
    entrants: Mapping[str, Entrant]
    pairs: Sequence[Pair]
    skipped: Sequence[Skipped]
    described: Mapping[str, Any] = field(repr=False)
    """The plan as JSON."""

    def seed(self, tasks: str, *labels: int | str) -> int:
        """Return a seed that only depends on ``random_state``, the name of the tasks and the labels."""
        return derive_seed(self.settings.random_state, tasks, *labels)

    @property
    def judged_on(self) -> dict[str, TaskSampler]:
        """All task distributions that anything is judged on."""
        return {**self.samplers, **self.test_samplers}

    def pairs_of(self, tasks: str) -> list[Pair]:
        """All learners on one task distribution."""
        return [pair for pair in self.pairs if pair.tasks == tasks]


def make_plan(
    tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks],
    learners: Learners | Sequence[Learners] | Mapping[str, Learners],
    settings: Settings,
    *,
    name: str,
    baselines: bool = True,
    test_tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks] | None = None,
) -> Plan:
    """Resolve all names, draw a task of every part of every distribution and set up every pair.

    Raises
    ------
    UnknownName, InvalidParameter, InvalidData, MissingData, Incompatible
        What was asked for cannot work; each says why.
    """
    check_name("name", name)
    samplers = {label: open_tasks(label, given) for label, given in labelled("tasks", tasks).items()}
    test_samplers = {} if test_tasks is None else add_test_tasks(samplers, test_tasks)
    everyone = isinstance(learners, str) and learners == "all"
    given = every_learner(samplers) if everyone else with_baseline(labelled("learners", learners), samplers, baselines)
    return _assemble(name, settings, samplers, test_samplers, given, strict=not everyone)


def restore_plan(name: str, described: Mapping[str, Any]) -> Plan:
    """Make the plan that is stored with a study.

    Raises
    ------
    Incompatible
        It holds objects that only the process that made it has.
    """
    samplers = {label: restore(value, f"tasks {label!r}") for label, value in described["tasks"].items()}
    test_samplers = {
        label: restore(value, f"test_tasks {label!r}") for label, value in described.get("test_tasks", {}).items()
    }
    learners = {
        label: (
            restore(value["learner"], f"learner {label!r}"),
            restore(value["meta_optimizer"], f"the meta-optimizer of {label!r}"),
        )
        for label, value in described["learners"].items()
    }
    return _assemble(name, Settings(**described["settings"]), samplers, test_samplers, learners, strict=False)


def _assemble(
    name: str,
    settings: Settings,
    samplers: Mapping[str, TaskSampler],
    test_samplers: Mapping[str, TaskSampler],
    learners: Mapping[str, Learners],
    *,
    strict: bool,
) -> Plan:
    """Set up every pair; ``strict`` refuses a learner that fits nothing, which was asked for by name."""
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    entrants: dict[str, Entrant] = {}
    for label, given in learners.items():
        try:
            entrants[label] = make_entrant(given)
        except (PluginError, InvalidParameter) as error:
            if strict:
                raise
            skipped.extend(Skipped(tasks=t, learner=label, reason=str(error), trained_on=t) for t in samplers)
    for tasks, sampler in samplers.items():
        elsewhere, misfits = _elsewhere(tasks, sampler, test_samplers)
        for label, entrant in entrants.items():
            try:
                pair, refused = _pair(tasks, sampler, label, entrant, elsewhere)
                pairs.append(pair)
                skipped.extend(refused)
            except (Incompatible, PluginError) as error:
                skipped.append(Skipped(tasks=tasks, learner=label, reason=str(error), trained_on=tasks))
            except AutometaError:
                raise
            except Exception as error:  # a plugin may raise anything, and must not end a comparison of all
                reason = f"{type(error).__name__} in setting up learner {label!r} on {tasks!r}: {error}"
                if strict:
                    raise PluginError(reason) from error
                skipped.append(Skipped(tasks=tasks, learner=label, reason=reason, trained_on=tasks))
        skipped.extend(misfits)
    _refuse_useless(samplers, test_samplers, entrants, pairs, skipped, strict)
    return Plan(
        name=name,
        settings=settings,
        samplers=samplers,
        test_samplers=test_samplers,
        entrants=entrants,
        pairs=pairs,
        skipped=skipped,
        described=_describe(settings, samplers, test_samplers, entrants),
    )


def _elsewhere(
    tasks: str, sampler: TaskSampler, test_samplers: Mapping[str, TaskSampler]
) -> tuple[dict[str, TaskSampler], list[Skipped]]:
    """Where else whatever is trained on ``tasks`` can be judged, and where not."""
    fitting, misfits = {}, []
    for label, other in test_samplers.items():
        if label == tasks:
            continue
        reason = misfit(tasks, sampler.info, label, other.info)
        if reason is None:
            fitting[label] = other
        else:
            misfits.append(Skipped(tasks=label, learner="every learner", reason=reason, trained_on=tasks))
    return fitting, misfits


def _pair(
    tasks: str, sampler: TaskSampler, label: str, entrant: Entrant, elsewhere: Elsewhere
) -> tuple[Pair, list[Skipped]]:
    """Set up a learner on a task distribution as a trial will, which meets everything that cannot work."""
    info = sampler.info
    learner, meta_optimizer = entrant
    made = resolve_learner(learner, info.problem)
    optimizer = resolve_meta_optimizer(meta_optimizer, made)
    candidate = Candidate(label=label, learner=made, meta_optimizer=optimizer, info=info)
    space = SearchSpace.of(candidate)
    probe = clone(optimizer) if optimizer is not None else None
    training = MetaTraining(made, probe, sampler, n_steps=1, tasks_per_step=1, seed=0)
    refusals = {other: refusal(training, tasks, label, other, its) for other, its in elsewhere.items()}
    name = name_of(made)
    family = getattr(find("learner", name).spec, "family", "other") if name else "other"
    pair = Pair(
        tasks=tasks,
        candidate=candidate,
        space=space,
        family=family,
        elsewhere=[other for other, reason in refusals.items() if reason is None],
    )
    return pair, [
        Skipped(tasks=other, learner=label, reason=reason, trained_on=tasks)
        for other, reason in refusals.items()
        if reason is not None
    ]


def _refuse_useless(
    samplers: Mapping[str, TaskSampler],
    test_samplers: Mapping[str, TaskSampler],
    entrants: Mapping[str, Any],
    pairs: Sequence[Pair],
    skipped: Sequence[Skipped],
    strict: bool,
) -> None:
    """Refuse a learner asked for by name that fits no tasks, and tasks that no learner fits."""
    for label in entrants:
        reasons = [skip.reason for skip in skipped if skip.learner == label and skip.tasks == skip.trained_on]
        if strict and len(reasons) == len(samplers):
            raise Incompatible(f"learner {label!r} fits none of the tasks {list(samplers)}: {reasons[0]}")
    for label in samplers:
        if not any(pair.tasks == label for pair in pairs):
            reasons = [f"{skip.learner}: {skip.reason}" for skip in skipped if skip.tasks == skip.trained_on == label]
            raise Incompatible(f"no learner fits the tasks {label!r}. " + " ".join(reasons))
    for label in test_samplers:
        if label not in samplers and not any(label in pair.elsewhere for pair in pairs):
            reasons = [skip.reason for skip in skipped if skip.tasks == label]
            raise Incompatible(
                f"nothing that is meta-trained can be judged on test_tasks {label!r}. {' '.join(reasons)}"
            )


def _describe(
    settings: Settings,
    samplers: Mapping[str, TaskSampler],
    test_samplers: Mapping[str, TaskSampler],
    entrants: Mapping[str, Entrant],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": __version__,
        "settings": asdict(settings),
        "tasks": {label: describe(sampler) for label, sampler in samplers.items()},
        "test_tasks": {label: describe(sampler) for label, sampler in test_samplers.items()},
        "learners": {
            label: {"learner": describe(learner), "meta_optimizer": describe(meta_optimizer)}
            for label, (learner, meta_optimizer) in entrants.items()
        },
    }
