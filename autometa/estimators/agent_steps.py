"""What an agent is asked with, step by step, and hands back to be asked again."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autometa.errors import Incompatible, InvalidData, InvalidParameter


def held_in(state: Any, n_tasks: int) -> dict[str, Any]:
    """Return what a state holds, or refuse one that no call returned, or one of other environments."""
    held = state[0] if isinstance(state, tuple) and len(state) == 1 else None
    if not isinstance(held, dict) or not {"memory", "time"} <= held.keys():
        raise InvalidParameter(f"state={state!r:.80} must be None or what predict() returned beside the actions.")
    if "seen" in held and len(held["seen"]) != n_tasks:
        raise InvalidParameter(f"state is of {len(held['seen'])} environments, and there are {n_tasks} observations.")
    return held


def observations_in(
    observation: Any, shape: tuple[int, ...], n_environments: int | None = None
) -> tuple[NDArray[Any], bool]:
    """Return observations [n, *shape], and whether it was one alone.

    Whole numbers may be those of a Discrete space: of ``n_environments``, where it is known how many these are.
    """
    array = np.asarray(observation)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise InvalidData(f"observation must hold finite numbers alone, and is {array!r:.80}.")
    whole = array.dtype.kind in "iu" and len(shape) == 1
    if array.shape == shape and not (whole and _are_numbers(array, n_environments)):
        return array[None], True
    if whole and array.ndim <= 1:  # numbers of a Discrete space
        if array.size and not (array.min() >= 0 and array.max() < shape[0]):
            raise InvalidData(
                f"observation is {array.tolist()}; numbers of a Discrete space go from 0 to {shape[0] - 1}."
            )
        return np.eye(shape[0])[array.reshape(-1)], array.ndim == 0
    if array.shape[1:] != shape:
        raise InvalidData(f"observation has the shape {array.shape}; it must be {shape}, or [n, *{shape}].")
    return array, False


def _are_numbers(array: NDArray[Any], n_environments: int | None) -> bool:
    """Tell whether as many whole numbers as there are states are of as many environments, and not a state one-hot."""
    if n_environments is not None:
        return n_environments == len(array) > 1
    return sorted(array.tolist()) != [*[0] * (len(array) - 1), 1] and array.min() >= 0 and array.max() < len(array)


def restarted(mask: Tensor, new: Any, old: Any) -> Any:
    """Return the memory ``new`` of the tasks in ``mask``, else ``old``; both trees have the same structure."""
    if isinstance(old, Tensor):
        if old.shape != new.shape:
            raise Incompatible(
                "the memory of this agent grows while it acts, so environments cannot begin episodes apart; act in one."
            )
        return torch.where(mask.view(-1, *[1] * (old.dim() - 1)), new, old)
    if isinstance(old, dict):
        return {name: restarted(mask, new[name], value) for name, value in old.items()}
    return type(old)(restarted(mask, a, b) for a, b in zip(new, old, strict=True))
