"""A mixture of closed-form experts, weighted by their leave-one-out errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.blockwise import SCALINGS, answer_rows, learn_support
from autometa_plugins.tabular.network import Network

if TYPE_CHECKING:
    from optuna import Trial


class KernelExperts(am.Learner):
    """Fifteen kernel ridge regressions, three naive Bayes classifiers, and what their leave-one-out errors say of them.

    For tables with a few labelled rows. Each expert is solved in closed form and predicts every support row from all
    the others; the better it does, the more it counts. Nothing has to be trained: bandwidths, ridges and the weights
    of the mixture start at values that suit many tables, and meta-training learns these few numbers by gradients. The
    order of rows, columns and classes does not matter. Numbers are standardised, with long tails bent; categories are
    equal or not; columns may be weighted by their relevance. Real targets have a standard deviation, from the
    residuals of left-out rows.

    More than ``max_rows`` support rows are dealt to blocks with targets alike, and the blocks' predictions are
    averaged (Zhang, Duchi & Wainwright 2015, Divide and conquer kernel ridge regression). The time then grows with
    the rows, no longer with their square or cube.

    Parameters
    ----------
    scaling : {"support", "support+query"}, default="support"
        Rows by which columns are standardised and ranked. ``"support+query"`` adds the rows to be predicted, without
        their labels. It helps classification with one or two rows of each class. A prediction then depends on the rows
        beside it, padded ones too; say so beside a score.
    max_rows : int, default=1000
        Support rows of a block.

    References
    ----------
    C. Saunders, A. Gammerman, V. Vovk: Ridge regression learning algorithm in dual variables. ICML 1998.
    Y. Yao, A. Vehtari, D. Simpson, A. Gelman: Using stacking to average Bayesian predictive distributions. Bayesian
    Analysis 2018.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "distribution"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"scaling", "max_rows"})

    def __init__(self, scaling: str = "support", max_rows: int = 1000) -> None:
        self.scaling = scaling
        self.max_rows = max_rows

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the bandwidths, ridges and mixture weights.

        Raises
        ------
        InvalidParameter
            The scaling is not one of those listed, or ``max_rows`` is not a positive integer.
        """
        self._check()
        return Network(info)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Any]:
        """Return the fitted experts of every block; with ``"support+query"`` the support rows themselves."""
        self._check()
        assert isinstance(module, Network)
        return learn_support(module, support, scaling=self.scaling, max_rows=self.max_rows)

    def predict(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        return self._answer(module, adapted, x)[0]

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of new observations, each [tasks, n, n_outputs]."""
        return self._answer(module, adapted, x)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Return the loss on each query set, [tasks]; for real targets the surprise as well.

        Means learn from the squared error. The surprise, a negative log-likelihood that takes them as they are, makes
        the standard deviations true.
        """
        if batch.query.is_classification:
            return am.query_losses(self, module, batch)
        mean, deviation = self._answer(module, self.adapt(module, batch.support), batch.query.x)
        error = (batch.query.targets() - mean).square()
        surprise = deviation.log() + error.detach() / deviation.square() / 2 + math.log(2 * math.pi) / 2
        counts = batch.query.mask.sum(dim=1).clamp(min=1)
        return ((error + surprise).mean(dim=-1) * batch.query.mask).sum(dim=1) / counts

    def _answer(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits or means, and factors of the logits or standard deviations."""
        assert isinstance(module, Network)
        outputs, sureness = answer_rows(module, adapted, x)
        return outputs, sureness

    def _check(self) -> None:
        am.check_choice("scaling", self.scaling, SCALINGS, of="learner 'kernel_experts'")
        am.check_int("max_rows", self.max_rows, of="learner 'kernel_experts'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> KernelExperts:
        """Return the defaults: what is to be chosen is weighted within."""
        return cls()
