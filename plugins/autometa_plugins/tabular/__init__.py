"""Learners for tables with a few labelled rows."""

from __future__ import annotations

from collections.abc import Iterator

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterator[am.LearnerSpec]:
    """Offer the learners for tables."""
    yield am.LearnerSpec(
        name="kernel_experts",
        factory="autometa_plugins.tabular.kernel_experts:KernelExperts",
        family="tabular",
        problems=frozenset({"classification", "regression"}),
        summary="Kernel ridge regressions and naive Bayes in closed form, weighted by their leave-one-out errors.",
        reference="Saunders et al. 1998 (kernel ridge); Yao et al. 2018 (weights by leave-one-out predictions)",
    )
