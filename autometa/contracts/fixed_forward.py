"""The promise of a network's ``forward`` by which it may be run in other ways."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

from torch import nn

from autometa.errors import InvalidParameter

Forward = TypeVar("Forward", bound=Callable[..., object])
_MARK = "_is_fixed"


def fixed_forward(forward: Forward) -> Forward:
    """Promise that a network's ``forward`` depends on its layers, ``training`` and the inputs alone.

    Then :func:`autometa.descend` may read it once and run what it does in fewer calls, as batched matrix products for
    instance. A ``forward`` that looks at anything else, such as a number that is changed between calls or a random
    choice of Python, must not promise it. A decorator above this one is not promised, and neither are subclasses, which
    may override what ``forward`` calls: one that keeps the promise says ``forward = am.fixed_forward(Base.forward)``.
    torch's own layers and ``nn.Sequential`` need no promise.

    Parameters
    ----------
    forward : method of a nn.Module

    Returns
    -------
    The method.

    Raises
    ------
    InvalidParameter
        It is no method as a class defines it, but a class, a network, or a method of one network.

    Examples
    --------
    >>> import autometa as am
    >>> from torch import nn
    >>> class Flat(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(4, 2)
    ...
    ...     @am.fixed_forward
    ...     def forward(self, x):
    ...         return self.layer(x.flatten(1)).relu()
    """
    if not isinstance(forward, FunctionType):
        raise InvalidParameter(
            f"forward={forward!r} is no method that a class defines; write @autometa.fixed_forward above "
            "'def forward' within the class."
        )
    setattr(forward, _MARK, forward)  # itself: functools.wraps copies the mark to decorators, which promise nothing
    return forward


def is_fixed(layer: nn.Module) -> bool:
    """Tell whether what a layer's ``forward`` does is known: it is torch's own, or its very class promises it."""
    own = vars(type(layer)).get("forward")
    return (own is not None and getattr(own, _MARK, None) is own) or is_torchs(layer)


def is_torchs(layer: nn.Module) -> bool:
    """Tell whether a layer's ``forward`` is torch's own, also if its class is not."""
    return type(layer).forward.__module__.startswith("torch.nn")
