"""The plan of a comparison, checked before any work is done."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autometa._version import __version__
from autometa.comparison.plan.backbones import offered_backbones
from autometa.comparison.plan.domains import Domain, misfit, open_domains, open_test_domains
from autometa.comparison.plan.ensemble import check_label, make_ensemble
from autometa.comparison.plan.entrants import (
    Entrant,
    Learners,
    Tasks,
    check_name,
    every_learner,
    labelled,
    make_entrant,
    with_baselines,
)
from autometa.comparison.plan.guarded import guarded
from autometa.comparison.plan.pair import Pair, Skipped, make_pair
from autometa.comparison.plan.portfolio import ENTRY, Portfolio
from autometa.comparison.plan.settings import Settings
from autometa.comparison.plan.study_space import JointSpace, PairSpace, StudySpace
from autometa.contracts.objectives import AUTO
from autometa.errors import AutometaError, Incompatible, InvalidParameter, MissingData, PluginError, UnknownName
from autometa.files.description import COMPONENT, describe, restore
from autometa.schema import Closed, Schema

FORMAT = 2
"""Changes when an older plan or its results can no longer be read."""


_SAMPLERS: Schema = {str: {**COMPONENT, "kind": ("task sampler",)}}
_LEARNERS: Schema = {
    str: {
        "learner": {**COMPONENT, "kind": ("learner",)},
        "meta_optimizer": (None, str, {**COMPONENT, "kind": ("meta-optimizer",)}),
    }
}
STORED: Schema = {
    "settings": Closed({f"{field.name}?": (None, bool, str, int, float) for field in fields(Settings)}),
    "tasks": _SAMPLERS,
    "test_tasks?": _SAMPLERS,
    "learners": _LEARNERS,
    "warm_start?": [ENTRY],
}
"""What a plan looks like in a storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Task distributions times learners, and how much of everything."""

    name: str
    settings: Settings
    domains: Mapping[str, Domain]
    """To tune, meta-train and judge on, by label."""
    test_domains: Mapping[str, Domain]
    """To judge every final run on; one that is among ``domains`` too is the same object."""
    entrants: Mapping[str, Entrant]
    pairs: Sequence[Pair]
    skipped: Sequence[Skipped]
    ensembles: Sequence[Pair] = ()
    """One for each task distribution that has one."""
    described: Mapping[str, Any] = field(repr=False)
    """The plan as JSON."""

    @property
    def judged_on(self) -> dict[str, Domain]:
        """All task distributions that anything is judged on."""
        return {**self.domains, **self.test_domains}

    @property
    def spaces(self) -> list[StudySpace]:
        """What each study searches."""
        if self.settings.search == "joint":
            return [JointSpace(self.pairs_of(tasks)) for tasks in self.domains]
        return [PairSpace(pair) for pair in self.pairs]

    def pairs_of(self, tasks: str) -> list[Pair]:
        """All learners on one task distribution."""
        return [pair for pair in self.pairs if pair.tasks == tasks]

    def pair(self, tasks: str, learner: str) -> Pair:
        """Return a learner, or the ensemble, on one task distribution."""
        every = (*self.pairs, *self.ensembles)
        return next(pair for pair in every if (pair.tasks, pair.learner) == (tasks, learner))

    def without(self, learners: Collection[str]) -> Plan:
        """Return the plan without some learners.

        Raises
        ------
        UnknownName
            One of them takes no part.
        InvalidParameter
            Nothing would be left, or one study chose among all.
        """
        known = [*self.entrants, *dict.fromkeys(pair.learner for pair in self.ensembles)]
        for label in learners:
            if label not in known:
                close = difflib.get_close_matches(label, known, n=1)
                hint = f"did you mean {close[0]!r}? They" if close else "they"
                raise UnknownName(f"learner {label!r} takes no part here; {hint} are {', '.join(known)}.")
        if self.settings.search == "joint":
            raise InvalidParameter("search='joint' judges its winner alone, so that no learner can be left out of it.")
        pairs = [pair for pair in self.pairs if pair.learner not in learners]
        if not pairs:
            raise InvalidParameter(f"without {', '.join(learners)} no learner is left; leave out fewer.")
        of_learners = self.described["learners"]
        return replace(
            self,
            entrants={label: entrant for label, entrant in self.entrants.items() if label not in learners},
            pairs=pairs,
            skipped=[skip for skip in self.skipped if skip.learner not in learners],
            ensembles=[pair for pair in self.ensembles if pair.learner not in learners],
            described={
                **self.described,
                "learners": {label: of for label, of in of_learners.items() if label not in learners},
            },
        )


def make_plan(
    tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks],
    learners: Learners | Sequence[Learners] | Mapping[str, Learners],
    settings: Settings,
    *,
    name: str,
    baselines: bool = True,
    test_tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks] | None = None,
    accelerator: bool = False,
    portfolio: Portfolio = (),
) -> Plan:
    """Resolve all names, draw a task of every part of every distribution and set up every pair.

    Networks that need an accelerator are searched only where ``accelerator`` says that there is one.

    Raises
    ------
    UnknownName, InvalidParameter, InvalidData, MissingData, Incompatible
        What was asked for cannot work; each says why.
    """
    check_name("name", name)
    if settings.backbones is None:
        settings = replace(settings, backbones=offered_backbones(accelerator=accelerator))
    domains = open_domains(tasks, settings)
    test_domains = {} if test_tasks is None else open_test_domains(test_tasks, domains, settings)
    if settings.objective != AUTO and all(domain.objective is None for domain in domains.values()):
        settings = replace(settings, objective=AUTO)  # another name of the same comparison
        domains = {label: replace(domain, settings=settings) for label, domain in domains.items()}
        test_domains = {
            label: domains.get(label, replace(domain, settings=settings)) for label, domain in test_domains.items()
        }
    infos = [domain.info for domain in domains.values()]
    if isinstance(learners, str) and learners == "all":
        everyone = every_learner({info.problem for info in infos})
        return _shared(_assemble(name, settings, domains, test_domains, everyone, asked=(), portfolio=portfolio))
    asked = labelled("learners", learners)
    given = with_baselines(asked, infos) if baselines else asked
    return _shared(_assemble(name, settings, domains, test_domains, given, asked=asked, portfolio=portfolio))


def restore_plan(name: str, described: Mapping[str, Any]) -> Plan:
    """Make the plan that is stored with a study.

    Raises
    ------
    Incompatible
        It holds objects that only the process that made it has.
    """
    settings = Settings(**described["settings"])
    domains, test_domains = (
        {
            label: Domain(label=label, sampler=restore(value, f"{kind} {label!r}"), settings=settings)
            for label, value in described.get(kind, {}).items()
        }
        for kind in ("tasks", "test_tasks")
    )
    learners = {
        label: (
            restore(value["learner"], f"learner {label!r}"),
            restore(value["meta_optimizer"], f"the meta-optimizer of {label!r}"),
        )
        for label, value in described["learners"].items()
    }
    shared = {label: domains.get(label, domain) for label, domain in test_domains.items()}
    portfolio = described.get("warm_start", ())
    return _assemble(name, settings, domains, shared, learners, asked=(), portfolio=portfolio)


def _assemble(
    name: str,
    settings: Settings,
    domains: Mapping[str, Domain],
    test_domains: Mapping[str, Domain],
    learners: Mapping[str, Learners],
    *,
    asked: Collection[str],
    portfolio: Portfolio,
) -> Plan:
    """Set up every pair; refuse a learner among those ``asked`` for by name that fits nothing."""
    entrants, skipped = _make_entrants(learners, domains, asked)
    pairs: list[Pair] = []
    for domain in domains.values():
        elsewhere, misfits = _elsewhere(domain, test_domains)
        for label, entrant in entrants.items():
            try:
                with guarded(f"learner {label!r}"):
                    pair, refused = make_pair(domain, label, entrant, elsewhere, portfolio)
                pairs.append(pair)
                skipped.extend(refused)
            except (Incompatible, PluginError) as error:
                skipped.append(_skip(label, domain.label, str(error)))
            except MissingData as error:  # such as a package that is not installed
                if label in asked:
                    raise
                skipped.append(_skip(label, domain.label, str(error)))
            except AutometaError:
                raise
            except Exception as error:  # a plugin may raise anything, and must not end a comparison of all
                reason = f"{type(error).__name__} in setting up learner {label!r} on {domain.label!r}: {error}"
                if label in asked:
                    raise PluginError(reason) from error
                skipped.append(_skip(label, domain.label, reason))
        skipped.extend(misfits)
    ensembles: list[Pair] = []
    if settings.ensemble:
        check_label(learners)
        for tasks in dict.fromkeys(pair.tasks for pair in pairs):
            ensemble, without = make_ensemble([pair for pair in pairs if pair.tasks == tasks])
            ensembles += [] if ensemble is None else [ensemble]
            skipped.extend(without)
    plan = Plan(
        name=name,
        settings=settings,
        domains=domains,
        test_domains=test_domains,
        entrants=entrants,
        pairs=pairs,
        skipped=skipped,
        ensembles=ensembles,
        described=_describe(settings, domains, test_domains, entrants, portfolio),
    )
    _refuse_useless(plan, asked)
    return plan


def _shared(plan: Plan) -> Plan:
    """Share the time of a call among the runs of a race's first round."""
    settings = plan.settings.shared(sum(pair.candidate.meta_optimizer is not None for pair in plan.pairs))
    if settings is plan.settings:
        return plan
    domains, test_domains = (
        {label: replace(domain, settings=settings) for label, domain in of.items()}
        for of in (plan.domains, plan.test_domains)
    )
    test_domains = {label: domains.get(label, domain) for label, domain in test_domains.items()}

    def moved(pair: Pair) -> Pair:
        elsewhere = [test_domains[other.label] for other in pair.elsewhere]
        return replace(pair, domain=domains[pair.tasks], elsewhere=elsewhere)

    return replace(
        plan,
        settings=settings,
        domains=domains,
        test_domains=test_domains,
        pairs=[moved(pair) for pair in plan.pairs],
        ensembles=[moved(pair) for pair in plan.ensembles],
        described={**plan.described, "settings": asdict(settings)},
    )


def _make_entrants(
    learners: Mapping[str, Learners], domains: Mapping[str, Domain], asked: Collection[str]
) -> tuple[dict[str, Entrant], list[Skipped]]:
    entrants: dict[str, Entrant] = {}
    skipped: list[Skipped] = []
    for label, given in learners.items():
        try:
            with guarded(f"learner {label!r}"):
                entrants[label] = make_entrant(given)
        except (PluginError, InvalidParameter) as error:
            if label in asked:
                raise
            skipped.extend(_skip(label, tasks, str(error)) for tasks in domains)
    return entrants, skipped


def _skip(learner: str, tasks: str, reason: str) -> Skipped:
    """A learner that cannot be trained on some tasks."""
    return Skipped(tasks=tasks, learner=learner, reason=reason, trained_on=tasks)


def _elsewhere(domain: Domain, test_domains: Mapping[str, Domain]) -> tuple[list[Domain], list[Skipped]]:
    """Where else whatever is trained on a distribution can be judged, and where not."""
    fitting, misfits = [], []
    for label, other in test_domains.items():
        if label == domain.label:
            continue
        reason = misfit(domain, other)
        if reason is None:
            fitting.append(other)
        else:
            misfits.append(Skipped(tasks=label, learner="every learner", reason=reason, trained_on=domain.label))
    return fitting, misfits


def _refuse_useless(plan: Plan, asked: Collection[str]) -> None:
    """Refuse a learner asked for by name that fits no tasks, and tasks that no learner fits."""
    own = [skip for skip in plan.skipped if skip.tasks == skip.trained_on]
    for label in plan.entrants:
        reasons = [skip.reason for skip in own if skip.learner == label]
        if label in asked and len(reasons) == len(plan.domains):
            raise Incompatible(f"learner {label!r} fits none of the tasks {list(plan.domains)}: {reasons[0]}")
    for label in plan.domains:
        if not plan.pairs_of(label):
            reasons = [f"{skip.learner}: {skip.reason}" for skip in own if skip.tasks == label]
            raise Incompatible(f"no learner fits the tasks {label!r}. " + " ".join(reasons))
    judged_elsewhere = {domain.label for pair in plan.pairs for domain in pair.elsewhere}
    for label in plan.test_domains:
        if label not in plan.domains and label not in judged_elsewhere:
            reasons = [skip.reason for skip in plan.skipped if skip.tasks == label]
            raise Incompatible(
                f"nothing that is meta-trained can be judged on test_tasks {label!r}. {' '.join(reasons)}"
            )


def _describe(
    settings: Settings,
    domains: Mapping[str, Domain],
    test_domains: Mapping[str, Domain],
    entrants: Mapping[str, Entrant],
    portfolio: Portfolio,
) -> dict[str, Any]:
    return {
        **({"warm_start": [dict(entry) for entry in portfolio]} if portfolio else {}),
        "format": FORMAT,
        "version": __version__,
        "settings": asdict(settings),
        "tasks": {label: describe(domain.sampler) for label, domain in domains.items()},
        "test_tasks": {label: describe(domain.sampler) for label, domain in test_domains.items()},
        "learners": {
            label: {"learner": describe(learner), "meta_optimizer": describe(meta_optimizer)}
            for label, (learner, meta_optimizer) in entrants.items()
        },
    }
