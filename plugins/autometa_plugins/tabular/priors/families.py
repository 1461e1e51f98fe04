"""The families of tables by name, and the samplers that draw from one of them."""

from __future__ import annotations

from autometa_plugins.tabular.priors.additive import draw_additive
from autometa_plugins.tabular.priors.draft import Family
from autometa_plugins.tabular.priors.draws import Draws
from autometa_plugins.tabular.priors.mixtures import draw_mixture
from autometa_plugins.tabular.priors.neural import draw_neural
from autometa_plugins.tabular.priors.prior import TablePrior

NEURAL, ADDITIVE, MIXTURE = Family(draw_neural), Family(draw_additive), Family(draw_mixture)
WEIGHTS: tuple[tuple[Family, float], ...] = ((NEURAL, 3), (ADDITIVE, 4), (MIXTURE, 3))
"""Families of the mix and how often each is drawn."""


class PriorTables(TablePrior):
    """Tables of every family, mixed; for its parameters see :class:`TablePrior`."""

    def _choose(self, draws: Draws) -> Family:
        return WEIGHTS[draws.one_of([weight for _, weight in WEIGHTS])][0]


class PriorMLP(TablePrior):
    """Columns and target are units of a random neural network; for its parameters see :class:`TablePrior`."""

    def _choose(self, draws: Draws) -> Family:
        return NEURAL


class PriorAdditive(TablePrior):
    """The target is a sum of functions of single columns; for its parameters see :class:`TablePrior`."""

    def _choose(self, draws: Draws) -> Family:
        return ADDITIVE


class PriorMixture(TablePrior):
    """Rows come from clusters, each of one class; for its parameters see :class:`TablePrior`."""

    def _choose(self, draws: Draws) -> Family:
        return MIXTURE
