"""The command line. Modules here import torch, pandas and rich inside commands only, so that help comes at once."""

from __future__ import annotations

import atexit
import gc
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from autometa._version import __version__
from autometa.cli import compare, plugins, pretrain, serve, tasks
from autometa.cli.termination import TERMINATED, Termination, hear_sigterm
from autometa.contracts.printable import printable
from autometa.errors import AutometaError, Incompatible, InvalidParameter, UnknownName

BAD_USAGE = (UnknownName, InvalidParameter, Incompatible)
"""Errors in what was typed: exit code 2. Every other problem ends in 1."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"autometa {__version__}")
        raise typer.Exit


def _root(
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            metavar="no:NAME",
            help="Do not load the plugin (or all plugins of the distribution) NAME. Repeatable.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """AutoML for task distributions: meta-train every family of learner, compare them fairly, keep the winner.

    Example: autometa compare --tasks sinusoid --output runs/first

    Exit codes: 0 fine, 1 a problem was found, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
    """
    from autometa.host import disable

    names = []
    for choice in plugin or []:
        if not choice.startswith("no:") or choice == "no:":
            raise typer.BadParameter(
                f"{choice!r} must look like no:NAME; plugins are loaded unless disabled.", param_hint="-p"
            )
        names.append(choice.removeprefix("no:"))
    disable(names)


def build_app() -> typer.Typer:
    """Put all commands together."""
    app = typer.Typer(
        name="autometa",
        callback=_root,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    compare.register(app)
    serve.register(app)
    plugins.register(app)
    tasks.register(app)
    pretrain.register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What was typed after ``autometa``; ``sys.argv[1:]`` when left out, in a process that ends with the command.
    """
    if arguments is None:
        atexit.register(gc.freeze)  # or the interpreter walks through all that was imported as it ends: 0.7 s
    with warnings.catch_warnings(), hear_sigterm() as termination:
        warnings.showwarning = _show_warning
        warnings.filterwarnings("ignore", "interrupted: the comparison holds")  # the command says it, and where
        code = _run(arguments, termination)
    if termination.asked:
        typer.echo(printable(f"Terminated. {termination.kept}".strip()), err=True)
        return TERMINATED
    return code


def _run(arguments: Sequence[str] | None, termination: Termination) -> int:
    try:
        build_app()(args=None if arguments is None else list(arguments), prog_name="autometa", obj=termination)
    except SystemExit as end:
        if isinstance(end.__context__, typer.Abort):  # what Ctrl-C has become by then
            return compare.INTERRUPTED
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except AutometaError as error:
        told = "\n".join([f"error: {error}", *getattr(error, "__notes__", [])])
        typer.echo(printable(told, lines=True), err=True)
        return 2 if isinstance(error, BAD_USAGE) else 1
    return 0


def _show_warning(message: Warning | str, *_where: object, **_rest: object) -> None:
    """Show what a warning says without the line of source that raised it."""
    typer.echo(printable(f"warning: {message}", lines=True), err=True)
