"""From vectors of rows to logits, or to distributions of real targets."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from autometa_plugins.tabular.pfn.histogram import N_SHAPE
from autometa_plugins.tabular.pfn.row_network import mean_over_present

_N_HEADS, _SIZE = 4, 16
_LEAST_SHARE = 0.01
_MOST_SPREAD = 2.0


class Retrieval(nn.Module):
    """Look up the labels of support rows that are alike: a softmax over the rows weights their labels.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ask = nn.Linear(width, _N_HEADS * _SIZE, bias=False)
        self.keep = nn.Linear(width, _N_HEADS * _SIZE, bias=False)
        self.trust = nn.Parameter(torch.zeros(_N_HEADS))

    def keys(self, support: Float[Tensor, "task out row width"]) -> Float[Tensor, "task out row key"]:
        """Return what is kept of the support rows."""
        return self.keep(support)  # type: ignore[no-any-return]

    def forward(
        self,
        rows: Float[Tensor, "task out row width"],
        keys: Float[Tensor, "task out support key"],
        labels: Float[Tensor, "task support out"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "task out head row"]:
        """Return the weighted labels by each head; one more row without a label competes."""
        asked, keys = (values.unflatten(-1, (_N_HEADS, _SIZE)).transpose(2, 3) for values in (self.ask(rows), keys))
        scores = nn.functional.pad(asked @ keys.mT / _SIZE**0.5, (1, 0))
        seen = nn.functional.pad(mask, (1, 0), value=True)[:, None, None, None]
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)[..., 1:]
        return torch.einsum("tohrs,tso->tohr", weights, labels)


class ClassHead(nn.Module):
    """Logits: the mixture's, with experts weighted anew for each row, and what the vectors add.

    Parameters
    ----------
    width : int
    n_experts : int
    """

    def __init__(self, width: int, n_experts: int) -> None:
        super().__init__()
        self.gate = _zero(nn.Linear(width, n_experts + 1))
        self.slot = _zero(nn.Linear(width, 1))
        self.retrieval = Retrieval(width)

    def forward(
        self,
        rows: Float[Tensor, "task way row width"],
        outputs: Float[Tensor, "task expert row way"],
        mixed: Float[Tensor, "task row way"],
        sureness: Float[Tensor, "task 1 1"],
        present: Float[Tensor, "task way"],
        found: Float[Tensor, "task way head row"],
    ) -> tuple[Float[Tensor, "task row way"], Float[Tensor, "task row way"]]:
        """Return logits, and the factor that the mixture's scores have in them."""
        gates = self.gate(mean_over_present(rows, present)[:, 0])
        weighted = mixed * (1 + gates[..., -1:]) + torch.einsum("tern,tre->trn", outputs, gates[..., :-1])
        own = self.slot(rows)[..., 0].mT
        retrieved = torch.einsum("twhr,h->trw", (found + _LEAST_SHARE).log(), self.retrieval.trust)
        return weighted * sureness + own + retrieved, (sureness * (1 + gates[..., -1:])).expand_as(own)


class RealHead(nn.Module):
    """Means: the mixture's, with experts weighted anew for each row and a correction; deviations, and a histogram.

    Parameters
    ----------
    width : int
    n_experts : int
    """

    def __init__(self, width: int, n_experts: int) -> None:
        super().__init__()
        self.gate = _zero(nn.Linear(width, n_experts + 1))
        self.correct = _zero(nn.Linear(width, 1))
        self.spread = _zero(nn.Linear(width, 1))
        self.shape = _zero(nn.Linear(width, N_SHAPE))
        self.retrieval = Retrieval(width)
        self.register_load_state_dict_pre_hook(_fill_in_shape)  # type: ignore[no-untyped-call]

    def forward(
        self,
        rows: Float[Tensor, "task out row width"],
        outputs: Float[Tensor, "task expert row out"],
        mixed: Float[Tensor, "task row out"],
        sureness: Float[Tensor, "task 1 out"],
        present: Float[Tensor, "task out"],
        found: Float[Tensor, "task out head row"],
    ) -> tuple[Float[Tensor, "task row out"], Float[Tensor, "task row out"], Float[Tensor, "task row out shape"]]:
        """Return centres, spreads and shapes of histograms of standardised targets."""
        gates = self.gate(rows).transpose(1, 2)
        mean = mixed * (1 + gates[..., -1]) + torch.einsum("tero,troe->tro", outputs, gates[..., :-1])
        beyond = found.permute(0, 3, 1, 2) - mixed.unsqueeze(-1)
        mean = mean + self.correct(rows)[..., 0].mT + beyond @ self.retrieval.trust
        spread = self.spread(rows)[..., 0].mT.clamp(-_MOST_SPREAD, _MOST_SPREAD)
        return mean, sureness * spread.exp(), self.shape(rows).transpose(1, 2)


def _fill_in_shape(head: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take weights that know no histogram, only the Gaussian, for those of the shape zero."""
    assert isinstance(head, RealHead)
    names = {f"{prefix}shape.{name}": value for name, value in head.shape.named_parameters()}
    if not names.keys() & state.keys():
        state.update({name: torch.zeros_like(value) for name, value in names.items()})


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
