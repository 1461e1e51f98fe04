"""``autometa plugins``: list, check and start plugins."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"active": "green", "disabled": "dim", "broken": "red"}
ROOMY = 110
"""Columns of a terminal from which on the table has room for the problems."""


def register(app: typer.Typer) -> None:
    """Add the command ``plugins``."""
    group = typer.Typer(invoke_without_command=True, callback=show, no_args_is_help=False)
    app.add_typer(group, name="plugins")


def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, with tracebacks, for scripts.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks of broken plugins.")] = False,
) -> None:
    """List all components of all plugins; check a plugin, or start a new one.

    Ends in exit code 0 even if a plugin is broken: a broken plugin costs nothing until it is asked for.

    Example: autometa plugins --json
    """
    if context.invoked_subcommand:
        return
    from autometa.host import get_host, listing

    rows = listing()
    traces = {(r.name, r.distribution): r.trace for r in get_host().records if r.trace}
    if as_json:
        typer.echo(
            json.dumps(
                [row | {"traceback": traces.get((row["plugin"], row["distribution"]), "")} for row in rows], indent=2
            )
        )
        return
    from rich.console import Console

    console = Console()
    console.print(_table(rows, console.width))
    broken = {(row["plugin"], row["distribution"]): row["error"] for row in rows if row["status"] == "broken"}
    for (name, distribution), error in broken.items():
        console.print(f"[red]broken[/red] {name} ({distribution}):", end=" ")
        console.print(error, markup=False, highlight=False)
        if verbose:
            console.print(traces[name, distribution], markup=False, highlight=False, soft_wrap=True)
    if broken and not verbose:
        console.print("'autometa plugins -v' shows tracebacks.")


def _table(rows: list[dict[str, str]], width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    columns = ["name", "plugin", "distribution", "status", "problems", "summary"]
    if width < ROOMY:
        columns.remove("problems")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in ("problems", "summary"))
    kind = ""
    for row in sorted(rows, key=lambda r: (r["kind"], r["name"], r["plugin"])):
        if row["kind"] != kind:
            kind = row["kind"]
            table.add_row(Text(f"{kind}s", "bold cyan"))
        cells = row | {
            "distribution": f"{row['distribution']} {row['version']}",
            "summary": row["summary"] or row["error"],
        }
        table.add_row(*(Text(cells[column], STYLES.get(cells[column], "")) for column in columns))
    return table
