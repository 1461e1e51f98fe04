"""Bundled plugin: pretrain on all meta-train data at once, then carry over."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer fine-tuning."""
    yield am.LearnerSpec(
        name="fine_tune",
        factory="autometa_plugins.transfer.fine_tune:FineTune",
        summary="Pretrain on all base classes, then fit a new head or the whole network.",
        problems=frozenset({"classification", "regression"}),
        reference="Chen et al. 2019, A Closer Look at Few-shot Classification, section 3.2 (Baseline)",
        family="transfer",
    )


@am.hookimpl
def autometa_meta_optimizers() -> Iterable[am.MetaOptimizerSpec]:
    """Offer supervised pretraining."""
    yield am.MetaOptimizerSpec(
        name="pooled",
        factory="autometa_plugins.transfer.pooled:Pooled",
        summary="Supervised training on the pooled data of the meta-train tasks.",
        problems=frozenset({"classification", "regression"}),
        reference="Chen et al. 2019, section 3.2",
    )
