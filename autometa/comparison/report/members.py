"""Whom an ensemble is made of, in words."""

from __future__ import annotations

from typing import Any

from autometa.comparison.plan.ensemble import ENSEMBLE
from autometa.comparison.results.record import Record

NAMED = 4
"""Members that are named; more are counted."""


def members_words(record: Record, row: Any) -> str:
    """Return an ensemble's members with their mean share of the votes, such as ``"ridge 60%, maml 40%"``.

    Parameters
    ----------
    record : Record
    row : Series
        Of the leaderboard; if it is of no ensemble, there is nothing to say.
    """
    members = record.frames.members
    if row["family"] != ENSEMBLE or members.empty:
        return ""
    of = members[members["tasks"] == row["trained_on"]]
    shares = of.groupby("learner", sort=False)["share"].sum() / max(1, of["seed"].nunique())
    shares = shares[shares > 0].sort_values(ascending=False, kind="stable")
    named = ", ".join(f"{learner} {share:.0%}" for learner, share in shares.head(NAMED).items())
    return named + f" and {len(shares) - NAMED} more" * (len(shares) > NAMED)
