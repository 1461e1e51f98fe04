"""One thread for what is too small to share among several."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autometa.contracts.examples import Inputs

FEWEST_MULTIPLICATIONS = 2**28
"""How many multiplications one pass over a batch takes, at least, to be shared among threads."""


@contextmanager
def enough_threads(module: nn.Module, *inputs: Inputs) -> Iterator[None]:
    """Run a block on one thread of the CPU if the network has too little to do with these inputs for several.

    Threads that share an operation wait for each other. Where other programs run, that wait is up to their next turn,
    and small operations take ten times as long on two threads as on one. The rule counts one pass of the inputs
    through the network, a convolution as if it saw the whole image; a clock has no part in it.

    Parameters
    ----------
    module : nn.Module
    *inputs : Tensor of shape [tasks, n, *features], or tuples of those
    """
    threads = torch.get_num_threads()
    if threads == 1 or _multiplications(module, inputs) >= FEWEST_MULTIPLICATIONS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _multiplications(module: nn.Module, inputs: tuple[Inputs, ...]) -> float:
    """Count one pass; none is too small where there is no CPU to share."""
    sizes = [(value.dim(), value.numel()) for value in module.parameters() if value.device.type == "cpu"]
    if not sizes and next(module.parameters(), None) is not None:
        return math.inf
    total = 0
    for x in inputs:
        part: Tensor = x[0] if isinstance(x, tuple) else x
        examples, features = math.prod(part.shape[:2]), part.shape[2:]
        places = math.prod(features[1:]) if len(features) == 3 else 1
        total += examples * sum(count * (places if dim == 4 else 1) for dim, count in sizes)
    return total
