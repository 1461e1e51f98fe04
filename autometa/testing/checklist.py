"""Which checks a component has to pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import SkipTest

from sklearn.base import clone

from autometa.checks import check_choice
from autometa.contracts.actor import Actor
from autometa.contracts.backbone import Backbone
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.problems import PROBLEMS
from autometa.contracts.round_actor import RoundActor
from autometa.contracts.tasks import TaskSampler
from autometa.errors import Incompatible, InvalidParameter
from autometa.host import Component, components, find, make, name_of
from autometa.host.kinds import KINDS
from autometa.testing.actor_checks import ACTOR_CHECKS, ActorCase
from autometa.testing.backbone_checks import BACKBONE_CHECKS, BackboneCase
from autometa.testing.component_checks import COMPONENT_CHECKS
from autometa.testing.environment_checks import ENVIRONMENT_CHECKS
from autometa.testing.learner_case import LearnerCase
from autometa.testing.learner_checks import LEARNER_CHECKS
from autometa.testing.meta_optimizer_checks import META_OPTIMIZER_CHECKS, case_for
from autometa.testing.sampler_checks import SAMPLER_CHECKS
from autometa.testing.spec_checks import SPEC_CHECKS
from autometa.testing.toys import TOYS

CHECKS_OF_KIND: dict[str, Sequence[Callable[[Any], None]]] = {
    "task sampler": SAMPLER_CHECKS,
    "learner": LEARNER_CHECKS,
    "meta-optimizer": META_OPTIMIZER_CHECKS,
    "backbone": BACKBONE_CHECKS,
}
"""What a component is asked that cannot be made without more."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check of one component; call it to run it.

    Raises
    ------
    AssertionError
        The component does not do what is asked; the text says what is wrong.
    unittest.SkipTest
        The check does not apply, which pytest shows as skipped.
    """

    component: str
    """What is checked, such as ``"maml"``."""
    name: str
    """Name of the check function, with the problem where there are several: ``"check_learns[regression]"``."""
    run: Callable[[], None]

    def __call__(self) -> None:
        self.run()

    def __str__(self) -> str:
        return f"{self.component}-{self.name}"


def checks_of(
    component: Any, kind: str | None = None, *, tasks: TaskSampler | None = None, learner: Learner | None = None
) -> list[Check]:
    """List the checks of a component without running them.

    Parameters
    ----------
    component : str or object
        A name, ``plugin/name``, the name of a whole plugin, or a sampler, learner, meta-optimizer or backbone.
    kind : str, optional
        "task sampler", "learner", "meta-optimizer" or "backbone", where one name means several.
    tasks : TaskSampler, optional
        What to check a learner or meta-optimizer on, instead of the kit's own small distributions.
    learner : Learner, optional
        What to check a meta-optimizer with, instead of an installed learner.

    Raises
    ------
    UnknownName, NameClash, PluginError
        See :func:`autometa.make_learner`.
    InvalidParameter
        The name means several kinds, or the object is none of the four.
    """
    if not isinstance(component, str):
        return _all_checks(component, _installed(component), tasks, learner)
    found = []
    for entry in find_named(component, kind):
        if entry.spec.needs:
            found += _bind(entry.name, SPEC_CHECKS, partial(_same, entry))
            found += _bind(entry.name, CHECKS_OF_KIND[entry.kind], partial(_ask_for_more, entry))
        else:
            found += _all_checks(make(entry.kind, entry.full_name), entry, tasks, learner)
    return found


def _all_checks(
    component: Any, entry: Component | None, tasks: TaskSampler | None, learner: Learner | None
) -> list[Check]:
    listed = _bind(entry.name, SPEC_CHECKS, partial(_same, entry)) if entry is not None else []
    return [*listed, *_object_checks(component, entry, tasks, learner)]


def _ask_for_more(entry: Component) -> Any:
    needs = ", ".join(f"{name}=..." for name in entry.spec.needs)
    raise SkipTest(f"{entry.kind} {entry.name!r} needs {needs}; check an object that has them")


def find_named(name: str, kind: str | None = None) -> list[Component]:
    """Find what a user means by a name: one component, or all of a plugin."""
    if kind is not None:
        check_choice("kind", kind, KINDS)
        return [find(kind, name)]
    of_plugin = [c for c in components() if c.plugin.name == name]
    kinds = sorted({c.kind for c in components(status=None) if name in (c.name, c.full_name)})
    if len(kinds) > 1:
        raise InvalidParameter(f"{name!r} is the name of a {' and of a '.join(kinds)}; say which as kind=.")
    if kinds:
        return [find(kinds[0], name)]
    return of_plugin or [find("learner", name)]


def _installed(component: Any) -> Component | None:
    name = name_of(component)
    for kind, entry in KINDS.items():
        if name is not None and isinstance(component, entry.base()):
            return find(kind, name)
    return None


def _same(subject: Any) -> Any:
    return subject


def _bind(
    component: str, checks: Sequence[Callable[[Any], None]], subject: Callable[[], Any], variant: str = ""
) -> list[Check]:
    """Bind checks to their subject, which the first check builds and all share."""
    shared = functools.cache(subject)

    def run(check: Callable[[Any], None]) -> None:
        check(shared())

    suffix = f"[{variant}]" if variant else ""
    return [Check(component, check.__name__ + suffix, partial(run, check)) for check in checks]


def _object_checks(
    component: Any, entry: Component | None, tasks: TaskSampler | None, learner: Learner | None
) -> Iterator[Check]:
    label = entry.name if entry is not None else type(component).__name__
    yield from _bind(label, COMPONENT_CHECKS, partial(_same, component))
    problems: Sequence[str] = [tasks.info.problem] if tasks is not None else _problems_of(component)
    if entry is not None:
        problems = [problem for problem in problems if problem in entry.spec.problems]
    if isinstance(component, TaskSampler):
        checks = ENVIRONMENT_CHECKS if component.info.problem_record.acts else SAMPLER_CHECKS
        yield from _bind(label, checks, partial(_same, component))
    elif isinstance(component, Backbone):
        yield from _bind(label, BACKBONE_CHECKS, partial(BackboneCase.of, component))
    elif isinstance(component, MetaOptimizer):
        for problem in problems[:1]:
            yield from _bind(label, META_OPTIMIZER_CHECKS, partial(case_for, component, problem, tasks, learner))
    elif isinstance(component, Learner):
        for problem in problems:
            case = partial(learner_case_for, component, problem, tasks, claimed=entry is not None)
            yield from _bind(label, LEARNER_CHECKS, case, problem)
    elif isinstance(component, Actor):
        for problem in problems or ["control"]:  # one that claims no problem to act in is checked all the same
            actor_case = partial(actor_case_for, component, problem, tasks, claimed=entry is not None)
            yield from _bind(label, ACTOR_CHECKS, actor_case, problem)
    else:
        raise InvalidParameter(f"{component!r} is no task sampler, learner, meta-optimizer or backbone.")


def _problems_of(component: Any) -> list[str]:
    """Return the problems that a component may be for: those of its kind of learner; first the one it needs most."""
    acting = [name for name in TOYS if PROBLEMS[name].acts]
    answering = [name for name in TOYS if not PROBLEMS[name].acts]
    if isinstance(component, Actor):
        return acting
    if isinstance(component, MetaOptimizer):
        return [*acting, *answering] if component.requires & {"decisions", "policy"} else [*answering, *acting]
    return answering


def learner_case_for(learner: Learner, problem: str, tasks: TaskSampler | None, claimed: bool) -> LearnerCase:
    """Find a distribution that the learner does not refuse; see :func:`actor_case_for`."""
    return LearnerCase(learner, _tasks_for(learner, problem, tasks, claimed))


def actor_case_for(actor: Actor, problem: str, tasks: TaskSampler | None, claimed: bool) -> ActorCase:
    """Find worlds that the actor does not refuse, with a whole round to adapt in where it learns in rounds.

    Raises
    ------
    AssertionError
        It claims to solve the problem and refuses every distribution of it.
    unittest.SkipTest
        It makes no claim and refuses.
    """
    found = _tasks_for(actor, problem, tasks, claimed)
    if tasks is None and isinstance(actor, RoundActor) and "n_shot" in found.get_params():
        size = actor.round_size(actor.build(found.info))
        found = clone(found).set_params(n_shot=max(size, found.info.n_shot))
    return ActorCase(actor, found)


def _tasks_for(learner: BaseLearner, problem: str, tasks: TaskSampler | None, claimed: bool) -> TaskSampler:
    """Find a distribution that the learner does not refuse.

    Raises
    ------
    AssertionError
        It claims to solve the problem and refuses every distribution of it.
    unittest.SkipTest
        It makes no claim and refuses.
    """
    refusals = []
    for toy in (tasks,) if tasks is not None else TOYS[problem]:
        try:
            learner.build(toy.info)
        except Incompatible as error:
            refusals.append(f"{toy!r}: {error}")
        else:
            return toy
    text = f"the learner refuses every task distribution of {problem} tried:\n" + "\n".join(refusals)
    if claimed:
        raise AssertionError(text)
    raise SkipTest(text)
