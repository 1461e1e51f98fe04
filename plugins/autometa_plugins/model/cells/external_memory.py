"""The memory-augmented network of Santoro et al. 2016."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autometa_plugins.model.cells.cell import State, StepCell
from autometa_plugins.model.cells.recurrent import start_remembering

_EMPTY = 1e-6
"""What every number of a fresh memory is: a cosine needs a direction."""
_SMALLEST = 1e-8
"""Norm below which a vector counts as zero: well under that of an empty slot."""


class ExternalMemory(StepCell):
    """An LSTM controller that writes to the least used slots of a memory and reads by content.

    Santoro et al. 2016, section 3. Each of the heads has a key, with which it reads what earlier steps wrote and which
    it then writes.

    Parameters
    ----------
    width : int
        Of a token.
    hidden_size : int
        Of the controller.
    n_slots, slot_size, n_heads : int
        At least as many slots as heads.
    decay : float
        Of usage.
    length : int
        Steps that the controller remembers from the first gradient on, see :class:`RecurrentCell`.
    strength : float
        What the softmax multiplies cosines by, before it is learned.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden_size: int,
        n_slots: int,
        slot_size: int,
        n_heads: int,
        decay: float,
        strength: float,
        length: int,
    ) -> None:
        super().__init__()
        self.n_slots, self.slot_size, self.n_heads, self.decay = n_slots, slot_size, n_heads, decay
        self.controller = nn.LSTMCell(width + n_heads * slot_size, hidden_size)
        start_remembering(self.controller.bias_ih, self.controller.bias_hh, length, "lstm")
        self.key = nn.Linear(hidden_size, n_heads * slot_size)
        self.gate = nn.Linear(hidden_size, n_heads)
        self.log_strength = nn.Parameter(torch.full((n_heads,), float(strength)).log())
        self.n_features = hidden_size + n_heads * slot_size

    def start(self, tokens: Tensor) -> State:
        """Nothing written, nothing read, nothing used."""
        n, hidden_size = len(tokens), self.controller.hidden_size
        return {
            "hidden": tokens.new_zeros(n, hidden_size),
            "cell": tokens.new_zeros(n, hidden_size),
            "memory": tokens.new_full((n, self.n_slots, self.slot_size), _EMPTY),
            "reading": tokens.new_zeros(n, self.n_heads, self.n_slots),
            "usage": tokens.new_zeros(n, self.n_slots),
            "read": tokens.new_zeros(n, self.n_heads * self.slot_size),
        }

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Read and write once."""
        hidden, cell, keys = self._control(token, state["hidden"], state["cell"], state["read"])
        reading = self.address(state["memory"], keys)
        read = (reading @ state["memory"]).flatten(1)
        fresh = least_used(state["usage"], self.n_heads)
        gate = self.gate(hidden).sigmoid().unsqueeze(-1)
        writing = gate * state["reading"] + (1 - gate) * fresh
        memory = write(state["memory"], fresh, writing, keys)
        after = {"hidden": hidden, "cell": cell, "memory": memory, "reading": reading, "read": read}
        after["usage"] = self.decay * state["usage"] + (reading + writing).detach().sum(1)
        return torch.cat([hidden, read], dim=-1), after

    def answer(self, state: State, tokens: Tensor) -> Tensor:
        """Features of tokens that each come next, see :meth:`Cell.answer`: all read the one memory, and none writes."""
        n = tokens.shape[1]
        small = (state[name].repeat_interleave(n, dim=0) for name in ("hidden", "cell", "read"))
        hidden, _, keys = self._control(tokens.flatten(0, 1), *small)
        keys = keys.view(len(tokens), n * self.n_heads, self.slot_size)
        read = self.address(state["memory"], keys) @ state["memory"]
        return torch.cat([hidden.view(len(tokens), n, -1), read.view(len(tokens), n, -1)], dim=-1)

    def _control(self, token: Tensor, hidden: Tensor, cell: Tensor, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, cell = self.controller(torch.cat([token, read], dim=-1), (hidden, cell))
        return hidden, cell, self.key(hidden).tanh().view(-1, self.n_heads, self.slot_size)

    def address(self, memory: Tensor, keys: Tensor) -> Tensor:
        """Read weights [sequences, keys, slots]: softmax over the slots of cosines with the keys, eq. 2 and 3."""
        # Dividing the products spares a normalised copy of the memory in every step.
        norms = memory.norm(dim=-1).clamp(min=_SMALLEST).unsqueeze(1)
        cosines = nn.functional.normalize(keys, dim=-1, eps=_SMALLEST) @ memory.mT / norms
        strength = self.log_strength.exp().repeat(keys.shape[1] // self.n_heads).unsqueeze(-1)
        weights: Tensor = (strength * cosines).softmax(dim=-1)
        return weights


def least_used(usage: Tensor, n_heads: int) -> Tensor:
    """One-hot weights [sequences, heads, slots]: the least used slot for the first head, the next for the second."""
    slots = usage.topk(n_heads, dim=-1, largest=False).indices
    return nn.functional.one_hot(slots, usage.shape[-1]).to(usage.dtype)


def write(memory: Tensor, fresh: Tensor, writing: Tensor, keys: Tensor) -> Tensor:
    """Empty the ``fresh`` slots and add the keys to all slots by their weights, eq. 8."""
    return memory * (1 - fresh.sum(1)).unsqueeze(-1) + writing.mT @ keys
