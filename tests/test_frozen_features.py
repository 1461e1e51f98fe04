"""Frozen features: scikit-learn's linear models on any network or function, and nothing of it is ever trained."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from autometa_plugins.transfer.logistic import fit_logistic
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score
from torch import Tensor, nn

import autometa as am
import shape_checks
from autometa.engine.inner_loop.mlp_program import read
from autometa.testing.toys import Blobs, Lines

DOUBLE = torch.float64
TEXTS = ["oh!", "ah!!", "no!", "well.", "hm...", "so."] * 3
LABELS = ["loud", "loud", "loud", "calm", "calm", "calm"] * 3


def encode(texts: list[str]) -> np.ndarray:
    return np.array([[text.count("!"), text.count("."), len(text)] for text in texts], dtype=float)


def encode_frame(frame: pd.DataFrame) -> np.ndarray:
    return np.column_stack([frame["text"].str.count("!"), frame["text"].str.len()])


class Timm(nn.Module):
    """What timm's models have: ``num_features``, and a classifier that is not wanted."""

    num_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.fc = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 1000)
        self.drop = nn.Dropout(0.5)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.norm(self.body(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.drop(x) if pre_logits else self.fc(self.drop(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def module_of(learner: am.Learner, tasks: am.TaskSampler) -> nn.Module:
    return learner.build(tasks.info).to(DOUBLE)


# ---------------------------------------------------------------- the linear models


@pytest.mark.parametrize(
    ("n", "n_features", "n_classes", "C"),
    [(5, 16, 5, 1.0), (5, 16, 5, 100.0), (25, 300, 5, 1.0), (60, 4, 2, 10.0), (60, 6, 3, 0.01), (4, 9, 2, 1.0)],
)
def test_logistic_regression_is_scikit_learns(n: int, n_features: int, n_classes: int, C: float) -> None:
    generator = torch.Generator().manual_seed(n)
    n_tasks = 20
    y = torch.stack([torch.randperm(n, generator=generator) % n_classes for _ in range(n_tasks)])
    centres = torch.randn(n_classes, n_features, generator=generator, dtype=DOUBLE)
    x = centres[y] + torch.randn(n_tasks, n, n_features, generator=generator, dtype=DOUBLE)
    head = fit_logistic(x, am.Examples(x, y), C=C)
    asked = torch.randn(30, n_features, generator=generator, dtype=DOUBLE)
    for task in range(0, n_tasks, 6):
        model = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(x[task].numpy(), y[task].numpy())
        logits = asked @ head["weight"][task].mT + head["bias"][task]
        expected = torch.from_numpy(model.predict_proba(asked.numpy()))
        torch.testing.assert_close(logits.softmax(dim=-1), expected, rtol=0, atol=1e-5)


@pytest.mark.thorough
def test_the_gradient_of_every_task_is_zero_at_its_optimum_however_different_the_tasks() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(30, 12, 7, generator=generator, dtype=DOUBLE)
        * torch.logspace(-3, 2, 30, dtype=DOUBLE)[:, None, None]
    )
    y = torch.randint(4, (30, 12), generator=generator)
    mask = torch.arange(12) < torch.randint(4, 13, (30, 1), generator=generator)
    support = am.Examples(x * mask.unsqueeze(-1), y * mask, mask, 4)
    head = {name: value.requires_grad_() for name, value in fit_logistic(support.x, support, C=3.0).items()}
    present = support.one_hot().any(dim=1)
    C = torch.where(present.sum(dim=1) == 2, 1.5, 3.0)
    outputs = support.x @ head["weight"].mT + head["bias"].unsqueeze(1)
    loss = am.loss_on(support)(outputs) * mask.sum(dim=1) * C + head["weight"].square().sum(dim=(1, 2)) / 2
    for gradient in torch.autograd.grad(loss.sum(), list(head.values())):
        scale = 3.0 * (1 + x.abs().amax(dim=(1, 2)))
        assert bool((gradient.abs().flatten(1).amax(dim=1) < 1e-7 * scale).all())


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_ridge_regression_is_scikit_learns(alpha: float) -> None:
    batch = Lines().sample(3, split="test", seed=0).to(dtype=DOUBLE)
    learner = am.make_learner("frozen_features", alpha=alpha)
    module = module_of(learner, Lines())
    outputs = learner.predict(module, learner.adapt(module, batch.support), batch.query.x)
    for task in range(3):
        model = Ridge(alpha=alpha).fit(batch.support.x[task].numpy(), batch.support.y[task].numpy())
        expected = model.predict(batch.query.x[task].numpy()).reshape(outputs[task].shape)
        torch.testing.assert_close(outputs[task], torch.from_numpy(expected))


# ---------------------------------------------------------------- networks


def test_of_a_timm_model_the_features_before_the_classifier_are_taken() -> None:
    torch.manual_seed(0)
    network = Timm().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    built = am.make_backbone("frozen", module=network).build((6,))
    assert built.n_features == Timm.num_features
    x = torch.randn(7, 6)
    reference = Timm()
    reference.load_state_dict(before)
    torch.testing.assert_close(built.train()(x), reference.eval().forward_features(x))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_network_brought_along_is_used_and_never_trained() -> None:
    torch.manual_seed(0)
    network, tasks = nn.Sequential(nn.Linear(6, 9), nn.Tanh()), Blobs()
    learner = am.make_learner("frozen_features", backbone=network)
    classifier = am.FewShotClassifier(learner, device="cpu", random_state=0).meta_fit(tasks)
    new = tasks.sample(1, split="test", seed=0)
    x, y, asked = new.support.x[0].numpy(), new.support.y[0].numpy(), new.query.x[0].numpy()
    probabilities = classifier.fit(x, y).predict_proba(asked)
    with torch.no_grad():
        model = LogisticRegression(tol=1e-8).fit(network(new.support.x[0]).numpy(), y)
        expected = model.predict_proba(network(new.query.x[0]).numpy())
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_array_equal(clone(classifier).fit(x, y).predict_proba(asked), probabilities)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(asked), probabilities)


def test_any_learner_can_stand_on_a_frozen_network() -> None:
    torch.manual_seed(0)
    learner = am.make_learner("ridge", backbone=am.make_backbone("frozen", module=nn.Linear(6, 9)))
    classifier = am.FewShotClassifier(learner, max_steps=3, device="cpu", random_state=0).meta_fit(Blobs())
    weight = learner.backbone.module.weight
    torch.testing.assert_close(classifier.module_.backbone.network.network.weight, weight, rtol=0, atol=0)


@pytest.mark.parametrize("layers", [nn.Linear(6, 9), nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU())])
def test_a_learner_that_descends_on_a_frozen_network_gets_the_same_in_every_way(
    layers: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shape_checks, "CALLS", 0)  # which take no stand-in for a tensor
    tasks, ends, products = Blobs(), [], []
    for strategy in ("auto", "loop"):
        torch.manual_seed(0)
        backbone = am.make_backbone("frozen", module=layers)
        maml = am.make_learner("maml", backbone=backbone, steps=2, inner_lr=0.1, strategy=strategy)
        module, batch = module_of(maml, tasks), tasks.sample(3, seed=0).to(dtype=DOUBLE)
        ends.append(maml.predict(module, maml.adapt(module, batch.support), batch.query.x))
        program = read(module)
        products.append(program is not None and program.steps is not None)
    torch.testing.assert_close(ends[0], ends[1])
    assert products == [isinstance(layers, nn.Linear)] * 2


def test_a_network_that_cannot_take_the_inputs_says_so() -> None:
    with pytest.raises(am.InvalidParameter, match=r"backbone Linear cannot turn inputs of shape \(6,\) into features"):
        am.make_learner("frozen_features", backbone=nn.Linear(4, 2)).build(Blobs().info)


def test_a_network_that_needs_arguments_cannot_be_saved_and_the_error_says_what_can(tmp_path: Path) -> None:
    classifier = am.FewShotClassifier(am.make_learner("frozen_features", backbone=nn.Linear(6, 3)), random_state=0)
    classifier.fit(np.eye(6), [0, 1, 0, 1, 0, 1])
    with pytest.raises(am.InvalidParameter, match="Give a function of no arguments that builds it"):
        classifier.save(tmp_path / "x.autometa")


# ---------------------------------------------------------------- raw rows


def test_texts_are_fitted_and_asked_as_they_are() -> None:
    classifier = am.FewShotClassifier(am.make_learner("frozen_features", encoder=encode), random_state=0)
    assert classifier.fit(TEXTS, LABELS).predict(["wow!!", "mm."]).tolist() == ["loud", "calm"]
    assert classifier.n_features_in_ == 3
    assert cross_val_score(classifier, TEXTS, LABELS, cv=3).mean() == 1.0


def test_a_frame_is_encoded_also_in_meta_fit() -> None:
    frame = pd.DataFrame({"text": TEXTS * 8})
    task = np.repeat(np.arange(8), len(TEXTS))
    learner = am.make_learner("frozen_features", encoder=encode_frame)
    classifier = am.FewShotClassifier(learner, device="cpu", random_state=0)
    classifier.meta_fit(frame, LABELS * 8, task=task, n_shot=4, n_query=4)
    classifier.fit(frame[:6], LABELS[:6])
    assert classifier.predict(pd.DataFrame({"text": ["wow!!", "mm."]})).tolist() == ["loud", "calm"]
    assert clone(classifier).fit(frame[:6], LABELS[:6]).score(frame, LABELS * 8) == 1.0


def test_a_regressor_takes_raw_rows_too() -> None:
    lengths = [float(len(text)) for text in TEXTS]
    regressor = am.FewShotRegressor(am.make_learner("frozen_features", encoder=encode, alpha=1e-6), random_state=0)
    np.testing.assert_allclose(regressor.fit(TEXTS, lengths).predict(["abcd"]), [4.0], atol=1e-4)


def test_a_function_by_its_import_path_is_saved_and_loaded_by_who_trusts_it(tmp_path: Path) -> None:
    path = f"{__name__}:encode"
    classifier = am.FewShotClassifier(am.make_learner("frozen_features", encoder=path), random_state=0)
    classifier.fit(TEXTS, LABELS).save(tmp_path / "texts.autometa")
    with pytest.raises(am.InvalidFile, match=r"names the function .*:encode' in a parameter of its FrozenFeatures"):
        am.load(tmp_path / "texts.autometa")
    again: Any = am.load(tmp_path / "texts.autometa", trusted=[path])
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_a_function_itself_is_saved_by_its_import_path_and_loaded_with_trust(tmp_path: Path) -> None:
    classifier = am.FewShotClassifier(am.make_learner("frozen_features", encoder=encode), random_state=0)
    classifier.fit(TEXTS, LABELS).save(tmp_path / "x.autometa")
    path = f"{encode.__module__}:encode"
    with pytest.raises(am.InvalidFile, match=f"names '{path}'"):
        am.load(tmp_path / "x.autometa")
    loaded = am.load(tmp_path / "x.autometa", trusted=[path])
    assert loaded.predict(TEXTS).tolist() == classifier.predict(TEXTS).tolist()


def test_a_function_of_no_module_cannot_be_saved(tmp_path: Path) -> None:
    learner = am.make_learner("frozen_features", encoder=lambda texts: encode(texts))
    with pytest.raises(am.InvalidParameter, match="another process cannot import .*lambda"):
        am.FewShotClassifier(learner, random_state=0).fit(TEXTS, LABELS).save(tmp_path / "x.autometa")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"C": 0}, "C=0 of learner 'frozen_features' must be a positive number"),
        ({"alpha": -1}, "alpha=-1 of learner 'frozen_features' must be a positive number"),
        ({"backbone": encode}, "of learner 'frozen_features' must be a torch.nn.Module, a backbone or its name"),
        ({"encoder": "nowhere.at_all:f"}, "cannot be imported: ModuleNotFoundError"),
        ({"encoder": 3}, "encoder=3 of learner 'frozen_features' must be a callable"),
    ],
)
def test_impossible_parameters_are_named(wrong: dict[str, object], message: str) -> None:
    X = TEXTS if "encoder" in wrong else np.eye(len(LABELS))
    with pytest.raises(am.InvalidParameter, match=message):
        am.FewShotClassifier(am.make_learner("frozen_features", **wrong)).fit(X, LABELS)
