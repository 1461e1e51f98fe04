"""In-context learning: the support set is read, not fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.transformer import ClassMatching, SupportAttention, check_heads

if TYPE_CHECKING:
    from optuna import Trial


class InContext(am.Learner):
    """A transformer that reads the support set and predicts queries: adaptation is one forward pass.

    A prior-data fitted network (Müller et al. 2022, section 3): support and query examples are tokens, support
    tokens attend to the support, each query token attends to the support only and never to another query, and
    meta-training on many tasks teaches the network to act as a learning algorithm. Everything a query needs of the
    support (keys and values of every layer) is computed once per task.

    Neither order nor the names of classes matter. The network is told which support examples are of one class, which
    biases their attention; a class is as likely as the attention that the query pays to its examples (Vinyals et al.
    2016, eq. 1). So there may be any number of classes. Meta-training begins with
    comparing the features as they are. Real targets, standardised within the support, are part of the support tokens,
    and a linear layer reads out the query tokens.

    Parameters
    ----------
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.
    dim : int, default=64
        Width of a token; a multiple of ``n_heads``.
    n_layers : int, default=3
    n_heads : int, default=4
    """

    replayable: ClassVar[bool] = True
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(self, backbone: am.BackboneLike = "auto", dim: int = 64, n_layers: int = 3, n_heads: int = 4) -> None:
        self.backbone = backbone
        self.dim = dim
        self.n_layers = n_layers
        self.n_heads = n_heads

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return backbone and transformer.

        Raises
        ------
        InvalidParameter
            A size is not a positive integer, or ``dim`` is no multiple of ``n_heads``.
        """
        for name in ("dim", "n_layers", "n_heads"):
            am.check_int(name, getattr(self, name), of="learner 'in_context'")
        check_heads("in_context", self.dim, self.n_heads)
        related = info.problem_record.has_classes
        return _Network(
            am.build_backbone(self.backbone, info.input_shape),
            [SupportAttention(self.dim, self.n_heads, related=related) for _ in range(self.n_layers)],
            self.dim,
            n_targets=None if related else info.n_outputs,
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Read the support set.

        Returns
        -------
        dict of Tensor
            ``keys`` and ``values`` [tasks, n_layers, n_heads, n_support, dim / n_heads] and ``mask``
            [tasks, n_support]; for classes ``members`` [tasks, n_support, n_way] and the ``directions``
            [tasks, n_support, dim] to compare with; for real targets their ``mean`` and ``spread``
            [tasks, 1, n_outputs].
        """
        assert isinstance(module, _Network)
        tokens = module.tokens(support.x)
        targets = support.targets().to(tokens.dtype)
        read: dict[str, Tensor] = {"mask": support.mask}
        relation = None
        if support.is_classification:
            read["members"] = targets
            relation = targets @ targets.transpose(1, 2)
        else:
            read["mean"], read["spread"] = mean_and_spread(targets, support.mask)
            tokens = tokens + module.target((targets - read["mean"]) / read["spread"])
        keys, values = [], []
        for block in module.blocks:
            key, value = block.keys_values(tokens)
            tokens = block(tokens, key, value, support.mask, relation)
            keys.append(key)
            values.append(value)
        if support.is_classification:
            read["directions"] = module.read_out.directions(tokens)
        return read | {"keys": torch.stack(keys, dim=1), "values": torch.stack(values, dim=1)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return log-probabilities of the classes or means, [tasks, n, n_outputs]."""
        assert isinstance(module, _Network)
        tokens = module.tokens(x)
        if module.unknown is not None:
            tokens = tokens + module.unknown
        for block, keys, values in zip(
            module.blocks, adapted["keys"].unbind(1), adapted["values"].unbind(1), strict=True
        ):
            tokens = block(tokens, keys, values, adapted["mask"])
        if "members" in adapted:
            logits: Tensor = module.read_out(tokens, adapted["directions"], adapted["members"])
            return logits
        outputs: Tensor = adapted["mean"] + adapted["spread"] * module.read_out(tokens)
        return outputs

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> InContext:
        """Search the size of the transformer."""
        return cls(dim=trial.suggest_categorical("dim", [32, 64, 128]), n_layers=trial.suggest_int("n_layers", 1, 4))


class _Network(nn.Module):
    def __init__(self, backbone: nn.Module, blocks: list[SupportAttention], dim: int, n_targets: int | None) -> None:
        super().__init__()
        n_features: Any = backbone.n_features
        self.backbone = backbone
        self.embed = nn.Linear(n_features, dim)
        self.blocks: Any = nn.ModuleList(blocks)
        self.target: Any = None if n_targets is None else nn.Linear(n_targets, dim)
        self.unknown = None if n_targets is None else nn.Parameter(torch.zeros(dim))
        self.read_out: Any = (
            ClassMatching(dim) if n_targets is None else nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, n_targets))
        )
        if n_targets is None:
            self._start_by_comparing_features()

    def _start_by_comparing_features(self) -> None:
        """Answer at first by the cosines of features: blocks add nothing to tokens, and projections keep angles.

        Where few training classes teach nothing that holds for others, this is the best answer, and it stays.
        """
        for block in self.blocks:
            for last in (block.out, block.mlp[-1]):
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
        for linear in (self.embed, self.read_out.project[-1]):
            nn.init.orthogonal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def tokens(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.embed(am.apply_per_task(self.backbone, x))
        return embedded


def mean_and_spread(targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the unmasked rows of each task, both [tasks, 1, n_outputs].

    The spread of targets that do not vary is 1.
    """
    counts = mask.sum(1).clamp(min=1)[:, None, None]
    mask = mask.unsqueeze(-1)
    mean = (targets * mask).sum(1, keepdim=True) / counts
    variance = ((targets - mean).square() * mask).sum(1, keepdim=True) / counts
    negligible = variance <= torch.finfo(targets.dtype).eps * mean.square()
    return mean, torch.where(negligible, 1.0, variance).sqrt()
