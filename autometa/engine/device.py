"""Choosing device and precision, and telling those of a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from autometa.checks import check_choice
from autometa.errors import InvalidParameter

PRECISIONS = {"32": torch.float32, "64": torch.float64}


def pick_device(device: Any = "auto") -> torch.device:
    """Return the device to compute on: the accelerator torch finds (CUDA, MPS, XPU), else the CPU.

    Parameters
    ----------
    device : str, int or torch.device, default="auto"

    Raises
    ------
    InvalidParameter
        The device asked for is not there, or no device at all.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if isinstance(device, str) and device == "auto":
        return found if found is not None else torch.device("cpu")
    try:
        wanted = torch.device(device if isinstance(device, int | torch.device) else str(device))
    except (RuntimeError, TypeError) as error:
        raise InvalidParameter(
            f"device={device!r} is not a device; use 'auto', 'cpu', 'cuda', 'mps' or 'xpu'."
        ) from error
    if wanted.type != "cpu" and (found is None or found.type != wanted.type):
        here = "only the CPU" if found is None else f"'cpu' and {found.type!r}"
        raise InvalidParameter(f"device={device!r} is not available; this machine has {here}. Use 'auto'.")
    return wanted


def pick_dtype(precision: Any, default: torch.dtype = torch.float32) -> torch.dtype:
    """Return the floating-point type for ``precision`` ("auto", "32" or "64").

    Raises
    ------
    InvalidParameter
        Another value.
    """
    if str(precision) not in PRECISIONS:
        check_choice("precision", precision, ("auto", *PRECISIONS))
        return default
    return PRECISIONS[str(precision)]


def place_of(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return where a module computes, and the type of its numbers.

    Parameters
    ----------
    module : nn.Module
        Of one device; it may have buffers alone, or neither parameters nor buffers.

    Returns
    -------
    device : torch.device
        Of its first parameter or buffer; the CPU if it has none.
    dtype : torch.dtype
        Of the first that holds floating-point numbers; torch's default if none does.
    """
    tensors = [*module.parameters(), *module.buffers()]
    dtypes = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
    return (tensors[0].device if tensors else torch.device("cpu")), next(dtypes, torch.get_default_dtype())
