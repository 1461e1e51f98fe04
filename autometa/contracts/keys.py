"""Random numbers that depend on a key and a place alone: the same bits on every device, in any order."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autometa.contracts.seeding import derive_seed

STREAMS = ("reset", "step", "act", "told")
"""What numbers of a key are for; numbers of one stream say nothing about those of another."""

_GOLDEN = 0x9E3779B97F4A7C15
_OTHER = 0xD1B54A32D192ED03


def draw_keys(n_tasks: int, seed: int, *labels: int | str) -> Int[Tensor, " task"]:
    """Draw a key for each task, which does not depend on how many tasks follow.

    Parameters
    ----------
    n_tasks : int
    seed : int
    *labels : int or str
        What the keys are for, such as the split.
    """
    return _mix(torch.arange(n_tasks) * _signed(_GOLDEN) + derive_seed(seed, *labels, "key"))


def episode_keys(key: Int[Tensor, " task"], first: int, n: int) -> Int[Tensor, " row"]:
    """Return a key for each of ``n`` episodes of every task, [tasks * n], from the number of the first one on."""
    numbers = torch.arange(first + 1, first + n + 1, device=key.device) * _signed(_OTHER)
    return _mix(_mix(key).unsqueeze(1) + numbers).flatten()


def uniform(key: Int[Tensor, " task"], time: int, stream: str, n: int) -> Float[Tensor, "task n"]:
    """Draw uniform numbers in (0, 1) that depend on each task's key, the time and the stream alone.

    Parameters
    ----------
    key : Tensor of shape [tasks], int64
    time : int
        Steps since the trial began.
    stream : {"reset", "step", "act", "told"}
    n : int
        Numbers of each task.
    """
    if n == 0:
        return torch.zeros(len(key), 0, device=key.device)
    place = _signed((time * len(STREAMS) + STREAMS.index(stream) + 1) * _GOLDEN)
    column = torch.arange(1, n + 1, device=key.device) * _signed(_OTHER)
    bits = _mix(_mix(key + place).unsqueeze(1) + column)
    # 23 bits and a half are exact in single precision: with one more, the largest would be rounded to 1.
    return (((bits >> 41) & (2**23 - 1)).to(torch.get_default_dtype()) + 0.5) * 2.0**-23


def _mix(z: Tensor) -> Tensor:
    """Mix bits as SplitMix64 does (Steele, Lea & Flood 2014); torch shifts in the sign, which the masks remove."""
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & (2**33 - 1))


def _signed(value: int) -> int:
    """Return the int64 with these 64 bits."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value
