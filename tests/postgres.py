"""A PostgreSQL server for the tests that need one; CONTRIBUTING.md says how to get it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens on a port of this machine alone."""

    control: str
    folder: Path
    port: int
    user: str | None
    """Whom it runs as; None: whoever runs the tests."""

    @property
    def url(self) -> str:
        """The address of its database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def order(self, *arguments: str) -> None:
        """Give an order to ``pg_ctl``."""
        options = ["-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-w"]
        who: dict[str, Any] = {} if self.user is None else {"user": self.user}
        subprocess.run([self.control, *options, *arguments], check=True, capture_output=True, cwd=self.folder, **who)

    def start(self) -> None:
        """Start it."""
        self.order("start", "-o", f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1")

    def stop(self) -> None:
        """Kill it as a power cut does: it closes nothing."""
        self.order("stop", "-m", "immediate")


@contextmanager
def postgres_server(folder: Path) -> Iterator[Server]:
    """Start a server with its files in or beside ``folder``; skip the test where none can be started."""
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    found = [shutil.which("pg_ctl"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))]
    control = next((path for path in found if path), None)
    if control is None:
        pytest.skip("PostgreSQL is not installed")
    user = None
    if os.name == "posix" and os.getuid() == 0:  # as which the server does not run
        import pwd

        if "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
        user, folder = "postgres", Path("/tmp")  # whose files others may reach
    place = folder / f"autometa-postgres-{os.getpid()}"
    place.mkdir()
    if user is not None:
        shutil.chown(place, user)
    server = Server(control, place, _free_port(), user)
    try:
        server.order("initdb", "-o", "-A trust -U postgres")
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(place)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
