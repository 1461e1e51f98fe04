"""Bundled plugin: plain scikit-learn estimators, which meta-learning must beat."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer scikit-learn's estimators, fitted on the support set alone or pooled with meta-train rows."""
    both = frozenset({"classification", "regression"})
    yield am.LearnerSpec(
        name="sklearn",
        factory="autometa_plugins.baselines.support_only:SupportOnly",
        family="baseline",
        problems=both,
        summary="Any scikit-learn estimator fitted on the support set alone.",
        reference="Pedregosa et al. 2011, Scikit-learn: Machine Learning in Python",
    )
    yield am.LearnerSpec(
        name="sklearn_pooled",
        factory="autometa_plugins.baselines.pooled:Pooled",
        family="baseline",
        problems=both,
        summary="Any scikit-learn estimator fitted on meta-train rows and the support set together.",
        reference="Pedregosa et al. 2011, Scikit-learn: Machine Learning in Python",
    )


@am.hookimpl
def autometa_meta_optimizers() -> Iterable[am.MetaOptimizerSpec]:
    """Offer the meta-optimizer of learners that remember examples."""
    yield am.MetaOptimizerSpec(
        name="collect",
        factory="autometa_plugins.baselines.collect:Collect",
        problems=frozenset({"classification", "regression"}),
        summary="Hands meta-train examples to a learner that remembers them.",
    )
