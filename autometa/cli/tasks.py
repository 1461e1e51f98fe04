"""``autometa tasks``: look at a task distribution."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autometa.cli.completion import SAMPLER

if TYPE_CHECKING:
    from rich.console import Console

    from autometa.contracts.tasks import TaskSampler


def register(app: typer.Typer) -> None:
    """Add the command ``tasks``."""
    app.command("tasks")(tasks)


def tasks(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:key=value,...]", help="A task sampler.", show_default=False, autocompletion=SAMPLER
        ),
    ],
    split: Annotated[str, typer.Option(help="train, valid or test: where the tasks shown come from.")] = "train",
    number: Annotated[int, typer.Option("-n", help="How many tasks to show.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the tasks shown.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Shapes and facts as JSON, for scripts.")] = False,
) -> None:
    """Show a task distribution: what a task looks like, its splits and a few drawn tasks.

    Example: autometa tasks digits:n_way=3,n_shot=2 --split test
    """
    from autometa.cli.component_text import parse_component
    from autometa.cli.option_names import option_names
    from autometa.cli.plugin_output import plugins_on_stderr
    from autometa.cli.typed_component import make_typed
    from autometa.contracts.tasks import check_draw

    sampler_name, params = parse_component(name)
    with option_names({"n_tasks": "-n", "split": "--split", "seed": "--seed"}):
        check_draw(number, split, seed)
    with plugins_on_stderr():
        sampler: TaskSampler = make_typed("task sampler", sampler_name, params)
        facts = _facts(sampler)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    from rich.console import Console

    from autometa.cli.task_pictures import draw_task

    console = Console(highlight=False)
    _show_facts(console, repr(sampler), facts)
    with plugins_on_stderr():
        batch = sampler.sample(number, split=split, seed=seed)  # type: ignore[arg-type]
    for index in range(number):
        console.print(f"\n[bold]task {index}[/bold] of split {split}, seed {seed}")
        draw_task(console, batch, index)


_OF_WORLDS = ("horizon", "n_hidden")
"""Facts that are told of worlds to act in alone."""
_NOT_OF_WORLDS = ("shared_classes", "target_scale")
"""Facts that mean nothing there."""


def _facts(sampler: TaskSampler) -> dict[str, Any]:
    """What is the same for all tasks, and the shapes of one drawn from every split."""
    from autometa.contracts.tasks import SPLITS

    splits = {}
    for split in SPLITS:
        batch = sampler.sample(1, split=split, seed=0)
        parts = (
            {"observation": batch.begin().reset(), "hidden": batch.hidden}
            if sampler.info.problem_record.acts
            else {"support": batch.support.x, "query": batch.query.x}
        )
        splits[split] = {part: list(values.shape[1:]) for part, values in parts.items()}
    return {"info": dataclasses.asdict(sampler.info), "splits": splits, "about": sampler.describe()}


def _show_facts(console: Console, title: str, facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from autometa.contracts.printable import printable
    from autometa.contracts.problems import find_problem

    console.print(Text(printable(title), style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False)
    acts = find_problem(facts["info"]["problem"]).acts
    for key, value in facts["info"].items():
        if value is not None and key not in (_NOT_OF_WORLDS if acts else _OF_WORLDS):
            table.add_row(Text(key), Text(printable(list(value) if isinstance(value, tuple) else value)))
    for split, shapes in facts["splits"].items():
        table.add_row(f"split {split}", Text(", ".join(f"{part} {shape}" for part, shape in shapes.items())))
    for key, value in facts["about"].items():
        table.add_row(Text(printable(key)), Text(printable(value)))
    console.print(table)
