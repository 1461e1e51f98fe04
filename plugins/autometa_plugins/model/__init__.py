"""Bundled plugin: learners whose network reads the support set as part of its input."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the model-based learners."""
    yield am.LearnerSpec(
        name="in_context",
        factory="autometa_plugins.model.in_context:InContext",
        family="model",
        problems=frozenset({"classification", "regression"}),
        summary="A transformer that reads the support set and predicts: adaptation is one forward pass.",
        reference="Müller et al. 2022, Transformers Can Do Bayesian Inference, section 3; "
        "Vinyals et al. 2016, Matching Networks for One Shot Learning, eq. 1 (read-out of classes)",
    )
