"""One learner on one task distribution: all that is needed to train it and to judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone

from autometa.comparison.plan.backbones import is_auto, networks_of
from autometa.comparison.plan.domains import Domain, refusal
from autometa.comparison.plan.entrants import Entrant
from autometa.comparison.plan.portfolio import Portfolio, points_of
from autometa.comparison.plan.search_space import BACKBONE, Candidate, SearchSpace
from autometa.comparison.plan.settings import Settings
from autometa.engine.measure import check_measurable
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.host.catalog import find, name_of
from autometa.training import MetaTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One learner on one task distribution."""

    domain: Domain
    """What it is tuned, meta-trained and judged on."""
    candidate: Candidate
    space: SearchSpace
    family: str
    tried: Sequence[Mapping[str, Any]] = ()
    """Hyperparameters that did best elsewhere, of a portfolio."""
    elsewhere: Sequence[Domain] = ()
    """Other task distributions that its final runs are judged on."""

    @property
    def tasks(self) -> str:
        """Label of the task distribution."""
        return self.domain.label

    @property
    def learner(self) -> str:
        """Label of the learner."""
        return self.candidate.label

    @property
    def settings(self) -> Settings:
        """How much of everything."""
        return self.domain.settings

    @property
    def first_points(self) -> list[dict[str, Any]]:
        """What is tried first: the defaults, what did best elsewhere, and the defaults with every other backbone."""
        defaults, shape = dict(self.space.defaults), self.domain.info.input_shape
        others = [network for network in self.candidate.networks if not is_auto(network, shape)]
        opened = [{f"{BACKBONE}__{name}": value for name, value in other.defaults.items()} for other in others]
        own = [{name: value for name, value in values.items() if name in self.space.opened} for values in opened]
        networks = [defaults | {BACKBONE: other.label} | of for other, of in zip(others, own, strict=True)]
        return [defaults, *map(dict, self.tried), *networks]

    def seed(self, *labels: int | str) -> int:
        """Return a seed that every learner on these tasks shares."""
        return self.domain.seed(*labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A learner that cannot take part on one task distribution, or be judged on it after training on another."""

    tasks: str
    learner: str
    reason: str
    trained_on: str


def make_pair(
    domain: Domain,
    label: str,
    entrant: Entrant,
    elsewhere: Sequence[Domain],
    portfolio: Portfolio = (),
) -> tuple[Pair, list[Skipped]]:
    """Set up a learner on a task distribution as a trial will, so that whatever cannot work raises now.

    Parameters
    ----------
    elsewhere : sequence of Domain
        Other distributions to judge on; those on which this learner cannot be judged are in the list returned.
    portfolio : sequence of entries, optional
        What did best elsewhere; see :mod:`autometa.comparison.plan.portfolio`.
    """
    info = domain.info
    learner, meta_optimizer = entrant
    made = resolve_learner(learner, info.problem)
    if domain.objective is not None:
        check_measurable(domain.objective, made)
    optimizer = resolve_meta_optimizer(meta_optimizer, made)
    # First of all, for here the components check their parameters.
    probe = clone(optimizer) if optimizer is not None else None
    training = MetaTraining(made, probe, domain.sampler, n_steps=1, tasks_per_step=1, seed=0)
    candidate = Candidate(label=label, learner=made, meta_optimizer=optimizer, info=info, tasks=domain.sampler)
    space = SearchSpace.of(candidate)
    offered = domain.settings.backbones or ""
    if BACKBONE not in space.distributions and (networks := networks_of(made, info, offered)):
        candidate = replace(candidate, networks=networks)
        space = SearchSpace.of(candidate)
    reasons = {other.label: refusal(training, label, domain, other) for other in elsewhere}
    name = name_of(made)
    pair = Pair(
        domain=domain,
        candidate=candidate,
        space=space,
        family=getattr(find("learner", name).spec, "family", "other") if name else "other",
        tried=points_of(portfolio, candidate, space),
        elsewhere=[other for other in elsewhere if reasons[other.label] is None],
    )
    refused = [
        Skipped(tasks=other, learner=label, reason=reason, trained_on=domain.label)
        for other, reason in reasons.items()
        if reason is not None
    ]
    return pair, refused
