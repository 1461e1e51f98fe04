"""Learners that adapt by gradient steps, and the meta-optimizers that improve where the steps start."""

from __future__ import annotations

from collections.abc import Iterator

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterator[am.LearnerSpec]:
    """Offer the gradient-based learners."""
    yield am.LearnerSpec(
        name="maml",
        factory="autometa_plugins.optimization.maml:MAML",
        summary="A few gradient steps from a meta-learned start, with learned step sizes.",
        problems=frozenset({"classification", "regression"}),
        reference="Finn et al. 2017, algorithms 1 and 2; shared head row: Ye & Chao 2022, sec. 5",
        family="optimization",
        retired={"first_order_until": 0.0, "multi_step_loss": 0.0, "per_step_norm": False},
    )
    yield am.LearnerSpec(
        name="maml_plus_plus",
        factory="autometa_plugins.optimization.maml_plus_plus:MAMLPlusPlus",
        summary="MAML with losses after every step, first-order derivatives at first and batch norm per step.",
        problems=frozenset({"classification", "regression"}),
        reference="Antoniou et al. 2019, section 4",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="imaml",
        factory="autometa_plugins.optimization.imaml:IMAML",
        summary="Gradient steps that stay near a meta-learned start, by a penalty on the distance.",
        problems=frozenset({"classification", "regression"}),
        reference="Rajeswaran et al. 2019, Meta-learning with implicit gradients, eq. 3",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="anil",
        factory="autometa_plugins.optimization.anil:ANIL",
        summary="Gradient steps on the head alone, on meta-learned features.",
        problems=frozenset({"classification", "regression"}),
        reference="Raghu et al. 2020, section 4",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="meta_sgd",
        factory="autometa_plugins.optimization.meta_sgd:MetaSGD",
        summary="One gradient step, with a learned step size for every single parameter.",
        problems=frozenset({"classification", "regression"}),
        reference="Li et al. 2017, algorithm 1",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="boil",
        factory="autometa_plugins.optimization.boil:BOIL",
        summary="Gradient steps on the body alone; the head stays as it is.",
        problems=frozenset({"classification", "regression"}),
        reference="Oh et al. 2021, section 3",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="cavia",
        factory="autometa_plugins.optimization.cavia:CAVIA",
        summary="Gradient steps on a few context parameters that condition one shared network.",
        problems=frozenset({"classification", "regression"}),
        reference="Zintgraf et al. 2019, sections 3.1 and 3.2",
        family="optimization",
    )
    yield am.LearnerSpec(
        name="ridge",
        factory="autometa_plugins.optimization.ridge:Ridge",
        family="optimization",
        problems=frozenset({"classification", "regression"}),
        summary="Ridge regression on learned features, solved in closed form.",
        reference="Bertinetto et al. 2019, Meta-learning with differentiable closed-form solvers, section 3.2",
    )
    yield am.LearnerSpec(
        name="svm_head",
        factory="autometa_plugins.optimization.svm_head:SVMHead",
        family="optimization",
        problems=frozenset({"classification"}),
        summary="A support vector machine on learned features, differentiated at its solution.",
        reference="Lee et al. 2019, Meta-learning with differentiable convex optimization, section 3",
    )


@am.hookimpl
def autometa_meta_optimizers() -> Iterator[am.MetaOptimizerSpec]:
    """Offer the outer updates for differentiable and for gradient-adapting learners."""
    yield am.MetaOptimizerSpec(
        name="gradient",
        factory="autometa_plugins.optimization.gradient:Gradient",
        summary="Descend the query loss by any torch optimizer.",
        problems=frozenset({"classification", "regression"}),
        reference="Finn et al. 2017, eq. 1",
    )
    yield am.MetaOptimizerSpec(
        name="implicit",
        factory="autometa_plugins.optimization.implicit:Implicit",
        summary="Descend the query loss by implicit differentiation: no memory for the inner steps.",
        problems=frozenset({"classification", "regression"}),
        reference="Rajeswaran et al. 2019, algorithm 2",
    )
    yield am.MetaOptimizerSpec(
        name="reptile",
        factory="autometa_plugins.optimization.reptile:Reptile",
        summary="Move towards the mean of the adapted weights.",
        problems=frozenset({"classification", "regression"}),
        reference="Nichol et al. 2018, algorithm 2",
    )
