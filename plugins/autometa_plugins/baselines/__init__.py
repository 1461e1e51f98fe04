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
    yield am.LearnerSpec(
        name="sklearn_encoded",
        factory="autometa_plugins.baselines.encoded:PooledEncoded",
        family="baseline",
        problems=both,
        summary="Any scikit-learn estimator on meta-train rows, with the entity as a target-encoded column.",
        reference="Micci-Barreca 2001",
    )
    yield am.LearnerSpec(
        name="sklearn_offset",
        factory="autometa_plugins.baselines.offset:PooledOffset",
        family="baseline",
        problems=both,
        summary="Any scikit-learn estimator on meta-train rows, with a shrunken offset for each entity.",
        reference="Pedregosa et al. 2011, Scikit-learn: Machine Learning in Python",
    )
    yield am.LearnerSpec(
        name="linear_mixed",
        factory="autometa_plugins.baselines.linear_mixed:LinearMixed",
        family="baseline",
        problems=frozenset({"regression"}),
        summary="Linear mixed model of statsmodels (extra 'mixed'); new entities by best linear unbiased prediction.",
        reference="Henderson 1975; Seabold & Perktold 2010",
    )
    yield am.LearnerSpec(
        name="gpboost",
        factory="autometa_plugins.baselines.gpboost:GPBoost",
        family="baseline",
        problems=both,
        summary="Boosted trees with a random intercept for each entity (extra 'gpboost').",
        reference="Sigrist 2022, JMLR",
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
