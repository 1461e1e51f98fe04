"""The families of tables by name, and the samplers that draw from one of them."""

from __future__ import annotations

from typing import ClassVar

from autometa_plugins.tabular.priors.additive import draw_additive
from autometa_plugins.tabular.priors.draft import Family
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.graph import draw_graph
from autometa_plugins.tabular.priors.mixtures import draw_mixture
from autometa_plugins.tabular.priors.neural import draw_neural
from autometa_plugins.tabular.priors.prior import TablePrior
from autometa_plugins.tabular.priors.rules import draw_rules
from autometa_plugins.tabular.priors.smooth import draw_smooth
from autometa_plugins.tabular.priors.trees import draw_trees

NEURAL, GRAPH, TREES = Family(draw_neural), Family(draw_graph), Family(draw_trees)
ADDITIVE, SMOOTH, MIXTURE = Family(draw_additive), Family(draw_smooth), Family(draw_mixture)
RULES = Family(draw_rules, by_ease=False)
WEIGHTS = ((NEURAL, 3), (GRAPH, 2), (TREES, 1.5), (ADDITIVE, 4), (SMOOTH, 1), (MIXTURE, 3), (RULES, 1.6))
"""Families of the mix and how often each is drawn; rules make up a tenth."""


def _told(summary: str) -> str:
    """Return the docstring of a prior: what it draws, and the rest of that of all priors."""
    return summary + "\n\n" + (TablePrior.__doc__ or "").partition("\n\n")[2]


class PriorTables(TablePrior):
    __doc__ = _told("Tables of every family, mixed.")
    name: ClassVar[str] = "prior_tables"

    def _choose(self, draws: Draws) -> Family:
        return WEIGHTS[draws.one_of([weight for _, weight in WEIGHTS])][0]


class PriorMLP(TablePrior):
    __doc__ = _told("Columns and target are units of a random neural network.")
    name: ClassVar[str] = "prior_mlp"

    def _choose(self, draws: Draws) -> Family:
        return NEURAL


class PriorAdditive(TablePrior):
    __doc__ = _told("The target is a sum of functions of single columns.")
    name: ClassVar[str] = "prior_additive"

    def _choose(self, draws: Draws) -> Family:
        return ADDITIVE


class PriorMixture(TablePrior):
    __doc__ = _told("Rows come from clusters, each of one class.")
    name: ClassVar[str] = "prior_mixture"

    def _choose(self, draws: Draws) -> Family:
        return MIXTURE


class PriorSCM(TablePrior):
    __doc__ = _told("Columns and target are nodes of a random causal graph.")
    name: ClassVar[str] = "prior_scm"

    def _choose(self, draws: Draws) -> Family:
        return GRAPH


class PriorTree(TablePrior):
    __doc__ = _told("The target is a sum of random decision trees.")
    name: ClassVar[str] = "prior_tree"

    def _choose(self, draws: Draws) -> Family:
        return TREES


class PriorSmooth(TablePrior):
    __doc__ = _told("The target is a smooth function of all columns.")
    name: ClassVar[str] = "prior_smooth"

    def _choose(self, draws: Draws) -> Family:
        return SMOOTH


class PriorRules(TablePrior):
    __doc__ = _told("The target follows a rule of a few columns, such as XOR.")
    name: ClassVar[str] = "prior_rules"

    def _choose(self, draws: Draws) -> Family:
        return RULES
