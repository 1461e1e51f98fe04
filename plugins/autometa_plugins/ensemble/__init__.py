"""Bundled plugin: several learners that answer together."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the ensemble."""
    yield am.LearnerSpec(
        name="ensemble",
        factory="autometa_plugins.ensemble.ensemble:Ensemble",
        summary="Several learners that answer together: the weighted mean of their probabilities or predictions.",
        problems=frozenset({"classification", "regression"}),
        reference="Caruana et al. 2004, Ensemble selection from libraries of models",
        family="ensemble",
        needs=("members",),
    )
