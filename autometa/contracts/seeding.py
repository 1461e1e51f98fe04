"""Seeds derived from seeds, the same on every machine."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *labels: int | str) -> int:
    """Return a non-negative 63-bit seed that depends on ``seed`` and every label, and on nothing else.

    Parameters
    ----------
    seed : int
    *labels : int or str
        What the new seed is for, such as ``"train"`` and a step number.
    """
    text = "\x1f".join([repr(int(seed)), *(repr(label) for label in labels)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
