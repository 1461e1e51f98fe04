"""Recurrent weights that learn while a sequence is read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autometa_plugins.model.cells.cell import State, StepCell


class PlasticCell(StepCell):
    """A recurrent layer with fast Hebbian weights beside the slow ones.

    With slow weights U and V, fast weights A, and x the token, a step is::

        u = V x + U h / sqrt(hidden_size)
        h' = tanh(norm(u + a * (A tanh(norm(u)))))
        A' = decay * A + m(h') h' h^T / hidden_size

    The update is that of Miconi et al. 2019, section 3.1: what is active after a step is associated with what was
    active before it, as strongly as the network itself decides by the scalar m. The fast weights are applied to what
    the slow ones make of the token, as in the inner loop (one iteration) and with the layer norm of Ba et al. 2016.

    Parameters
    ----------
    width : int
        Of a token.
    hidden_size : int
    decay : float
        Of the fast weights.
    modulated : bool
        Whether m is computed from h'; otherwise it is one learned number.
    """

    def __init__(self, width: int, *, hidden_size: int, decay: float, modulated: bool) -> None:
        super().__init__()
        self.n_features = hidden_size
        self.decay = decay
        self.token = nn.Linear(width, hidden_size)
        self.slow = nn.Linear(hidden_size, hidden_size, bias=False)
        self.norm = nn.LayerNorm(hidden_size)
        self.plasticity = nn.Parameter(torch.ones(hidden_size))
        nn.init.normal_(self.slow.weight, std=0.1)
        self.modulator = nn.Linear(hidden_size, 1) if modulated else None
        self.rate = nn.Parameter(torch.tensor(1.0))

    def start(self, tokens: Tensor) -> State:
        """Nothing active, no fast weights."""
        return {
            "hidden": tokens.new_zeros(len(tokens), self.n_features),
            "fast": tokens.new_zeros(len(tokens), self.n_features, self.n_features),
        }

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Use the fast weights and change them."""
        before, fast = state["hidden"], state["fast"]
        # Divided by a root of the width, the slow recurrence starts small and stays so under large outer steps. What
        # was read before would otherwise drown the token that the fast weights are to recognise.
        drive = self.token(token) + self.slow(before) / self.n_features**0.5
        recalled = (fast @ self.norm(drive).tanh().unsqueeze(-1)).squeeze(-1)
        hidden = self.norm(drive + self.plasticity * recalled).tanh()
        change = self.modulation(hidden) * hidden / self.n_features
        fast = torch.baddbmm(fast, change.unsqueeze(2), before.unsqueeze(1), beta=self.decay)
        return hidden, {"hidden": hidden, "fast": fast}

    def modulation(self, hidden: Tensor) -> Tensor:
        """How strongly to associate, [sequences, 1]."""
        if self.modulator is None:
            return self.rate.expand(len(hidden), 1)
        modulated: Tensor = self.rate * (1 + self.modulator(hidden).tanh())
        return modulated
