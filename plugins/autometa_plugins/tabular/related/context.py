"""Gaussian processes that have seen the rows of other tasks, weighted by how well they explain them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.columns import Cells
from autometa_plugins.tabular.comparison import compare
from autometa_plugins.tabular.encoding import Encoding, Rows, encode, fit_encoding
from autometa_plugins.tabular.experts import kernels_of
from autometa_plugins.tabular.related.marks import MARKS, RIDGES, Mark
from autometa_plugins.tabular.related.sureness import Sureness
from autometa_plugins.tabular.relevance import Relevance

EVIDENCE = 0.3
"""Power of the marginal likelihood of the context in the weights of the processes."""
_KEPT, _LEAST_SHARE = 8, 0.01
"""Processes that are kept at most, and the least weight of one beside the best."""
_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Process:
    """A Gaussian process given the context.

    Parameters
    ----------
    kernel : int
        Number of the kernel of what rows hold.
    mark : Mark
    ridge : float
        Variance of the noise.
    evidence : float
        Logarithm of the prior weight.
    inverse : Tensor of shape [context, context]
        Of the covariance of the context.
    """

    kernel: int
    mark: Mark
    ridge: float
    evidence: float
    inverse: Float[Tensor, "context context"]


@dataclass(frozen=True, slots=True)
class Context:
    """Rows of other tasks, and what they tell of one more; in double precision.

    Parameters
    ----------
    encoding : Encoding
    rows : Rows
    weights : Tensor of shape [1, 2, columns]
    decay : Tensor, scalar
    kernels : ModuleList
    targets : Tensor of shape [context, n_outputs]
        Centred.
    centre : Tensor of shape [n_outputs]
    entity : Tensor of shape [context]
    processes : list of Process
    sureness : Sureness
    """

    encoding: Encoding
    rows: Rows
    weights: Tensor
    decay: Tensor
    kernels: nn.ModuleList
    targets: Float[Tensor, "context out"]
    centre: Float[Tensor, " out"]
    entity: Int[Tensor, " context"]
    processes: list[Process]
    sureness: Sureness

    def encode(self, cells: Cells) -> Rows:
        """Encode the rows of one task."""
        return encode(cells, self.encoding)

    def compare(self, rows: Rows, others: Rows) -> dict[int, Float[Tensor, "row other"]]:
        """Return the kernels that the processes use, by their numbers."""
        wanted = sorted({process.kernel for process in self.processes})
        found = _kernels(self.kernels, wanted, rows, others, self.weights, self.decay)
        return dict(zip(wanted, found, strict=True))


def make_context(
    cells: Cells,
    targets: Float[Tensor, "context out"],
    entity: Int[Tensor, " context"],
    kernels: nn.ModuleList,
    relevance: Relevance,
    decay: Tensor,
    alike: Tensor,
    has_classes: bool,
) -> Context:
    """Fit every process to the rows of other tasks, and keep those that explain them best.

    Parameters
    ----------
    cells : Cells
        One task that holds all rows.
    targets : Tensor of shape [context, n_outputs]
        One-hot classes, or standardised real targets.
    entity : Tensor of shape [context]
    kernels : ModuleList
    relevance : Relevance
    decay : Tensor, scalar
    alike : Tensor of shape [1, context, context]
        How alike the targets of two rows are.
    has_classes : bool
    """
    everywhere = torch.ones(1, len(targets), dtype=torch.bool, device=targets.device)
    encoding = fit_encoding(cells, everywhere, cells.n_categorical)
    rows = encode(cells, encoding)
    at_once = max(1, _AT_ONCE // max(1, len(targets) * rows.bent.shape[-1]))
    weights = relevance(rows, alike, everywhere, decay, at_once)
    centre = targets.mean(dim=0)
    centred = (targets - centre).double()
    same = (entity.unsqueeze(0) == entity.unsqueeze(1)).double()
    grams = _kernels(kernels, range(len(kernels)), rows, rows, weights, decay)
    eye = torch.eye(len(same), dtype=same.dtype, device=same.device)

    def root_of(number: int, mark: Mark, ridge: float) -> tuple[Tensor, Tensor]:
        across = mark.across(grams[number])
        root, failed = torch.linalg.cholesky_ex(across + same * (mark.within(grams[number]) - across) + ridge * eye)
        return root, failed

    found = []
    for number, mark, ridge in itertools.product(range(len(grams)), MARKS, RIDGES):
        root, failed = root_of(number, mark, ridge)
        if not int(failed):
            found.append((_log_likelihood(root, centred), number, mark, ridge))
    if not found:
        raise am.InvalidData(
            "no covariance of the remembered rows is positive: their features or targets are not finite."
        )
    best = max(one[0] for one in found)
    found = sorted(found, key=lambda one: -one[0])[:_KEPT]
    processes = [
        Process(
            number, mark, ridge, EVIDENCE * (likelihood - best), torch.cholesky_inverse(root_of(number, mark, ridge)[0])
        )
        for likelihood, number, mark, ridge in found
        if EVIDENCE * (best - likelihood) < -math.log(_LEAST_SHARE)
    ]
    shares = torch.tensor([process.evidence for process in processes], dtype=torch.float64).softmax(dim=0)
    left_out = torch.stack([_left_out(process.inverse, centred) for process in processes])
    apart = torch.stack([_entity_left_out(process.inverse, centred, entity) for process in processes])
    blind, seeing = ((shares.to(part)[:, None, None] * part).sum(dim=0) + centre for part in (apart, left_out))
    return Context(
        encoding=encoding,
        rows=rows,
        weights=weights,
        decay=decay,
        kernels=kernels,
        targets=centred,
        centre=centre.double(),
        entity=entity,
        processes=processes,
        sureness=Sureness.measure(blind, seeing, targets.double(), has_classes=has_classes),
    )


def _kernels(
    kernels: nn.ModuleList, wanted: Iterable[int], rows: Rows, others: Rows, weights: Tensor, decay: Tensor
) -> list[Tensor]:
    """Return kernels of the rows of one task and other rows, [row, other], in double precision."""
    chosen = nn.ModuleList(kernels[number] for number in wanted)
    n_rows, n_others, n_columns = rows.bent.shape[1], others.bent.shape[1], rows.bent.shape[2]
    at_once = max(1, _AT_ONCE // max(1, n_others * n_columns))
    parts = [
        kernels_of(chosen, compare(rows.part(slice(start, start + at_once)), others, weights, decay))[0].double()
        for start in range(0, max(1, n_rows), at_once)
    ]
    return list(torch.cat(parts, dim=1))


def _log_likelihood(root: Tensor, y: Tensor) -> float:
    """Return the logarithm of the marginal likelihood, with the amplitude that makes it largest."""
    n, n_outputs = y.shape
    fit = torch.linalg.solve_triangular(root, y, upper=False).square().mean().clamp(min=1e-12)
    return float(-n_outputs * (n / 2 * fit.log() + root.diagonal().log().sum()))


def _left_out(inverse: Tensor, y: Tensor) -> Tensor:
    """Predict every row from all others."""
    return y - (inverse @ y) / inverse.diagonal().unsqueeze(-1)


def _entity_left_out(inverse: Tensor, y: Tensor, entity: Tensor) -> Tensor:
    """Predict the rows of every entity from those of all others."""
    solved, predicted = inverse @ y, torch.zeros_like(y)
    for own in (torch.nonzero(entity == number)[:, 0] for number in sorted(set(entity.tolist()))):
        predicted[own] = y[own] - torch.linalg.solve(inverse[own][:, own], solved[own])
    return predicted
