"""A network is built from saved weights without more memory than they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.random_state import fresh_module
from autometa.estimators import saved_network
from autometa.estimators.saved_network import network_of
from autometa.host.catalog import components
from autometa.testing.toys import Lines
from toy_tasks import BLOBS, SINES

MANY = 10**11  # numbers, 400 GB


class Holding(am.Learner):
    """A learner whose network holds a tensor that is made as told."""

    def __init__(self, make: Callable[[], Tensor]) -> None:
        self.make = make

    def build(self, info: am.TaskInfo) -> nn.Module:
        module = nn.Linear(1, 1)
        module.register_buffer("held", self.make())
        return module

    def adapt(self, module: nn.Module, support: am.Examples, progress: float = 1.0) -> Tensor:
        raise NotImplementedError

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.empty(MANY),
        lambda: torch.zeros((MANY // 4, 4)),
        lambda: torch.ones(size=(MANY,)),
        lambda: torch.full((MANY,), float("-inf")),
        lambda: torch.rand(MANY),
        lambda: torch.randn(4, MANY),
        lambda: torch.randint(2, (MANY,)),
        lambda: torch.eye(10**6),
        lambda: torch.arange(MANY),
        lambda: torch.arange(0.0, 1.0, 1e-11),
        lambda: torch.linspace(0, 1, MANY),
        lambda: torch.zeros(2).new_empty(MANY),
        lambda: torch.zeros(2).new_full((MANY,), 0.5),
        lambda: torch.zeros(2).repeat(MANY),
        lambda: torch.zeros(1).expand(MANY).clone(),
        lambda: torch.zeros(1).expand(MANY) + 1,
        lambda: torch.zeros(2).tile(MANY),
        lambda: torch.empty_strided((2,), (MANY,)),
        lambda: torch.logspace(0, 1, MANY),
        lambda: torch.zeros(2).repeat_interleave(MANY),
        lambda: torch.randperm(MANY),
        lambda: torch.outer(torch.zeros(10**6), torch.zeros(10**6)),
        lambda: torch.diag_embed(torch.zeros(10**6)),
        lambda: nn.functional.one_hot(torch.tensor([1]), MANY),
        lambda: nn.functional.pad(torch.zeros(1), (0, MANY)),
        lambda: torch.tril_indices(10**6, 10**6),
        lambda: torch.zeros(1).resize_(MANY),
        lambda: torch.zeros(MANY, out=torch.empty(0)),
        lambda: torch.fft.fft(torch.zeros(1), n=MANY),
        lambda: torch.normal(0.0, 1.0, (MANY,), generator=torch.Generator()),
        lambda: torch.cat([torch.zeros(10**6)] * 10**5),
        lambda: nn.Linear(10**6, 10**6).weight.detach(),
    ],
)
def test_a_network_larger_than_its_weights_is_refused_before_memory_is_taken(make: Callable[[], Tensor]) -> None:
    state = {**nn.Linear(1, 1).state_dict(), "held": torch.zeros(3)}
    with pytest.raises(am.InvalidFile, match=r"it holds \(3,\) for 'held' of the network, where the learner's has"):
        network_of(Holding(make), SINES, state)


def test_a_network_with_large_tensors_of_its_own_is_built_all_the_same() -> None:
    learner = Holding(lambda: torch.zeros(10**7).sum(0, keepdim=True))
    built = network_of(learner, SINES, {**nn.Linear(1, 1).state_dict(), "held": torch.ones(1)})
    torch.testing.assert_close(built.held, torch.ones(1))


@pytest.mark.parametrize("info", [BLOBS, SINES], ids=["classification", "regression"])
def test_networks_of_installed_learners_are_built_once(info: am.TaskInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """To build one without memory takes torch seconds at first."""
    monkeypatch.setattr(saved_network, "_check_without_memory", lambda learner, *_: pytest.fail(str(learner)))
    built = []
    for component in components("learner"):
        learner = am.make_learner(component.full_name)
        try:
            state = fresh_module(learner, info, seed=3).state_dict()
        except (am.Incompatible, am.InvalidParameter, am.MissingData, ImportError):  # it acts, or needs something more
            continue
        again = network_of(learner, info, state).state_dict()
        torch.testing.assert_close(dict(again), dict(state))
        built.append(component.name)
    assert len(built) > 15


def test_a_weight_too_many_in_the_file_of_a_learner_without_any_is_refused(tmp_path: Path) -> None:
    model = am.FewShotRegressor("sklearn", max_steps=1).meta_fit(Lines())
    model._meta.module.register_buffer("extra", torch.zeros(3))
    model.save(tmp_path / "it.autometa")
    with pytest.raises(am.InvalidFile, match="does not fit the components installed here.*'extra'"):
        am.load(tmp_path / "it.autometa")
