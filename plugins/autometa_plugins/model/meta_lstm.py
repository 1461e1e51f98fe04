"""The LSTM meta-learner (Ravi & Larochelle 2017): a recurrent network is the optimizer of another network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

import autometa as am
from autometa_plugins.model.gradient_codes import log_and_sign

if TYPE_CHECKING:
    from optuna import Trial


class MetaLSTM(am.Learner):
    """An LSTM whose cell state is the parameters of another network, and whose gates say how they are updated.

    A step from the parameters c is ``f * c - i * gradient`` (Ravi & Larochelle 2017, eq. 2): the input gate ``i`` is a
    step size, and the forget gate ``f`` shrinks the parameters. Both are computed for every parameter by itself, from
    its gradient, the loss, the parameter and their own last value, with weights that all parameters share (section
    3.2). Gradients and losses enter as magnitude and sign. The parameters' start is meta-trained; the gates start near
    1 and ``inner_lr``, which is gradient descent. Gradients and losses count as constants in the outer derivative
    (section 3.4).

    All classes of a task start from one learned row of the head, so a task may have any number of classes and its
    result does not depend on their order.

    Parameters
    ----------
    steps : int, default=5
        Updates on the support set. The paper takes 12 for one example of a class and 5 for five.
    inner_lr : float or "auto", default="auto"
        What the input gate starts from, between 0 and 1. "auto": 0.05, or 0.4 for classes if the backbone has no
        weights (backbone "identity"), as the head alone moves outputs less.
    hidden : int, default=0
        Size of a first LSTM between the gradients and the gates; 0 for none. The paper has one of 20, which takes some
        ten times as long if a whole network is updated.
    adapted : {"auto", "all", "head"}, default="auto"
        Update backbone and head, as in the paper, or the head alone, on features that all tasks share. "auto": "head"
        for images, as the LSTM has a state for every parameter of every task.
    strategy : {"auto", "bmm", "vmap", "loop"}, default="auto"
        How tasks run side by side; the numbers are the same. See :func:`autometa.descend`.
    backbone : str, Backbone, nn.Module or callable, default="auto"
        "auto": by the inputs' shape; for images, if tasks update the backbone, conv4 with group norm, as batch norm
        would make predictions depend on other queries or on averages over all tasks.

    Notes
    -----
    Learned gates are not bounded, and on a few tasks they can diverge. Meta-train with ``clip=0.25`` of the
    meta-optimizer, as the paper does: on ``linear`` tasks with the identity backbone the mean squared error was 0.76
    with it and 5.4 without, the median 0.55 and 0.58 (one seed; the best possible are 0.50 and 0.41).

    References
    ----------
    S. Ravi, H. Larochelle: Optimization as a Model for Few-Shot Learning. ICLR 2017.
    """

    replayable: ClassVar[bool] = True
    adaptation_parameters: ClassVar[frozenset[str]] = frozenset({"steps", "strategy"})
    needs_meta_training: ClassVar[frozenset[str]] = frozenset({"classification", "regression"})

    def __init__(
        self,
        *,
        steps: int = 5,
        inner_lr: float | Literal["auto"] = "auto",
        hidden: int = 0,
        adapted: Literal["auto", "all", "head"] = "auto",
        strategy: Literal["auto", "bmm", "vmap", "loop"] = "auto",
        backbone: am.BackboneLike = "auto",
    ) -> None:
        self.steps = steps
        self.inner_lr = inner_lr
        self.hidden = hidden
        self.adapted = adapted
        self.strategy = strategy
        self.backbone = backbone

    def build(self, info: am.TaskInfo) -> nn.Module:
        """Return the network whose parameters are updated, what it shares, and the LSTM that updates it."""
        self._check()
        images = len(info.input_shape) == 3
        own = self.adapted == "all" or (self.adapted == "auto" and not images)
        chosen = (
            am.make_backbone("backbones/conv4", norm="group")
            if self.backbone == "auto" and images and own
            else self.backbone
        )
        backbone = am.build_backbone(chosen, info.input_shape)
        n_features: int = backbone.n_features  # type: ignore[assignment]
        head = nn.Linear(n_features, 1 if info.problem_record.has_classes else info.n_outputs)
        rate = self.inner_lr
        if rate == "auto":
            has_weights = next(backbone.parameters(), None) is not None
            rate = 0.4 if info.problem_record.has_classes and not has_weights else 0.05
        if info.problem_record.has_classes:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        return _Network(
            shared=None if own else backbone,
            own=nn.Sequential(backbone if own else nn.Identity(), head),
            cell=UpdateCell(self.hidden, rate),
        )

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, Tensor]:
        """Return every task's own parameters, by name in ``module.own``, each [tasks, *shape]."""
        self._check()
        assert isinstance(module, _Network)
        parameters = am.per_task(module.own, len(support), module.own_names)
        if support.is_classification:
            for name in ("1.weight", "1.bias"):
                parameters[name] = parameters[name].expand(-1, support.n_classes, *parameters[name].shape[2:])
        names, shapes = list(parameters), [value.shape for value in parameters.values()]
        sizes = [math.prod(shape[1:]) for shape in shapes]
        x, loss = module.seen(support.x).detach(), am.loss_on(support)
        flat = torch.cat([value.flatten(1) for value in parameters.values()], dim=1)
        state = module.cell.start(flat)
        for _ in range(self.steps):
            with torch.enable_grad():
                parts = torch.split(flat.detach(), sizes, dim=1)
                leaves = [part.view(shape).requires_grad_() for part, shape in zip(parts, shapes, strict=True)]
                of_names = dict(zip(names, leaves, strict=True))
                losses = loss(am.call_per_task(module.own, of_names, x, strategy=self.strategy))
                gradients = torch.autograd.grad(losses.sum(), leaves)
            gradient = torch.cat([each.flatten(1) for each in gradients], dim=1)
            flat, state = module.cell(flat, gradient, losses.detach(), state)
        values = torch.split(flat, sizes, dim=1)
        return {name: value.view(shape) for name, value, shape in zip(names, values, shapes, strict=True)}

    def predict(self, module: nn.Module, adapted: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs of every task's own network."""
        assert isinstance(module, _Network)
        return am.call_per_task(module.own, adapted, module.seen(x), strategy=self.strategy)

    def _check(self) -> None:
        whose = "learner 'meta_lstm'"
        am.check_int("steps", self.steps, least=0, of=whose)
        am.check_int("hidden", self.hidden, least=0, of=whose)
        am.check_real("inner_lr", self.inner_lr, above=0, below=1, also=("auto",), of=whose)
        am.check_choice("adapted", self.adapted, ("auto", "all", "head"), of=whose)

    @classmethod
    def suggest(cls, trial: Trial, info: am.TaskInfo) -> Self:
        """Search the number of updates and their first size."""
        rates = (0.003, 0.01, 0.03, 0.1, 0.3)[: None if info.problem_record.has_classes else -1]
        return cls(
            steps=trial.suggest_int("steps", 1, 12),
            inner_lr=cast(float | Literal["auto"], trial.suggest_categorical("inner_lr", ["auto", *rates])),
        )


class _Network(nn.Module):
    def __init__(self, shared: nn.Module | None, own: nn.Sequential, cell: UpdateCell) -> None:
        super().__init__()
        self.shared = shared
        self.own = own
        self.own_names = [name for name, value in own.named_parameters() if value.requires_grad]
        self.cell = cell

    def seen(self, x: Tensor) -> Tensor:
        """What the tasks' own networks take in: inputs, or features that all tasks share."""
        return x if self.shared is None else am.apply_per_task(self.shared, x)


State = tuple[Tensor, ...]
"""Last values of forget and input gate [tasks, n]; state of the first LSTM, two tensors [tasks * n, hidden]."""


class UpdateCell(nn.Module):
    """One update of n parameters of every task; each parameter is seen alone.

    Parameters
    ----------
    hidden : int
        Size of the first LSTM; 0 for none.
    rate : float
        What the input gate starts from.
    """

    # A forget gate of 0.993, the upper end of where Ravi & Larochelle's code starts it.
    forget_bias = 5.0

    def __init__(self, hidden: int, rate: float) -> None:
        super().__init__()
        self.first = nn.LSTMCell(4, hidden) if hidden else None
        self.gates = nn.Linear((hidden or 4) + 1, 2)
        self.last = nn.Parameter(torch.empty(2))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.01, 0.01)
        with torch.no_grad():
            self.gates.bias.copy_(torch.tensor([self.forget_bias, math.log(rate / (1 - rate))]))

    def start(self, parameters: Tensor) -> State:
        """State before the first update of parameters [tasks, n]: no gate was open yet."""
        gates = parameters.new_zeros(2, *parameters.shape)
        if self.first is None:
            return gates.unbind()
        state = parameters.new_zeros(2, parameters.numel(), self.first.hidden_size)
        return (*gates.unbind(), *state.unbind())

    def forward(self, parameters: Tensor, gradient: Tensor, loss: Tensor, state: State) -> tuple[Tensor, State]:
        """Return updated parameters and the new state.

        Parameters
        ----------
        parameters, gradient : Tensor of shape [tasks, n]
        loss : Tensor of shape [tasks]
        state : see :meth:`start`
        """
        seen = torch.cat(
            [log_and_sign(gradient), log_and_sign(loss).unsqueeze(1).expand(-1, gradient.shape[1], -1)], -1
        )
        forget, rate, *memory = state
        if self.first is not None:
            memory = list(self.first(seen.flatten(0, 1), tuple(memory)))
            seen = memory[0].view(*gradient.shape, -1)
        from_inputs = self.gates(torch.cat([seen, parameters.unsqueeze(-1)], dim=-1)).unbind(-1)
        forget, rate = (
            (now + weight * before).sigmoid()
            for now, weight, before in zip(from_inputs, self.last, (forget, rate), strict=True)
        )
        return forget * parameters - rate * gradient, (forget, rate, *memory)
