"""Steps too small to share run on one thread; the rule counts work and has no clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.engine.few_threads import FEWEST_MULTIPLICATIONS, enough_threads
from autometa.training.evaluation import evaluate
from own_networks import Narrow

WIDE = FEWEST_MULTIPLICATIONS // 64 // 99


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Watching(nn.Module):
    """Narrow, and the number of threads in each call."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.inner = Narrow(n_features)
        self.seen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(torch.get_num_threads())
        return self.inner(x)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Watching:
        return self


@pytest.mark.parametrize(("n_features", "threads"), [(5, 1), (WIDE, 2)], ids=["small", "large"])
def test_training_judging_and_predicting_share_what_is_large(n_features: int, threads: int) -> None:
    network = Watching(n_features)
    tasks = am.make_tasks("digits", n_way=2, n_shot=40, n_query=40)
    model = am.FewShotClassifier("prototypical", backbone=network, max_steps=1, tasks_per_step=2, random_state=0)
    model.meta_fit(tasks)
    assert network.seen - {2} == {threads} - {2}  # features are counted on as many as there are
    network.seen.clear()
    batch = tasks.sample(1, split="test", seed=0)
    model.fit(batch.support.x[0].numpy(), batch.support.y[0].numpy())
    evaluate(model.learner_, model.module_, tasks, split="test", n_tasks=2, seed=0)
    assert threads in network.seen
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("module", "shape", "threads"),
    [
        (nn.Linear(64, 5), (4, 10, 64), 1),
        (nn.Linear(64, WIDE), (10, 10, 64), 2),
        (nn.Linear(64, WIDE), (1, 10, 64), 1),
        (nn.Conv2d(3, 64, 3), (4, 200, 3, 84, 84), 2),
        (nn.Sequential(nn.Conv2d(3, 64, 3), nn.Linear(64, WIDE)), (10, 10, 3, 8, 8), 2),
        (nn.Conv2d(3, 64, 3), (4, 10, 3, 8, 8), 1),
        (nn.Identity(), (4, 10, 64), 1),
        (nn.Identity(), (1, 5000, 4096), 2),
        (nn.Linear(64, 5, device="meta"), (4, 10, 64), 2),
        (nn.BatchNorm1d(64, affine=False, device="meta"), (4, 10, 64), 2),
    ],
)
def test_the_rule_counts_examples_weights_and_places(module: nn.Module, shape: tuple[int, ...], threads: int) -> None:
    with enough_threads(module, torch.empty(shape, device="meta")):
        assert torch.get_num_threads() == threads
    with pytest.raises(KeyError), enough_threads(module, torch.empty(shape, device="meta")):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_one_thread_stays_one() -> None:
    torch.set_num_threads(1)
    with enough_threads(nn.Conv2d(3, 64, 3), torch.empty(4, 200, 3, 84, 84, device="meta")):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


def test_a_thread_that_begins_inside_of_anothers_block_ends_with_as_many_as_before() -> None:
    small, x = nn.Linear(64, 5), torch.empty(4, 10, 64, device="meta")
    inside, go_on = threading.Event(), threading.Event()
    found: dict[str, int] = {}

    def first() -> None:
        with enough_threads(small, x):
            inside.set()
            go_on.wait(60)

    def second() -> None:
        torch.ones(4) + 1  # a thread's number is that of its first operation
        with enough_threads(nn.Linear(64, WIDE), torch.empty(10, 10, 64, device="meta")):
            found["large"] = torch.get_num_threads()
        with enough_threads(small, x):
            found["small"] = torch.get_num_threads()
        found["after"] = torch.get_num_threads()

    one = threading.Thread(target=first)
    one.start()
    inside.wait(60)
    two = threading.Thread(target=second)
    two.start()
    two.join()
    go_on.set()
    one.join()
    assert found == {"large": 2, "small": 1, "after": 2}
