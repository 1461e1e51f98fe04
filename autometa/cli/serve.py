"""``autometa serve``: a storage for machines that cannot open it themselves."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from autometa.checks import check_int, check_text
from autometa.cli.option_names import option_names
from autometa.contracts.printable import printable

NAMES = {"host": "--host", "port": "--port", "storage": "--storage"}


def register(app: typer.Typer) -> None:
    """Add the command ``serve``."""
    app.command()(serve)


def serve(
    storage: Annotated[str, typer.Option(metavar="URL", help="A journal file or the URL of a database.")],
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name or address at which other machines reach this one."),
    ] = "localhost",
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on; 0: any that is free.")] = 13000,
) -> None:
    """Serve a storage to other machines with Optuna's gRPC proxy, until Ctrl-C.

    Example: autometa serve --storage runs/first/journal.log --host 192.168.1.5

    The others then name it: autometa worker --storage grpc://192.168.1.5:13000 --name first

    Whoever reaches the port can read and write the storage, so it belongs into a network that you trust. Needs the
    extra grpc.
    """
    with option_names(NAMES):
        check_text("host", host)
        check_int("port", port, least=0, most=65535)
        from autometa.comparison.execution.address import without_password
        from autometa.comparison.execution.grpc_proxy import served
        from autometa.comparison.execution.storage import open_storage

        with served(open_storage(storage), host, port) as address:
            typer.echo(printable(f"Serving {without_password(storage)} at {address}; Ctrl-C ends it."))
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                typer.echo("Ended. Workers wait five minutes for the same command.", err=True)
