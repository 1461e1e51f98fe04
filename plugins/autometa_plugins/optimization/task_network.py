"""The network that gradient steps adapt: a backbone with a linear head, one row of which all classes start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

import autometa as am

if TYPE_CHECKING:
    from optuna import Trial

HEAD = ("head.weight", "head.bias")
HEAD_ALONE = 0.4
"""What step sizes start from where classes are told from the inputs as they are.

A step of the head alone moves outputs less than one of all layers. Without meta-training, 5 steps of 0.03 are right in
67% of the answers on ``digits`` (300 tasks), 5 of 0.4 in 74%, logistic regression in 75%. On conv4 steps as large learn
nothing: after 60 outer steps on ``glyphs`` 23% were right with 0.3, and 48% with 0.03.
"""
INNER_LRS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Step sizes to search beside "auto"; the last two for classes, since squared errors of raw targets are steep."""


class TaskNetwork(nn.Module):
    """A backbone with a linear head, and step sizes if they are learned.

    The head has one row for each real output. For classes it has a single row, zero at first, that all classes of a
    task start from (UNICORN-MAML, Ye & Chao 2022, section 5): a task may have any number of classes, and its result
    does not depend on their order.

    Parameters
    ----------
    backbone : nn.Module with ``n_features``
    info : TaskInfo
    n_rates : int, default=0
        Steps that have learned sizes, one for every parameter tensor.
    rate : float, default=0.0
        What learned sizes start from.
    shared : frozenset of str, default=frozenset()
        Names of the parameters that tasks do not adapt.
    """

    def __init__(
        self,
        backbone: nn.Module,
        info: am.TaskInfo,
        *,
        n_rates: int = 0,
        rate: float = 0.0,
        shared: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = linear_head(backbone, info)
        self.own = [name for name in trainable(self) if name not in shared]
        """Names of the parameters that every task has its own of: no frozen ones."""
        self.rates = nn.Parameter(torch.full((n_rates, len(self.own)), float(rate)))

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        """Map [n, *features] to [n, rows of the head]."""
        return self.head(self.backbone(x))  # type: ignore[no-any-return]

    def start(self, support: am.Examples) -> dict[str, Tensor]:
        """Parameters of every task before its first step, by name, each [tasks, *shape]."""
        return with_row_per_class(am.per_task(self, len(support), self.own), HEAD, support)

    def rates_by_name(self, fixed: float, first: int = 0) -> dict[str, Tensor | float]:
        """Sizes of the steps from ``first`` on, by parameter name: the learned ones, else ``fixed`` for all."""
        if not len(self.rates):
            return dict.fromkeys(self.own, fixed)
        learned = self.rates[min(first, len(self.rates) - 1) :].unbind(dim=1)
        return dict(zip(self.own, learned, strict=True))


def build_task_network(
    backbone: am.BackboneLike, info: am.TaskInfo, *, n_rates: int = 0, rate: float = 0.0
) -> TaskNetwork:
    """Build a network for tasks whose whole network adapts, see :func:`build_own_backbone`."""
    return TaskNetwork(build_own_backbone(backbone, info), info, n_rates=n_rates, rate=rate)


def build_own_backbone(backbone: am.BackboneLike, info: am.TaskInfo) -> nn.Module:
    """Build a backbone whose weights each task adapts; "auto" for images is conv4 with group norm.

    Batch norm does not suit it: averages over all tasks describe no task's own weights, and the statistics of a batch
    let queries see one another.
    """
    if backbone == "auto" and len(info.input_shape) == 3:
        backbone = am.make_backbone("backbones/conv4", norm="group")
    return am.build_backbone(backbone, info.input_shape)


def trainable(network: nn.Module) -> list[str]:
    """Names of the parameters that are not frozen."""
    return [name for name, value in network.named_parameters() if value.requires_grad]


def first_rate(
    inner_lr: float | Literal["auto"], backbone: nn.Module, *, is_classification: bool, otherwise: float
) -> float:
    """Resolve "auto": :data:`HEAD_ALONE` for classes where the backbone has no weights, else ``otherwise``."""
    if inner_lr != "auto":
        return inner_lr
    return HEAD_ALONE if is_classification and next(backbone.parameters(), None) is None else otherwise


def suggest_rate(trial: Trial, info: am.TaskInfo) -> float | Literal["auto"]:
    """Search what step sizes start from."""
    rates = INNER_LRS if info.problem_record.has_classes else INNER_LRS[:-2]
    return cast(float | Literal["auto"], trial.suggest_categorical("inner_lr", ["auto", *rates]))


def linear_head(backbone: nn.Module, info: am.TaskInfo) -> nn.Linear:
    """Return a head with one row for each real output; for classes with a single row of zeros."""
    is_classification = info.problem_record.has_classes
    head = nn.Linear(int(backbone.n_features), 1 if is_classification else info.n_outputs)  # type: ignore[arg-type]
    if is_classification:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return head


def with_row_per_class(parameters: dict[str, Tensor], head: tuple[str, ...], support: am.Examples) -> dict[str, Tensor]:
    """Repeat the single row of the parameters named ``head`` for every class; change nothing for real targets."""
    if not support.is_classification:
        return parameters
    rows = {name: parameters[name] for name in head}
    return parameters | {name: row.expand(-1, support.n_classes, *row.shape[2:]) for name, row in rows.items()}
