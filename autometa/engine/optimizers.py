"""The optimizers of torch as they run eagerly: without torch's compiler, whose import takes longer than torch's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch.optim import Optimizer

# torch.optim guards these against its compiler, which every guard imports when it is first passed.
_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def _eager(kind: type[Optimizer]) -> type[Optimizer]:
    """Return a subclass that takes the same steps, bit for bit, outside ``torch.compile``."""
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _GUARDED}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods | {"__module__": __name__, "__doc__": kind.__doc__})


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    kind.__name__: _eager(kind)
    for kind in vars(torch.optim).values()
    if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
}


def __getattr__(name: str) -> Callable[..., Optimizer]:
    """Return an optimizer by its name, for which pickle looks here."""
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
