"""Bundled plugin: learners made for tables, and priors that draw tables."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am

_PRIORS = (
    ("prior_tables", "PriorTables", "Synthetic tables of all kinds, mixed.", "Hollmann et al. 2023, TabPFN, section 4"),
    ("prior_mlp", "PriorMLP", "Tables whose columns and target are units of a random neural network.", ""),
    ("prior_scm", "PriorSCM", "Tables whose columns and target are nodes of a random causal graph.", ""),
    ("prior_tree", "PriorTree", "Tables whose target is a sum of random decision trees.", ""),
    ("prior_additive", "PriorAdditive", "Tables whose target is a sum of functions of single columns.", ""),
    ("prior_smooth", "PriorSmooth", "Tables whose target is a smooth function of all columns.", ""),
    ("prior_mixture", "PriorMixture", "Tables whose rows come from clusters, each of one class.", ""),
    ("prior_rules", "PriorRules", "Tables whose target follows a rule of a few columns: XOR, parity, lookup, AND.", ""),
)
"""Name, class, summary and paper of each prior."""


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
    yield am.LearnerSpec(
        name="pfn",
        factory="autometa_plugins.tabular.pfn.learner:PFN",
        family="tabular",
        problems=both,
        summary="A network pretrained on synthetic tables, which starts at the kernel experts and reads them.",
        reference="Müller et al. 2022 (prior-fitted networks); Hollmann et al. 2025 (attention along rows and columns)",
    )
    yield am.LearnerSpec(
        name="pfn_related",
        factory="autometa_plugins.tabular.related.learner:RelatedPFN",
        family="tabular",
        problems=both,
        summary="The pretrained network, beside Gaussian processes that read rows of the other tasks of a table.",
        reference="Bonilla, Chai & Williams 2007 (processes of related tasks); Müller et al. 2022",
    )


@am.hookimpl
def autometa_task_samplers() -> Iterable[am.TaskSamplerSpec]:
    """Offer the priors of tables."""
    for name, kind, summary, reference in _PRIORS:
        yield am.TaskSamplerSpec(
            name=name,
            factory=f"autometa_plugins.tabular.priors.families:{kind}",
            summary=summary,
            problems=frozenset({"classification", "regression"}),
            reference=reference,
        )
    yield am.TaskSamplerSpec(
        name="prior_entities",
        factory="autometa_plugins.tabular.priors.entities:PriorEntities",
        summary="The entities of one synthetic table, which share a function and depart from it.",
        problems=frozenset({"classification", "regression"}),
        reference="Baxter 2000, A model of inductive bias learning (related tasks)",
    )
