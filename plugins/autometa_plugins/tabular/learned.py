"""What the kernel experts keep of a support set."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

from jaxtyping import Float
from torch import Tensor

from autometa_plugins.tabular.encoding import Encoding, Rows
from autometa_plugins.tabular.scale import Scale


class Learned(NamedTuple):
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
        encoding = self.encoding._asdict() | {"scale": self.encoding.scale._asdict()}
        return self._asdict() | {"encoding": encoding, "support": self.support._asdict()}

    @classmethod
    def from_dict(cls, tensors: dict[str, Any]) -> Self:
        """Return what :meth:`as_dict` gave."""
        encoding = tensors["encoding"]
        encoding = Encoding(**encoding | {"scale": Scale(**encoding["scale"])})
        return cls(**tensors | {"encoding": encoding, "support": Rows(**tensors["support"])})
