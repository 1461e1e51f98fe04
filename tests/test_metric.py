"""Prototypes, held against their definition; what they share with other metric learners is in test_metric_learners."""

from __future__ import annotations

import pytest
import torch
from autometa_plugins.metric.prototypical import squared_distances

import autometa as am
from autometa.contracts.forward import forward
from toy_tasks import clouds

N_WAY, N_SHOT, SHAPE = 3, 4, (5,)


def info(problem: str = "classification", shape: tuple[int, ...] = SHAPE, n_outputs: int = N_WAY) -> am.TaskInfo:
    return am.TaskInfo(problem=problem, input_shape=shape, n_outputs=n_outputs, n_shot=N_SHOT, n_query=4)


def classes(n_tasks: int = 6) -> am.Examples:
    return clouds(n_tasks, N_WAY, N_SHOT, *SHAPE, spread=3.0, dtype=torch.float32)


def test_logits_are_negative_squared_distances_to_class_means() -> None:
    support, x = classes(), torch.randn(6, 2, *SHAPE)
    learner = am.make_learner("prototypical", backbone="identity")
    logits = forward(learner, learner.build(info()), support, x)
    for task in range(6):
        for way in range(N_WAY):
            mean = support.x[task][support.y[task] == way].mean(0)
            expected = -((x[task] - mean) ** 2).sum(-1)
            torch.testing.assert_close(logits[task, :, way], expected, rtol=1e-4, atol=1e-4)


def test_distances_far_from_the_origin_keep_their_digits() -> None:
    a, b = torch.randn(1, 4, 5), torch.randn(1, 3, 5)
    near = squared_distances(a.double(), b.double()).float()
    torch.testing.assert_close(squared_distances(a + 1e3, b + 1e3), near, rtol=1e-2, atol=1e-2)


def test_a_class_without_examples_gives_no_nan_and_is_never_chosen() -> None:
    whole = classes()
    support = am.Examples(whole.x, whole.y.clamp(max=1), n_classes=3)
    learner = am.make_learner("prototypical", backbone="identity").set_params(temperature=0.5)
    x = whole.x.clone().requires_grad_()
    logits = forward(learner, learner.build(info()), support, x)
    logits[..., :2].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (logits.argmax(-1) < 2).all()


def test_temperature_divides_the_logits() -> None:
    cold, warm = (am.make_learner("prototypical", backbone="identity", temperature=t) for t in (1.0, 4.0))
    support, module = classes(), cold.build(info())
    torch.testing.assert_close(forward(cold, module, support, support.x), 4 * forward(warm, module, support, support.x))


def test_prototypes_need_classes() -> None:
    with pytest.raises(am.Incompatible, match="ridge"):
        am.make_learner("prototypical").build(info("regression"))


def test_any_number_of_classes_may_follow_meta_training() -> None:
    learner = am.make_learner("prototypical")
    module = learner.build(info())
    support = am.Examples(torch.randn(2, 7, *SHAPE), torch.arange(7).repeat(2, 1))
    assert forward(learner, module, support, support.x).argmax(-1).equal(support.y)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_an_impossible_value_is_named_also_when_it_is_set_after_meta_training(value: float) -> None:
    with pytest.raises(am.InvalidParameter, match=f"temperature={value}"):
        am.make_learner("prototypical", temperature=value).build(info())
    learner = am.make_learner("prototypical")
    module = learner.build(info())
    with pytest.raises(am.InvalidParameter, match=f"temperature={value}"):
        learner.set_params(temperature=value).adapt(module, classes())
