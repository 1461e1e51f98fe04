"""One thread for what is too small to share among several."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from autometa.contracts.examples import Inputs
from autometa.engine.device import place_of

FEWEST_MULTIPLICATIONS = 2**22
FEWEST_OF_CONVOLUTIONS = 2**30
"""How many multiplications one pass over a batch takes, at least, to be shared among threads; those of convolutions
are counted as if they saw the whole image.

Time of an outer step of 4 tasks on two threads over that on one, 2 cores of an AMD EPYC (torch 2.13, 2026-11-27), with
the machine to itself and beside other programs (load 7 to 9):

==============================================  ==============  =====  ====
network                                         multiplications quiet  busy
==============================================  ==============  =====  ====
maml, linear layers of 40                       2^18            1.00   3.4
maml, linear layers of 128                      2^20            0.78   13
lstm                                            2^22            0.94   12
maml, linear layers of 256                      2^22.3          0.62   2.0
in_context                                      2^23            0.97   6.8
maml, linear layers of 512                      2^24            0.59   7.1
prototypical, conv4 of 8 filters, 8x8           2^24 (conv)     1.03   8.3
prototypical, conv4 of 16 filters, 8x8          2^27 (conv)     0.86   8.8
prototypical, conv4 of 32 filters, 8x8          2^29 (conv)     0.87   4.4
prototypical, conv4 of 64 filters, 8x8          2^31 (conv)     0.67   2.4
maml, conv4 of 64 filters, 8x8                  2^31 (conv)     0.75   5.7
prototypical, conv4 of 16 filters, 28x28        2^31 (conv)     0.52   3.1
prototypical, conv4 of 64 filters, 28x28        2^35 (conv)     0.57   1.6
==============================================  ==============  =====  ====
"""


_lock = threading.Lock()
_blocks = 0
_wanted = 1


@contextmanager
def enough_threads(module: nn.Module, *inputs: Inputs) -> Iterator[None]:
    """Run a block on one thread of the CPU if the network has too little to do with these inputs for several.

    Threads that share an operation wait for each other. Where other programs run, that wait is up to their next turn,
    and small operations take ten times as long on two threads as on one. The rule counts one pass of the inputs
    through the network; a clock has no part in it.

    Torch's number of threads belongs to a thread of Python, which takes over the last one set anywhere. So blocks that
    overlap in several threads agree on the number that the first of them found.

    Parameters
    ----------
    module : nn.Module
    *inputs : Tensor of shape [tasks, n, *features], or tuples of those
    """
    global _blocks, _wanted
    with _lock:
        if _blocks == 0:
            _wanted = torch.get_num_threads()
        _blocks += 1
        wanted = _wanted
    try:
        threads = wanted if wanted == 1 or _share_of_fewest(module, inputs) >= 1 else 1
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        yield
    finally:
        if wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)
        with _lock:
            _blocks -= 1


def _share_of_fewest(module: nn.Module, inputs: tuple[Inputs, ...]) -> float:
    """Return the multiplications of one pass over the fewest to share; infinity where there is no CPU to share.

    Without weights to count, each value of the inputs stands for one.
    """
    sizes = [(value.dim(), value.numel()) for value in module.parameters() if value.is_cpu]
    if not sizes and place_of(module)[0].type != "cpu":
        return math.inf
    per_value = 0 if sizes else 1
    linear = sum(count for dim, count in sizes if dim < 4)
    convolutions = sum(count for dim, count in sizes if dim >= 4)
    total = 0.0
    for x in inputs:
        part: Tensor = x[0] if isinstance(x, tuple) else x
        examples, features = math.prod(part.shape[:2]), part.shape[2:]
        places = math.prod(features[1:]) if len(features) == 3 else 1
        total += examples * (linear / FEWEST_MULTIPLICATIONS + places * convolutions / FEWEST_OF_CONVOLUTIONS)
        total += per_value * part.numel() / FEWEST_MULTIPLICATIONS
    return total
