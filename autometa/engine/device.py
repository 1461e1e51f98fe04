"""Choosing device and precision."""

from __future__ import annotations

import torch

from autometa.checks import check_choice
from autometa.errors import InvalidParameter

PRECISIONS = {"32": torch.float32, "64": torch.float64}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on: the accelerator torch finds (CUDA, MPS, XPU), else the CPU.

    Raises
    ------
    InvalidParameter
        The device asked for is not there.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return found if found is not None else torch.device("cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InvalidParameter(
            f"device={device!r} is not a device; use 'auto', 'cpu', 'cuda', 'mps' or 'xpu'."
        ) from error
    if wanted.type != "cpu" and (found is None or found.type != wanted.type):
        here = "only the CPU" if found is None else f"'cpu' and {found.type!r}"
        raise InvalidParameter(f"device={device!r} is not available; this machine has {here}. Use 'auto'.")
    return wanted


def pick_dtype(precision: str, default: torch.dtype = torch.float32) -> torch.dtype:
    """Return the floating-point type for ``precision`` ("auto", "32" or "64").

    Raises
    ------
    InvalidParameter
        Another value.
    """
    check_choice("precision", str(precision), ("auto", *PRECISIONS))
    return default if precision == "auto" else PRECISIONS[str(precision)]
