"""The ensemble of a task distribution: a pair like any other, whose learner answers for several."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from autometa.comparison.plan.pair import Pair, Skipped
from autometa.comparison.plan.search_space import Candidate, SearchSpace
from autometa.contracts.learner import Learner
from autometa.errors import InvalidParameter
from autometa.host import make_learner
from autometa.host.catalog import find

ENSEMBLE = "ensemble"
"""What the ensemble is called among learners."""
_LEARNER = "ensemble/ensemble"
"""Full name of the learner that answers for several."""


def ensemble_of(members: Sequence[Learner], weights: Sequence[float] | None = None) -> Learner:
    """Make the learner that answers for several."""
    made = make_learner(_LEARNER, members=list(members), weights=None if weights is None else list(weights))
    assert isinstance(made, Learner)
    return made


def check_label(learners: Collection[str]) -> None:
    """Refuse a learner with the ensemble's name beside an ensemble.

    Raises
    ------
    InvalidParameter
    """
    if ENSEMBLE in learners:
        raise InvalidParameter(
            f"a learner is called {ENSEMBLE!r}, which is the name of what ensemble=True builds; give it another name, "
            "such as learners={'mine': ...}."
        )


def make_ensemble(pairs: Sequence[Pair]) -> tuple[Pair | None, list[Skipped]]:
    """Set up the ensemble of all learners on one task distribution, before members are chosen.

    Returns
    -------
    pair : Pair or None
        Its learner has all of them as members. None where learners act.
    skipped : list of Skipped
        Why there is none, and what it cannot be judged on because a member cannot.
    """
    domain = pairs[0].domain
    if domain.info.problem_record.acts:
        reason = "learners that act cannot answer together: their decisions have no mean."
        return None, [Skipped(tasks=domain.label, learner=ENSEMBLE, reason=reason, trained_on=domain.label)]
    learners = [learner for pair in pairs if isinstance(learner := pair.candidate.learner, Learner)]
    candidate = Candidate(label=ENSEMBLE, learner=ensemble_of(learners), meta_optimizer=None, info=domain.info)
    everywhere = {other.label: other for pair in pairs for other in pair.elsewhere}
    skipped = []
    for label in list(everywhere):
        unfit = [pair.learner for pair in pairs if label not in {other.label for other in pair.elsewhere}]
        if unfit:
            del everywhere[label]
            reason = f"it cannot be judged there with {', '.join(unfit)} among its members."
            skipped.append(Skipped(tasks=label, learner=ENSEMBLE, reason=reason, trained_on=domain.label))
    pair = Pair(
        domain=domain,
        candidate=candidate,
        space=SearchSpace(distributions={}, opened={}, defaults={}, conditional=False),
        family=getattr(find("learner", _LEARNER).spec, "family", "other"),
        elsewhere=list(everywhere.values()),
    )
    return pair, skipped
