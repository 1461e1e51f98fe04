"""Race MAML's meta-gradient: autometa against learn2learn, higher and torchopt.

Every contender differentiates the same query loss, second order, of the same tasks, from the same parameters; before
any timing their meta-gradients are asserted to be equal. What is timed is one meta-step without the outer optimizer:
inner steps, query loss and backward pass. Contenders take turns, and the median of their turns counts.

    python examples/benchmarks/speed.py --learn2learn PATH_TO_CLONE --output examples/benchmarks/speed.md

``learn2learn`` does not build on recent Pythons, but the part raced here is plain Python: give a clone of its
repository. A contender that is not installed has a row that says so.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.util
import os
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import autometa as am

LR = 0.01
TASKS = (1, 4, 8, 16, 32)
STEPS = (1, 5)
MetaGradient = Callable[[], list[Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One network, its tasks and the number of inner steps."""

    name: str
    learner: am.Learner
    module: nn.Module
    info: am.TaskInfo
    batch: am.TaskBatch
    steps: int

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of one task."""
        return functional.mse_loss(outputs, y) if y.is_floating_point() else functional.cross_entropy(outputs, y)

    def plain_network(self) -> nn.Module:
        """The same network as peers take it: one head row for each class, all starting equal."""
        backbone = am.build_backbone(self.learner.backbone, tuple(self.batch.support.x.shape[2:]))
        n_outputs = self.batch.support.n_classes or 1
        network = nn.Sequential(backbone, nn.Linear(backbone.n_features, n_outputs))
        state = {name: value.detach() for name, value in self.module.named_parameters() if name != "rates"}
        for (_, mine), value in zip(network.named_parameters(), state.values(), strict=True):
            mine.data.copy_(value.expand_as(mine))
        return network

    def tasks(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Support inputs and targets, query inputs and targets of every task."""
        support, query = self.batch.support, self.batch.query
        return list(zip(support.x, support.y, query.x, query.y, strict=True))


def sinusoid_race(n_tasks: int, steps: int) -> Race:
    """Finn et al. 2017, section 5.1: two hidden layers of 40, ten examples."""
    backbone = am.make_backbone("mlp", hidden=(40, 40))
    learner = am.make_learner("maml", backbone=backbone, steps=steps, inner_lr=LR, learn_lr=False)
    torch.manual_seed(0)
    amplitude, phase = 0.1 + 4.9 * torch.rand(n_tasks, 1, 1), torch.pi * torch.rand(n_tasks, 1, 1)
    x = 10 * torch.rand(n_tasks, 20, 1) - 5
    y = amplitude * torch.sin(x - phase)
    batch = am.TaskBatch(support=am.Examples(x[:, :10], y[:, :10]), query=am.Examples(x[:, 10:], y[:, 10:]))
    info = am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=1, n_shot=10, n_query=10)
    return Race(
        name="sinusoid MLP 40-40", learner=learner, module=learner.build(info), info=info, batch=batch, steps=steps
    )


def conv4_race(n_tasks: int, steps: int) -> Race:
    """Omniglot's shapes: 28x28, 5-way 1-shot, 15 query images a class, 64 filters, batch statistics."""
    backbone = am.make_backbone("conv4", batch_norm="transductive")
    learner = am.make_learner("maml", backbone=backbone, steps=steps, inner_lr=LR, learn_lr=False)
    torch.manual_seed(0)
    x = torch.rand(n_tasks, 80, 1, 28, 28)
    y = torch.arange(5).repeat(n_tasks, 16)
    batch = am.TaskBatch(support=am.Examples(x[:, :5], y[:, :5]), query=am.Examples(x[:, 5:], y[:, 5:]))
    info = am.TaskInfo(problem="classification", input_shape=(1, 28, 28), n_outputs=5, n_shot=1, n_query=15)
    module = learner.build(info)
    nn.init.normal_(module.head.weight, std=0.1)
    return Race(name="Conv4, 28x28", learner=learner, module=module, info=info, batch=batch, steps=steps)


RACES = {"sinusoid": sinusoid_race, "conv4": conv4_race}


def autometa(race: Race) -> MetaGradient:
    """Meta-optimizer "gradient", with an outer step too small to move anything, which the others are spared."""
    parameters = [value for name, value in race.module.named_parameters() if name != "rates"]
    optimizer = am.make_meta_optimizer("gradient", optimizer="sgd", lr=1e-30, clip=None)
    optimizer.start(race.learner, race.module, race.info)

    def run() -> list[Tensor]:
        optimizer.step(race.batch)
        return [value.grad for value in parameters]

    return run


def learn2learn(race: Race) -> MetaGradient:
    """The loop of its examples: clone, adapt, backward, task by task."""
    maml = importlib.import_module("learn2learn.algorithms.maml").MAML(race.plain_network(), lr=LR)

    def run() -> list[Tensor]:
        maml.zero_grad()
        tasks = race.tasks()
        for support_x, support_y, query_x, query_y in tasks:
            clone = maml.clone()
            for _ in range(race.steps):
                clone.adapt(race.loss(clone(support_x), support_y))
            (race.loss(clone(query_x), query_y) / len(tasks)).backward()
        return [value.grad for value in maml.parameters()]

    return run


def higher(race: Race) -> MetaGradient:
    """The loop of its examples: an inner-loop context for each task."""
    innerloop_ctx = importlib.import_module("higher").innerloop_ctx
    network = race.plain_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)

    def run() -> list[Tensor]:
        network.zero_grad()
        tasks = race.tasks()
        for support_x, support_y, query_x, query_y in tasks:
            with innerloop_ctx(network, optimizer, copy_initial_weights=False) as (functional_network, inner):
                for _ in range(race.steps):
                    inner.step(race.loss(functional_network(support_x), support_y))
                (race.loss(functional_network(query_x), query_y) / len(tasks)).backward()
        return [value.grad for value in network.parameters()]

    return run


def torchopt(race: Race) -> MetaGradient:
    """The loop of its examples: a differentiable optimizer whose start is recovered after each task."""
    library = importlib.import_module("torchopt")
    network = race.plain_network()
    parameters = list(network.parameters())
    inner = library.MetaSGD(network, lr=LR)

    def run() -> list[Tensor]:
        for value in parameters:
            value.grad = None
        network_start = library.extract_state_dict(network, by="reference")
        inner_start = library.extract_state_dict(inner, by="reference")
        tasks = race.tasks()
        for support_x, support_y, query_x, query_y in tasks:
            for _ in range(race.steps):
                inner.step(race.loss(network(support_x), support_y))
            (race.loss(network(query_x), query_y) / len(tasks)).backward()
            library.recover_state_dict(network, network_start)
            library.recover_state_dict(inner, inner_start)
        return [value.grad for value in parameters]

    return run


CONTENDERS: dict[str, Callable[[Race], MetaGradient]] = {
    "autometa": autometa,
    "learn2learn": learn2learn,
    "higher": higher,
    "torchopt": torchopt,
}


def assert_equal_gradients(name: str, steps: int) -> None:
    """Compare every contender's meta-gradient with autometa's, in double precision, of four tasks.

    The rows of a peer's head, which start as autometa's one row, are added up.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    race = RACES[name](4, steps)
    run = autometa(race)
    run()  # the first step is taken on one thread: the second is what is raced
    expected = run()
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for who in filter(installed, CONTENDERS):
        for mine, other in zip(expected, CONTENDERS[who](race)(), strict=True):
            summed = other if other.shape == mine.shape else other.sum(dim=0, keepdim=True)
            torch.testing.assert_close(
                summed, mine, rtol=1e-4, atol=1e-8 * largest, msg=lambda text, who=who: f"{who}: {text}"
            )
    torch.set_default_dtype(before)


def race_seconds(runs: dict[str, MetaGradient], *, seconds: float, turns: int) -> dict[str, float]:
    """Median time of one meta-step of each contender, which take at least so many turns and so many seconds in all."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(taken["autometa"]) < turns:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def offer_learn2learn(clone: Path) -> None:
    """Make ``learn2learn.algorithms.maml`` importable from a clone, without the package's compiled parts."""
    for name in ("learn2learn", "learn2learn.algorithms"):
        package = types.ModuleType(name)
        package.__path__ = [str(clone.joinpath(*name.split(".")))]
        sys.modules[name] = package


def machine() -> str:
    """Processor, threads and versions."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    peers = [
        f"{name} {metadata.version(name)}"
        for name in ("higher", "torchopt")
        if importlib.util.find_spec(name) is not None
    ]
    versions = ", ".join([f"torch {torch.__version__}", f"Python {platform.python_version()}", *peers])
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, {versions}"


def table(races: list[str], tasks: list[int], steps: list[int], seconds: float, turns: int) -> list[str]:
    """Run all races; the rows of a Markdown table."""
    lines = [
        "| network | inner steps | tasks | autometa (ms) | "
        + " | ".join(f"{name} ÷ autometa" for name in list(CONTENDERS)[1:])
        + " |",
        "|---" * (3 + len(CONTENDERS)) + "|",
    ]
    print(*lines, sep="\n")  # noqa: T201
    for name in races:
        for n_steps in steps:
            assert_equal_gradients(name, n_steps)
            for n_tasks in tasks:
                race = RACES[name](n_tasks, n_steps)
                there = {who: make(race) for who, make in CONTENDERS.items() if installed(who)}
                medians = race_seconds(there, seconds=seconds, turns=turns)
                ratios = [
                    f"{medians[who] / medians['autometa']:.2f}" if who in medians else "not installed"
                    for who in list(CONTENDERS)[1:]
                ]
                cells = [race.name, n_steps, n_tasks, f"{1e3 * medians['autometa']:.1f}", *ratios]
                lines.append("| " + " | ".join(map(str, cells)) + " |")
                print(lines[-1], flush=True)  # noqa: T201
    return lines


def installed(name: str) -> bool:
    """Whether a contender can be imported."""
    return name in sys.modules or importlib.util.find_spec(name) is not None


def main() -> None:
    """Race and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learn2learn", type=Path, help="clone of github.com/learnables/learn2learn")
    parser.add_argument("--race", choices=RACES, action="append", help="only this network")
    parser.add_argument("--tasks", type=int, action="append", help="only this number of tasks")
    parser.add_argument("--steps", type=int, action="append", help="only this number of inner steps")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row, at least")
    parser.add_argument("--turns", type=int, default=3, help="for each row, at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.learn2learn:
        offer_learn2learn(arguments.learn2learn)
    lines = table(
        arguments.race or list(RACES),
        arguments.tasks or list(TASKS),
        arguments.steps or list(STEPS),
        arguments.seconds,
        arguments.turns,
    )
    if arguments.output:
        write(arguments.output, lines)


def write(path: Path, lines: list[str]) -> None:
    """Write the table and how it came about; remarks that the file already has at its end stay."""
    heading = "## Remarks"
    remarks = path.read_text().partition(heading) if path.exists() else ("", "", "")
    command = [
        "PATH" if before == "--learn2learn" else word for before, word in zip(["", *sys.argv], sys.argv, strict=False)
    ]
    text = [
        "# Speed of MAML's meta-gradient",
        "",
        "Second order; inner steps, query loss and backward pass of a batch of tasks. Meta-gradients are asserted",
        "equal before timing. Contenders take turns; medians count. A ratio above 1: autometa is faster.",
        "",
        *lines,
        "",
        f"{datetime.date.today()}, `python {' '.join(command)}`  ",
        machine(),
    ]
    path.write_text("\n".join(text) + "\n" + (f"\n{heading}{remarks[2]}" if remarks[1] else ""))


if __name__ == "__main__":
    main()
