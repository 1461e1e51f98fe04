"""``examples/benchmarks/parity/parity.py``: recipes can be built, runs go on where they were cut, rows are complete."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import autometa as am
from autometa.training import evaluate
from tiers import first_by_default

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks" / "parity"


@pytest.fixture
def parity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script, with its results in a folder of the test's own."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)
    import parity

    monkeypatch.setattr(parity, "RESULTS", tmp_path / "parity.csv")
    monkeypatch.setattr(parity, "REPORT", tmp_path / "PARITY.md")
    yield parity
    for name in ("parity", "judges", "embedded"):
        sys.modules.pop(name, None)


def short(parity: ModuleType, name: str, **changes: Any) -> Any:
    return dataclasses.replace(parity.read_entries()[name], **{"steps": 12, "test_tasks": 20, **changes})


def test_every_recipe_can_be_built(parity: ModuleType) -> None:
    for entry in parity.read_entries().values():
        learner = parity.make("learner", entry.learner)
        default = learner.default_meta_optimizer
        assert default is None or parity.make("meta_optimizer", {"name": default} | entry.meta_optimizer)
        assert set(entry.published) <= set(entry.settings), entry.name
        for setting in entry.settings.values():
            learner.set_params(**setting.get("learner", {}))


def test_a_score_is_written_with_all_that_belongs_to_it(parity: ModuleType) -> None:
    parity.run(short(parity, "sinusoid/maml"), seed=0, device=torch.device("cpu"))
    rows = parity.rows()
    assert len(rows) == 9
    assert all(row[column] for row in rows for column in set(parity.COLUMNS) - {"published", "remark"})
    parity.REPORT.write_text("# Old\n\n## Remarks\n\nBy hand.\n")
    parity.report()
    text = parity.REPORT.read_text()
    assert "| maml | 5-shot, 1 step | .67 |" in text
    assert text.endswith("## Remarks\n\nBy hand.\n")
    assert "Recipes without a score yet: maml_learned_rates, first_order" in text


@pytest.mark.thorough
def test_a_run_that_was_cut_goes_on_and_ends_the_same(
    parity: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = short(parity, "sinusoid/maml", steps=200)
    *_, (training, _) = parity.meta_train(entry, 0, torch.device("cpu"))
    whole = training.module.state_dict()

    monkeypatch.setattr(parity, "CHECKPOINT_EVERY", 0.0)
    said = parity.say

    def cut(text: str) -> None:
        said(text)
        raise KeyboardInterrupt

    monkeypatch.setattr(parity, "say", cut)
    with pytest.raises(KeyboardInterrupt):
        list(parity.meta_train(entry, 0, torch.device("cpu")))
    monkeypatch.setattr(parity, "say", said)
    *_, (resumed, cpu_seconds) = parity.meta_train(entry, 0, torch.device("cpu"))
    assert "step 5 of 200" in capsys.readouterr().out
    assert resumed.step_count == 200
    assert cpu_seconds > 0
    for name, value in resumed.module.state_dict().items():
        torch.testing.assert_close(value, whole[name])


def test_likelihoods_stand_beside_that_of_the_exact_process(parity: ModuleType) -> None:
    settings = {"RBF": {"kernel": "rbf"}}
    entry = short(parity, "gaussian_process/cnp", settings=settings, published={"RBF": ".26"}, milestones=[0.5])
    parity.run(entry, seed=0, device=torch.device("cpu"))
    halfway, own, exact = parity.rows()
    assert (halfway["setting"], halfway["published"]) == ("RBF after 6 steps", "")
    assert (own["published"], own["outer_steps"]) == (".26", "12")
    assert (own["setting"], exact["setting"]) == ("RBF", "RBF: exact process")
    assert own["metric"] == exact["metric"] == "log-likelihood"
    assert float(own["score"]) < float(exact["score"])
    assert float(exact["score"]) > 1  # nothing of it is trained


def test_the_likelihood_is_the_normal_density_of_the_targets(parity: ModuleType) -> None:
    from judges import log_likelihood

    batch = am.make_tasks("gaussian_process").sample(3, split="test", seed=0)
    mean, deviation = torch.randn(batch.query.y.shape), torch.rand(batch.query.y.shape) + 0.1
    each = torch.distributions.Normal(mean, deviation).log_prob(batch.query.y).squeeze(-1)
    expected = torch.stack([row[mask].mean() for row, mask in zip(each, batch.query.mask, strict=True)])
    torch.testing.assert_close(log_likelihood(mean, deviation, batch.query), expected)


def embedded_learners() -> list[str]:
    groups = tomllib.loads((BENCHMARKS / "parity.toml").read_text())
    entries = groups["omniglot"]["entries"].values()
    return list(dict.fromkeys(entry["learner"]["name"] for entry in entries if entry.get("embedded", True)))


@pytest.mark.parametrize("name", first_by_default(1, embedded_learners()))
def test_images_embedded_once_give_the_scores_of_images(parity: ModuleType, name: str) -> None:
    from embedded import embedded

    tasks = am.make_tasks("glyphs", n_drawers=10, size=8, n_query=3)
    learner = am.make_learner(name, backbone=am.make_backbone("conv4", n_filters=8))
    model = am.FewShotClassifier(learner, max_steps=2, tasks_per_step=1, random_state=0, device="cpu").meta_fit(tasks)
    plain = evaluate(model.learner_, model.module_, tasks, split="test", n_tasks=30, seed=0)
    module, features = embedded(model.module_, tasks)
    once = evaluate(model.learner_, module, features, split="test", n_tasks=30, seed=0)
    np.testing.assert_allclose(once.losses, plain.losses, rtol=1e-4)
    np.testing.assert_array_equal(once.scores, plain.scores)
