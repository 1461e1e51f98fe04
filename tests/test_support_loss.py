"""The support loss: one value, and the derivatives that belong to it."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import autometa as am
from autometa.contracts.forward import diverged, task_losses

DOUBLE = torch.float64


@pytest.fixture(params=["regression", "several numbers", "classification"])
def ragged(request: pytest.FixtureRequest) -> am.Examples:
    """Four tasks of 5, 3, 1 and 4 examples; where they have classes, the third lacks two of three."""
    torch.manual_seed(1)
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4]).unsqueeze(1)
    x = torch.randn(4, 5, 2, dtype=DOUBLE) * mask.unsqueeze(-1)
    if request.param == "regression":
        return am.Examples(x, torch.randn(4, 5, dtype=DOUBLE) * mask, mask)
    if request.param == "several numbers":
        return am.Examples(x, torch.randn(4, 5, 3, dtype=DOUBLE) * mask.unsqueeze(-1), mask)
    return am.Examples(x, torch.arange(5).remainder(3).repeat(4, 1) * mask, mask, n_classes=3)


def outputs_for(examples: am.Examples) -> Tensor:
    n_outputs = am.SupportLoss(examples).n_outputs
    return torch.randn(4, 5, n_outputs, dtype=DOUBLE, generator=torch.Generator().manual_seed(2), requires_grad=True)


def test_gradient_and_curvature_are_those_of_finite_differences(ragged: am.Examples) -> None:
    loss, outputs = am.SupportLoss(ragged), outputs_for(ragged)
    assert torch.autograd.gradcheck(loss, outputs)
    change = torch.randn_like(outputs)
    with torch.no_grad():
        gradient = loss.gradient(loss.predictions(outputs))
        curvature = loss.curvature(loss.predictions(outputs), change)
        step = 1e-5
        ahead, behind = (outputs + sign * step * change for sign in (1, -1))
        slope = (loss(ahead) - loss(behind)) / (2 * step)
        bend = (loss.gradient(loss.predictions(ahead)) - loss.gradient(loss.predictions(behind))) / (2 * step)
    torch.testing.assert_close((gradient * change).flatten(1).sum(dim=1), slope, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(curvature, bend, rtol=1e-7, atol=1e-9)


def test_gradient_and_curvature_are_those_of_autograd(ragged: am.Examples) -> None:
    loss, outputs = am.SupportLoss(ragged), outputs_for(ragged)
    (gradient,) = torch.autograd.grad(loss(outputs).sum(), outputs, create_graph=True)
    change = torch.randn_like(outputs)
    (curvature,) = torch.autograd.grad((gradient * change).sum(), outputs)
    predictions = loss.predictions(outputs)
    torch.testing.assert_close(loss.gradient(predictions), gradient)
    torch.testing.assert_close(loss.curvature(predictions, change), curvature)


def test_value_and_predictions_are_those_of_each_alone(ragged: am.Examples) -> None:
    loss, outputs = am.SupportLoss(ragged), outputs_for(ragged)
    value, predictions = loss.value_and_predictions(outputs)
    torch.testing.assert_close(value, loss(outputs))
    torch.testing.assert_close(predictions, loss.predictions(outputs))


def test_it_is_the_loss_that_learners_have_by_default(ragged: am.Examples) -> None:
    outputs = outputs_for(ragged)
    if ragged.is_classification:
        absent = ~ragged.one_hot().any(dim=1, keepdim=True)
        outputs = outputs.masked_fill(absent, torch.finfo(DOUBLE).min)
    torch.testing.assert_close(
        am.loss_on(ragged)(outputs), am.task_losses(am.make_learner("maml"), outputs, ragged), rtol=1e-12, atol=0
    )


def test_classes_that_a_narrow_task_lacks_do_not_count() -> None:
    outputs = torch.randn(1, 4, 5, dtype=DOUBLE)
    y = torch.tensor([[0, 1, 1, 0]])
    wide, narrow = am.loss_on(am.Examples(outputs, y, n_classes=5)), am.loss_on(am.Examples(outputs, y))
    torch.testing.assert_close(wide(outputs), narrow(outputs[..., :2]))
    torch.testing.assert_close(narrow(outputs), narrow(outputs[..., :2]))
    predictions = wide.predictions(outputs)
    assert predictions[..., 2:].eq(0).all()
    assert wide.gradient(predictions)[..., 2:].eq(0).all()


@pytest.mark.parametrize("classes", [True, False])
def test_losses_are_as_precise_as_their_examples(classes: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 7, 3, dtype=DOUBLE, generator=generator)
    y = torch.arange(14).reshape(2, 7) % 3 if classes else torch.randn(2, 7, 3, dtype=DOUBLE, generator=generator)
    found = am.loss_on(am.Examples(outputs, y))(outputs)
    exact = (
        functional.cross_entropy(outputs.movedim(-1, 1), y, reduction="none").mean(1)
        if classes
        else (outputs - y).square().mean((1, 2))
    )
    torch.testing.assert_close(found, exact, rtol=1e-14, atol=0)


def test_the_example_of_its_docstring_runs() -> None:
    outcome = doctest.testmod(importlib.import_module(am.SupportLoss.__module__))
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("given", [None, torch.zeros(2, 3), (1, 2), "digits"])
def test_what_are_no_examples_is_refused(given: object) -> None:
    with pytest.raises(am.InvalidData, match=f"takes autometa.Examples.* no {type(given).__name__}"):
        am.SupportLoss(given)  # type: ignore[arg-type]


def test_outputs_of_another_shape_are_refused_and_never_stretched(ragged: am.Examples) -> None:
    loss, outputs = am.SupportLoss(ragged), outputs_for(ragged).detach()
    wrong = [outputs[0], outputs[:1], outputs[:, :1], outputs[:, :3], outputs.unsqueeze(3), outputs.long()]
    if loss.n_outputs > 1:
        wrong.append(outputs[:, :, :-1])
    if ragged.is_classification:
        more = torch.cat([outputs, outputs], dim=2)
        torch.testing.assert_close(loss(more), loss(outputs))
    else:
        wrong.append(torch.cat([outputs, outputs], dim=2))
    for given in wrong:
        for call in (loss, loss.predictions, loss.value_and_predictions):
            with pytest.raises(am.InvalidData, match=r"^outputs .* must be real numbers \[tasks, n, n_outputs\], for"):
                call(given)
    for strange in (None, [1.0], outputs.numpy()):
        with pytest.raises(am.InvalidData, match=r"^outputs .* must be real numbers"):
            inspect.unwrap(am.SupportLoss.__call__)(loss, strange)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"y": [[0, 1]]}, "y of Examples is a list; it must be a torch.Tensor"),
        ({"y": None}, "y of Examples is a NoneType"),
        ({"x": [[0.0]]}, "x of Examples is a list"),
        ({"x": (torch.zeros(1, 2), None)}, "x of Examples is a NoneType"),
        ({"mask": [[True, True]]}, "mask of Examples is a list"),
        ({"mask": torch.ones(1, 2)}, "mask of Examples is torch.float32; it must be torch.bool"),
        ({"y": torch.zeros(1, 2, dtype=torch.int32)}, "y of Examples is torch.int32; class indices are torch.int64"),
        ({"y": torch.zeros(1, 2, dtype=torch.bool)}, "y of Examples is torch.bool; class indices are torch.int64"),
        ({"y": torch.zeros(1, 2, 2, dtype=torch.int64)}, r"y of Examples has the shape \(1, 2, 2\); class indices"),
        ({"y": torch.zeros(1, 2, 2, 2)}, r"y of Examples has the shape \(1, 2, 2, 2\)"),
        ({"y": torch.zeros(2)}, r"y of Examples has the shape \(2,\)"),
    ],
)
def test_parts_of_examples_of_the_wrong_kind_are_named(change: dict[str, object], text: str) -> None:
    parts: dict[str, object] = {"x": torch.zeros(1, 2, 3), "y": torch.tensor([[0, 1]])}
    with pytest.raises(am.InvalidData, match=text):
        am.Examples(**{**parts, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "y", [torch.tensor([[0, 1, 1], [2, 0, 0]]), torch.randn(2, 3, dtype=DOUBLE), torch.randn(2, 3, 2, dtype=DOUBLE)]
)
def test_examples_known_to_be_full_count_as_those_that_are(y: Tensor) -> None:
    x = torch.randn(2, 3, 4, dtype=DOUBLE)
    known, found_out = am.Examples(x, y), am.Examples(x, y, torch.ones(2, 3, dtype=torch.bool))
    outputs = torch.randn(2, 3, am.SupportLoss(known).n_outputs, dtype=DOUBLE)
    assert known.is_known_to_be_full
    assert not found_out.is_known_to_be_full
    learner, results = am.make_learner("maml"), []
    for examples in (known, found_out):
        loss = am.SupportLoss(examples)
        predictions = loss.predictions(outputs)
        results.append(
            [
                loss(outputs),
                *loss.value_and_predictions(outputs),
                loss.gradient(predictions),
                loss.curvature(predictions, outputs),
                examples.targets(),
                task_losses(learner, outputs, examples),
                diverged(outputs.log(), examples).isnan(),
            ]
        )
    torch.testing.assert_close(results[0], results[1])
