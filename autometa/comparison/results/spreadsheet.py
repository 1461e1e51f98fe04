"""Tables as CSV that any program opens as what they are: text is never a formula."""

from __future__ import annotations

from typing import Any

import pandas as pd

_BEGIN = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How text begins that a spreadsheet may take for a formula, and run."""


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as CSV.

    A label or a reason may come from anywhere, and whoever opens the file does not know from where. So text that a
    spreadsheet would take for a formula has an apostrophe in front; numbers have none. Text that begins so behind
    apostrophes has one more, so that two labels never become the same.
    """
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    told = {name: frame[name].map(_as_text, na_action="ignore") for name in texts}
    return str(frame.assign(**told).to_csv(index=False))


def _as_text(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.lstrip("'").startswith(_BEGIN)
    return f"'{cell}" if is_formula else cell
