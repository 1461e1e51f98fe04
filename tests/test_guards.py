"""Guards against leaks: each planted leak is named, and what is sound is not."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.fingerprints import fingerprints_of
from autometa.comparison.execution.guards import agreement, dealt_out, first_test_tasks, permuted_labels
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.settings import Settings
from autometa.comparison.report.guards import guards_section
from autometa.comparison.results.guards import GUARDS, errors_for, warnings_of
from learning import STANDARD_ERRORS
from toy_tasks import Haystack

FAST: dict[str, Any] = {
    "n_trials": 1,
    "n_test_tasks": 25,
    "n_valid_tasks": 5,
    "n_seeds": 1,
    "max_steps": 2,
    "tasks_per_step": 2,
    "baselines": False,
    "verbose": 0,
}
NAMES = ("copies of test examples", "order of queries", "other queries", "permuted labels")


def found(tasks: Any, learners: Any, **more: Any) -> tuple[am.Comparison, list[str]]:
    """A comparison and what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        comparison = am.compare(tasks, learners, **{**FAST, **more})
    return comparison, [str(one.message) for one in told]


def verdicts(comparison: am.Comparison, learner: str | None = None) -> dict[str, str]:
    guards = comparison.guards
    of = guards if learner is None else guards[guards["learner"] == learner]
    return dict(zip(of["guard"], of["verdict"], strict=True))


# ---------------------------------------------------------------- leaks


class Ordered(Haystack):
    """Labels follow the order of the classes, and so mean something beyond the support set."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        assert batch.classes is not None
        place = batch.classes.argsort(dim=1).argsort(dim=1)

        def in_order(examples: am.Examples) -> am.Examples:
            return examples.with_parts(y=place.gather(1, examples.y))

        classes = batch.classes.sort(dim=1)[0]
        return am.TaskBatch(support=in_order(batch.support), query=in_order(batch.query), classes=classes)


class Remembers(am.Learner):
    """Knows the centres of all test classes, and the order that their labels follow; needs no support label."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def _centres(self, x: Tensor) -> Tensor:
        of_split = torch.Generator().manual_seed(am.derive_seed(0, "test"))
        tells = torch.arange(30) < 3
        return (2 * tells * torch.randn(12, 30, generator=of_split))[:, :3].to(x)

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        assert isinstance(support.x, Tensor)
        centres = self._centres(support.x)
        nearest = torch.cdist(support.x[..., :3], centres).argmin(dim=2)
        return centres[nearest.sort(dim=1)[0]]

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return -torch.cdist(x[..., :3], adapted)


def test_a_learner_that_remembers_the_test_classes_is_named() -> None:
    comparison, told = found({"ordered": Ordered(n_base=12)}, {"remembers": Remembers(), "nearest": "prototypical"})
    row = comparison.guards.set_index(["learner", "guard"]).loc[("remembers", "permuted labels")]
    assert row["verdict"] == "broken"
    assert row["expected"] == pytest.approx(1 / 3)
    assert row["found"] > row["limit"] > 1 / 3
    assert [text for text in told if "sees more than the support labels" in text] == [
        f"remembers on ordered: {row['words']}"
    ]
    assert verdicts(comparison, "nearest")["permuted labels"] == "holds"


class Pool(am.ClassEpisodes):
    """Noise of nine classes with forty images each; test images may lie among those of the train classes too."""

    def __init__(self, *, n_way: int = 3, n_shot: int = 1, n_query: int = 4, leak: float = 0.0) -> None:
        self.n_way = n_way
        self.n_shot = n_shot
        self.n_query = n_query
        self.leak = leak

    def load(self) -> am.ClassImages:
        labels = torch.arange(9).repeat_interleave(40)
        images = torch.rand(360, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        n = round(self.leak * 120)
        images[:n] = images[240 : 240 + n]
        splits = {"train": range(3), "valid": range(3, 6), "test": range(6, 9)}
        return am.ClassImages(images=images, labels=labels, splits=splits)


def test_a_sampler_that_repeats_test_images_in_training_is_named_once() -> None:
    comparison, told = found({"pool": Pool(leak=0.1)}, {"one": "prototypical", "two": "ridge"})
    guards = comparison.guards[comparison.guards["guard"] == "copies of test examples"]
    assert set(guards["verdict"]) == {"broken"}
    assert 0 < guards["found"].iloc[0] <= 12
    assert sum("exact copies" in text for text in told) == 1
    sound, quiet = found({"pool": Pool()}, "prototypical")
    assert verdicts(sound)["copies of test examples"] == "holds"
    assert quiet == []


class ByPlace(Remembers):
    """Favours the classes in turn, by the place of a query."""

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return support.one_hot().sum(1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1]).remainder(adapted.shape[1])
        return adapted.unsqueeze(1) + torch.nn.functional.one_hot(place, adapted.shape[1])


class ByNeighbours(Remembers):
    """Subtracts the mean of the queries from each of them, in whatever order."""

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        return support.one_hot().sum(1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return adapted.unsqueeze(1) + (flat - flat.mean(1, keepdim=True))[..., : adapted.shape[1]]


def test_a_learner_that_uses_the_order_of_queries_or_their_company_is_named() -> None:
    comparison, told = found({"haystack": Haystack()}, {"place": ByPlace(), "company": ByNeighbours()})
    of = {name: verdicts(comparison, name) for name in ("place", "company")}
    assert of["place"]["order of queries"] == "broken"
    assert of["company"]["order of queries"] == "holds"
    assert of["company"]["other queries"] == "broken"
    assert sum("place on haystack" in text and "order of the queries" in text for text in told) == 1
    assert sum("company on haystack" in text and "other queries of the task" in text for text in told) == 1


@pytest.mark.thorough
def test_a_transductive_network_is_named_as_such_and_no_alarm() -> None:
    backbone = am.make_backbone("conv4", n_filters=4, batch_norm="transductive")
    learner = am.make_learner("prototypical", backbone=backbone)
    comparison, told = found({"glyphs": am.make_tasks("glyphs", size=8, n_way=3, n_query=4)}, {"batch": learner})
    row = comparison.guards.set_index("guard").loc["other queries"]
    assert row["verdict"] == "explained"
    assert "batch norm" in row["words"]
    assert verdicts(comparison)["order of queries"] == "holds"
    assert told == []


# ---------------------------------------------------------------- no leaks


@pytest.mark.thorough
@pytest.mark.reports
def test_a_sound_comparison_has_none_and_says_what_means_nothing_there(tmp_path: Path) -> None:
    tasks = {
        "sines": am.make_tasks("sinusoid"),
        "letters": am.make_tasks("glyphs", size=8, n_way=3, n_query=4),
    }
    comparison, told = found(tasks, ["ridge", "sklearn"], output=tmp_path / "run")
    assert told == []
    assert list(comparison.guards.columns) == GUARDS
    assert len(comparison.guards) == 2 * 2 * 4
    classes = comparison.guards[comparison.guards["tasks"] != "sines"]
    assert set(classes["verdict"]) == {"holds"}
    targets = comparison.guards[comparison.guards["tasks"] == "sines"].set_index("guard")
    assert set(targets["verdict"]) == {"holds", "left out"}
    assert set(targets.loc["permuted labels", "words"]) == {
        "targets mean the same in every task: what is known of them without labelled examples is no leak"
    }
    read = am.Comparison.load(tmp_path / "run")
    pd.testing.assert_frame_equal(read.guards, comparison.guards)
    assert len(pd.read_csv(tmp_path / "run" / "guards.csv")) == len(comparison.guards)
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<section id="guards">' in page
    assert "14 of 14 guards hold." in page


def test_of_several_runs_the_first_tells_and_other_test_tasks_are_looked_at_too() -> None:
    comparison, told = found({"pool": Pool()}, "prototypical", test_tasks={"other": Pool(leak=0.2)}, n_seeds=2)
    guards = comparison.guards
    assert len(guards) == 5
    assert guards.loc[guards["tasks"] == "other", "guard"].tolist() == ["copies of test examples"]
    assert told == []  # the test images of the other lie among its own train classes, which nothing was trained on
    same, said = found({"pool": Pool()}, "prototypical", test_tasks={"leaky": Turned()})
    assert same.guards.set_index("tasks").loc["leaky", "verdict"] == "broken"
    assert len(said) == 1


class Turned(Pool):
    """Judges on the images that the other pool trains on."""

    def load(self) -> am.ClassImages:
        found = super().load()
        splits = {"train": range(6, 9), "valid": range(3, 6), "test": range(3)}
        return am.ClassImages(images=found.images, labels=found.labels, splits=splits)


def test_learners_that_act_are_left_out() -> None:
    comparison, told = found({"bandit": am.make_tasks("bandit")}, "random", n_test_tasks=5)
    assert set(comparison.guards["verdict"]) == {"left out"}
    assert set(comparison.guards["guard"]) == set(NAMES)
    assert told == []


class Upset(Remembers):
    """Cannot stand labels that do not come in order."""

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        if (support.y.diff(dim=1) < 0).any():
            raise RuntimeError("labels out of order")
        return support.one_hot().sum(1)

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        return adapted.unsqueeze(1).expand(-1, x.shape[1], -1)


def test_a_guard_that_raises_is_told_and_costs_no_score() -> None:
    comparison, told = found({"haystack": Haystack()}, {"upset": Upset()})
    assert verdicts(comparison)["permuted labels"] == "failed"
    assert "labels out of order" in comparison.guards.set_index("guard").loc["permuted labels", "words"]
    assert len(comparison.leaderboard) == 1
    assert told == []
    assert "1 could not be looked at" in guards_section(comparison._record, {})


# ---------------------------------------------------------------- their parts


def test_labels_dealt_out_tell_nothing_whatever_the_sizes_of_classes() -> None:
    y = torch.tensor([[0, 0, 0, 0, 1, 2]]).repeat(3000, 1)
    mask = torch.tensor([True] * 6).repeat(3000, 1)
    support = am.Examples(torch.zeros(3000, 6, 1), y, mask)
    dealt = dealt_out(support, seed=0)
    assert torch.equal(dealt, dealt_out(support, seed=0))
    assert all(sorted(np.bincount(row, minlength=3)) == [1, 1, 4] for row in dealt[:50].numpy())
    for place in range(6):  # every label is as likely at every place
        share = (dealt[:, place] == 0).double().mean()
        assert abs(share - 1 / 3) < 4 * (2 / 9 / 3000) ** 0.5


def test_padding_is_dealt_nothing() -> None:
    mask = torch.tensor([[True, True, True, False]])
    support = am.Examples(torch.zeros(1, 4, 1), torch.tensor([[0, 1, 2, 0]]), mask)
    dealt = dealt_out(support, seed=1)
    assert dealt[0, 3] == 0
    assert sorted(dealt[0, :3].tolist()) == [0, 1, 2]


def test_expected_agreement_counts_how_often_each_label_is_given() -> None:
    query = am.Examples(torch.zeros(2, 4, 1), torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]]))
    right, expected = agreement(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1]]), query)
    assert right.tolist() == [0.75, 0.5]
    assert expected.tolist() == [0.75, 0.5]  # who always names the frequent class knows nothing


def test_chance_is_missed_as_rarely_with_few_tasks() -> None:
    assert errors_for(1000) == pytest.approx(4, rel=0.02)
    assert errors_for(20) > 5
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 6))
    missed = scores.mean(1) > errors_for(6) * scores.std(1, ddof=1) / 6**0.5
    assert missed.mean() < 1e-3


def test_equal_examples_have_equal_fingerprints_and_rows_count_with_their_target() -> None:
    x = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[-0.0, 1.0], [5.0, 6.0]]])
    functions = am.TaskInfo(problem="regression", input_shape=(2,), n_outputs=1, n_shot=2, n_query=2)
    classes = am.TaskInfo(problem="classification", input_shape=(2,), n_outputs=2, n_shot=1, n_query=1)

    def batch(y: Tensor) -> am.TaskBatch:
        return am.TaskBatch(support=am.Examples(x, y), query=am.Examples(x, y), ids=torch.tensor([7, 9]))

    labelled = fingerprints_of(batch(torch.tensor([[0, 1], [1, 0]])), classes)
    assert len(labelled.owners) == 3
    assert labelled.n_shared == 1
    assert set().union(*labelled.owners.values()) == {7, 9}
    assert fingerprints_of(batch(torch.tensor([[0.0, 1.0], [1.0, 0.0]])), functions).n_shared == 0
    assert labelled.found_in(labelled) == set(labelled.owners)


def test_without_any_guard_nothing_is_said() -> None:
    nothing = pd.DataFrame(columns=GUARDS)
    assert warnings_of(nothing) == []
    record: Any = SimpleNamespace(frames=SimpleNamespace(guards=nothing))
    assert guards_section(record, {}) == ""


def test_a_sound_learner_is_at_chance_with_labels_that_tell_nothing_even_of_uneven_tasks() -> None:
    tasks = am.make_tasks("glyphs", size=8, n_way=(2, 6), n_shot=(1, 5), n_query=5)
    learner = am.make_learner("prototypical", backbone="identity")
    found = []
    for seed in range(40):
        domain = Domain(label="letters", sampler=tasks, settings=Settings(n_test_tasks=100, random_state=seed))
        measured = permuted_labels(learner, learner.build(tasks.info), first_test_tasks(domain), domain)
        found.append((measured["score"] - measured["chance"]) / measured["standard_error"])
    assert abs(np.mean(found)) < STANDARD_ERRORS * np.std(found, ddof=1) / len(found) ** 0.5
    assert max(found) < errors_for(20)


class Compared(Haystack):
    """Equal to samplers with equal parameters, and so no key of a dict."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compared)

    __hash__ = None  # type: ignore[assignment]


def test_a_sampler_with_a_comparison_of_its_own_is_guarded_too() -> None:
    comparison, _ = found({"compared": Compared()}, {"upset": Upset()})
    assert len(comparison.leaderboard) == 1
    assert verdicts(comparison)["copies of test examples"] == "holds"
