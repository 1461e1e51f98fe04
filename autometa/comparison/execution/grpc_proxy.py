"""Optuna's gRPC proxy: one process opens a storage, and any machine that reaches its port uses it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage

from autometa.comparison.execution.address import without_password
from autometa.comparison.execution.patient_storage import PatientStorage
from autometa.errors import StorageError

SCHEME = "grpc://"
PORT = 13000
"""Where an address without a port leads, as in Optuna."""
THREADS = 10
"""Calls that a server answers at once."""
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""Without a limit: the result of a final run on many tasks is one message."""
_ALIVE = [("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000)]
"""So that a call ends with an error where the server's machine is gone and nothing tells."""
_MAY_ASK = [("grpc.http2.min_ping_interval_without_data_ms", 30_000), ("grpc.http2.min_recv_ping_interval_ms", 30_000)]


class Proxy(GrpcStorageProxy):
    """A storage that another process serves, which notices that a machine is gone."""

    def _setup(self) -> None:
        super()._setup()
        self._channel.close()
        import grpc
        from optuna.storages._grpc.auto_generated import api_pb2_grpc
        from optuna.storages._grpc.client import GrpcClientCache

        self._channel = grpc.insecure_channel(f"{self._host}:{self._port}", options=[*_UNLIMITED, *_ALIVE])
        self._stub = api_pb2_grpc.StorageServiceStub(self._channel)
        self._cache = GrpcClientCache(self._stub)


def check_grpc() -> None:
    """Refuse to go on without the extra.

    Raises
    ------
    StorageError
    """
    missing = [package for package, module in (("grpcio", "grpc"), ("protobuf", "google.protobuf")) if not _has(module)]
    if missing:
        raise StorageError(
            f"Optuna's gRPC proxy needs {' and '.join(missing)}; install autometa with its extra: "
            "pip install 'autometa[grpc]'."
        )


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


def open_proxy(where: str) -> BaseStorage:
    """Open the storage that is served at an address.

    Parameters
    ----------
    where : str
        ``grpc://host:port``.

    Raises
    ------
    StorageError
        The address has other parts, or the extra is not installed.
    """
    host, port = _host_and_port(where)
    check_grpc()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return Proxy(host=host, port=port)


def _host_and_port(where: str) -> tuple[str, int]:
    """Return the parts of an address; an IPv6 host stays in brackets."""
    try:
        parts = urlsplit(where)
        port = parts.port
    except ValueError as error:
        raise _unreadable(where) from error
    if not parts.hostname or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise _unreadable(where)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host, PORT if port is None else port


def _unreadable(where: str) -> StorageError:
    return StorageError(
        f"storage={without_password(where)!r} must be 'grpc://host:port', such as 'grpc://localhost:{PORT}'; the proxy "
        "knows no user, password or name of a database."
    )


@contextmanager
def served(storage: BaseStorage, host: str = "localhost", port: int = PORT) -> Iterator[str]:
    """Serve a storage inside of the block, and yield its address.

    Whoever reaches the port can read and write the storage: gRPC's proxy asks for no password.

    Parameters
    ----------
    storage : optuna.storages.BaseStorage
    host : str, default="localhost"
        Name or address of this machine at which others reach it; ``"localhost"``: this machine alone does.
    port : int, default=13000
        0: any that is free.

    Raises
    ------
    StorageError
        The port cannot be used, or the extra is not installed.
    """
    check_grpc()
    import grpc
    from optuna.storages._grpc.auto_generated import api_pb2_grpc
    from optuna.storages._grpc.servicer import OptunaStorageProxyService

    # The journal of Optuna takes a trial for that of the thread that began it.
    with ThreadPoolExecutor(1 if _is_journal(storage) else THREADS, "autometa-proxy") as threads:
        server = grpc.server(threads, options=[*_UNLIMITED, *_MAY_ASK, ("grpc.so_reuseport", 0)])
        api_pb2_grpc.add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)
        shown = f"[{host}]" if ":" in host else host
        try:
            bound = server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            raise StorageError(
                f"host={host!r}, port={port}: no server can listen there ({error}); give a free port and a name or "
                "address of this machine."
            ) from error
        server.start()
        try:
            yield f"{SCHEME}{shown}:{bound}"
        finally:
            server.stop(grace=5).wait()


def _is_journal(storage: Any) -> bool:
    return isinstance(storage.inner if isinstance(storage, PatientStorage) else storage, JournalStorage)
