"""What every network that reads sequences does: read, remember, answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

State: TypeAlias = dict[str, Tensor]
"""What a cell remembers of sequences: tensors that all lead with [sequences]."""

_NUMBERS_AT_ONCE = 2**24
"""Numbers that copies of the state may hold while queries are answered: 64 MiB."""


class Cell(nn.Module, ABC):
    """A network from a sequence of tokens to features at every step, which never looks ahead."""

    n_features: int
    """Width of the features."""

    @abstractmethod
    def start(self, tokens: Tensor) -> State:
        """State of as many sequences as ``tokens`` [sequences, n, width] has, before anything is read."""

    @abstractmethod
    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading.

        Parameters
        ----------
        tokens : Tensor of shape [sequences, n, width]
        mask : Tensor of shape [sequences, n], bool, or None for all of them
            True where a token exists. Padded places come last in every sequence.
        state : dict of Tensor
            Of :meth:`start` or of an earlier :meth:`read`; it is left as it is.

        Returns
        -------
        features : Tensor of shape [sequences, n, n_features]
            Those of a step depend on no later one. Anything where padded.
        state : dict of Tensor
            After the last token that exists.
        """

    def answer(self, state: State, tokens: Tensor) -> Tensor:
        """Features [sequences, n, n_features] of each token [sequences, n, width], read as if it alone came next."""
        held = sum(value.numel() for value in state.values())
        parts = torch.split(tokens, max(1, _NUMBERS_AT_ONCE // max(1, held)), dim=1)
        return torch.cat([self._answer(state, part) for part in parts], dim=1)

    def _answer(self, state: State, tokens: Tensor) -> Tensor:
        n = tokens.shape[1]
        copies = {name: value.repeat_interleave(n, dim=0) for name, value in state.items()}
        alone = tokens.flatten(0, 1).unsqueeze(1)
        features, _ = self.read(alone, None, copies)
        return features.view(*tokens.shape[:2], -1)


class StepCell(Cell):
    """A cell that computes one step after the other."""

    @abstractmethod
    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token [sequences, width]; return features [sequences, n_features] and the state after it."""

    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading, see :meth:`Cell.read`."""
        features = []
        for place, token in enumerate(tokens.unbind(1)):
            found, after = self.step(token, state)
            features.append(found)
            state = after if mask is None else _where(mask[:, place], after, state)
        if not features:
            return tokens.new_zeros(*tokens.shape[:2], self.n_features), state
        return torch.stack(features, dim=1), state


def everywhere(tokens: Tensor) -> Tensor:
    """Return the mask [sequences, n] of sequences [sequences, n, width] that have no padding."""
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _where(exists: Tensor, after: State, before: State) -> State:
    return {
        name: torch.where(exists.view(-1, *[1] * (value.dim() - 1)), value, before[name])
        for name, value in after.items()
    }


def read_in_chunks(
    cell: Cell, tokens: Tensor, mask: Tensor | None, chunk: int | None, state: State | None = None
) -> tuple[Tensor, State]:
    """Read a sequence ``chunk`` tokens at a time, store only the states between chunks, recompute the rest in backward.

    The gradient is the same. None: read all at once and store everything.
    """
    state = cell.start(tokens) if state is None else state
    if chunk is None or chunk >= tokens.shape[1]:
        return cell.read(tokens, mask, state)
    features = []
    parts = torch.split(tokens, chunk, dim=1)
    masks = [None] * len(parts) if mask is None else torch.split(mask, chunk, dim=1)
    for part, exists in zip(parts, masks, strict=True):
        if torch.is_grad_enabled():
            found, state = checkpoint(cell.read, part, exists, state, use_reentrant=False, preserve_rng_state=False)
        else:
            found, state = cell.read(part, exists, state)
        features.append(found)
    return torch.cat(features, dim=1), state
