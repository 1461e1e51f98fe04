"""What every learner on a table is held against: a model of each entity alone, and one for all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autometa.comparison.plan.entrants import BASELINE, POOLED


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Labels of the two, None where one does not take part."""

    own: str | None
    """A model of each entity's own rows."""
    pooled: str | None
    """One model for the rows of all."""


def references_in(plan: Mapping[str, Any], judged: Iterable[str]) -> References:
    """Find both among the learners of a plan that were judged; the first of several."""
    present = set(judged)
    names = {label: entry["learner"]["name"] for label, entry in plan["learners"].items() if label in present}

    def first(name: str) -> str | None:
        return next((label for label in names if names[label] == name), None)

    return References(own=first(BASELINE), pooled=first(POOLED))
