"""A bound on the memory that torch takes, kept before it is taken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import ListType, Tensor, TensorType
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class TooMuchMemory(Exception):
    """An operation needs more memory than is allowed, or does not tell from shapes alone how much it needs."""


class WithoutMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While this lasts, torch's operations take no memory for tensors: they have shapes and no values."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        return _without_memory(function, *tree_map(_stand_in, (arguments, options or {})))


class BoundedMemory(TorchDispatchMode):
    """While this lasts, torch's operations make tensors of at most ``n_bytes``, all together.

    Raises
    ------
    TooMuchMemory
        Before the operation runs that would make more.
    """

    def __init__(self, n_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = n_bytes

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        self._left -= _growth(function, arguments, options)
        if self._left < 0:
            raise TooMuchMemory
        return function(*arguments, **options)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to import its compiler for this, which takes a second."""
        return False


_LARGEST = torch.complex128.itemsize
_OF_SIZE = frozenset({torch.ops.aten.empty.memory_format, torch.ops.aten.zeros.default, torch.ops.aten.ones.default})
"""Operations whose first argument is the size of the result."""


def _growth(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
    """Return how many bytes the results of an operation need at most, beside those of its arguments.

    What makes initial weights is told from shapes here, as torch imports much to tell it.
    """
    results = [result for result in function._schema.returns if isinstance(result.type, (TensorType, ListType))]
    if all(result.alias_info for result in results) and not _may_enlarge(function):
        return 0
    shapes = [leaf.shape for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor)]
    if torch.Tag.pointwise in function.tags:
        return _LARGEST * math.prod(np.broadcast_shapes(*shapes))
    if torch.Tag.reduction in function.tags:
        return _LARGEST * sum(map(math.prod, shapes))
    if function in _OF_SIZE:
        return _LARGEST * int(math.prod(arguments[0]))
    if function is torch.ops.aten.linalg_qr.default:
        return _LARGEST * math.prod(shapes[0][:-2]) * sum(shapes[0][-2:]) ** 2
    return _exact_growth(function, arguments, options)


def _may_enlarge(function: Any) -> bool:
    """Tell whether an operation may give one of its arguments another size."""
    return torch.Tag.out in function.tags or any(word in function.name() for word in ("resize", "set_", "out"))


def _exact_growth(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
    """Run an operation without memory, which tells the size of its results."""
    try:
        given = tree_map(_stand_in, (arguments, options))
        before = _storages(given)
        after = _storages(_without_memory(function, *given))
    except (NotImplementedError, RuntimeError) as error:  # the size depends on values, or on what has no stand-in
        raise TooMuchMemory from error
    return sum(n_bytes - before.get(storage, 0) for storage, n_bytes in after.items())


def _without_memory(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Run an operation that is given tensors without memory; return such tensors."""
    has_device = any(argument.name == "device" for argument in function._schema.arguments)
    return function(*arguments, **(options | ({"device": torch.device("meta")} if has_device else {})))


def _stand_in(value: Any) -> Any:
    """Return a tensor without memory in place of one with, and no generator, which is of a device with memory."""
    if isinstance(value, torch.Generator):
        return None
    if isinstance(value, Tensor) and not value.is_meta:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    return value


def _storages(tensors: Any) -> dict[int, int]:
    """Return the bytes of each storage that tensors have, by its address."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)]
    return {storage._cdata: storage.nbytes() for storage in storages}
