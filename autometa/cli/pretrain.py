"""``autometa pretrain``: a network that reads any table, from tables of a prior."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autometa.checks import check_int, check_real
from autometa.cli.option_names import option_names
from autometa.cli.plugin_output import plugins_on_stderr
from autometa.cli.study_file import Check, NamedComponent, check_keys, check_text, one_component, read_toml
from autometa.cli.termination import Termination
from autometa.cli.typed_component import make_typed
from autometa.contracts.printable import printable

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTED = 130

_positive = partial(check_int, least=1)
OPTIONS: dict[str, tuple[str, Check]] = {
    "output": ("output", check_text),
    "steps": ("n_steps", _positive),
    "tasks_per_step": ("tasks_per_step", _positive),
    "cells_per_step": ("cells_per_step", _positive),
    "lr": ("lr", partial(check_real, above=0)),
    "looks": ("n_looks", _positive),
    "valid": ("n_valid", _positive),
    "device": ("device", check_text),
    "random_state": ("random_state", partial(check_int, least=0)),
    "checkpoint": ("checkpoint", check_text),
}
"""Options: name in a file (with dashes: on the command line), argument of ``am.pretrain``, check."""
NAMES = {argument: f"--{option.replace('_', '-')}" for option, (argument, _) in OPTIONS.items()}
_COLUMNS = {
    "step": "step",
    "seconds": "seconds",
    "valid_loss": "loss",
    "untrained_valid_loss": "untrained",
    "valid_score": "score",
    "untrained_valid_score": "untrained",
}


def register(app: typer.Typer) -> None:
    """Add the command ``pretrain``."""
    app.command()(pretrain)


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


def pretrain(
    context: typer.Context,
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY.toml",
            help="A file with the same options, except --json; those typed here win. Paths in it are relative to the "
            "working folder.",
        ),
    ] = None,
    prior: Annotated[str | None, _option("NAME[:key=value,...]", "What tables are drawn from (prior_tables).")] = None,
    learner: Annotated[str | None, _option("NAME[:key=value,...]", "The network (pfn).")] = None,
    output: Annotated[Path | None, _option("FILE", "Where the weights go (NAME-OF-PRIOR.safetensors).")] = None,
    steps: Annotated[int | None, _option("N", "Steps (5000).")] = None,
    tasks_per_step: Annotated[int | None, _option("N", "Tables of a step, at most (64).")] = None,
    cells_per_step: Annotated[int | None, _option("N", "Cells of a step's tables, at most (10000).")] = None,
    lr: Annotated[float | None, _option("RATE", "Learning rate (0.003).")] = None,
    looks: Annotated[int | None, _option("N", "How many times held-out tables are answered (20).")] = None,
    valid: Annotated[int | None, _option("N", "Batches of held-out tables (24).")] = None,
    device: Annotated[str | None, _option("DEVICE", "auto, cpu, cuda, mps ... (auto).")] = None,
    random_state: Annotated[int | None, _option("N", "Seed of everything (0).")] = None,
    checkpoint: Annotated[
        Path | None, _option("FILE", "What an interrupted command goes on from (OUTPUT.ckpt).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the curve as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
) -> None:
    """Pretrain a network on tables drawn from a prior, and write its weights.

    Example: autometa pretrain --prior prior_tables:problem=regression --output regression.safetensors

    Example: autometa pretrain study.toml

    In a file the prior may be a table, [prior] with sampler = "prior_tables", and so may the learner.

    Ctrl-C or a crash loses half a minute at most: the same command goes on. Exit code 130: Ctrl-C; 143: SIGTERM.
    """
    typed = {
        "output": None if output is None else str(output),
        "n_steps": steps,
        "tasks_per_step": tasks_per_step,
        "cells_per_step": cells_per_step,
        "lr": lr,
        "n_looks": looks,
        "n_valid": valid,
        "device": device,
        "random_state": random_state,
        "checkpoint": None if checkpoint is None else str(checkpoint),
    }
    named, options = ({}, {}) if study is None else _read(study)
    options |= {key: value for key, value in typed.items() if value is not None}
    for what, text in (("prior", prior or "prior_tables"), ("learner", learner or "tabular/pfn")):
        if what not in named or (prior if what == "prior" else learner):
            named[what] = one_component(text, what, "", "")
    options.setdefault("output", f"{named['prior'].name.rpartition('/')[2]}.safetensors")
    options.setdefault("checkpoint", f"{options['output']}.ckpt")

    import autometa as am

    termination: Termination = context.obj
    try:
        with option_names(NAMES), plugins_on_stderr():
            sampler = make_typed("task sampler", named["prior"].name, named["prior"].params)
            network = make_typed("learner", named["learner"].name, named["learner"].params)
            curve = am.pretrain(sampler, network, verbose=int(not quiet), **options)
    except KeyboardInterrupt:
        termination.kept = _kept(options["checkpoint"])
        if not termination.asked:
            typer.echo(printable(f"\nInterrupted. {termination.kept}", lines=True), err=True)
        raise typer.Exit(INTERRUPTED) from None
    _show(curve, options["output"], as_json=as_json)


def _kept(checkpoint: str) -> str:
    """What an interrupted command says of its work so far."""
    if Path(checkpoint).expanduser().exists():
        return f"What is done is kept in {checkpoint}; the same command goes on from there."
    return f"Nothing is kept yet: {checkpoint} is first written after half a minute."


def _read(study: Path) -> tuple[dict[str, NamedComponent], dict[str, Any]]:
    """Return the components and the options of a study file."""
    content, where = read_toml(study), str(study)
    check_keys(content, [*OPTIONS, "prior", "learner"], f"study file {where!r}")
    keys = {"prior": "sampler", "learner": "learner"}
    named = {what: one_component(content[what], what, key, where) for what, key in keys.items() if what in content}
    options = {key: value for key, value in content.items() if key in OPTIONS}
    for key, value in options.items():
        OPTIONS[key][1](key, value, of=f"study file {where!r}")
    return named, {OPTIONS[key][0]: value for key, value in options.items()}


def _show(curve: pd.DataFrame, output: str, *, as_json: bool) -> None:
    """Print the curve and where the weights lie."""
    if as_json:
        typer.echo(json.dumps(curve.to_dict("records")))
        return
    shown = curve[list(_COLUMNS)].round(4)
    lines = shown.to_string(index=False, header=list(_COLUMNS.values()))
    typer.echo(f"On held-out tables, beside the untrained network:\n{lines}\nWeights: {printable(output)}")
