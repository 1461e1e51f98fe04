"""Which process fills a slot, and whether it still runs."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from autometa.schema import Closed, Schema, whole

OWNER: Schema = Closed({"host": str, "boot": str, "namespace": str, "pid": whole(1, 2**31 - 1), "started": str})
"""What :meth:`Owner.to_json` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process that fills a slot."""

    BEAT: ClassVar[float] = 20.0
    """Seconds between two signs of life."""
    SILENCE: ClassVar[float] = 180.0
    """Seconds without one after which a process on another machine counts as dead."""

    host: str
    boot: str
    """Changes when the machine restarts; empty where the system does not say."""
    namespace: str
    """The namespace of process ids: in two containers the same id means two processes."""
    pid: int
    started: str
    """When the process began, in the system's own unit; tells it from a later process with the same id."""

    @classmethod
    def here(cls) -> Owner:
        """Describe this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Describe a process of this machine."""
        return cls(host=platform.node(), boot=_boot(), namespace=_namespace(), pid=pid, started=_started(pid))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read what :meth:`to_json` wrote."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)

    def is_dead(self, last_beat: float) -> bool:
        """Return True if the process is gone: certain on its own machine, guessed from its silence elsewhere."""
        here = Owner.here()
        if self.host == here.host and self.boot != here.boot:
            return True
        if self.is_here():
            return not _exists(self.pid) or _started(self.pid) != self.started
        return time.time() - last_beat > self.SILENCE

    def is_here(self) -> bool:
        """Return True if it is, or was, a process that this one can see."""
        here = Owner.here()
        return self.host == here.host and self.namespace == here.namespace and os.name == "posix"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def _boot() -> str:
    file = Path("/proc/sys/kernel/random/boot_id")
    return file.read_text().strip() if file.exists() else ""


@cache
def _namespace() -> str:
    link = Path("/proc/self/ns/pid")
    return os.readlink(link) if link.is_symlink() else ""


def _started(pid: int) -> str:
    """Clock ticks between boot and the start of a process (Linux); empty elsewhere and for no process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
