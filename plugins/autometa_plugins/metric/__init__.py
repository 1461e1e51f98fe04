"""Bundled plugin: learners that compare examples in a learned feature space."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the metric learners."""
    yield am.LearnerSpec(
        name="prototypical",
        factory="autometa_plugins.metric.prototypical:Prototypical",
        family="metric",
        problems=frozenset({"classification"}),
        summary="The nearest class mean in a learned feature space.",
        reference="Snell et al. 2017, Prototypical Networks for Few-shot Learning, eq. 1 and 2",
    )
