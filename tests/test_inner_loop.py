"""Gradient descent on many tasks at once: the same numbers however the tasks are run side by side."""

from __future__ import annotations

import copy
import functools
import itertools
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import autometa as am
import shape_checks
from autometa.engine.inner_loop import strategies
from autometa.engine.inner_loop.mlp_program import read
from autometa.engine.inner_loop.strategies import Order, choose, vmap_pays
from tiers import first_by_default

RATES = dict.fromkeys(("0.weight", "0.bias", "2.weight", "2.bias"), 0.1)
STRATEGIES = ["bmm", "vmap", "loop"]
DOUBLE = torch.float64


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).to(DOUBLE)


@pytest.fixture(params=["regression", "classification"])
def ragged(request: pytest.FixtureRequest) -> am.Examples:
    """Four tasks of 5, 3, 1 and 4 examples."""
    torch.manual_seed(1)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4]).unsqueeze(1)
    x = torch.randn(4, 5, 3, dtype=DOUBLE) * mask.unsqueeze(-1)
    if request.param == "regression":
        return am.Examples(x, torch.randn(4, 5, 2, dtype=DOUBLE) * mask.unsqueeze(-1), mask)
    return am.Examples(x, torch.randint(2, (4, 5)) * mask, mask, n_classes=2)


def adapted_and_meta_gradient(
    network: nn.Module, examples: am.Examples, strategy: str, *, first_order: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    start = am.per_task(network, len(examples))
    adapted = am.descend(
        network, start, examples, steps=3, rates=[0.5, 0.2], strategy=strategy, first_order=first_order
    )
    outputs = am.call_per_task(network, adapted, examples.x, strategy=strategy)
    gradient = torch.autograd.grad(am.loss_on(examples)(outputs).sum(), list(network.parameters()))
    return list(adapted.values()), list(gradient)


@pytest.mark.parametrize("first_order", [False, True])
def test_every_strategy_gives_the_same_adapted_parameters_and_meta_gradients(
    network: nn.Module, ragged: am.Examples, first_order: bool
) -> None:
    results = [
        adapted_and_meta_gradient(network, ragged, name, first_order=first_order) for name in (*STRATEGIES, "auto")
    ]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gradients", [True, False])
def test_vmap_and_loop_agree_on_a_convolutional_network(gradients: bool) -> None:
    torch.manual_seed(0)
    backbone = am.make_backbone("conv4", n_filters=8, norm="group").build((1, 16, 16))
    network = nn.Sequential(backbone, nn.Linear(8, 3)).to(DOUBLE)
    examples = am.Examples(torch.randn(2, 6, 1, 16, 16, dtype=DOUBLE), torch.arange(6).remainder(3).repeat(2, 1))
    with torch.set_grad_enabled(gradients):
        results = [
            am.descend(network, am.per_task(network, 2), examples, steps=3, rates=0.1, strategy=name)
            for name in ("vmap", "loop")
        ]
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)
    if gradients:
        gradients_of = [torch.autograd.grad(r["1.weight"].square().sum(), list(network.parameters())) for r in results]
        torch.testing.assert_close(gradients_of[0], gradients_of[1], rtol=1e-9, atol=1e-11)


class Branches(nn.Module):
    """Activations of all kinds, a skip connection, a constant, a layer without bias, inputs with two axes."""

    def __init__(self, n_inputs: int = 6) -> None:
        super().__init__()
        self.first = nn.Linear(n_inputs, 6, bias=False)
        self.second = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(6, 6), nn.GELU())
        self.last = nn.Linear(6, 2)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.silu(self.first(x.flatten(1)))
        return self.last((h + self.second(h) * 0.5).tanh())


def test_matrix_products_follow_the_network_as_it_is_written() -> None:
    torch.manual_seed(0)
    network = Branches().to(DOUBLE)
    examples = am.Examples(torch.randn(3, 4, 2, 3, dtype=DOUBLE), torch.randn(3, 4, 2, dtype=DOUBLE))
    results = [adapted_and_meta_gradient(network, examples, name) for name in ("bmm", "loop")]
    torch.testing.assert_close(results[0], results[1])


class Reversed(nn.Module):
    """Takes its examples in another order: not the same with a leading task axis."""

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


class Counted(nn.Module):
    """Asks how many examples there are, which no trace can tell."""

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(len(x)).unsqueeze(1)


def test_networks_that_are_more_than_linear_layers_are_not_run_as_matrix_products() -> None:
    hooked, tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    hooked[0].register_forward_hook(lambda module, inputs, outputs: 2 * outputs)
    tied[1].weight = tied[0].weight
    for network in (
        nn.Sequential(nn.Linear(3, 2), Reversed()),
        nn.Sequential(nn.Linear(3, 2), Counted()),
        nn.Sequential(nn.Linear(3, 2), nn.Softmax(0)),
        hooked,
        tied,
    ):
        examples = am.Examples(torch.randn(2, 4, 3), torch.randn(2, 4, 3 if network in (hooked, tied) else 2))
        start = am.per_task(network, 2)
        with pytest.raises(am.Incompatible, match="strategy='bmm' runs networks of linear layers and elementwise"):
            am.descend(network, start, examples, steps=1, rates=0.1, strategy="bmm")
        results = [am.descend(network, start, examples, steps=2, rates=0.1, strategy=name) for name in ("auto", "loop")]
        torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_task_is_adapted_as_if_it_were_alone_and_without_its_padding(
    network: nn.Module, ragged: am.Examples, strategy: str
) -> None:
    together = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.3, strategy=strategy)
    for task, n in enumerate([5, 3, 1, 4]):
        alone = am.Examples(ragged.x[[task], :n], ragged.y[[task], :n], n_classes=ragged.n_classes)
        adapted = am.descend(network, am.per_task(network, 1), alone, steps=2, rates=0.3, strategy=strategy)
        for name, value in adapted.items():
            torch.testing.assert_close(value[0], together[name][task], rtol=1e-10, atol=1e-12)


def test_one_step_is_the_step_written_by_hand(network: nn.Module, ragged: am.Examples) -> None:
    adapted = am.descend(network, am.per_task(network, 4), ragged, steps=1, rates=0.3, weight_decay=0.1)
    parameters = dict(network.named_parameters())
    for task, n in enumerate([5, 3, 1, 4]):
        outputs, y = functional_call(network, parameters, (ragged.x[task, :n],)), ragged.y[task, :n]
        if ragged.is_classification:
            present = y.unique()
            loss = nn.functional.cross_entropy(outputs[:, present], torch.searchsorted(present, y))
        else:
            loss = nn.functional.mse_loss(outputs, y)
        for (name, value), slope in zip(
            parameters.items(), torch.autograd.grad(loss, parameters.values()), strict=True
        ):
            torch.testing.assert_close(adapted[name][task], value - 0.3 * (slope + 0.1 * value))


def test_rates_may_differ_by_step_and_parameter_and_the_last_is_reused(network: nn.Module, ragged: am.Examples) -> None:
    start = am.per_task(network, 4)
    long = am.descend(network, start, ragged, steps=3, rates=torch.tensor([0.3, 0.1, 0.1], dtype=DOUBLE))
    short = am.descend(network, start, ragged, steps=3, rates=[0.3, 0.1])
    torch.testing.assert_close(long, short)
    still = dict.fromkeys(start, 0.0) | {"2.bias": 0.3}
    moved = am.descend(network, start, ragged, steps=2, rates=still)
    torch.testing.assert_close({**moved, "2.bias": start["2.bias"]}, dict(start))
    assert not torch.equal(moved["2.bias"], start["2.bias"])


@pytest.mark.parametrize(
    "rates",
    [
        np.float32(0.25), np.float64(0.25), np.array(0.25), np.array([0.25]), [np.float32(0.25)],
        torch.tensor(0.25), [torch.tensor(0.25)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("by_name", [False, True])
def test_numbers_of_any_kind_are_rates(network: nn.Module, ragged: am.Examples, rates: Any, by_name: bool) -> None:
    start = am.per_task(network, 4)
    found = am.descend(network, start, ragged, steps=2, rates=dict.fromkeys(start, rates) if by_name else rates)
    torch.testing.assert_close(found, am.descend(network, start, ragged, steps=2, rates=0.25))


@pytest.mark.parametrize(
    "rates",
    [
        "0.1", True, np.bool_(True), None, [], [True], ["0.1"], [[0.1]], 1j, torch.tensor(True), torch.ones(0),
        np.eye(2), -0.1, [0.1, -0.1], float("nan"), np.array([np.inf]), 10**400,
    ],
)  # fmt: skip
def test_what_is_no_rate_is_one_clear_error(
    network: nn.Module, ragged: am.Examples, rates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # which users do not have
    start = am.per_task(network, 4)
    for given, shown in ((rates, "rates"), (dict.fromkeys(start, rates), f"rates[{next(iter(start))!r}]")):
        text = f"{shown}={rates!r} holds no step size; give a number such as 0.1, or one for each step."
        with pytest.raises(am.InvalidParameter, match=re.escape(text)):
            am.descend(network, start, ragged, steps=1, rates=given)


def test_only_the_parameters_given_are_adapted(network: nn.Module, ragged: am.Examples) -> None:
    head = am.per_task(network, 4, ["2.weight", "2.bias"])
    for strategy in STRATEGIES:
        adapted = am.descend(network, head, ragged, steps=2, rates=0.3, strategy=strategy)
        assert set(adapted) == {"2.weight", "2.bias"}
        assert am.call_per_task(network, adapted, ragged.x, strategy=strategy).shape == (4, 5, 2)


def test_parameters_the_loss_does_not_reach_stay_as_they_are(ragged: am.Examples) -> None:
    network = nn.Linear(3, 2).to(DOUBLE)
    network.register_parameter("spare", nn.Parameter(torch.ones(2, dtype=DOUBLE)))
    adapted = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.3)
    torch.testing.assert_close(adapted["spare"], torch.ones(4, 2, dtype=DOUBLE))


def test_descending_changes_neither_the_module_nor_the_random_state(ragged: am.Examples) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).to(DOUBLE)
    before = [parameter.clone() for parameter in network.parameters()]
    torch.manual_seed(3)
    first = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.3)
    torch.manual_seed(3)
    again = am.descend(network, am.per_task(network, 4), ragged, steps=2, rates=0.3)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(list(network.parameters()), before, rtol=0, atol=0)


@pytest.mark.parametrize("strategy", first_by_default(1, STRATEGIES))
def test_without_gradients_nothing_of_the_steps_is_kept(
    network: nn.Module, ragged: am.Examples, strategy: str, live_tensors: Callable[[], int]
) -> None:
    def adapt() -> dict[str, Tensor]:
        with torch.no_grad():
            return am.descend(network, am.per_task(network, 4), ragged, steps=3, rates=0.3, strategy=strategy)

    assert not any(value.requires_grad or value.grad_fn is not None for value in adapt().values())
    before = live_tensors()
    for _ in range(30):
        adapt()
    assert live_tensors() == before


def normed(width: int = 4) -> nn.Module:
    """A network that has no rule as matrix products."""
    return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 2))


def convolutional(n_filters: int) -> nn.Module:
    backbone = am.make_backbone("conv4", n_filters=n_filters, norm="group").build((1, 8, 8))
    return nn.Sequential(backbone, nn.Linear(n_filters, 2))


def chosen(network: nn.Module, n_tasks: int, shape: tuple[int, ...], order: Order) -> str:
    """Name of the strategy that "auto" stands for."""
    run = choose("auto", network, am.per_task(network, n_tasks), torch.zeros(n_tasks, *shape), order)
    return run.__name__


@pytest.mark.parametrize(
    ("network", "n_tasks", "shape", "expected"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 2)), 1, (5, 3), ["bmm", "bmm", "bmm"]),
        (lambda: Branches(3), 32, (5, 3), ["bmm", "bmm", "bmm"]),
        (normed, 1, (5, 3), ["loop", "loop", "loop"]),
        (normed, 3, (5, 3), ["loop", "loop", "loop"]),
        (normed, 4, (5, 3), ["vmap", "vmap", "vmap"]),
        (lambda: normed(512), 4, (16, 3), ["vmap", "vmap", "vmap"]),
        (lambda: normed(512), 4, (17, 3), ["loop", "loop", "loop"]),
        (lambda: convolutional(8), 3, (5, 1, 8, 8), ["loop", "loop", "loop"]),
        (lambda: convolutional(8), 4, (5, 1, 8, 8), ["vmap", "vmap", "vmap"]),
        (lambda: convolutional(64), 4, (9, 1, 8, 8), ["loop", "vmap", "vmap"]),
        (lambda: convolutional(64), 4, (17, 1, 8, 8), ["loop", "loop", "vmap"]),
        (lambda: convolutional(64), 4, (33, 1, 8, 8), ["loop", "loop", "blocks"]),
        (lambda: convolutional(64), 1, (33, 1, 8, 8), ["loop", "loop", "blocks"]),
        (lambda: convolutional(64), 4, (127, 1, 8, 8), ["loop", "loop", "blocks"]),
        (lambda: convolutional(64), 4, (128, 1, 8, 8), ["loop", "blocks", "blocks"]),
        (lambda: convolutional(64), 4, (256, 1, 8, 8), ["blocks", "blocks", "blocks"]),
    ],
)
def test_auto_follows_from_network_and_shapes(
    network: Callable[[], nn.Module], n_tasks: int, shape: tuple[int, ...], expected: list[str]
) -> None:
    assert [chosen(network(), n_tasks, shape, order) for order in Order] == expected


def test_auto_does_not_depend_on_the_clock_or_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [(normed(), 4, (5, 3)), (normed(), 2, (5, 3)), (convolutional(64), 4, (17, 1, 8, 8))]
    before = [chosen(*case, order) for case in cases for order in Order]
    threads = torch.get_num_threads()
    ticks = itertools.count()
    for clock in ("time", "perf_counter", "monotonic", "process_time"):
        monkeypatch.setattr(time, clock, lambda: float(next(ticks)))
    monkeypatch.setattr(strategies, "_runs", {})
    torch.set_num_threads(4)
    try:
        assert [chosen(*case, order) for case in cases for order in Order] == before
    finally:
        torch.set_num_threads(threads)
    assert next(ticks) == 0


def test_off_the_cpu_tasks_run_in_one_call() -> None:
    x = torch.zeros(2, 999, 1, 8, 8, device="meta")
    assert all(vmap_pays(convolutional(64), x, order) for order in Order)


class Recurrent(nn.Module):
    """Holds a layer for which vmap has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unsqueeze(1))[0][:, -1])


def test_what_vmap_has_no_rule_for_runs_one_task_after_the_other(ragged: am.Examples) -> None:
    torch.manual_seed(0)
    network = Recurrent().to(DOUBLE)
    assert {chosen(network.float(), 4, (5, 3), order) for order in Order} == {"loop"}
    network.to(DOUBLE)
    start = am.per_task(network, 4)
    state = torch.get_rng_state()
    results = [am.descend(network, start, ragged, steps=2, rates=0.3, strategy=name) for name in ("auto", "loop")]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_one_task_alone_is_the_same_however_it_runs(ragged: am.Examples) -> None:
    network = normed().to(DOUBLE)
    start = am.per_task(network, 1)
    results = [
        am.descend(network, start, ragged[:1], steps=2, rates=0.3, strategy=name) for name in ("auto", "vmap", "loop")
    ]
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])


def test_a_network_is_read_on_many_threads_at_once() -> None:
    torch.manual_seed(0)
    networks = [Branches(3).to(DOUBLE) for _ in range(8)]
    x = torch.randn(4, 5, 3, dtype=DOUBLE)

    def run(network: nn.Module, strategy: str) -> Tensor:
        return torch.stack(
            [am.call_per_task(copy.deepcopy(network), am.per_task(network, 4), x, strategy=strategy) for _ in range(20)]
        )

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, networks, itertools.cycle(["bmm", "loop"])))
    expected = [run(network, "loop") for network in networks]
    torch.testing.assert_close(found, expected)


class OnlyInTraining(nn.Module):
    """Does something else in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu() if self.training else self.layer(x).tanh()


class Compared(nn.Module):
    """Branches on what its inputs hold."""

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if x == 0 else x


def test_a_network_is_read_as_it_is_in_training_and_in_evaluation(ragged: am.Examples) -> None:
    network = OnlyInTraining().to(DOUBLE)
    for training in (True, False):
        network.train(training)
        results = [
            am.call_per_task(network, am.per_task(network, 4), ragged.x, strategy=name) for name in ("bmm", "loop")
        ]
        torch.testing.assert_close(results[0], results[1])


def test_layers_work_as_before_once_their_network_was_read() -> None:
    network = Branches(3)
    before = [dict(vars(part)) for part in network.modules()]
    assert read(network) is not None
    assert [dict(vars(part)) for part in network.modules()] == before
    assert read(nn.Sequential(nn.Linear(3, 2), Compared())) is None
    assert read(nn.Sequential(nn.Linear(3, 2), nn.Softmax(0))) is None


class NormOfItsOwn(nn.BatchNorm1d):
    """Updates its averages in a way that nobody knows."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def test_batch_norm_of_an_unknown_kind_runs_one_task_after_the_other_while_training() -> None:
    network = nn.Sequential(nn.Linear(3, 4), NormOfItsOwn(4), nn.Linear(4, 2))
    examples = am.Examples(torch.randn(4, 6, 3), torch.arange(6).remainder(2).repeat(4, 1))
    start = am.per_task(network, 4)
    assert {chosen(network, 4, (6, 3), order) for order in Order} == {"loop"}
    with pytest.raises(am.Incompatible, match=r"strategy='vmap' cannot run batch norm that updates running averages"):
        am.descend(network, start, examples, steps=1, rates=0.1, strategy="vmap")
    network.eval()
    results = [am.descend(network, start, examples, steps=1, rates=0.1, strategy=name) for name in ("vmap", "loop")]
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strategy": "threads"}, "strategy='threads' must be one of"),
        ({"strategy": "blocks"}, "strategy='blocks' cannot be asked for: .* strategy='auto' takes it where it can"),
        ({"steps": -1}, "steps=-1 must be an integer of at least 0"),
        ({"steps": True}, "steps=True must be an integer of at least 0"),
        ({"rates": []}, r"rates=\[\] holds no step size"),
        ({"rates": torch.ones(0)}, r"rates=tensor\(\[\]\) holds no step size"),
        ({"rates": {"0.weight": 0.1}}, r"rates\['0.bias'\]=None holds no step size"),
        ({"rates": {"0.weight": [], "0.bias": 0.1, "2.weight": 0.1, "2.bias": 0.1}}, r"rates\['0.weight'\]=\[\] holds"),
        ({"rates": float("nan")}, "rates=nan holds no step size"),
        ({"rates": torch.ones(1, 2)}, r"rates has the shape \(1, 2\); step sizes of n steps have \[n\]"),
        (
            {"rates": {"0.weight": torch.ones(1, 9, 9), "0.bias": 0.1, "2.weight": 0.1, "2.bias": 0.1}},
            r"rates\['0.weight'\] has the shape \(1, 9, 9\); step sizes of n steps have \[n\] or \[n, ",
        ),
        (
            {"rates": {**RATES, "0.wieght": 0.1}},
            r"rates\['0.wieght'\] is of no parameter of Sequential, whose are: 0.w",
        ),
        ({"rates": {**RATES, 3: 0.1}}, r"rates\[3\] is of no parameter of Sequential"),
        ({"weight_decay": {"0.wieght": 0.1}}, r"weight_decay\['0.wieght'\] is of no parameter of Sequential"),
        ({"weight_decay": torch.ones(2)}, r"weight_decay=tensor\(\[1., 1.\]\) must be a number of at least 0"),
        ({"weight_decay": None}, "weight_decay=None must be a number of at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan must be a number of at least 0"),
        ({"weight_decay": {"0.bias": -1.0}}, r"weight_decay\['0.bias'\]=-1.0 must be a number of at least 0"),
        ({"proximal": -1}, "proximal=-1 must be a number of at least 0"),
    ],
)
def test_impossible_arguments_are_named(
    network: nn.Module, ragged: am.Examples, wrong: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # which users do not have
    with pytest.raises(am.InvalidParameter, match=message):
        am.descend(network, am.per_task(network, 4), ragged, **{"steps": 1, "rates": 0.1, **wrong})  # type: ignore[arg-type]


def test_parameters_of_other_tasks_or_none_are_named(
    network: nn.Module, ragged: am.Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # which users do not have
    with pytest.raises(am.InvalidParameter, match=r"parameters\['0.weight'\] is of 3 tasks and support of 4"):
        am.descend(network, am.per_task(network, 3), ragged, steps=1, rates=0.1)
    with pytest.raises(am.InvalidParameter, match="parameters is empty"):
        am.descend(network, {}, ragged, steps=1, rates=0.1)
    with pytest.raises(am.InvalidParameter, match="n_tasks=-1 must be an integer of at least 0"):
        am.per_task(network, -1)
    start = am.per_task(network, 4)
    for further, message in (
        ({"2.bias": start["2.bias"][:3]}, r"parameters\['2.bias'\] is of 3 tasks and support of 4"),
        ({"2.bias": torch.tensor(1.0)}, r"parameters\['2.bias'\]=tensor\(1.\) must be a Tensor of shape \[tasks"),
        ({"2.bias": [1.0] * 4}, r"parameters\['2.bias'\]=\[1.0, 1.0, 1.0, 1.0\] must be a Tensor"),
        ({"2.bais": start["2.bias"]}, r"parameters\['2.bais'\] is of no parameter of Sequential, whose are: 0.weight"),
    ):
        with pytest.raises(am.InvalidParameter, match=message):
            am.descend(network, start | further, ragged, steps=1, rates=0.1)  # type: ignore[operator]


def test_sizes_and_decays_of_parameters_that_stay_as_they_are_may_be_given(
    network: nn.Module, ragged: am.Examples
) -> None:
    head = am.per_task(network, 4, ["2.weight", "2.bias"])
    found = am.descend(network, head, ragged, steps=1, rates=RATES, weight_decay=dict.fromkeys(RATES, 0.1))
    torch.testing.assert_close(found, am.descend(network, head, ragged, steps=1, rates=0.1, weight_decay=0.1))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([1], r"names=\[1\] must be a list of texts, such as \['0.weight'\]"),
        ("0.weight", "names='0.weight' must be a list of texts"),
        (["0.wieght"], "names='0.wieght' is no parameter of Sequential, whose are: 0.weight, "),
    ],
)
def test_names_of_no_parameters_are_named(
    network: nn.Module, names: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # which users do not have
    with pytest.raises(am.InvalidParameter, match=message):
        am.per_task(network, 4, names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_compiled_by_torchscript_is_refused(network: nn.Module, ragged: am.Examples) -> None:
    scripted = torch.jit.script(network)
    for names in (None, ["0.weight"]):
        with pytest.raises(am.InvalidParameter, match="is compiled by TorchScript.* give the network it was compiled"):
            am.per_task(scripted, 4, names)
    with pytest.raises(am.InvalidParameter, match="is compiled by TorchScript"):
        am.descend(scripted, am.per_task(network, 4), ragged, steps=1, rates=0.1)


def test_classes_are_counted_from_zero() -> None:
    x, y = torch.zeros(1, 2, 3), torch.tensor([[0, -100]])
    with pytest.raises(am.InvalidData, match="y of Examples holds the class -100; class indices begin with 0"):
        am.Examples(x, y)
    for classes in (y, torch.tensor([[0, 5]])):
        with pytest.raises(am.InvalidData, match="y of Examples holds no class indices below n_classes=2"):
            am.Examples(x, classes, n_classes=2).one_hot()


def test_labels_are_not_blamed_for_want_of_memory() -> None:
    examples = am.Examples(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), n_classes=10**14)
    with pytest.raises(RuntimeError, match=r"memory|large"):
        examples.one_hot()


def test_a_fitted_head_reaches_the_optimum_whatever_the_scale_of_the_features() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 20, 4, dtype=DOUBLE) * 1e3 + 5e3
    weight, bias = torch.randn(3, 2, 4, dtype=DOUBLE), torch.randn(3, 2, dtype=DOUBLE)
    y = features @ weight.mT + bias.unsqueeze(1)
    head = am.fit_head(features, am.Examples(features, y), steps=2000)
    torch.testing.assert_close(am.apply_head(head, features), y, rtol=1e-4, atol=1.0)


def test_a_head_is_fitted_by_descending_the_loss() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    features = torch.randn(2, 6, 3, dtype=DOUBLE)
    y = torch.arange(6).remainder(2).repeat(2, 1) * mask
    support = am.Examples(features, y, mask, n_classes=3)
    losses = [
        am.loss_on(support)(am.apply_head(am.fit_head(features, support, steps=s), features)) for s in (0, 1, 9, 99)
    ]
    assert all(bool((after < before).all()) for before, after in itertools.pairwise(losses))
    alone = am.fit_head(features[1:, :4], am.Examples(features[1:, :4], y[1:, :4]), steps=9)
    torch.testing.assert_close(am.fit_head(features, support, steps=9)["weight"][1, :2], alone["weight"][0])


def test_a_network_that_checks_its_inputs_and_one_with_a_layer_twice_have_no_program() -> None:
    class Checks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        @am.fixed_forward
        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(x, Tensor):
                raise ValueError("need a tensor")
            return self.layer(x)

    twice = nn.Linear(3, 3)
    assert read(Checks()) is None
    assert read(nn.Sequential(twice, nn.ReLU(), twice)) is None


@pytest.mark.parametrize("strategy", ["auto", "loop"])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it where it compiles
@pytest.mark.parametrize("whole", [True, False], ids=["network", "layer"])
def test_a_compiled_network_runs_as_it_stands(strategy: str, whole: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    compiled = torch.compile(network, backend="eager")
    if not whole:
        compiled = nn.Sequential(torch.compile(network[0], backend="eager"), *network[1:])
    support = am.Examples(torch.randn(3, 5, 3), torch.randn(3, 5, 2))
    found = [
        am.descend(
            of,
            {name: value.expand(3, *value.shape) for name, value in of.named_parameters()},
            support,
            steps=2,
            rates=0.1,
            strategy=strategy,
        )
        for of in (network, compiled)
    ]
    for plain, same in zip(*(ends.values() for ends in found), strict=True):
        torch.testing.assert_close(same, plain)


def test_a_network_that_changed_after_its_first_use_is_read_anew() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(2, 5, 3)

    def runs_as_it_is() -> None:
        found, expected = (
            am.call_per_task(network, am.per_task(network, 2), x, strategy=strategy) for strategy in ("auto", "loop")
        )
        torch.testing.assert_close(found, expected)

    runs_as_it_is()
    network[1] = nn.Tanh()
    runs_as_it_is()
    network[0].register_forward_hook(lambda layer, inputs, outputs: 3.0 * outputs)
    runs_as_it_is()


class Times(nn.Module):
    """Looks at numbers that no layer tells of."""

    factor = 1.0

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.scale * self.layer(x)


class Promised(Times):
    """Promises what its own ``forward`` keeps."""

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu()


class Overridden(Promised):
    """Its ``forward`` is another one, of which nothing is promised."""

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


class Parted(Times):
    """Promises what it does by a method of its own."""

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return self.scaled(self.layer(x))

    def scaled(self, x: Tensor) -> Tensor:
        return x


class PartOverridden(Parted):
    """Inherits the ``forward`` and overrides what it calls, of which nothing is promised."""

    def scaled(self, x: Tensor) -> Tensor:
        return self.scale * x


class PartKept(Parted):
    """Promises it again."""

    forward = am.fixed_forward(Parted.forward)


@pytest.mark.parametrize("kind", [Times, Overridden, PartOverridden])
def test_a_forward_of_which_nothing_is_known_is_never_read(
    kind: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "FEWEST_NUMBERS", dict.fromkeys(Order, 0))
    torch.manual_seed(0)
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    for layers, shape in ((nn.Linear(3, 2), (3,)), (images, (1, 4, 4))):
        network, x = nn.Sequential(kind(layers)), torch.randn(2, 5, *shape)
        assert read(network) is None
        before = am.call_per_task(network, am.per_task(network, 2), x)
        network[0].scale = 2.0
        torch.testing.assert_close(am.call_per_task(network, am.per_task(network, 2), x), 2 * before)
    for kept in (Promised, Parted, PartKept):
        assert read(nn.Sequential(kept(nn.Linear(3, 2)))) is not None


def test_only_a_method_of_a_class_can_be_promised() -> None:
    network = Times(nn.Linear(3, 2))
    for wrong in (Times, network, network.forward):
        with pytest.raises(am.InvalidParameter, match="write @autometa.fixed_forward above 'def forward'"):
            am.fixed_forward(wrong)
    assert read(network) is None


def test_a_decorator_above_the_promise_is_not_promised() -> None:
    def scaled(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(forward)  # which takes over the function's attributes too
        def call(network: Times, x: Tensor) -> Tensor:
            return network.scale * forward(network, x)

        return call

    class Scaled(Times):
        forward = scaled(Promised.forward)

    assert read(Scaled(nn.Linear(3, 2))) is None


class Switched(nn.Module):
    """Has one layer for training and one for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 2), nn.Linear(3, 2)

    @am.fixed_forward
    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if self.training else self.other(x)


def test_a_part_whose_mode_changed_alone_is_read_anew() -> None:
    network, x = nn.Sequential(Switched(), nn.Tanh()), torch.randn(2, 5, 3)
    start = am.per_task(network, 2)
    before = am.call_per_task(network, start, x)
    network[0].eval()
    after = am.call_per_task(network, start, x)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, am.call_per_task(network, start, x, strategy="loop"))


class Called(nn.Sequential):
    """Does more than its layers, where no ``forward`` tells of it."""

    scale = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * super().__call__(x)


def test_a_network_that_is_called_in_its_own_way_is_never_read() -> None:
    assert read(nn.Sequential(Called(nn.Linear(3, 2)))) is None


def test_a_forward_that_is_put_in_afterwards_is_run() -> None:
    network, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.randn(2, 5, 3)
    start = am.per_task(network, 2)
    assert am.call_per_task(network, start, x).any()
    network[0].forward = torch.zeros_like
    assert not am.call_per_task(network, start, x).any()


class NamedNorm(nn.BatchNorm1d):
    """torch's own by another name, for inputs of any shape."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Take them."""


def test_reading_a_network_changes_nothing_of_it() -> None:
    network = nn.Sequential(nn.Linear(3, 4), NamedNorm(4), nn.Linear(4, 2))
    before = copy.deepcopy(network.state_dict())
    assert read(network) is None
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "setting", "value"),
    [(0, "padding", (1, 1)), (1, "eps", 0.5), (1, "num_groups", 1), (2, "kernel_size", 1), (3, "end_dim", 2)],
)
def test_layers_whose_settings_changed_are_read_anew(
    layer: int, setting: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies, "FEWEST_NUMBERS", dict.fromkeys(Order, 0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.MaxPool2d(2, stride=2), nn.Flatten())
    x = torch.randn(2, 5, 1, 6, 6)

    def outputs(strategy: str) -> Tensor:
        return am.call_per_task(network, am.per_task(network, 2), x, strategy=strategy)

    torch.testing.assert_close(outputs("auto"), outputs("loop"))
    setattr(network[layer], setting, value)
    torch.testing.assert_close(outputs("auto"), outputs("loop"))
