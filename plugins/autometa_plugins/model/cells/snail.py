"""Temporal convolutions interleaved with causal attention: Mishra et al. 2018."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autometa_plugins.model.cells.cell import Cell, State, everywhere


class CausalConvolution(Cell):
    """A gated convolution of two taps: a step and the one ``dilation`` steps before it (Mishra et al. 2018, fig. 1).

    Its state is the last ``dilation`` inputs; before the first there are zeros.
    """

    def __init__(self, width: int, n_filters: int, dilation: int) -> None:
        super().__init__()
        self.n_features = n_filters
        self.dilation = dilation
        self.taps = nn.Linear(2 * width, 2 * n_filters)

    def start(self, tokens: Tensor) -> State:
        """Return ``past`` [sequences, dilation, width]."""
        return {"past": tokens.new_zeros(len(tokens), self.dilation, tokens.shape[-1])}

    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading, see :meth:`Cell.read`."""
        inputs = torch.cat([state["past"], tokens], dim=1)
        exist = everywhere(tokens) if mask is None else mask
        last = exist.sum(1, keepdim=True) + torch.arange(self.dilation, device=tokens.device)
        past = inputs.gather(1, last.unsqueeze(-1).expand(-1, -1, inputs.shape[-1]))
        return self._gated(inputs[:, : tokens.shape[1]], tokens), {"past": past}

    def answer(self, state: State, tokens: Tensor) -> Tensor:
        """Features of tokens that each come next, see :meth:`Cell.answer`."""
        return self._gated(state["past"][:, :1].expand_as(tokens), tokens)

    def _gated(self, earlier: Tensor, tokens: Tensor) -> Tensor:
        value, gate = self.taps(torch.cat([earlier, tokens], dim=-1)).chunk(2, dim=-1)
        gated: Tensor = value.tanh() * gate.sigmoid()
        return gated


class CausalAttention(Cell):
    """One head of attention to all steps so far, this one included; the softmax runs over them.

    Its state is their keys and values.
    """

    def __init__(self, width: int, key_size: int, value_size: int) -> None:
        super().__init__()
        self.n_features = value_size
        self.sizes = (key_size, key_size, value_size)
        self.project = nn.Linear(width, sum(self.sizes))

    def start(self, tokens: Tensor) -> State:
        """Return ``keys``, ``values`` and ``seen``, of no step yet."""
        n = len(tokens)
        return {
            "keys": tokens.new_zeros(n, 0, self.sizes[1]),
            "values": tokens.new_zeros(n, 0, self.sizes[2]),
            "seen": torch.zeros(n, 0, dtype=torch.bool, device=tokens.device),
        }

    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading, see :meth:`Cell.read`."""
        query, key, value = self.project(tokens).split(self.sizes, dim=-1)
        keys, values = torch.cat([state["keys"], key], dim=1), torch.cat([state["values"], value], dim=1)
        n, earlier = tokens.shape[1], state["seen"].unsqueeze(1).expand(-1, tokens.shape[1], -1)
        # Padded places come last, so a step that exists sees none; one that is padded sees itself and stays finite.
        causal = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril().expand(len(tokens), -1, -1)
        visible = torch.cat([earlier, causal], dim=2)
        found = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=visible)
        seen = torch.cat([state["seen"], everywhere(tokens) if mask is None else mask], dim=1)
        return found, {"keys": keys, "values": values, "seen": seen}

    def answer(self, state: State, tokens: Tensor) -> Tensor:
        """Features of tokens that each come next, see :meth:`Cell.answer`."""
        query, key, value = self.project(tokens).split(self.sizes, dim=-1)
        earlier = (query @ state["keys"].mT).masked_fill(~state["seen"].unsqueeze(1), -torch.inf)
        own = (query * key).sum(-1, keepdim=True)
        weights = (torch.cat([earlier, own], dim=-1) / math.sqrt(key.shape[-1])).softmax(dim=-1)
        found: Tensor = weights[..., :-1] @ state["values"] + weights[..., -1:] * value
        return found


class DenseStack(Cell):
    """Layers each of which gets the tokens and all that the layers before it found."""

    def __init__(self, width: int, layers: Sequence[Cell]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.n_features = width + sum(layer.n_features for layer in layers)

    def start(self, tokens: Tensor) -> State:
        """States of all layers."""
        state: State = {}
        for number, layer in enumerate(self._cells()):
            state |= _numbered(number, layer.start(tokens))
            tokens = torch.cat([tokens, tokens.new_zeros(*tokens.shape[:2], layer.n_features)], dim=-1)
        return state

    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading, see :meth:`Cell.read`."""
        after: State = {}
        for number, layer in enumerate(self._cells()):
            found, own = layer.read(tokens, mask, _own(number, state))
            tokens = torch.cat([tokens, found], dim=-1)
            after |= _numbered(number, own)
        return tokens, after

    def answer(self, state: State, tokens: Tensor) -> Tensor:
        """Features of tokens that each come next, see :meth:`Cell.answer`."""
        for number, layer in enumerate(self._cells()):
            tokens = torch.cat([tokens, layer.answer(_own(number, state), tokens)], dim=-1)
        return tokens

    def _cells(self) -> list[Cell]:
        return [layer for layer in self.layers if isinstance(layer, Cell)]


def _numbered(number: int, state: State) -> State:
    return {f"{number}.{name}": value for name, value in state.items()}


def _own(number: int, state: State) -> State:
    start = f"{number}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def snail(width: int, *, attention: Sequence[tuple[int, int]], n_filters: int, length: int) -> DenseStack:
    """Attention blocks of the given key and value sizes, and between two of them convolutions that span ``length``.

    The convolutions between two attention blocks have the dilations 1, 2, 4, ... below ``length``.
    """
    layers: list[Cell] = []
    at = width

    def add(layer: Cell) -> None:
        nonlocal at
        layers.append(layer)
        at += layer.n_features

    for number, (key_size, value_size) in enumerate(attention):
        for power in range(math.ceil(math.log2(max(2, length))) if number else 0):
            add(CausalConvolution(at, n_filters, 2**power))
        add(CausalAttention(at, key_size, value_size))
    return DenseStack(width, layers)
