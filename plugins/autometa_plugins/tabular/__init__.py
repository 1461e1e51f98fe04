"""Bundled plugin: learners made for tables."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer the learners for tables."""
    both = frozenset({"classification", "regression"})
    yield am.LearnerSpec(
        name="kernel_experts",
        factory="autometa_plugins.tabular.kernel_experts:KernelExperts",
        family="tabular",
        problems=both,
        summary="Kernel ridge regressions and naive Bayes in closed form, weighted by their leave-one-out errors.",
        reference="Saunders et al. 1998 (kernel ridge); Yao et al. 2018 (weights by leave-one-out predictions)",
    )
    yield am.LearnerSpec(
        name="mixed_effects",
        factory="autometa_plugins.tabular.mixed_effects:MixedEffects",
        family="tabular",
        problems=both,
        summary="A pooled model, corrected for every task by random effects: intercept, slopes and curves.",
        reference="Henderson 1975; Robinson 1991; Rasmussen & Williams 2006, ch. 2",
    )
