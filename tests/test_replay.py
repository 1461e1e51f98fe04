"""Operations recorded once and repeated: the numbers of plain calls, on whatever device."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.engine.replay import MOST_RECORDED, PLAIN_CALLS
from autometa.training import MetaTraining

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def batch_of(n_tasks: int, seed: int, device: str = "cpu") -> am.TaskBatch:
    return am.make_tasks("sinusoid").sample(n_tasks, seed=seed).to(device, torch.float32)


def sums(batch: am.TaskBatch) -> list[Tensor | None]:
    return [batch.support.x.sum(), None, (batch.query.y * torch.rand_like(batch.query.y)).sum()]


def test_elsewhere_than_on_cuda_the_function_is_called() -> None:
    calls: list[am.TaskBatch] = []

    def count(batch: am.TaskBatch) -> list[Tensor | None]:
        calls.append(batch)
        return sums(batch)

    replay = am.Replay(True)
    for seed in range(PLAIN_CALLS + 2):
        found = replay(count, batch_of(3, seed))
        torch.testing.assert_close(found[0], batch_of(3, seed).support.x.sum())
    assert len(calls) == PLAIN_CALLS + 2
    assert replay.n_recorded == 0


def test_it_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(am.Replay(True)))(sums, batch_of(2, 0))[1] is None


@needs_cuda
def test_repeated_calls_give_the_numbers_of_plain_calls() -> None:
    replay = am.Replay(True)
    for seed in range(PLAIN_CALLS + 4):
        batch = batch_of(3, seed, "cuda")
        torch.manual_seed(seed)
        found = [part if part is None else part.clone() for part in replay(sums, batch)]
        torch.manual_seed(seed)
        torch.testing.assert_close(found, sums(batch))
    assert replay.n_recorded == 1


@needs_cuda
def test_a_function_that_waits_for_the_device_is_called_as_it_is() -> None:
    def waits(batch: am.TaskBatch) -> list[Tensor | None]:
        return [batch.support.x.sum() if batch.support.x.sum() > 0 else -batch.support.x.sum()]

    replay = am.Replay(True)
    for seed in range(PLAIN_CALLS + 3):
        batch = batch_of(3, seed, "cuda")
        torch.testing.assert_close(replay(waits, batch)[0], batch.support.x.sum().abs())
    assert replay.n_recorded == 0


@needs_cuda
def test_what_is_not_allowed_is_never_recorded() -> None:
    replay = am.Replay(False)
    for seed in range(PLAIN_CALLS + 3):
        replay(sums, batch_of(3, seed, "cuda"))
    assert replay.n_recorded == 0


@needs_cuda
def test_only_so_many_shapes_are_recorded() -> None:
    replay = am.Replay(True)
    for n_tasks in range(1, MOST_RECORDED + 3):
        for seed in range(PLAIN_CALLS + 2):
            batch = batch_of(n_tasks, seed, "cuda")
            torch.testing.assert_close(replay(sums, batch)[0], batch.support.x.sum())
    assert replay.n_recorded == MOST_RECORDED


@needs_cuda
@pytest.mark.parametrize(
    ("learner", "meta_optimizer", "tasks"),
    [
        ("maml", "gradient", "sinusoid"),
        ("maml", "reptile", "sinusoid"),
        ("imaml", "implicit", "sinusoid"),
        ("mean_parameters", "pooled", "sinusoid"),
        ("gru", "gradient", "sinusoid"),
        ("prototypical", "gradient", "digits"),
        ("anil", "gradient", "digits"),
    ],
)
def test_meta_training_on_cuda_is_that_on_the_cpu(learner: str, meta_optimizer: str, tasks: str) -> None:
    def run(device: str) -> MetaTraining:
        training = MetaTraining(
            am.make_learner(learner),
            am.make_meta_optimizer(meta_optimizer),
            am.make_tasks(tasks),
            n_steps=8,
            tasks_per_step=4,
            seed=0,
            device=device,
            dtype=torch.float64,
        )
        training.run_to()
        return training

    here, there = run("cpu"), run("cuda")
    assert there.meta_optimizer.replay_.n_recorded == 1
    if learner != "gru":  # which draws orders on the device
        torch.testing.assert_close(
            {name: value.cpu() for name, value in there.module.state_dict().items()},
            dict(here.module.state_dict()),
            rtol=1e-4,
            atol=1e-6,
        )
