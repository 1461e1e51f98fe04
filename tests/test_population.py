"""Candidates judged together are candidates judged one after the other, and θ stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.testing.toys import Blobs, Lines
from toy_backbones import Normed


def candidates(module: nn.Module, n: int = 5, scale: float = 0.05) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: value.detach() + scale * torch.randn(n, *value.shape, generator=generator, dtype=value.dtype)
        for name, value in module.named_parameters()
    }


def built(learner: am.Learner, tasks: am.TaskSampler, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    return learner.build(tasks.info).to(dtype).train(), tasks.sample(3, seed=0).to(dtype=dtype)


SUITED = [("prototypical", Blobs()), ("ridge", Lines()), ("in_context", Blobs()), ("maml", Lines()), ("feat", Blobs())]


@pytest.mark.parametrize(("name", "tasks"), SUITED, ids=lambda value: str(value))
def test_candidates_run_together_are_judged_as_one_by_one_by_hand(name: str, tasks: am.TaskSampler) -> None:
    learner = am.make_learner(name)
    module, batch = built(learner, tasks)
    population = candidates(module)
    judge = am.PopulationLosses(learner, module)
    torch.manual_seed(1)
    together = judge(population, batch)
    assert judge.strategy == "vmap"
    torch.manual_seed(1)
    torch.testing.assert_close(together, am.PopulationLosses(learner, module, strategy="loop")(population, batch))
    if name == "feat":  # draws dropout masks
        return
    for candidate in range(5):
        other = learner.build(tasks.info).double()
        other.load_state_dict({key: values[candidate] for key, values in population.items()})
        with torch.no_grad():
            torch.testing.assert_close(together[candidate], am.query_losses(learner, other, batch))


def test_candidates_draw_the_same_random_numbers() -> None:
    learner = am.make_learner("feat")
    module, batch = built(learner, Blobs())
    alike = {name: value.expand(4, *value.shape[1:]) for name, value in candidates(module, 1).items()}
    for strategy in ("vmap", "loop"):
        judge = am.PopulationLosses(learner, module, strategy=strategy)
        once, again = judge(alike, batch), judge(alike, batch)
        torch.testing.assert_close(once, once[:1].expand_as(once))
        assert not torch.allclose(once, again)


class Recurrent(am.Backbone):
    """Reads the features one after the other; vmap has no rule for it."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return _Recurrent()


class _Recurrent(nn.Module):
    n_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.unsqueeze(-1))[0][:, -1]


class DependsOnValues(am.Backbone):
    """Looks at the numbers of its weights."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        module = _DependsOnValues(*input_shape, 4)
        module.n_features = 4
        return module


class _DependsOnValues(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.weight.sum() > 0 else -super().forward(x)


@pytest.mark.parametrize(
    "learner", [("prototypical", Recurrent()), ("prototypical", DependsOnValues()), ("svm_head", "auto")]
)
def test_what_cannot_be_run_together_runs_in_turn_and_is_said_to(learner: tuple[str, Any]) -> None:
    made = am.make_learner(learner[0], backbone=learner[1])
    module, batch = built(made, Blobs())
    population = candidates(module)
    judge = am.PopulationLosses(made, module)
    losses = judge(population, batch)
    assert judge.strategy == "loop"
    torch.testing.assert_close(losses, am.PopulationLosses(made, module, strategy="loop")(population, batch))


def test_candidates_that_adapt_many_numbers_run_in_turn_on_a_cpu() -> None:
    learner = am.make_learner("maml", backbone=am.make_backbone("mlp", hidden=(300, 300)))
    module, batch = built(learner, Lines())
    judge = am.PopulationLosses(learner, module)
    judge(candidates(module), batch)
    assert judge.strategy == "loop"


class AddsUpCandidates(am.Backbone):
    """Computes another function under vmap, without an error."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        module = _AddsUp(*input_shape, 4)
        module.n_features = 4
        return module


class _AddsUp(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        factor = 2.0 if torch._C._functorch.is_batchedtensor(self.weight) else 1.0
        return (factor * super().forward(x)).tanh()


def test_what_comes_out_otherwise_together_runs_in_turn() -> None:
    learner = am.make_learner("prototypical", backbone=AddsUpCandidates())
    module, batch = built(learner, Blobs())
    judge = am.PopulationLosses(learner, module)
    judge(candidates(module), batch)
    assert judge.strategy == "loop"


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_candidates_leave_the_running_averages_and_theta_alone(strategy: str) -> None:
    learner = am.make_learner("prototypical", backbone=Normed())
    module, batch = built(learner, Blobs())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    losses = am.PopulationLosses(learner, module, strategy=strategy)(candidates(module), batch)
    assert losses.shape == (5, 3)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_parameters_left_out_stay_and_the_score_is_the_share_of_wrong_classes() -> None:
    learner = am.make_learner("siamese", backbone="identity")
    module, batch = built(learner, Blobs())
    weight = module.weight.detach()
    population = {"weight": torch.stack([weight, 3 * weight, -weight])}
    losses = am.PopulationLosses(learner, module)(population, batch)
    assert not torch.allclose(losses[0], losses[1])
    wrong = am.PopulationLosses(learner, module, fitness="score")(population, batch)
    assert torch.equal(wrong[0], wrong[1])
    assert (wrong[2] > wrong[0] + 0.3).all()
    torch.testing.assert_close(wrong * 18, (wrong * 18).round())


@pytest.mark.parametrize(("name", "value"), [("fitness", "gain"), ("strategy", "bmm")])
def test_impossible_parameters_are_named(name: str, value: str) -> None:
    learner = am.make_learner("ridge")
    with pytest.raises(am.InvalidParameter, match=f"{name}='{value}' must be"):
        am.PopulationLosses(learner, learner.build(Lines().info), **{name: value})
