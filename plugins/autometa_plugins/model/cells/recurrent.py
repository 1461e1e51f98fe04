"""LSTM and GRU by torch's fused kernels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from autometa_plugins.model.cells.cell import Cell, State


class RecurrentCell(Cell):
    """An LSTM (Hochreiter & Schmidhuber 1997) or a GRU (Cho et al. 2014).

    Parameters
    ----------
    kind : {"lstm", "gru"}
    width : int
        Of a token.
    hidden_size, n_layers : int
    length : int
        The gates that keep the state start with memories of 1 to this many steps (Tallec & Ollivier 2018, Can Recurrent
        Neural Networks Warp Time?, section 2.2).
    """

    def __init__(self, kind: Literal["lstm", "gru"], width: int, hidden_size: int, n_layers: int, length: int) -> None:
        super().__init__()
        network = nn.LSTM if kind == "lstm" else nn.GRU
        self.network: nn.RNNBase = network(width, hidden_size, n_layers, batch_first=True)
        self.parts = ("hidden", "cell") if kind == "lstm" else ("hidden",)
        self.n_features = hidden_size
        for layer in range(n_layers):
            bias, other = (getattr(self.network, f"bias_{part}_l{layer}") for part in ("ih", "hh"))
            start_remembering(bias, other, length, kind)

    def start(self, tokens: Tensor) -> State:
        """All zeros: each part [sequences, n_layers, hidden_size]."""
        zeros = tokens.new_zeros(len(tokens), self.network.num_layers, self.network.hidden_size)
        return dict.fromkeys(self.parts, zeros)

    def read(self, tokens: Tensor, mask: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Go on reading, see :meth:`Cell.read`."""
        before = tuple(state[part].transpose(0, 1).contiguous() for part in self.parts)
        lengths = None if mask is None else mask.sum(1)
        # A packed sequence must not be empty: one that is reads a padded token, and its state is put back.
        given = tokens if lengths is None else _packed(tokens, lengths.clamp(min=1))
        features, after = self.network(given, before if len(before) > 1 else before[0])
        states = [part.transpose(0, 1) for part in (after if len(before) > 1 else (after,))]
        if lengths is not None:
            features, _ = pad_packed_sequence(features, batch_first=True, total_length=tokens.shape[1])
            begun = (lengths > 0)[:, None, None]
            states = [torch.where(begun, new, state[part]) for part, new in zip(self.parts, states, strict=True)]
        return features, dict(zip(self.parts, states, strict=True))


def _packed(tokens: Tensor, lengths: Tensor) -> nn.utils.rnn.PackedSequence:
    return pack_padded_sequence(tokens, lengths.cpu(), batch_first=True, enforce_sorted=False)


def start_remembering(bias: Tensor, other: Tensor, length: int, kind: Literal["lstm", "gru"]) -> None:
    """Start the gates of a layer, whose two biases torch adds, at memories of 1 to ``length`` steps."""
    with torch.no_grad():
        size = len(bias) // (4 if kind == "lstm" else 3)
        memory = torch.empty(size).uniform_(1, max(2, length)).log()
        # torch's order of gates: input, forget, ... of an LSTM; reset, update, ... of a GRU.
        bias[size : 2 * size], other[size : 2 * size] = memory, 0.0
        if kind == "lstm":
            bias[:size], other[:size] = -memory, 0.0
