"""Numbers, tables and small pieces of HTML for the report."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autometa.contracts.printable import printable
from autometa.contracts.problems import problem_of_metric

LARGE = 1_000_000
"""Number from which on it is written with an exponent."""


def escape(value: object) -> str:
    """Text as HTML; None and NaN are a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return html.escape(printable(value, lines=True))


def metric_title(metric: str) -> str:
    """Return the name of a metric as readers know it."""
    return problem_of_metric(metric).metric_title


def score_text(score: float, metric: str) -> str:
    """A score as readers write it: shares in percent, others with four digits, from a million on as ``3.350e+12``."""
    if not math.isfinite(score):
        return "–" if math.isnan(score) else str(score)
    if problem_of_metric(metric).is_share:
        return f"{100 * score:.1f}%"
    if round(abs(score)) >= LARGE:
        return f"{score:.3e}"
    return f"{score:,.0f}" if abs(score) >= 10_000 else f"{score:#.4g}".rstrip(".")


def interval_text(low: float, high: float, metric: str) -> str:
    """Both ends of an interval; the unit stands once. Of one task nothing is known."""
    if math.isnan(low):
        return "–"
    ends = f"{score_text(low, metric)} – {score_text(high, metric)}"
    return ends.replace("% –", " –")


def difference_text(difference: float, metric: str) -> str:
    """A signed difference of scores; of shares in percentage points."""
    if not math.isfinite(difference):
        return "–"
    text = f"{100 * difference:+.1f}" if problem_of_metric(metric).is_share else f"{difference:+#.3g}".rstrip(".")
    return text.replace("-", "−")


def seconds_text(seconds: float) -> str:
    """A duration with the unit that suits it."""
    if not math.isfinite(seconds):
        return "–"
    if seconds == 0:
        return "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def milliseconds_text(milliseconds: float) -> str:
    """Milliseconds with two or three digits that count."""
    if not math.isfinite(milliseconds):
        return "–"
    if milliseconds >= LARGE:
        return f"{milliseconds:.1e}"
    return f"{milliseconds:#.2g}" if milliseconds < 10 else f"{milliseconds:,.0f}"


def p_text(p: float) -> str:
    """A p-value; very small ones and very large ones as a bound."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"{p:.3f}"


def p_words(p: float) -> str:
    """A p-value in a sentence: ``"p = 0.012"``, ``"p < 0.001"``."""
    text = p_text(p)
    return f"p {text}" if text[0] in "<>" else f"p = {text}"


def value_text(value: object) -> str:
    """A hyperparameter as a reader wants it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={value_text(entry)}" for key, entry in value.items())
    return str(value)


def table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    *,
    marks: Sequence[str] = (),
    caption: str = "",
    sortable: bool = False,
) -> str:
    """An HTML table; the first cell of every row is its heading.

    Parameters
    ----------
    columns : sequence of (heading, class)
        Plain-text headings; class "n" for numbers, "c" for centred, "w" for text that wraps, "" for others.
    rows : iterable of sequences of str
        Cells, HTML already.
    marks : sequence of str, optional
        Class of each row.
    caption : str, optional
        HTML.
    sortable : bool, default=False
        Where scripts run, a click on a heading sorts the rows, and many rows can be searched.
    """
    head = "".join(f'<th class="{css}" scope="col">{escape(name)}</th>' for name, css in columns)
    body = []
    for place, row in enumerate(rows):
        cells = [f'<th scope="row" class="{columns[0][1]}">{row[0]}</th>']
        cells += [f'<td class="{css}">{cell}</td>' for cell, (_, css) in zip(row[1:], columns[1:], strict=True)]
        mark = f' class="{marks[place]}"' if place < len(marks) and marks[place] else ""
        body.append(f"<tr{mark}>{''.join(cells)}</tr>")
    title = f"<caption>{caption}</caption>" if caption else ""
    opened = '<table class="sortable">' if sortable else "<table>"
    return (
        f'<div class="scroll">{opened}{title}<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def long_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, caption: str) -> str:
    """A table of hundreds of rows in a box of its own, to be sorted and searched where scripts run.

    Parameters
    ----------
    columns : sequence of (heading, class)
        Class "n" for numbers, of which there may be many: their cells carry no class.
    rows : iterable of sequences of str
        Cells, HTML already.
    caption : str
        HTML.
    """
    head = "".join(f'<th class="{css}" scope="col">{escape(name)}</th>' for name, css in columns)
    kinds = ["" if css == "n" else f' class="{css}"' for _, css in columns]
    body = []
    for row in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        body.append(f'<tr><th scope="row">{row[0]}</th>{cells}</tr>')
    return (
        f'<p class="note">{caption}</p><div class="scroll long" tabindex="0"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """A figure with its caption (HTML)."""
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Go through nested mappings as (dotted name, value)."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
