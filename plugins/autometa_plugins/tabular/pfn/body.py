"""θ of the network: it reads cells and experts of any table, and answers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.columns import Cells
from autometa_plugins.tabular.encoding import Rows, encode
from autometa_plugins.tabular.learned import Learned
from autometa_plugins.tabular.network import ExpertNetwork
from autometa_plugins.tabular.pfn.cell_features import cell_features
from autometa_plugins.tabular.pfn.cell_network import CellNetwork
from autometa_plugins.tabular.pfn.heads import ClassHead, RealHead
from autometa_plugins.tabular.pfn.reading import class_features, n_row_features, real_features
from autometa_plugins.tabular.pfn.row_network import RowNetwork


class Body(nn.Module):
    """The experts, whose numbers stay as they are, and a network that reads them.

    Parameters
    ----------
    has_classes : bool
        True for one-hot classes, False for real targets.
    cell_width, row_width : int
        Of the vectors of cells and rows.
    n_heads : int
        Divides both.
    cell_blocks, row_blocks : int
    """

    def __init__(
        self, has_classes: bool, *, cell_width: int, row_width: int, n_heads: int, cell_blocks: int, row_blocks: int
    ) -> None:
        super().__init__()
        self.experts = ExpertNetwork(has_classes).requires_grad_(False)
        n_experts = len(self.experts.mixture.log_prior)
        self.cells = CellNetwork(cell_width, n_heads, cell_blocks, row_width)
        self.read = nn.Linear(n_row_features(n_experts), row_width)
        self.rows = RowNetwork(row_width, n_heads, row_blocks)
        self.head: ClassHead | RealHead = (ClassHead if has_classes else RealHead)(row_width, n_experts)

    @property
    def has_classes(self) -> bool:
        """True if targets are one-hot classes."""
        return self.experts.has_classes

    def learn(
        self,
        cells: Cells,
        targets: Float[Tensor, "task row out"],
        mask: Bool[Tensor, "task row"],
        beside: Cells | None = None,
    ) -> dict[str, Any]:
        """Fit the experts to support rows, scaled by rows ``beside`` as well, and keep what later rows look up."""
        learned, left_out = self.experts.learn(cells, targets, mask, beside)
        support = Cells(cells.entries, cells.known & mask.unsqueeze(-1), cells.n_categorical)
        counts = mask.sum(dim=1).to(targets.dtype)
        at_once = self.experts.rows_at_once(learned.support)
        parts = [slice(start, start + at_once) for start in range(0, mask.shape[1], at_once)]
        described_cells = [
            cell_features(
                cells.part(part), learned.support.part(part), support, learned.weights[:, 1], counts, own=True
            )
            for part in parts
        ]
        vectors, cell_memories = self.cells.learn(torch.cat(described_cells, dim=2), mask)
        mixed = (left_out * learned.shares).sum(dim=1)
        described = self._describe(left_out, mixed, learned, counts, targets)
        rows, row_memories = self.rows.learn(vectors.unsqueeze(1) + described, mask, self._present(learned))
        return {
            "experts": learned.as_dict(),
            "entries": support.entries,
            "known": support.known,
            "mask": mask,
            "cells": cell_memories,
            "rows": row_memories,
            "keys": self.head.retrieval.keys(rows),
        }

    def answer(self, kept: dict[str, Any], cells: Cells) -> tuple[Tensor, ...]:
        """Return logits and their factors, or centres, spreads and shapes of histograms of standardised targets."""
        learned = Learned.from_dict(kept["experts"])
        rows = encode(cells, learned.encoding)
        at_once = self.experts.rows_at_once(learned.support)
        parts = [slice(start, start + at_once) for start in range(0, max(1, cells.entries.shape[1]), at_once)]
        answers = [self._answer(kept, learned, cells.part(part), rows.part(part)) for part in parts]
        return tuple(torch.cat(of_parts, dim=1) for of_parts in zip(*answers, strict=True))

    def _answer(self, kept: dict[str, Any], learned: Learned, cells: Cells, rows: Rows) -> tuple[Tensor, ...]:
        outputs, mask = self.experts.outputs(learned, rows), kept["mask"]
        mixed = (outputs * learned.shares).sum(dim=1)
        support = Cells(kept["entries"], kept["known"], cells.n_categorical)
        counts = mask.sum(dim=1).to(mixed.dtype)
        features = cell_features(cells, rows, support, learned.weights[:, 1], counts)
        x = self.cells(features, kept["cells"], mask).unsqueeze(1) + self._describe(outputs, mixed, learned, counts)
        present = self._present(learned)
        x = self.rows(x, kept["rows"], mask, present)
        found = self.head.retrieval(x, kept["keys"], learned.targets, mask)
        return self.head(x, outputs, mixed, learned.sureness, present, found)  # type: ignore[no-any-return]

    def _describe(
        self, outputs: Tensor, mixed: Tensor, learned: Learned, counts: Tensor, labels: Tensor | None = None
    ) -> Float[Tensor, "task out row width"]:
        describe = class_features if self.has_classes else real_features
        return self.read(describe(outputs, mixed, learned, counts, labels))  # type: ignore[no-any-return]

    def _present(self, learned: Learned) -> Float[Tensor, "task out"]:
        """1 for the classes that the support set holds, and for every real target."""
        targets = learned.targets
        if not self.has_classes:
            return targets.new_ones(targets.shape[0], targets.shape[2])
        return (targets.sum(dim=1) > 0).to(targets.dtype)
