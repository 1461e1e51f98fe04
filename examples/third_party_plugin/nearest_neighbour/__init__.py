"""What this package offers to autometa; the learner itself is imported on first use."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the nearest neighbour."""
    yield am.LearnerSpec(
        name="nearest_neighbour",
        factory="nearest_neighbour.learner:NearestNeighbour",
        family="metric",
        problems=frozenset({"classification"}),
        summary="The class of the support example that points most nearly in a query's direction.",
        reference="Vinyals et al. 2016, Matching Networks for One Shot Learning, section 2.1.1 (cosine similarity)",
    )
