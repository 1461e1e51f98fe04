"""What the kernel experts keep of a support set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.encoding import Encoding, Rows
from autometa_plugins.tabular.scale import Scale


@dataclass(frozen=True, slots=True)
class Learned:
    """What is kept of a support set; every tensor leads with [tasks].

    Parameters
    ----------
    encoding : Encoding
    support : Rows
    weights : Tensor of shape [tasks, 2, columns]
        Equal weights of the columns, and those of relevance.
    coefficients : Tensor of shape [tasks, kernels, n_support, n_outputs]
        Of the ridge regressions.
    mean : Tensor of shape [tasks, 1, 1, n_outputs]
        What they are centred on.
    shares : Tensor of shape [tasks, experts, 1, 1 or n_outputs]
        Weights of the experts.
    targets : Tensor of shape [tasks, n_support, n_outputs]
        One-hot classes, or standardised real targets; zero where padded.
    sureness : Tensor of shape [tasks, 1, 1 or n_outputs]
        Factor of the logits, or standard deviation of standardised targets.
    """

    encoding: Encoding
    support: Rows
    weights: Float[Tensor, "task 2 column"]
    coefficients: Float[Tensor, "task kernel support out"]
    mean: Float[Tensor, "task 1 1 out"]
    shares: Float[Tensor, "task expert 1 #out"]
    targets: Float[Tensor, "task support out"]
    sureness: Float[Tensor, "task 1 #out"]

    def as_dict(self) -> dict[str, Any]:
        """Return nested dicts, as files hold them."""
        encoding = as_dict(self.encoding) | {"scale": as_dict(self.encoding.scale)}
        return as_dict(self) | {"encoding": encoding, "support": as_dict(self.support)}

    @classmethod
    def from_dict(cls, tensors: dict[str, Any]) -> Self:
        """Return what :meth:`as_dict` gave."""
        encoding = tensors["encoding"]
        encoding = Encoding(**encoding | {"scale": Scale(**encoding["scale"])})
        return cls(**tensors | {"encoding": encoding, "support": Rows(**tensors["support"])})


def as_dict(record: Encoding | Rows | Scale | Learned) -> dict[str, Any]:
    """Return the fields of a record, not copied."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
