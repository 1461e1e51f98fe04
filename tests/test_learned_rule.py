"""The learned rule starts as gradient descent, means what it prints, and evolves into a better one."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from autometa_plugins.evolution.learned_rule import RATE_TERMS, TERMS, Rule, describe_rule
from autometa_plugins.evolution.small_network import propagate
from torch import Tensor, nn
from torch.nn import functional

import autometa as am
from autometa.testing.toys import Blobs, Lines
from autometa.training import MetaTraining
from learning import assert_better, assert_lower, judged, training_seed
from toy_tasks import Offsets

DOUBLE = torch.float64
BENCHMARK = Path(__file__).parents[1] / "examples" / "benchmarks" / "evolution" / "evolution.py"
TASKS = {"classification": Blobs(), "regression": Lines()}


def built(learner: am.Learner, info: am.TaskInfo) -> Rule:
    torch.manual_seed(0)
    module = learner.build(info).double()
    assert isinstance(module, Rule)
    return module


class Plain(nn.Module):
    """The same network in torch's own layers; one head for each class."""

    def __init__(self, module: Rule, n_outputs: int) -> None:
        super().__init__()
        starts = [module.get_buffer(f"start_{layer}") for layer in range(module.n_layers)]
        starts[-1] = starts[-1].expand(n_outputs, -1)
        layers: list[nn.Module] = []
        for start in starts:
            linear = nn.Linear(start.shape[1] - 1, len(start)).double()
            with torch.no_grad():
                linear.weight.copy_(start[:, :-1])
                linear.bias.copy_(start[:, -1])
            layers += [linear, nn.Tanh()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.parametrize("problem", TASKS)
def test_it_starts_as_gradient_descent(problem: str) -> None:
    tasks, learner = TASKS[problem], am.make_learner("learned_rule", hidden=(5, 4), steps=3, inner_lr=0.2)
    module, batch = built(learner, tasks.info), tasks.sample(3, seed=0).to(dtype=DOUBLE)
    adapted = learner.adapt(module, batch.support)
    outputs = learner.predict(module, adapted, batch.query.x)

    plain = Plain(module, tasks.info.n_outputs)
    steps = am.descend(plain, am.per_task(plain, 3), batch.support, steps=3, rates=0.2)
    torch.testing.assert_close(outputs, am.call_per_task(plain, steps, batch.query.x))

    plain = Plain(module, tasks.info.n_outputs)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.2)
    for _ in range(3):
        y, out = batch.support.y[1], plain(batch.support.x[1])
        optimizer.zero_grad()
        (functional.cross_entropy if problem == "classification" else functional.mse_loss)(out, y).backward()
        optimizer.step()
    torch.testing.assert_close(outputs[1], plain(batch.query.x[1]))


@pytest.mark.parametrize("problem", TASKS)
def test_errors_sent_back_by_hand_are_the_gradient_and_padding_counts_nothing(problem: str) -> None:
    support = TASKS[problem].sample(2, seed=0).to(dtype=DOUBLE).support
    mask = support.mask.clone()
    mask[0, 3:] = False
    support = am.Examples(support.x, support.y, mask, support.n_classes)
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 7), (3, 5), (3 if problem == "classification" else 1, 4)]
    weights = [torch.randn(2, *shape, generator=generator, dtype=DOUBLE, requires_grad=True) for shape in shapes]
    values, activities = support.x, []
    for weight in weights:
        pre = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        outputs = pre @ weight.mT
        values = outputs.tanh()
        activities.append((pre, values))
    gradients = torch.autograd.grad(am.loss_on(support)(outputs).sum(), weights)
    signals = propagate([weight.detach() for weight in weights], support)
    for signal, gradient in zip(signals, gradients, strict=True):
        torch.testing.assert_close(signal.err_pre(), gradient)
    pre, post = activities[1]
    torch.testing.assert_close(signals[1].pre, pre)
    torch.testing.assert_close(signals[1].post, post)
    torch.testing.assert_close(signals[1].share[0, :3], torch.full((3, 1), 1 / 3, dtype=DOUBLE))
    assert not signals[1].share[0, 3:].any()


def test_every_coefficient_weighs_what_its_name_says() -> None:
    module = built(am.make_learner("learned_rule", hidden=(), inner_lr=1.0), Lines().info)
    support = Lines().sample(1, seed=0).to(dtype=DOUBLE).support
    weight = torch.randn(1, 1, 7, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    trace = torch.full_like(weight, 0.5)
    (signal,) = propagate([weight], support)
    pre = torch.cat([support.x[0], torch.ones(8, 1, dtype=DOUBLE)], dim=1)
    outputs = pre @ weight[0].mT
    post, error = outputs.tanh(), 2 * (outputs - support.y[0])
    kept = torch.tensor(2.0, dtype=DOUBLE).sigmoid()
    expected = {
        "err·pre": (error * pre).mean(0),
        "trace": kept * 0.5 + (1 - kept) * (error * pre).mean(0),
        "post·pre": (post * pre).mean(0),
        "err·post·pre": (error * post * pre).mean(0),
        "err": error.mean().expand(7),
        "post": post.mean().expand(7),
        "err·post": (error * post).mean().expand(7),
        "pre": pre.mean(0),
        "w": weight[0, 0],
        "1": torch.ones(7, dtype=DOUBLE),
    }
    for place, name in enumerate(TERMS):
        with torch.no_grad():
            module.change.copy_(torch.eye(len(TERMS))[place])
            moved, *_ = module(weight, trace, torch.zeros_like(weight), signal)
        torch.testing.assert_close((moved - weight)[0, 0], expected[name], msg=name)


def test_step_sizes_grow_where_errors_agree_with_their_trace_and_stay_within_bounds() -> None:
    module = built(am.make_learner("learned_rule", hidden=()), Lines().info)
    (signal,) = propagate([torch.ones(1, 1, 7, dtype=DOUBLE)], Lines().sample(1, seed=0).to(dtype=DOUBLE).support)
    weight, error = torch.zeros(1, 1, 7, dtype=DOUBLE), signal.err_pre()
    with torch.no_grad():
        module.rate_change[RATE_TERMS.index("agreement")] = 0.5
        for trace, wanted in ((error, 0.5), (-error, -0.5), (0 * error, 0.0)):
            shift = module(weight, trace, torch.zeros_like(weight), signal)[2]
            torch.testing.assert_close(shift, torch.full_like(shift, wanted), rtol=1e-4, atol=1e-6)
        module.rate_change[RATE_TERMS.index("agreement")] = 100.0
        shift = module(weight, error, torch.zeros_like(weight), signal)[2]
        assert shift.max() == 3.0


def test_a_rule_is_printed_with_its_signs_and_without_what_rounds_to_nothing() -> None:
    module = built(am.make_learner("learned_rule", inner_lr=0.05), Lines().info)
    assert describe_rule(module) == "Δw = η (-1.00 err·pre); Δ log η = 0; η starts at 0.05"
    with torch.no_grad():
        module.change[TERMS.index("post·pre")] = 0.024
        module.change[TERMS.index("w")] = -0.012
        module.change[TERMS.index("trace")] = 0.004
        module.change[TERMS.index("1")] = 0.5
        module.rate_change.copy_(torch.tensor([0.3, 0.001, 0.0, -0.011]))
        module.trace_logit.copy_(torch.tensor(math.log(9.0)))
    assert describe_rule(module) == (
        "Δw = η (-1.00 err·pre +0.02 post·pre -0.01 w +0.50); Δ log η = +0.30 agreement -0.01; η starts at 0.05; "
        "trace keeps 0.90 a step"
    )
    assert "+0.004 trace" in describe_rule(module, digits=3)


def test_classes_may_be_renamed_under_any_rule() -> None:
    learner, tasks = am.make_learner("learned_rule", hidden=(5,), steps=3), Blobs()
    module, batch = built(learner, tasks.info), tasks.sample(2, seed=0).to(dtype=DOUBLE)
    with torch.no_grad():
        module.change.add_(0.1 * torch.randn(len(TERMS), generator=torch.Generator().manual_seed(0)))
        module.rate_change.fill_(0.05)
    names = torch.tensor([2, 0, 1])
    support = am.Examples(batch.support.x, names[batch.support.y], n_classes=3)
    outputs = learner.predict(module, learner.adapt(module, batch.support), batch.query.x)
    renamed = learner.predict(module, learner.adapt(module, support), batch.query.x)
    torch.testing.assert_close(renamed[..., names], outputs)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("optimizer", "parameters", "tasks"),
    [
        pytest.param("evolution_strategy", {"population": 8}, Offsets(), marks=pytest.mark.slow),
        pytest.param("cmaes", {}, Offsets(), marks=pytest.mark.slow),
        ("gradient", {"lr": 0.02}, Offsets()),
        pytest.param("evolution_strategy", {"population": 8}, Blobs(), marks=pytest.mark.slow),
    ],
    ids=["evolution_strategy", "cmaes", "gradient", "classification"],
)
def test_the_rule_becomes_better_than_gradient_descent(
    optimizer: str, parameters: dict[str, float], tasks: am.TaskSampler
) -> None:
    learner = am.make_learner("learned_rule", hidden=(8,), inner_lr=0.1, steps=3)
    outer = am.make_meta_optimizer(optimizer, **parameters)
    training = MetaTraining(learner, outer, tasks, n_steps=150, tasks_per_step=4, seed=training_seed())
    starts = {name: value.clone() for name, value in training.module.named_buffers()}

    tried = []
    log_rate = training.module.log_rate
    for rate in (0.05, 0.1, 0.2, 0.4, 0.8):
        with torch.no_grad():
            log_rate.fill_(math.log(rate))
        tried.append(judged(learner, training.module, tasks, n_tasks=600, values="losses"))
    with torch.no_grad():
        log_rate.fill_(math.log(0.1))
    training.run_to()
    best = min((losses for losses in tried if np.isfinite(losses).all()), key=np.mean)
    assert_lower(judged(learner, training.module, tasks, n_tasks=600, values="losses"), 0.95 * best)
    assert all(torch.equal(value, starts[name]) for name, value in training.module.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sinusoid", "linear"])
def test_an_evolved_rule_beats_tuned_gradient_descent(name: str) -> None:
    spec = importlib.util.spec_from_file_location("evolution", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.evolve(name, seed=training_seed())
    assert_better(found["evolved"], found["descent"], am.make_tasks(name).info)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", -1, "steps=-1 of learner 'learned_rule' must be an integer of at least 0"),
        ("inner_lr", 0.0, "inner_lr=0.0 of learner 'learned_rule' must be a positive number"),
        ("hidden", (4, 0), r"hidden=\(4, 0\) of learner 'learned_rule' must be a sequence"),
        ("hidden", 4, "hidden=4 of learner 'learned_rule' must be a sequence"),
    ],
)
def test_impossible_parameters_are_named(name: str, value: object, message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        am.make_learner("learned_rule", **{name: value}).build(Lines().info)
