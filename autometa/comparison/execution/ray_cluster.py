"""A Ray cluster: what a worker needs of a node, and the connection of this process to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Self

from autometa.checks import check_choice, check_real, check_text
from autometa.comparison.execution.grpc_proxy import check_grpc
from autometa.errors import InvalidParameter, ProcessFailed

ENGINES = ("processes", "ray")
"""Where the workers of a comparison run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one worker reserves of a node; fractions share a device."""

    cpu: float = 1.0
    gpu: float = 0.0
    other: Mapping[str, float] = field(default_factory=dict)
    """Resources that the cluster's nodes were given by name."""

    @classmethod
    def of(cls, resources: Any, device: str) -> Self:
        """Read the argument ``resources``; left out: a core, and a GPU where ``device`` is one.

        Raises
        ------
        InvalidParameter
            It is no mapping of names to numbers, or asks for nothing.
        """
        if resources is None:
            return cls(gpu=1.0 if device.startswith("cuda") else 0.0)
        if not isinstance(resources, Mapping):
            raise InvalidParameter(f"resources={resources!r} must be a mapping such as {{'cpu': 1, 'gpu': 0.5}}.")
        for name, amount in resources.items():
            check_text("resources", name)
            check_real(name, amount, least=0, of="resources", such_as=1)
        gpu = float(resources.get("gpu", 0.0))
        if gpu > 1 and gpu != int(gpu):
            raise InvalidParameter(f"gpu={gpu:g} of resources must be below 1, which shares a GPU, or a whole number.")
        other = {name: float(amount) for name, amount in resources.items() if name not in ("cpu", "gpu") and amount}
        return cls(cpu=float(resources.get("cpu", 1.0)), gpu=gpu, other=other)

    @property
    def threads(self) -> int:
        """Threads that a worker computes with."""
        return max(1, int(self.cpu))

    @property
    def options(self) -> dict[str, Any]:
        """Options of a Ray actor."""
        return {"num_cpus": self.cpu, "num_gpus": self.gpu, "resources": dict(self.other)}

    def fit(self, node: Mapping[str, Any]) -> bool:
        """Tell whether a node has as much in all, as ``ray.nodes`` describes it."""
        has = node["Resources"]
        wanted = {"CPU": self.cpu, "GPU": self.gpu, **self.other}
        return bool(node["Alive"]) and all(has.get(name, 0.0) >= amount for name, amount in wanted.items())

    def __str__(self) -> str:
        amounts = {"cpu": self.cpu, "gpu": self.gpu, **self.other}
        return ", ".join(f"{name}={amount:g}" for name, amount in amounts.items() if amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """The cluster that a call is to use."""

    address: str | None
    """As ``ray.init`` takes it."""
    needs: Needs

    @classmethod
    def of(cls, engine: str, address: Any, resources: Any, device: str) -> RayCluster | None:
        """Check the arguments of a call; None where its workers are processes of this machine.

        Raises
        ------
        InvalidParameter
            One is wrong, or Ray or gRPC is not installed.
        """
        check_choice("engine", engine, ENGINES)
        check_text("address", address, also=(None,))
        if engine != "ray":
            for name, value in (("address", address), ("resources", resources)):
                if value is not None:
                    raise InvalidParameter(f"{name}={value!r} with engine={engine!r}: only engine='ray' takes it.")
            return None
        needs = Needs.of(resources, device)
        if find_spec("ray") is None:
            raise InvalidParameter(
                "engine='ray': Ray is not installed; install autometa with its extra: pip install 'autometa[ray]'."
            )
        check_grpc()
        return cls(address=address, needs=needs)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Be connected inside of the block; a connection that is there is used and left as it is.

        Raises
        ------
        ProcessFailed
            The cluster cannot be reached.
        InvalidParameter
            No node of a Ray that this process started has as much as one worker needs.
        """
        import ray

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            with _own_sigterm():
                started_here = self._connect()
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ProcessFailed(f"address={self.address!r}: no Ray cluster can be used there ({reason}).") from error
        try:
            if started_here and not any(self.needs.fit(node) for node in nodes()):
                raise InvalidParameter(f"resources: this machine does not have {self.needs}, what one worker needs.")
            yield
        finally:
            with _own_sigterm():
                ray.shutdown()

    def _connect(self) -> bool:
        """Connect to the cluster; True if that had to start a Ray on this machine, which will not grow."""
        import ray

        address = self.address
        if address is None:
            try:
                ray.init(address="auto", logging_level="warning")
            except ConnectionError:
                address = "local"
            else:
                return False
        here = address == "local"
        ray.init(address=address, logging_level="warning", **({"include_dashboard": False} if here else {}))
        return here


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster that live."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def described() -> str:
    """Say what the cluster has."""
    found = nodes()
    totals = {name: sum(node["Resources"].get(name, 0.0) for node in found) for name in ("CPU", "GPU")}
    parts = [f"{len(found)} node{'' if len(found) == 1 else 's'}", f"{totals['CPU']:g} CPUs"]
    return ", ".join([*parts, f"{totals['GPU']:g} GPUs"] if totals["GPU"] else parts)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's own way to end: Ray sets another one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
