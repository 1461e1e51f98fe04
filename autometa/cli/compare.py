"""``autometa compare``, ``autometa worker`` and ``autometa report``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autometa.checks import check_choice
from autometa.cli.completion import LEARNERS, TASKS, Completion
from autometa.cli.option_names import option_names
from autometa.cli.plugin_output import plugins_on_stderr
from autometa.cli.study_file import (
    OPTIONS,
    NamedComponent,
    StudyFile,
    learners_from_texts,
    others_from_texts,
    read_study_file,
    resources_from_text,
    tasks_from_texts,
)
from autometa.cli.termination import Termination
from autometa.cli.typed_component import make_typed
from autometa.contracts.printable import printable
from autometa.engine.process_start import ctrl_c_later, prepare_processes
from autometa.errors import StorageError
from autometa.files.atomic import reason_of
from autometa.files.complete_run import RUN_FILE, is_complete

if TYPE_CHECKING:
    from autometa.comparison import Comparison
    from autometa.comparison.preview import Preview
    from autometa.contracts.tasks import TaskSampler

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""

DEMO = ("tasks/glyphs", "tasks/digits", "tasks/sinusoid")
"""What is compared when nothing is asked for: these need no data and no network."""


NAMES = {argument: f"--{option.replace('_', '-')}" for option, (argument, _) in OPTIONS.items()}
"""Options of ``compare``, by argument of ``am.compare``."""


OF_THE_WORK = ("output", "storage", "name", "trial_timeout", "engine", "address", "resources", "log")
"""Arguments of ``am.compare`` that say nothing of what is done."""


def register(app: typer.Typer) -> None:
    """Add the commands ``compare``, ``worker`` and ``report``."""
    app.command()(compare)
    app.command()(worker)
    app.command()(report)


def _option(metavar: str, text: str, completion: Completion | None = None) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False, autocompletion=completion)


_MAY_USE = "A file or folder that the comparison's tasks may use. Repeatable. Left out:"


def compare(
    context: typer.Context,
    study: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY.toml",
            help="A file with the same options, except --json; those typed here win. Paths in it are relative to the "
            "working folder.",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        _option(
            "NAMES", "Task distributions, divided by commas. Repeatable. Left out: glyphs, digits and sinusoid.", TASKS
        ),
    ] = None,
    learners: Annotated[
        list[str] | None,
        _option("NAMES", "'all', or names divided by commas. Repeatable. Left out: all that fit.", LEARNERS),
    ] = None,
    baselines: Annotated[
        bool | None,
        typer.Option(
            "--baselines/--no-baselines",
            help="Add the baselines to --learners: scikit-learn fitted on the support set alone, and on tables and "
            "worlds all that there are (added).",
            show_default=False,
        ),
    ] = None,
    table: Annotated[Path | None, _option("FILE.csv", "Compare on a table of your own.")] = None,
    task_column: Annotated[
        str | None, _option("COLUMN", "Column of the table that names the entity of a row, each of which is a task.")
    ] = None,
    target: Annotated[str | None, _option("COLUMN", "Column of the table to predict.")] = None,
    shots: Annotated[
        int | None,
        _option("N", "Labelled rows of each entity of the table (half of the median entity's, between 1 and 10)."),
    ] = None,
    problem: Annotated[
        str | None,
        _option("KIND", "What the target asks for: 'regression' or 'classification' (what its values suggest)."),
    ] = None,
    order: Annotated[
        str | None, _option("COLUMN", "Column of dates or numbers: the labelled rows are the earliest (any rows).")
    ] = None,
    stratified: Annotated[
        bool | None,
        typer.Option(
            "--stratified",
            help="Classification: --shots counts the labelled rows of each class (all together).",
            show_default=False,
        ),
    ] = None,
    test_fraction: Annotated[
        float | None, _option("SHARE", "Share of the table's entities that are held out to judge on (0.2).")
    ] = None,
    trials: Annotated[int | None, _option("N", "Trials of each learner on each task distribution (20).")] = None,
    budget: Annotated[
        float | None, _option("SECONDS", "Meta-training of each learner on each task distribution (no limit).")
    ] = None,
    time_budget: Annotated[
        str | None, _option("TIME", "Time of the whole call, such as 30min, with --search race (no limit).")
    ] = None,
    steps: Annotated[int | None, _option("N", "Outer steps of one meta-training, at most (500).")] = None,
    tasks_per_step: Annotated[int | None, _option("N", "Tasks of one outer step (16).")] = None,
    seeds: Annotated[
        int | None, _option("N", "Meta-trainings of the best trial (5); with --time-budget up to three times as many.")
    ] = None,
    test_tasks: Annotated[
        list[str] | None,
        _option(
            "NAMES",
            "Other task distributions to judge on, divided by commas. Repeatable. A number: as --n-test-tasks.",
            TASKS,
        ),
    ] = None,
    n_test_tasks: Annotated[int | None, _option("N", "Held-out tasks to judge on, of each distribution (600).")] = None,
    valid_tasks: Annotated[int | None, _option("N", "Tasks to tune on (100).")] = None,
    search: Annotated[
        str | None,
        _option(
            "KIND",
            "'separate': as many trials for each learner; 'race': more for the better ones; 'joint': one study that "
            "seeks a winner (separate).",
        ),
    ] = None,
    ensemble: Annotated[
        bool | None,
        typer.Option(
            "--ensemble/--no-ensemble",
            help="Judge an ensemble of the best learners as well, chosen on the tasks to tune on (no).",
            show_default=False,
        ),
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        _option(
            "FOLDER",
            "A finished comparison whose best hyperparameters are tried first; 'installed': those that come with "
            "plugins. Repeatable.",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        _option(
            "NAME",
            "What to tune on and to rank by: accuracy, log_loss, brier, calibration_error; mse, mae, r2, "
            "log_likelihood; return (the first of the problem's).",
        ),
    ] = None,
    max_latency: Annotated[
        float | None, _option("MS", "Milliseconds to adapt and predict a task; a slower learner cannot win (no limit).")
    ] = None,
    max_memory: Annotated[
        float | None,
        _option("MIB", "MiB of a learner and what it adapts to a task; a larger one cannot win (no limit)."),
    ] = None,
    output: Annotated[Path | None, _option("FOLDER", "Where all results go (runs/NAME-OF-TASKS).")] = None,
    storage: Annotated[str | None, _option("URL", "Optuna storage (a journal file in the output folder).")] = None,
    name: Annotated[str | None, _option("NAME", "Name of the comparison in the storage.")] = None,
    workers: Annotated[int | None, _option("N", "Processes (1).")] = None,
    engine: Annotated[
        str | None,
        _option("KIND", "'processes': workers on this machine; 'ray': on the nodes of a Ray cluster (processes)."),
    ] = None,
    address: Annotated[
        str | None, _option("ADDRESS", "Of the Ray cluster (RAY_ADDRESS, else the one started on this machine).")
    ] = None,
    resources: Annotated[
        str | None, _option("NAME=N,...", "What each Ray worker has for itself: cpu, gpu, fractions too (cpu=1).")
    ] = None,
    device: Annotated[str | None, _option("DEVICE", "auto, cpu, cuda, mps ... (auto).")] = None,
    random_state: Annotated[int | None, _option("N", "Seed of everything (0).")] = None,
    trial_timeout: Annotated[
        float | None,
        _option("SECONDS", "One step of a trial, at most (10 minutes, or 100 times its median step if that is more)."),
    ] = None,
    log: Annotated[str | None, _option("WHERE", "'mlflow': write every final run there as well (nowhere).")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be done, and about how long it takes; do nothing and write nothing."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the leaderboard (or the plan) as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Tune learners on task distributions, judge them on held-out tasks, and keep the winner.

    Example: autometa compare --tasks glyphs --tasks sinusoid --trials 20 --output runs/first

    Example: autometa compare --tasks omniglot:root=../data/omniglot,n_way=5 --learners prototypical,maml

    Example: autometa compare --tasks glyphs:size=8,n_way=3 --learners prototypical,maml --test-tasks digits

    Example: autometa compare --table data.csv --task-column school --target score

    Example: autometa compare --table data.csv --task-column patient --target score --order date --budget 60

    Example: autometa compare study.toml

    Example: autometa compare study.toml --dry-run

    Example: autometa compare study.toml --engine ray --workers 8 --resources cpu=2,gpu=0.5

    Baselines join every comparison, whatever the learners asked for; --no-baselines leaves them out, and 'autometa
    report FOLDER --without NAMES' leaves any learner out of what was found.

    Parameters follow a name: omniglot:root=../data,n_way=5 or maml:steps=3, and a learner's meta-optimizer stands
    between: maml:reptile:steps=3.

    Ctrl-C or a crash loses nothing but the trial at work: the same command goes on, also with more trials, seeds, test
    tasks or learners. Exit code 1: a learner has no
    score, or a final run failed; 130: Ctrl-C; 143: SIGTERM.
    """
    others, n_test_tasks = _split_test_tasks(test_tasks or [], n_test_tasks)
    typed = {
        "n_trials": trials,
        "budget": budget,
        "time_budget": time_budget,
        "max_steps": steps,
        "tasks_per_step": tasks_per_step,
        "n_seeds": seeds,
        "n_test_tasks": n_test_tasks,
        "n_valid_tasks": valid_tasks,
        "search": search,
        "ensemble": ensemble,
        "warm_start": warm_start or None,
        "objective": objective,
        "max_latency": max_latency,
        "max_memory": max_memory,
        "output": None if output is None else str(output),
        "storage": storage,
        "name": name,
        "n_workers": workers,
        "engine": engine,
        "address": address,
        "resources": None if resources is None else resources_from_text(resources),
        "device": device,
        "random_state": random_state,
        "trial_timeout": trial_timeout,
        "log": log,
        "baselines": baselines,
    }
    asked = StudyFile() if study is None else read_study_file(study)
    options = dict(asked.options) | {key: value for key, value in typed.items() if value is not None}
    about = {
        "table": table,
        "task_column": task_column,
        "target": target,
        "shots": shots,
        "problem": problem,
        "order": order,
        "stratified": stratified,
        "test_fraction": test_fraction,
    }
    chosen = _chosen_tasks(asked, tasks, {key: value for key, value in about.items() if value is not None})
    judged_on = _chosen_test_tasks(others or asked.test_tasks, chosen)
    who = learners_from_texts(learners) if learners else asked.learners
    called = "-".join(chosen) + ("-on-" + "-".join(judged_on) if judged_on else "")
    options.setdefault("output", str(Path("runs") / _folder(study.stem if study else called)))

    needs_processes = options.get("n_workers", 1) > 1 and options.get("engine", "processes") == "processes"
    labels = {"tasks": chosen, "test_tasks": judged_on, "learners": who}
    if needs_processes and not dry_run and not is_complete(options["output"], options, **labels):
        prepare_processes()
    import autometa as am

    termination: Termination = context.obj
    try:
        with ctrl_c_later():  # a module that is stopped while it is imported fails in ways of its own
            import_module("autometa.comparison.compare")
        with option_names(NAMES), plugins_on_stderr():
            samplers, test_samplers = (
                {label: make_typed("task sampler", entry.name, entry.params) for label, entry in of.items()}
                for of in (chosen, judged_on)
            )
            for entry, sampler in zip(chosen.values(), samplers.values(), strict=True):
                _check_classes(entry, sampler)
            entrants = "all" if who is None else {label: _entrant(entry) for label, entry in who.items()}
            judged_too = test_samplers or None
            if dry_run:
                of_plan = {name: value for name, value in options.items() if name not in OF_THE_WORK}
                seen = am.preview(samplers, entrants, test_tasks=judged_too, **of_plan)
            else:
                verbose = 0 if quiet or asked.quiet else 1
                comparison = am.compare(samplers, entrants, test_tasks=judged_too, verbose=verbose, **options)
    except KeyboardInterrupt:
        termination.kept = "" if dry_run else _kept(options["output"])
        if not termination.asked:
            typer.echo(printable(f"\nInterrupted. {termination.kept}".rstrip(), lines=True), err=True)
        raise typer.Exit(INTERRUPTED) from None
    if dry_run:
        if termination.asked:
            raise typer.Exit(INTERRUPTED)
        _show_preview(seen, as_json=as_json)
        return
    termination.kept = _kept(options["output"])
    if termination.asked:
        raise typer.Exit(INTERRUPTED)
    report = Path(options["output"]).expanduser() / "report.html"
    _show(comparison, report, as_json=as_json)
    if not comparison.complete:
        typer.echo(printable(f"Interrupted before all was done. {termination.kept}"), err=True)
        raise typer.Exit(INTERRUPTED)
    if _has_gaps(comparison) or not report.exists():
        raise typer.Exit(1)


def _kept(output: str) -> str:
    """What an interrupted command says of its work so far."""
    if (Path(output).expanduser() / RUN_FILE).exists():
        return f"What is done is kept in {output}; the same command goes on from there."
    return f"Nothing was begun, and {output} holds no comparison yet."


def _has_gaps(comparison: Comparison) -> bool:
    """Tell whether a final run failed, or every trial of a learner; a trial that diverges is part of any search."""
    board, failures = comparison.leaderboard, comparison.failures
    joint = comparison.plan["settings"]["search"] != "separate"  # where only the best are judged
    board = board[board["tasks"] == board["trained_on"]]
    judged = set(board["tasks"]) if joint else set(zip(board["tasks"], board["learner"], strict=True))
    return any(
        row.stage != "trial" or (row.tasks if joint else (row.tasks, row.learner)) not in judged
        for row in failures.itertuples()
    )


def worker(
    context: typer.Context,
    storage: Annotated[str, typer.Option(metavar="URL", help="The Optuna storage that all workers share.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Name the comparison was started with.")],
    trial_timeout: Annotated[float | None, _option("SECONDS", "As for compare.")] = None,
    allow_path: Annotated[list[str] | None, _option("PATH", f"{_MAY_USE} none.")] = None,
    trust: Annotated[
        list[str] | None,
        _option("MODULE:NAME", "A function that its learners may call. Repeatable. Left out: none."),
    ] = None,
) -> None:
    """Help a comparison that was started elsewhere, until nothing is left to do.

    Example: autometa worker --storage postgresql://host/optuna --name first

    Example: autometa worker --storage postgresql://host/optuna --name first --allow-path ../data

    Example: autometa worker --storage grpc://host:13000 --name first
    """
    from autometa.comparison import work

    termination: Termination = context.obj
    termination.kept = "What was at work is open again for other workers, and for the same command."
    with option_names(NAMES), plugins_on_stderr():
        comparison = work(
            storage, name, trial_timeout=trial_timeout, allowed_paths=allow_path or [], trusted=trust or []
        )
    if not comparison.complete:
        if not termination.asked:
            typer.echo(f"Interrupted before all was done. {termination.kept}", err=True)
        raise typer.Exit(INTERRUPTED)


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder of a comparison.")],
    without: Annotated[
        list[str] | None,
        _option("NAMES", "Learners to leave out of all tables, divided by commas. Repeatable.", LEARNERS),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="KIND",
            help="'html': write report.html and show the leaderboard; 'md', 'csv' or 'json': print the leaderboard and "
            "the verdicts, and write nothing.",
        ),
    ] = "html",
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows of the leaderboard as JSON instead.")] = False,
    allow_path: Annotated[list[str] | None, _option("PATH", f"{_MAY_USE} any.")] = None,
) -> None:
    """Show the leaderboard of a comparison again and rebuild its HTML report.

    Example: autometa report runs/first

    Example: autometa report runs/first --without maml

    Example: autometa report runs/first --format md
    """
    check_choice("--format", form, ("html", "md", "csv", "json"))
    if as_json and form != "html":
        raise typer.BadParameter("give either --json or --format.", param_hint="--format")
    from autometa.comparison import Comparison
    from autometa.comparison.results.record import INCOMPLETE

    unwritten: StorageError | None = None
    with plugins_on_stderr():
        comparison = Comparison.load(folder, allowed_paths=allow_path)
        if left_out := [name.strip() for text in without or [] for name in text.split(",")]:
            comparison = comparison.without(*left_out)
        try:
            if form == "html":
                comparison.report(folder / "report.html")
        except StorageError as error:
            unwritten = error
    if form == "html":
        _show(comparison, None if unwritten else folder / "report.html", as_json=as_json)
    else:
        from autometa.comparison.report.text import FORMATS

        typer.echo(FORMATS[form](comparison))
    if unwritten is not None:
        on = "--format md, csv or json prints tables and writes nothing."
        raise StorageError(f"{reason_of(unwritten)}; {on}") from unwritten
    if not comparison.complete:
        told = f"{INCOMPLETE} {comparison.left} The command that began it goes on."
        typer.echo(printable(told), err=True)
    if len(comparison.failures):
        raise typer.Exit(1)


def _chosen_tasks(asked: StudyFile, tasks: list[str] | None, typed: Mapping[str, Any]) -> Mapping[str, NamedComponent]:
    """What is typed wins over the file; neither means the demo."""
    about = dict(typed) if tasks else {**asked.of_table, **typed}
    if "table" not in about:
        for key in about:
            option = f"--{key.replace('_', '-')}"
            raise typer.BadParameter("it is about --table FILE.csv, which is missing.", param_hint=option)
        return tasks_from_texts(tasks) if tasks else asked.tasks or tasks_from_texts(DEMO)
    if tasks:
        raise typer.BadParameter("give either --table or --tasks.", param_hint="--table")
    if "task_column" not in about or "target" not in about:
        raise typer.BadParameter("needs --task-column COLUMN and --target COLUMN too.", param_hint="--table")
    table = Path(about["table"])
    params: dict[str, Any] = {
        "data": str(table),
        "task": about["task_column"],
        "target": about["target"],
        "n_shot": about.get("shots", "auto"),
        "stratified": about.get("stratified", False),
        "every_entity": True,
    }
    params |= {name: about[name] for name in ("problem", "order", "test_fraction") if name in about}
    return {table.stem: NamedComponent(name="tasks/table", params=params)}


def _check_classes(entry: NamedComponent, sampler: TaskSampler) -> None:
    """Refuse to count the rows of each class where there are none."""
    if entry.params.get("stratified") is True and not sampler.info.problem_record.has_classes:
        said = f"it counts the rows of each class, and {entry.params.get('target')!r} is a column of numbers to predict"
        raise typer.BadParameter(f"{said}; leave it out.", param_hint="--stratified")


def _split_test_tasks(typed: Sequence[str], n_test_tasks: int | None) -> tuple[list[str], int | None]:
    """Names of task distributions, and how many tasks of each: a number among the names says that too."""
    numbers = {int(text) for text in typed if text.strip().isdecimal()}
    numbers |= set() if n_test_tasks is None else {n_test_tasks}
    if len(numbers) > 1:
        raise typer.BadParameter(f"several numbers of tasks: {sorted(numbers)}.", param_hint="--test-tasks")
    return [text for text in typed if not text.strip().isdecimal()], next(iter(numbers), None)


def _chosen_test_tasks(
    given: Mapping[str, NamedComponent] | Sequence[str] | None, tasks: Mapping[str, NamedComponent]
) -> Mapping[str, NamedComponent]:
    if given is None or isinstance(given, Mapping):
        return given or {}
    return others_from_texts(given, tasks)


def _folder(text: str) -> str:
    """A name for a folder that every system allows."""
    return re.sub(r"[^\w.=-]+", "-", text)[:80].strip("-.") or "comparison"


def _entrant(entry: NamedComponent) -> Any:
    learner = make_typed("learner", entry.name, entry.params)
    return learner if entry.meta_optimizer is None else (learner, make_typed("meta-optimizer", entry.meta_optimizer))


def _show_preview(seen: Preview, *, as_json: bool) -> None:
    """Print what a comparison would do."""
    from autometa.cli.preview_screen import preview_json, show_preview
    from autometa.cli.screen import make_console

    if as_json:
        typer.echo(preview_json(seen))
    else:
        show_preview(seen, make_console())


def _show(comparison: Comparison, path: Path | None, *, as_json: bool) -> None:
    """Print the leaderboard and where the report lies, if it does."""
    from autometa.cli.screen import leaderboard_json, make_console, show_leaderboard

    if as_json:
        typer.echo(leaderboard_json(comparison.leaderboard))
    else:
        show_leaderboard(comparison, make_console())
        if path is not None and path.exists():
            typer.echo(f"Report: {printable(path)}")
