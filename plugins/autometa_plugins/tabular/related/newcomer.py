"""A new task beside the rows of others: what its rows add, how far either is believed, and the answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.tabular.columns import Cells
from autometa_plugins.tabular.kernel_ridge import fit_kernel_ridge
from autometa_plugins.tabular.pfn.network import TableNetwork
from autometa_plugins.tabular.related.context import Context
from autometa_plugins.tabular.scale import Scale, find_scale

POWER = 0.3
"""Of the likelihood of left-out rows in the weights."""
DOUBT = 1.0
"""Nats by which a task's own rows alone are at first less believed than all rows, where tasks share nothing."""
LEAST = 0.02
"""Where they have something in common, the weight of the rows alone falls with the share of the processes that deny it,
down to this."""
STEADY = 4.0
"""Rows that what is known of the context counts like, in variances."""


class Newcomer:
    """Learns tasks one by one, each beside the same context.

    Parameters
    ----------
    own : TableNetwork
    context : Context
    scale : Scale
        Of real targets of the context.
    """

    def __init__(self, own: TableNetwork, context: Context, scale: Scale) -> None:
        self.own, self.context, self.scale = own, context, scale
        self.has_classes = own.has_classes

    def learn(self, support: am.Examples, returning: list[int | None], most: int) -> dict[str, Tensor]:
        """Return what is kept of support sets; every tensor leads with [tasks].

        Parameters
        ----------
        support : Examples
        returning : list of int or None
            Which task of the context each is; its rows there are left out.
        most : int
            Rows of a task beyond which its own rows alone count.
        """
        cells, targets = self.own.columns.read(support.x.flatten(2)), support.targets().to(support.x)
        targets = nn.functional.pad(targets, (0, len(self.context.centre) - targets.shape[-1]))
        if not self.has_classes:
            targets = self.scale.standardise(targets)
        found, n_padded = [], min(support.mask.shape[1], most)
        for task, (mask, back) in enumerate(zip(support.mask, returning, strict=True)):
            many = bool(mask.sum() > most)
            known = torch.zeros_like(mask) if many else mask
            found.append(self._learn(_rows(cells, task, known), targets[task, known].double(), back, n_padded))
            if many:
                found[-1]["alone"] = torch.ones_like(found[-1]["alone"])
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def answer(self, kept: dict[str, Tensor], x: Tensor, own: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and factors, or means and standard deviations.

        Parameters
        ----------
        kept : dict of Tensor
            What :meth:`learn` returned.
        x : Tensor of shape [tasks, n, *features]
        own, spread : Tensor of shape [tasks, n, n_outputs]
            The same of ``pfn``, from the task's rows alone.
        """
        cells = self.own.columns.read(x.flatten(2))
        everywhere = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
        together = torch.stack(
            [self._answer(_rows(cells, i, everywhere), {k: v[i] for k, v in kept.items()}) for i in range(len(x))]
        )
        alone, width = kept["alone"][:, None, None], kept["width"][:, None]
        if self.has_classes:
            parts = [own.double().log_softmax(-1) + alone.log(), (together * width).log_softmax(-1) + (1 - alone).log()]
            logits = torch.stack(parts).logsumexp(dim=0)
            return logits.to(own), (alone * spread.double() + (1 - alone) * width).to(own)
        related, width = self.scale.restore(together), self.scale.restore_spread(width.expand_as(together))
        mean = alone * own.double() + (1 - alone) * related
        squares = alone * (spread.double().square() + (own - mean).square())
        squares = squares + (1 - alone) * (width.square() + (related - mean).square())
        return mean.to(own), squares.sqrt().to(own)

    def _learn(self, cells: Cells, targets: Tensor, back: int | None, n_padded: int) -> dict[str, Tensor]:
        """Learn one task from its rows [1, k, columns] and their targets [k, n_outputs]."""
        context, n_rows = self.context, len(targets)
        rows = context.encode(cells)
        beside, among = context.compare(rows, context.rows), context.compare(rows, rows)
        mask, centred = torch.ones(1, n_rows, dtype=torch.bool, device=targets.device), targets - context.centre
        own_rows = None if back is None else torch.nonzero(context.entity == back)[:, 0]
        alphas, betas, left_out = [], [], []
        for process in context.processes:
            inverse = process.inverse if own_rows is None else _without(process.inverse, own_rows)
            across = process.mark.across(beside[process.kernel])
            seen = inverse @ context.targets
            covariance = process.mark.within(among[process.kernel]) - across @ inverse @ across.mT
            rest = (centred - across @ seen).unsqueeze(0)
            fit = fit_kernel_ridge(covariance.unsqueeze(0), rest, mask, targets.new_tensor(process.ridge))
            alphas.append(fit.coefficients[0])
            betas.append(seen - inverse @ (across.mT @ fit.coefficients[0]))
            left_out.append(targets - (rest - fit.left_out)[0])
        alone, shares, width = self._judge(cells, targets, torch.stack(left_out))
        pad = (0, 0, 0, n_padded - n_rows)
        return {
            "alpha": nn.functional.pad(torch.stack(alphas), pad),
            "beta": torch.stack(betas),
            "entries": nn.functional.pad(cells.entries[0], pad),
            "known": nn.functional.pad(cells.known[0], pad),
            "alone": alone,
            "shares": shares,
            "width": width,
        }

    def _answer(self, cells: Cells, kept: dict[str, Tensor]) -> Tensor:
        """Answer for rows [1, n, columns] of one task: scores around 0 and 1, or standardised targets."""
        context, rows = self.context, self.context.encode(cells)
        support = Cells(kept["entries"].unsqueeze(0), kept["known"].unsqueeze(0), cells.n_categorical)
        beside, among = context.compare(rows, context.rows), context.compare(rows, context.encode(support))
        total: Tensor = context.centre
        for place, process in enumerate(context.processes):
            across = process.mark.across(beside[process.kernel])
            within = process.mark.within(among[process.kernel])
            total = total + kept["shares"][place] * (across @ kept["beta"][place] + within @ kept["alpha"][place])
        return total

    def _judge(self, cells: Cells, targets: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weight of the task's rows alone, those of the processes, and how sure they are.

        Weights are proportional to exp(evidence - POWER · nats), by the nats with which left-out rows are predicted;
        the rows alone have none where they cannot predict each other.
        """
        evidence = targets.new_tensor([process.evidence for process in self.context.processes])
        width = self.context.sureness.after(len(targets)).to(targets)
        if not len(targets):
            return targets.new_zeros(()), evidence.softmax(dim=0), width if self.has_classes else width.sqrt()
        alone = self._alone(cells, targets)
        nats = self._nats(torch.cat([alone.unsqueeze(0), left_out]), targets, width)
        judged = alone.isfinite().all(dim=-1)
        related = nats[1:, judged].sum(dim=1)
        apart = evidence.softmax(dim=0) @ targets.new_tensor([p.mark.shared == 0 for p in self.context.processes])
        weights = evidence - POWER * nats[1:].sum(dim=1)
        both = torch.stack([
            evidence.logsumexp(dim=0) + apart.clamp(min=LEAST).log() - DOUBT - POWER * nats[0, judged].sum(),
            (evidence - POWER * related).logsumexp(dim=0),
        ])  # fmt: skip
        own, shares = both.softmax(dim=0)[0] * judged.any(), weights.softmax(dim=0)
        if self.has_classes:
            return own, shares, width
        errors = ((shares[:, None, None] * left_out).sum(dim=0) - targets).square().sum(dim=0)
        return own, shares, ((errors + STEADY * width) / (len(targets) + STEADY)).sqrt()

    def _nats(self, predicted: Tensor, targets: Tensor, width: Tensor) -> Tensor:
        """Return the nats of each row [answers, k]; of real targets, those of a Gaussian around what is predicted."""
        if self.has_classes:
            logits = torch.cat([predicted[:1], predicted[1:] * width])
            return -(logits.log_softmax(dim=-1) * targets).sum(dim=-1)
        squares = (predicted - targets).square()
        known = squares.isfinite()
        variance = (squares.nan_to_num(0).sum(dim=1, keepdim=True) + width) / (known.sum(dim=1, keepdim=True) + 1)
        return (squares / variance + variance.log()).sum(dim=-1) / 2

    def _alone(self, cells: Cells, targets: Tensor) -> Tensor:
        """Predict every row by the kernel experts from the task's other rows: logits, or standardised targets.

        The experts add to the mean of all rows, with which errors of rows left out are (k - 1) / k of what they are
        with the mean of the others; so they are stretched. NaN where nothing can be predicted, as a row is alone, or
        alone in its class.
        """
        experts, n_rows = self.own.body.experts, len(targets)
        if n_rows < 2:
            return torch.full_like(targets, math.nan)
        mask = torch.ones(1, n_rows, dtype=torch.bool, device=targets.device)
        given = targets.unsqueeze(0).to(cells.entries)
        scale = None if self.has_classes else find_scale(given, mask.unsqueeze(-1))
        learned, left_out = experts.learn(cells, given if scale is None else scale.standardise(given), mask, None)
        mixed = (left_out * learned.shares).sum(dim=1)
        if scale is not None:
            mixed = scale.restore(mixed)
        mixed = given - (given - mixed) * n_rows / (n_rows - 1)
        if scale is not None:
            return mixed[0].double()
        single = (targets.sum(dim=0) * targets == 1).any(dim=-1, keepdim=True)
        logits: Tensor = (mixed * learned.sureness)[0].double()
        return logits.masked_fill(single, math.nan)


def _rows(cells: Cells, task: int, mask: Tensor) -> Cells:
    return Cells(cells.entries[task : task + 1, mask], cells.known[task : task + 1, mask], cells.n_categorical)


def _without(inverse: Tensor, rows: Tensor) -> Tensor:
    """Return the inverse of the covariance of all other rows; zero for ``rows``."""
    own = inverse[:, rows]
    rest: Tensor = inverse - own @ torch.linalg.solve(own[rows], own.mT)
    return rest
