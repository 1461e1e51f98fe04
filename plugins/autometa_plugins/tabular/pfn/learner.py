"""A network, pretrained on synthetic tables, that reads the kernel experts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.blockwise import SCALINGS, answer_rows, learn_support
from autometa_plugins.tabular.columns import TableColumns
from autometa_plugins.tabular.pfn.body import Body
from autometa_plugins.tabular.pfn.histogram import Histogram
from autometa_plugins.tabular.pfn.network import TableNetwork
from autometa_plugins.tabular.scale import find_scale

if TYPE_CHECKING:
    from optuna import Trial

_NAME = "learner 'pfn'"
_FARTHEST, _BEND = 6.0, 2.0
_BUNDLED = Path(__file__).parents[1] / "weights"
_SIZES = ("cell_width", "row_width", "n_heads", "cell_blocks", "row_blocks")


class PFN(am.Learner):
    """A prior-fitted network that starts at the kernel experts' mixture.

    It learns from many synthetic tables (:func:`autometa.pretrain`) how to answer for a table from a few labelled rows,
    and does so for a new table in one pass, without any training; weights that were made so come with autometa. It
    reads the cells, by attention along columns and rows, and what each of the kernel experts says of every row and
    class, left-out support rows included; then it weights the experts anew for every row and adds what it found itself.
    Before any training its answers are those of ``kernel_experts``. The experts' own numbers stay as they are.

    The order of rows, of columns and of classes does not matter, and their number is free: every row and class has a
    vector of its own, and the same network serves them all. More than ``max_rows`` support rows are dealt to blocks
    with targets alike, and the blocks' answers are averaged. Keys and values of the support rows are kept, so that
    further predictions cost no more than their own rows.

    Of a real target it knows the whole distribution: a histogram of 32 bins that hold equal shares of a Gaussian, which
    it is before any training, with tails that may be stretched. The prediction is its mean. Blocks of rows average
    centre, width and shape of the histogram, so that the answer is one histogram again.

    Parameters
    ----------
    weights : "bundled", path or None, default="bundled"
        What the network starts from: the weights that come with autometa, or a file that :func:`autometa.pretrain`
        wrote; they tell the sizes below, too. None: a fresh network.
    cell_width, row_width : int, default=32, 64
        Of the vectors of a fresh network, for each cell, and for each row and class.
    n_heads : int, default=4
        Of attention; divides both widths.
    cell_blocks, row_blocks : int, default=1, 3
    scaling : {"support", "support+query"}, default="support"
        Rows by which columns are standardised and ranked. ``"support+query"`` adds the rows to be predicted, without
        their labels; then nothing of the support rows is kept between predictions but the rows themselves. A
        prediction then depends on the rows beside it, padded ones too; say so beside a score.
    max_rows : int, default=1000
        Support rows of a block.

    References
    ----------
    S. Müller, N. Hollmann, S. Pineda Arango, J. Grabocka, F. Hutter: Transformers can do Bayesian inference. ICLR 2022.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"gradient", "distribution", "quantiles", "density"})
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"scaling", "max_rows"})
    names_files: ClassVar[frozenset[str]] = frozenset({"weights"})

    def __init__(
        self,
        weights: str | Path | None = "bundled",
        *,
        cell_width: int = 32,
        row_width: int = 64,
        n_heads: int = 4,
        cell_blocks: int = 1,
        row_blocks: int = 3,
        scaling: str = "support",
        max_rows: int = 1000,
    ) -> None:
        self.weights = weights
        self.cell_width = cell_width
        self.row_width = row_width
        self.n_heads = n_heads
        self.cell_blocks = cell_blocks
        self.row_blocks = row_blocks
        self.scaling = scaling
        self.max_rows = max_rows

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network with its weights, or a fresh one.

        Raises
        ------
        InvalidParameter
            A parameter is out of range.
        MissingData, InvalidFile
            There is no such file of weights, or it is none.
        Incompatible
            The weights are of another problem.
        """
        self._check()
        has_classes = info.problem_record.has_classes
        if self.weights is None:
            return TableNetwork(TableColumns(info), Body(has_classes, **{name: getattr(self, name) for name in _SIZES}))
        bundled = _BUNDLED / f"{info.problem}.safetensors"
        place = bundled if self.weights == "bundled" else self.weights
        pretrained = am.read_weights(place, learner="tabular/pfn", problem=info.problem)
        sizes: dict[str, Any] = {name: pretrained.params.get(name) for name in _SIZES}
        PFN(**sizes)._check()
        return pretrained.fill(TableNetwork(TableColumns(info), Body(has_classes, **sizes)))

    def reshaped(self, module: nn.Module, info: am.TaskInfo) -> nn.Module:
        """Return the same network beside the columns of another table."""
        assert isinstance(module, TableNetwork)
        if module.has_classes != info.problem_record.has_classes:
            raise am.Incompatible(f"{_NAME}: a network for real targets cannot answer for classes, nor the reverse.")
        return TableNetwork(TableColumns(info).to(next(module.parameters()).device), module.body)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Any]:
        """Return the fitted experts of every block, and keys and values of its rows; or the rows themselves."""
        self._check()
        assert isinstance(module, TableNetwork)
        return learn_support(module, support, scaling=self.scaling, max_rows=self.max_rows)

    def predict(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> Tensor:
        """Return logits or means, [tasks, n, n_outputs]."""
        return self.predict_distribution(module, adapted, x)[0]

    def predict_distribution(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations of new observations, each [tasks, n, n_outputs]."""
        assert isinstance(module, TableNetwork)
        if module.has_classes:
            logits, factors = answer_rows(module, adapted, x)
            return logits, factors
        found = self._histogram(module, adapted, x)
        return found.mean(), found.deviation()

    def predict_quantiles(self, module: nn.Module, adapted: dict[str, Any], x: Tensor, q: Tensor) -> Tensor:
        """Return quantiles of new observations, [quantiles, tasks, n, n_outputs]."""
        return self._histogram(module, adapted, x).quantiles(q)

    def predict_log_density(self, module: nn.Module, adapted: dict[str, Any], x: Tensor, y: Tensor) -> Tensor:
        """Return the logarithm of the density of new observations, [tasks, n, n_outputs]."""
        return -self._histogram(module, adapted, x).surprise(y)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Return the loss on each query set, [tasks]; for real targets in units of the support set's.

        Centres learn from Huber's loss, so that no outlier decides; widths and shapes from the negative log-likelihood,
        which takes the centres as they are. Within a bin its slope is a Gaussian's, so that widths learn the size of
        the errors, and shapes how they are distributed.
        """
        if batch.query.is_classification:
            return am.query_losses(self, module, batch)
        scale = find_scale(batch.support.targets(), batch.support.mask.unsqueeze(-1))
        found = self._histogram(module, self.adapt(module, batch.support), batch.query.x)
        target = scale.standardise(batch.query.targets()).clamp(-_FARTHEST, _FARTHEST)
        centre, unit = scale.standardise(found.centre), (scale.spread * scale.unit).to(found.spread.dtype)
        surprise = Histogram(centre.detach(), found.spread / unit, found.shape).surprise(target)
        losses = nn.functional.huber_loss(centre, target, reduction="none", delta=_BEND) + surprise
        return (losses.mean(dim=-1) * batch.query.mask).sum(dim=1) / batch.query.mask.sum(dim=1).clamp(min=1)

    def _histogram(self, module: nn.Module, adapted: dict[str, Any], x: Tensor) -> Histogram:
        """Return the distribution of new observations."""
        assert isinstance(module, TableNetwork)
        return Histogram(*answer_rows(module, adapted, x))

    def _check(self) -> None:
        for name in ("cell_width", "row_width", "n_heads", "row_blocks", "max_rows"):
            am.check_int(name, getattr(self, name), of=_NAME)
        am.check_int("cell_blocks", self.cell_blocks, least=0, of=_NAME)
        am.check_choice("scaling", self.scaling, SCALINGS, of=_NAME)
        if self.weights is not None:
            am.check_path("weights", self.weights, of=_NAME)
        for name in ("cell_width", "row_width"):
            if getattr(self, name) % self.n_heads:
                raise am.InvalidParameter(
                    f"{name}={getattr(self, name)} of {_NAME} must be a multiple of n_heads={self.n_heads}."
                )

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> PFN:
        """Return the defaults: what is to be chosen is learned."""
        return cls()
