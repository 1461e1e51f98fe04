"""θ of the kernel experts: how they learn a support set, and answer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.class_mixture import ClassMixture
from autometa_plugins.tabular.columns import Cells, TableColumns
from autometa_plugins.tabular.comparison import compare
from autometa_plugins.tabular.encoding import Encoding, Rows, encode, fit_encoding
from autometa_plugins.tabular.experts import N_DENSITIES, all_kernels, density_scores, kernels_of, ridge_of
from autometa_plugins.tabular.kernel_ridge import fit_kernel_ridge
from autometa_plugins.tabular.learned import Learned
from autometa_plugins.tabular.mixture import Mixture
from autometa_plugins.tabular.real_mixture import RealMixture
from autometa_plugins.tabular.relevance import Relevance

AT_ONCE = 2**20
"""Numbers of a tensor that compares rows in every column; bounds the memory."""
_BEST_PRIOR = 12.0
"""Prior weight, for classes, of the product of Laplace kernels, the best single expert on synthetic tables."""
_LARGEST = 6.0


class ExpertNetwork(nn.Module):
    """The few numbers that are meta-learned: bandwidths, ridges, and what weights the experts.

    Parameters
    ----------
    has_classes : bool
        True for one-hot classes, False for real targets.
    """

    def __init__(self, has_classes: bool) -> None:
        super().__init__()
        self.log_decay = nn.Parameter(torch.tensor(2.0).log())
        self.relevance = Relevance()
        self.kernels = all_kernels()
        n_kernels = len(self.kernels)
        self.mixture: Mixture
        if has_classes:
            self.mixture = ClassMixture([_BEST_PRIOR] + [1.0] * (n_kernels + N_DENSITIES - 1))
        else:
            self.mixture = RealMixture([1.0] * n_kernels)

    @property
    def has_classes(self) -> bool:
        """True if targets are one-hot classes."""
        return isinstance(self.mixture, ClassMixture)

    def learn(
        self, cells: Cells, targets: Float[Tensor, "task row out"], mask: Bool[Tensor, "task row"], beside: Cells | None
    ) -> tuple[Learned, Float[Tensor, "task expert row out"]]:
        """Fit the experts to support sets and weight them.

        Parameters
        ----------
        cells : Cells
            Of the support rows.
        targets : Tensor of shape [tasks, n, n_outputs]
            One-hot classes, or standardised real targets; zero where padded.
        mask : Tensor of shape [tasks, n], bool
        beside : Cells, optional
            Further rows, without labels, that count in the scales and ranks of the columns.

        Returns
        -------
        learned : Learned
        left_out : Tensor of shape [tasks, experts, n, n_outputs]
            What each expert predicts for the support rows from the others.
        """
        encoding = self._encoding(cells, mask, beside)
        support = encode(cells, encoding)
        at_once = self.rows_at_once(support)
        weights = self.relevance(support, self.mixture.labels_alike(targets), mask, self.log_decay.exp(), at_once)
        counts = mask.sum(dim=1).clamp(min=1).to(targets.dtype)
        mean = targets.sum(dim=1, keepdim=True) / counts[:, None, None]
        compared = [
            self._compare_support(start, at_once, support, weights, targets, encoding)
            for start in range(0, mask.shape[1], at_once)
        ]
        gram = torch.cat([kernels for kernels, _ in compared], dim=2)
        centred = (targets - mean) * mask.unsqueeze(-1)
        fits = [
            fit_kernel_ridge(gram[:, number], centred, mask, ridge_of(self.kernels, number))
            for number in range(len(self.kernels))
        ]
        left_out = torch.stack([fit.left_out for fit in fits], dim=1) + mean.unsqueeze(1)
        if self.has_classes:
            left_out = torch.cat([left_out, torch.cat([scores for _, scores in compared], dim=2)], dim=1)
        left_out = left_out.clamp(-_LARGEST, _LARGEST)
        shares, sureness = self.mixture.judge(left_out, targets, mask)
        coefficients = torch.stack([fit.coefficients for fit in fits], dim=1)
        return Learned(encoding, support, weights, coefficients, mean.unsqueeze(1), shares, targets, sureness), left_out

    def answer(self, learned: Learned, cells: Cells) -> Float[Tensor, "task row out"]:
        """Return the mixture's scores of classes, or predictions of standardised targets."""
        rows = encode(cells, learned.encoding)
        at_once = self.rows_at_once(learned.support)
        parts = [
            (self.outputs(learned, rows.part(slice(start, start + at_once))) * learned.shares).sum(dim=1)
            for start in range(0, max(1, cells.entries.shape[1]), at_once)
        ]
        return torch.cat(parts, dim=1)

    def outputs(self, learned: Learned, rows: Rows) -> Float[Tensor, "task expert row out"]:
        """Return what each expert says of rows."""
        compared = compare(rows, learned.support, learned.weights, self.log_decay.exp())
        outputs = kernels_of(self.kernels, compared) @ learned.coefficients + learned.mean
        if self.has_classes:
            scores = density_scores(compared, rows, learned.support, learned.targets, learned.encoding.speaks)
            outputs = torch.cat([outputs, scores], dim=1)
        return outputs.clamp(-_LARGEST, _LARGEST)

    def _encoding(self, cells: Cells, mask: Tensor, beside: Cells | None) -> Encoding:
        if beside is not None:
            cells = cells.join(beside)
            mask = nn.functional.pad(mask, (0, cells.entries.shape[1] - mask.shape[1]), value=True)
        return fit_encoding(cells, mask, cells.n_categorical)

    def rows_at_once(self, support: Rows) -> int:
        """Return how many rows are compared with the support rows at a time."""
        n_tasks, n_support, n_columns = support.bent.shape
        return max(1, AT_ONCE // max(1, n_tasks * n_support * n_columns))

    def _compare_support(
        self, first: int, at_once: int, support: Rows, weights: Tensor, targets: Tensor, encoding: Encoding
    ) -> tuple[Tensor, Tensor]:
        """Return kernels of some support rows with all, and scores of their classes by the others' densities."""
        rows = support.part(slice(first, first + at_once))
        compared = compare(rows, support, weights, self.log_decay.exp())
        kernels = kernels_of(self.kernels, compared)
        if not self.has_classes:
            return kernels, kernels
        return kernels, density_scores(compared, rows, support, targets, encoding.speaks, first)


class Network(ExpertNetwork):
    """θ of the kernel experts, beside the columns that it reads; a :class:`BlockNetwork`.

    Parameters
    ----------
    info : TaskInfo
    """

    def __init__(self, info: am.TaskInfo) -> None:
        super().__init__(info.problem_record.has_classes)
        self.columns = TableColumns(info)

    def learn_block(self, cells: Cells, targets: Tensor, mask: Tensor, beside: Cells | None) -> dict[str, Any]:
        """Return the fitted experts as nested dicts."""
        return self.learn(cells, targets, mask, beside)[0].as_dict()

    def answer_block(self, learned: dict[str, Any], cells: Cells) -> tuple[Tensor, Tensor]:
        """Return the mixture's answer, and how sure it is."""
        block = Learned.from_dict(learned)
        outputs = self.answer(block, cells)
        sureness = block.sureness.expand_as(outputs)
        return (outputs * sureness if self.has_classes else outputs), sureness
