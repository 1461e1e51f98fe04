"""Differentiate several losses of one network side by side, one thread for each.

The few images of one task do not keep all cores busy: cut among threads, each operation is too small to be worth it.
As many tasks as there are threads, each computed by one thread, do.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue

import torch
from torch import Tensor, nn

from autometa.engine.kept_values import Kept
from autometa.engine.running_averages import averages_of, can_fold, fold, start_at_zero

ModuleLoss = Callable[[nn.Module], Tensor]
Differentiated = tuple[Tensor, tuple[Tensor | None, ...]]
"""The value of a loss, detached, and its gradient for every parameter it depends on."""


class SideBySide:
    """Differentiates losses of a module on several threads.

    Losses that draw random numbers or change what the module keeps would depend on which thread comes first. So the
    first losses run one after the other and are watched; if they do either, or if the module cannot be copied, all
    later ones run one after the other too. Running averages of batch norm are no obstacle: what every loss adds to them
    is folded in in the order of the losses.

    Parameters
    ----------
    module : nn.Module
        On the CPU. Threads run copies of it that share its parameters and buffers.
    parameters : sequence of Tensor
        What to differentiate for.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[Tensor]) -> None:
        self._module = module
        self._parameters = parameters
        self._independent: bool | None = None
        self._workers = _Workers()

    def differentiate(self, losses: Sequence[ModuleLoss], threads: int) -> Iterator[Differentiated]:
        """Yield the value and gradient of every loss, in their order.

        Torch's threads are shared out among the threads; their number changes nothing but rounding.
        """
        if self._independent is None:
            before = _traces(self._module)
            yield from self._run(losses, [self._module], of=threads)
            self._independent = _traces(self._module) == before and _can_be_copied(self._module)
        elif self._independent:
            copies = [_copy(self._module) for _ in range(threads)]
            apart = [_Apart(loss) for loss in losses]
            for loss, differentiated in zip(apart, self._run(apart, copies, of=threads), strict=True):
                fold(self._module, loss.averages, loss.counts)
                yield differentiated
        else:
            yield from self._run(losses, [self._module], of=1)

    def _run(self, losses: Sequence[ModuleLoss], modules: list[nn.Module], of: int) -> Iterator[Differentiated]:
        free: SimpleQueue[nn.Module] = SimpleQueue()
        for module in modules:
            free.put(module)

        def run(loss: ModuleLoss) -> Differentiated:
            module = free.get()
            try:
                value = loss(module)
                if not value.requires_grad:
                    return value, (None,) * len(self._parameters)
                return value.detach(), torch.autograd.grad(value, self._parameters, allow_unused=True)
            finally:
                free.put(module)

        available = torch.get_num_threads()
        pool = self._workers.pool(len(modules), max(1, available // of))
        try:
            futures = [pool.submit(run, loss) for loss in losses]
            try:
                for future in futures:
                    yield future.result()
            finally:
                wait([future for future in futures if not future.cancel()])
        finally:
            # The number is per thread, but the last one set is also that of threads yet to start.
            torch.set_num_threads(available)


class _Workers:
    """Threads that stay from one step to the next.

    Outer steps of 4 tasks with conv4 took 5 to 9% less processor time than on new threads (64 filters, 28x28, two
    threads of a busy AMD EPYC, torch 2.13).
    """

    def __init__(self) -> None:
        self._of: tuple[int, int, int] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def pool(self, n: int, share: int) -> ThreadPoolExecutor:
        """Return ``n`` threads with so many of torch's own each; those of a process are not those of its fork."""
        of = (os.getpid(), n, share)
        if self._pool is None or of != self._of:
            self._of = of
            self._pool = ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(share,))
        return self._pool

    def __reduce__(self) -> tuple[type[_Workers], tuple[()]]:
        """Leave threads out of copies."""
        return _Workers, ()


class _Apart:
    """A loss whose updates of running averages start from zero, in a copy of the module."""

    def __init__(self, loss: ModuleLoss) -> None:
        self._loss = loss
        self.averages: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def __call__(self, module: nn.Module) -> Tensor:
        averages, self.counts = start_at_zero(module, 1)
        for name, buffer in (averages | self.counts).items():
            layer, _, own = name.rpartition(".")
            module.get_submodule(layer).register_buffer(own, buffer[0] if name in averages else buffer)
        value = self._loss(module)
        self.averages = averages
        return value


def _copy(module: nn.Module) -> nn.Module:
    """Copy a module but for its tensors, so that calls with other parameters can swap them in each copy."""
    tensors = [*module.parameters(), *module.buffers()]
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


def _can_be_copied(module: nn.Module) -> bool:
    try:
        _copy(module)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception:  # whatever a layer raises that cannot be copied: one that keeps its last result, a lock
        return False
    return True


def _traces(module: nn.Module) -> tuple[bytes, Kept]:
    """Return what a loss may change: torch's random state and what is kept, but for averages that can be folded."""
    folded = {id(average) for average in averages_of(module).values()} if can_fold(module) else set()
    return torch.get_rng_state().numpy().tobytes(), Kept(module, but=folded)
