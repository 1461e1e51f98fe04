"""The parameters that evolve, as one vector of numbers."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import autometa as am


class Genome:
    """Some of a module's parameters laid end to end.

    Parameters
    ----------
    module : nn.Module
        Changed in place by :meth:`write`.
    patterns : sequence of str, optional
        Names of parameters, in which ``*`` stands for anything; None: all that are trained.

    Raises
    ------
    InvalidParameter
        A pattern fits no parameter.
    Incompatible
        There is nothing to evolve.
    """

    def __init__(self, module: nn.Module, patterns: Sequence[str] | None) -> None:
        trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
        is_list = isinstance(patterns, Sequence) and not isinstance(patterns, str) and len(patterns) > 0
        if patterns is not None and not (is_list and all(isinstance(pattern, str) for pattern in patterns)):
            such_as = patterns if isinstance(patterns, str) and patterns else "head.*"
            raise am.InvalidParameter(f"parameters={patterns!r} must be a sequence of names, such as [{such_as!r}].")
        for pattern in patterns or ():
            if not fnmatch.filter(trained, pattern):
                raise am.InvalidParameter(
                    f"parameters={list(patterns or ())!r}: {pattern!r} fits none of {sorted(trained)}."
                )
        if not trained:
            raise am.Incompatible("the learner's θ has no parameters, so there is nothing to evolve.")
        self._values = {
            name: value
            for name, value in trained.items()
            if patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        }

    def __len__(self) -> int:
        return sum(value.numel() for value in self._values.values())

    def read(self) -> Tensor:
        """The numbers as they are, a copy [n]."""
        return torch.cat([value.detach().flatten() for value in self._values.values()])

    def write(self, vector: Tensor) -> None:
        """Set the numbers."""
        with torch.no_grad():
            for value, new in zip(self._values.values(), self._parts(vector), strict=True):
                value.copy_(new.view_as(value))

    def named(self, vectors: Tensor) -> dict[str, Tensor]:
        """Parameters by name, each [candidates, *shape], of candidates [candidates, n]."""
        return {
            name: part.reshape(len(vectors), *value.shape)
            for (name, value), part in zip(self._values.items(), self._parts(vectors), strict=True)
        }

    def along(self, vector: Tensor) -> Tensor:
        """Inner product of the numbers with a vector [n], whose derivative is the vector."""
        parts = zip(self._values.values(), self._parts(vector), strict=True)
        return torch.stack([(value * part.view_as(value)).sum() for value, part in parts]).sum()

    def _parts(self, vectors: Tensor) -> tuple[Tensor, ...]:
        return torch.split(vectors, [value.numel() for value in self._values.values()], dim=-1)
