"""FEAT: prototypes adapted to the set they stand in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.metric.prototypical import squared_distances

if TYPE_CHECKING:
    from optuna import Trial


class Feat(am.Learner):
    """Class means that attend to one another before queries are compared with them.

    Ye et al. 2020, the variant with a transformer: one layer of self-attention with a residual connection turns the
    prototypes of a task into prototypes for that task; logits are negative squared distances over a temperature.
    Meta-training adds a contrastive term: the same layer gives a centre of each class from its support and query
    examples, and every example should be nearest to the centre of its own class.

    The authors normalise the layer's output. Here its input is normalised and its last weights start at zero, so the
    learner starts as a prototypical network. The authors begin with a backbone pretrained on all base classes, and
    their temperature for its features goes up to 64.

    Parameters
    ----------
    temperature : float, default=1.0
        Divides the logits, of the contrastive term too.
    balance : float, default=0.1
        Weight of the contrastive term; 0 leaves it out.
    dropout : float, default=0.5
        Share of the layer's output that is dropped in training.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        What turns examples into features; "auto" chooses by the inputs' shape.

    References
    ----------
    H. Ye, H. Hu, D. Zhan, F. Sha: Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions. CVPR 2020.
    """

    replayable: ClassVar[bool] = True
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"temperature"})

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        balance: float = 0.1,
        dropout: float = 0.5,
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.temperature = temperature
        self.balance = balance
        self.dropout = dropout
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the backbone and the attention among prototypes.

        Raises
        ------
        InvalidParameter
            A parameter has an impossible value.
        Incompatible
            Targets are real numbers.
        """
        if not info.problem_record.has_classes:
            raise am.Incompatible(f"learner 'feat' needs classes; problem={info.problem!r} has none. Try 'ridge'.")
        self._check()
        return SetAdapter(am.build_backbone(self.backbone, info.input_shape), self.dropout)

    def meta_loss(self, module: nn.Module, batch: am.TaskBatch, progress: float) -> Tensor:
        """Query loss plus the contrastive term, [tasks]."""
        assert isinstance(module, SetAdapter)
        support, query = (am.apply_per_task(module.backbone, part.x) for part in (batch.support, batch.query))
        present = batch.support.one_hot().any(dim=1, keepdim=True)
        logits = self._logits(query, self._adapted(module, support, batch.support))
        losses = am.task_losses(self, logits.masked_fill(~present, torch.finfo(logits.dtype).min), batch.query)
        if not self.balance:
            return losses
        examples, features = batch.support.join(batch.query), torch.cat([support, query], dim=1)
        of_one_class = examples.y.unsqueeze(2) == examples.y.unsqueeze(1)
        transformed = module.attend(features, of_one_class & examples.mask.unsqueeze(1))
        centres = _class_means(transformed, examples)
        return losses + self.balance * am.loss_on(examples)(self._logits(features, centres))

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return ``{"prototypes": [tasks, n_way, n_features]}``, adapted to one another."""
        self._check()
        assert isinstance(module, SetAdapter)
        return {"prototypes": self._adapted(module, am.apply_per_task(module.backbone, support.x), support)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return negative squared distances over the temperature, [tasks, n, n_way]."""
        assert isinstance(module, SetAdapter)
        return self._logits(am.apply_per_task(module.backbone, x), adapted["prototypes"])

    def _adapted(self, module: SetAdapter, features: Tensor, support: am.Examples) -> Tensor:
        return module.attend(_class_means(features, support), support.one_hot().any(dim=1, keepdim=True))

    def _logits(self, features: Tensor, prototypes: Tensor) -> Tensor:
        return -squared_distances(features, prototypes) / self.temperature

    def _check(self) -> None:
        am.check_real("temperature", self.temperature, above=0, of="learner 'feat'")
        am.check_real("balance", self.balance, least=0, of="learner 'feat'")
        am.check_real("dropout", self.dropout, least=0, below=1, of="learner 'feat'")

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the temperature, the weight of the contrastive term and the dropout."""
        return cls(
            temperature=trial.suggest_float("temperature", 0.1, 100.0, log=True),
            balance=trial.suggest_float("balance", 0.01, 10.0, log=True),
            dropout=trial.suggest_float("dropout", 0.0, 0.7),
        )


def _class_means(features: Tensor, examples: am.Examples) -> Tensor:
    """Mean feature of every class, [tasks, n_way, n_features]; zero for a class without examples."""
    members = examples.one_hot().to(features.dtype).transpose(1, 2)
    return members @ features / members.sum(-1, keepdim=True).clamp(min=1)


class SetAdapter(nn.Module):
    """A backbone, and self-attention of one head that adapts a set of features.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    dropout : float
        Share of what attention adds that is dropped in training.
    """

    def __init__(self, backbone: nn.Module, dropout: float) -> None:
        super().__init__()
        n_features = int(backbone.n_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.norm = nn.LayerNorm(n_features)
        self.query_key_value = nn.Linear(n_features, 3 * n_features, bias=False)
        self.out = nn.Linear(n_features, n_features)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def attend(self, features: Tensor, visible: Tensor) -> Tensor:
        """Add to features [tasks, n, n_features] what each finds in those it sees, ``visible`` [tasks, n or 1, n]."""
        query, key, value = self.query_key_value(self.norm(features)).chunk(3, dim=-1)
        similarity = query @ key.transpose(1, 2) / math.sqrt(features.shape[-1])
        # A large number and no infinity: a padded example may see nothing, and nobody looks at what it becomes.
        attention = similarity.masked_fill(~visible, torch.finfo(similarity.dtype).min).softmax(dim=-1)
        return features + self.dropout(self.out(attention @ value))  # type: ignore[no-any-return]
