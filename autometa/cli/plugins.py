"""``autometa plugins``: list, check and start plugins."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autometa.checks import check_choice
from autometa.cli.completion import complete_component
from autometa.cli.plugin_output import plugins_on_stderr
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"active": "green", "disabled": "dim", "broken": "red", "passed": "green", "failed": "red", "skipped": "dim"}
ROOMY = 110
"""Columns of a terminal from which on the table has room for the problems."""

LEAST = {"name": 18, "plugin": 12, "distribution": 16, "status": 8}
"""Columns that a long name gets before it is broken, which it is rather than cut."""


def register(app: typer.Typer) -> None:
    """Add the commands ``plugins``, ``plugins check`` and ``plugins new``."""
    group = typer.Typer(invoke_without_command=True, callback=show, no_args_is_help=False)
    group.command("check")(check)
    group.command("new")(new)
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

    with plugins_on_stderr():
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
    from rich.text import Text

    console = Console()
    console.print(_table(rows, console.width))
    broken = {(row["plugin"], row["distribution"]): row["error"] for row in rows if row["status"] == "broken"}
    for (name, distribution), error in broken.items():
        console.print(Text("broken", "red"), Text(printable(f"{name} ({distribution}): {error}", lines=True)))
        if verbose:
            console.print(Text(printable(traces[name, distribution], lines=True)), soft_wrap=True)
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
        table.add_column(column, overflow="fold", min_width=LEAST.get(column))
    kind = ""
    for row in sorted(rows, key=lambda r: (r["kind"], r["name"], r["plugin"])):
        if row["kind"] != kind:
            kind = row["kind"]
            table.add_row(Text(f"{kind}s", "bold cyan"))
        cells = row | {
            "distribution": f"{row['distribution']} {row['version']}",
            "summary": row["summary"] or row["error"],
        }
        table.add_row(*(Text(printable(cells[column]), STYLES.get(cells[column], "")) for column in columns))
    return table


def check(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:key=value,...]",
            help="A component, plugin/component, or a whole plugin.",
            show_default=False,
            autocompletion=complete_component,
        ),
    ],
    kind: Annotated[
        str | None, typer.Option(help="task-sampler, learner, meta-optimizer or backbone, if a name means several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list for scripts.")] = False,
) -> None:
    """Run the conformance kit over a component, or over all that a plugin offers.

    Exit code 1 when a check fails.

    Example: autometa plugins check prototypical
    """
    from rich.console import Console
    from rich.text import Text

    from autometa.testing import checks_of
    from autometa.testing.kit import run_check

    console = Console(quiet=as_json)
    rows = []
    with plugins_on_stderr():
        checks = list(checks_of(_component(name, kind), kind_named(kind)))
    for one in checks:
        with plugins_on_stderr():
            row = run_check(one)
        rows.append(row)
        console.print(
            Text(f"{row['status']:8}", STYLES[row["status"]]),
            f"{row['seconds']:6.2f} s ",
            Text(printable(one)),
            highlight=False,
        )
        if row["error"]:
            console.print(
                Text("    " + printable(row["error"].strip(), lines=True).replace("\n", "\n    ")),
                style="dim" if row["status"] == "skipped" else "",
            )
    failed = sum(row["status"] == "failed" for row in rows)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    console.print(f"{len(rows)} check{'' if len(rows) == 1 else 's'}, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _component(text: str, kind: str | None) -> Any:
    """The name as typed, or the object that it and its parameters make."""
    from autometa.cli.component_text import parse_component
    from autometa.cli.typed_component import make_typed
    from autometa.testing.checklist import find_named

    name, params = parse_component(text)
    if not params:
        return name
    (entry,) = find_named(name, kind_named(kind))
    return make_typed(entry.kind, entry.full_name, params)


def kind_named(text: str | None) -> str | None:
    """The kind that a user means by ``task-sampler``, ``task_sampler`` or ``"task sampler"``."""
    from autometa.host.kinds import KINDS

    return None if text is None else _one_of(KINDS, text)


def _one_of(names: Iterable[str], text: str) -> str:
    """Return the name that a user means, or refuse the text."""
    plain = {name.replace(" ", "-"): name for name in names}
    key = text.strip().lower().replace(" ", "-").replace("_", "-")
    check_choice("--kind", key, plain)
    return plain[key]


def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, such as my_plugin.", show_default=False)],
    kind: Annotated[
        str, typer.Option(help="learner, actor, task-sampler, environment, meta-optimizer or backbone.")
    ] = "learner",
    directory: Annotated[Path, typer.Option(help="Where the project's folder is made.")] = Path(),
) -> None:
    """Write a small installable plugin project whose test passes at once.

    Example: autometa plugins new my_plugin --kind learner
    """
    from autometa.cli.scaffold import SKETCHES, write_project

    folder = write_project(name, _one_of(SKETCHES, kind), directory)
    typer.echo(
        f'{folder} is ready:\n  pip install -e "{folder}[test]"\n  pytest {folder}\n  autometa plugins check {name}'
    )
