"""Bundled plugin: evolution, as a way to meta-train any learner and to find rules by which one learns."""

from __future__ import annotations

from collections.abc import Iterator

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterator[am.LearnerSpec]:
    """Offer the learner whose rule evolves."""
    yield am.LearnerSpec(
        name="learned_rule",
        factory="autometa_plugins.evolution.learned_rule:LearnedRule",
        summary="A network from fixed random weights, changed by a rule that meta-training evolves.",
        problems=frozenset({"classification", "regression"}),
        reference="Bengio, Bengio & Cloutier 1990, Learning a synaptic learning rule; Confavreux et al. 2020",
        family="optimization",
    )


@am.hookimpl
def autometa_meta_optimizers() -> Iterator[am.MetaOptimizerSpec]:
    """Offer the meta-optimizers that need no derivative."""
    yield am.MetaOptimizerSpec(
        name="evolution_strategy",
        factory="autometa_plugins.evolution.evolution_strategy:EvolutionStrategy",
        summary="Follow the fitness of mirrored candidates around θ: for any learner, and any fitness.",
        problems=frozenset({"classification", "regression", "control"}),
        reference="Salimans et al. 2017, algorithm 1; Song et al. 2020, ES-MAML",
    )
    yield am.MetaOptimizerSpec(
        name="cmaes",
        factory="autometa_plugins.evolution.cmaes:CMAES",
        summary="Candidates from a normal distribution whose covariance is learned: for up to 1000 numbers.",
        problems=frozenset({"classification", "regression", "control"}),
        reference="Hansen & Ostermeier 2001; Hansen 2016, The CMA Evolution Strategy, figure 6",
    )
