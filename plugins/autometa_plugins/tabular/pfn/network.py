"""The network beside the columns of one kind of table."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from autometa_plugins.tabular.columns import Cells, TableColumns
from autometa_plugins.tabular.pfn.body import Body


class TableNetwork(nn.Module):
    """A body that reads any table, and the columns of one; a ``BlockNetwork``.

    Parameters
    ----------
    columns : TableColumns
    body : Body
    """

    def __init__(self, columns: TableColumns, body: Body) -> None:
        super().__init__()
        self.columns = columns
        self.body = body

    @property
    def has_classes(self) -> bool:
        """True if targets are one-hot classes."""
        return self.body.has_classes

    def learn_block(self, cells: Cells, targets: Tensor, mask: Tensor, beside: Cells | None) -> dict[str, Any]:
        """Return what the body keeps of support rows."""
        return self.body.learn(cells, targets, mask, beside)

    def answer_block(self, learned: dict[str, Any], cells: Cells) -> tuple[Tensor, ...]:
        """Return the body's answer."""
        return self.body.answer(learned, cells)
