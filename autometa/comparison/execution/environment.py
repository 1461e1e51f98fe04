"""Describe what a score depends on beside the plan: versions, machine, device."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from autometa._version import __version__
from autometa.comparison.execution.address import without_passwords
from autometa.host import get_host

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "optuna")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Describe this process and its machine as JSON.

    Returns
    -------
    dict
        ``autometa``, ``python``, ``packages``, ``plugins`` (distribution and version of each), ``system``,
        ``processor``, ``cores``, ``threads``, ``device``, ``command`` (without passwords).
    """
    return {
        "autometa": __version__,
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "plugins": {record.name: f"{record.distribution} {record.version}" for record in get_host().records},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "device": _device(device),
        "command": without_passwords(sys.argv),
    }


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        for line in file.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
