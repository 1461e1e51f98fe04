"""Bundled plugin: pretrain on all meta-train data at once, then carry over."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer pretrained networks and ways to carry them over."""
    here = "autometa_plugins.transfer"
    yield am.LearnerSpec(
        name="fine_tune",
        factory=f"{here}.fine_tune:FineTune",
        summary="Pretrain on all base classes, then fit a new head or the whole network.",
        problems=frozenset({"classification", "regression"}),
        reference="Chen et al. 2019, A Closer Look at Few-shot Classification, section 3.2 (Baseline)",
        family="transfer",
    )
    yield am.LearnerSpec(
        name="baseline_plus_plus",
        factory=f"{here}.baseline_plus_plus:BaselinePlusPlus",
        summary="Pretrain on all base classes by cosine similarity, then fit directions of the new classes.",
        problems=frozenset({"classification"}),
        reference="Chen et al. 2019, A Closer Look at Few-shot Classification, section 3.2 (Baseline++)",
        family="transfer",
    )
    yield am.LearnerSpec(
        name="mean_parameters",
        factory=f"{here}.mean_parameters:MeanParameters",
        summary="One network for all tasks as if they were one, then gradient steps with all its weights.",
        problems=frozenset({"classification", "regression"}),
        reference="Finn et al. 2017, Model-Agnostic Meta-Learning, section 5.1 (pretrained on all tasks)",
        family="transfer",
    )
    yield am.LearnerSpec(
        name="frozen_features",
        factory=f"{here}.frozen_features:FrozenFeatures",
        summary="A pretrained network of your own, and logistic or ridge regression on its features.",
        problems=frozenset({"classification", "regression"}),
        reference="Kornblith et al. 2019, Do Better ImageNet Models Transfer Better?, section 4.1",
        family="transfer",
    )
    yield am.LearnerSpec(
        name="distill",
        factory=f"{here}.distill:Distill",
        summary="Pretrain on all base classes with self-distillation, then logistic regression on its features.",
        problems=frozenset({"classification"}),
        reference="Tian et al. 2020, Rethinking Few-Shot Image Classification, sections 3.2 and 3.3",
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


@am.hookimpl
def autometa_backbones() -> Iterable[am.BackboneSpec]:
    """Offer networks that stay as they are."""
    yield am.BackboneSpec(
        name="frozen",
        factory="autometa_plugins.transfer.frozen:Frozen",
        summary="A pretrained network of your own, never trained.",
    )
