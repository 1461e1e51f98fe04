"""Make samplers and learners from what a user may give: names, objects, lists and dicts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from autometa.checks import check_text
from autometa.comparison.plan.guarded import guarded
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.problems import PROBLEMS
from autometa.contracts.tasks import SPLITS, Split, TaskInfo, TaskSampler
from autometa.errors import InvalidParameter
from autometa.host import make_learner, make_meta_optimizer, make_tasks
from autometa.host.catalog import components, find, name_of

BASELINE = "baselines/sklearn"
"""Full name of the learner that meta-learning must beat."""
POOLED = "baselines/sklearn_pooled"
"""Full name of the learner that telling tasks apart must beat, where labels mean the same in every task."""
BASELINES = "baseline"
"""Family of the learners that must be beaten."""

Tasks = str | TaskSampler
Learners = str | BaseLearner | tuple[str | BaseLearner, str | MetaOptimizer]
Entrant = tuple[BaseLearner, MetaOptimizer | Literal["auto"]]
"""A learner, and the meta-optimizer asked for with it."""


LONGEST_NAME = 150
"""Characters of a name: three of them make the name of a study, for which databases have 512."""


def check_name(what: str, value: Any) -> None:
    """Refuse a name that cannot be part of a study's name."""
    if not isinstance(value, str) or not value.strip() or "/" in value:
        raise InvalidParameter(f"{what}={value!r} must be a non-empty text without '/'.")
    check_text(what, value)
    if len(value) > LONGEST_NAME:
        raise InvalidParameter(
            f"{what}={value[:40] + '...'!r} has {len(value)} characters; a name has {LONGEST_NAME} at most."
        )


def labelled(what: str, given: Any) -> dict[str, Any]:
    """Turn every accepted form into a dict from labels to components."""
    if isinstance(given, Mapping):
        found = dict(given)
    else:
        single = isinstance(given, str | TaskSampler | BaseLearner) or (what == "learners" and isinstance(given, tuple))
        if not single and not isinstance(given, Sequence):
            raise InvalidParameter(
                f"{what}={given!r} must be a name, an object, a list of those or a dict with labels."
            )
        found = {}
        for item in [given] if single else given:
            label = _label(item)
            repeats = sum(known.partition("#")[0] == label for known in found)
            found[f"{label}#{repeats + 1}" if repeats else label] = item
    for label in found:
        check_name(f"a key of {what}", label)
    if not found:
        raise InvalidParameter(f"{what} is empty; give at least one ('autometa plugins' lists all).")
    return found


def _label(item: Any) -> str:
    if isinstance(item, str):
        return item.rpartition("/")[2]
    if isinstance(item, tuple) and len(item) == 2:
        return f"{_label(item[0])}:{_label(item[1])}"
    if isinstance(item, TaskSampler | BaseLearner | MetaOptimizer):
        return (name_of(item) or type(item).__name__).rpartition("/")[2]
    raise InvalidParameter(f"{item!r} is neither a name nor a component; see 'autometa plugins'.")


def open_tasks(label: str, given: Tasks, splits: Sequence[Split] = SPLITS) -> TaskSampler:
    """Make a sampler and draw a task of each split, so that bad data is found now and not in an hour."""
    if isinstance(given, str):
        needs = find("task sampler", given).spec.needs
        if needs:
            raise InvalidParameter(
                f"tasks {label!r} needs {', '.join(needs)}; make it with am.make_tasks({given!r}, "
                f"{', '.join(f'{need}=...' for need in needs)}) and give the object."
            )
    with guarded(f"tasks {label!r}"):
        sampler = make_tasks(given)
        for split in splits:
            sampler.sample(1, split=split, seed=0)
    return sampler


def every_learner(problems: Collection[str]) -> dict[str, Learners]:
    """Return every active learner for at least one of the problems, by its short name if that is unique.

    One that a user must tell more, such as the members of an ensemble, takes part only where it is given.
    """
    found = [c for c in components("learner") if c.spec.problems & set(problems) and not c.spec.needs]
    names = [c.name for c in found]
    return {c.full_name.replace("/", ".") if names.count(c.name) > 1 else c.name: c.full_name for c in found}


def with_baselines(given: dict[str, Any], infos: Collection[TaskInfo]) -> dict[str, Any]:
    """Add the baseline if it is installed, fits a problem and is not there already; every baseline on tables alone.

    Tables count where labels mean the same in every task, as pooled baselines need. Where learners act, every baseline
    is added too.
    """
    problems = {info.problem for info in infos}
    are_tables = all(info.is_table and info.labels_are_shared for info in infos)
    known = {name for item in given.values() if (name := _full_name(item)) is not None}
    found = dict(given)
    for component in components("learner"):
        acts = any(PROBLEMS[problem].acts for problem in component.spec.problems & problems)
        is_wanted = component.full_name == BASELINE or (
            (are_tables or acts) and getattr(component.spec, "family", "") == BASELINES
        )
        if is_wanted and component.spec.problems & problems and component.full_name not in known:
            label = component.name if component.name not in found else component.full_name.replace("/", ".")
            found[label] = component.full_name
    return found


def _full_name(item: Any) -> str | None:
    """Full name of a learner that is given by name or as an object, with or without its meta-optimizer."""
    learner = item[0] if isinstance(item, tuple) else item
    if isinstance(learner, BaseLearner):
        return name_of(learner, full=True)
    return find("learner", learner.partition(":")[0]).full_name if isinstance(learner, str) else None


def make_entrant(given: Learners) -> Entrant:
    """Make a learner and the meta-optimizer asked for; ``"auto"`` leaves that to the learner."""
    learner, meta_optimizer = given if isinstance(given, tuple) else (given, "auto")
    if isinstance(learner, str) and ":" in learner:
        learner, _, meta_optimizer = learner.partition(":")
    if isinstance(meta_optimizer, str) and meta_optimizer == "auto":
        return make_learner(learner), "auto"
    return make_learner(learner), make_meta_optimizer(meta_optimizer)
