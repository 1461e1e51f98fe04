"""am.compare: which learner is best on which tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from optuna.storages import BaseStorage

from autometa.checks import check_bool, check_int, check_real, check_text, check_texts
from autometa.comparison.call import Call
from autometa.comparison.execution.clock import Clock, seconds_of
from autometa.comparison.execution.progress_display import make_display
from autometa.comparison.execution.ray_cluster import RayCluster
from autometa.comparison.execution.run_file import (
    folder_of,
)
from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.storage import (
    JOURNAL,
    TemporaryFolder,
    locate_storage,
    open_storage,
    prepare_output,
)
from autometa.comparison.execution.stored_plan import begun_plan, stored_plan
from autometa.comparison.execution.stored_start import other_start, read_start
from autometa.comparison.plan.entrants import Learners, Tasks
from autometa.comparison.plan.foreign import Paths, check_allowed_paths
from autometa.comparison.plan.plan import make_plan
from autometa.comparison.plan.portfolio import WarmStart
from autometa.comparison.plan.portfolio_fit import misfit_text
from autometa.comparison.plan.same_plan import going_on
from autometa.comparison.plan.settings import MOST_WORKERS, Search, Settings
from autometa.comparison.report.mlflow_runs import check_log
from autometa.comparison.result import Comparison
from autometa.engine.device import pick_device
from autometa.engine.process_start import prepare_processes
from autometa.engine.program import refuse_to_begin_again
from autometa.errors import InvalidParameter, warn_user
from autometa.files.complete_run import is_complete


def compare(
    tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks],
    learners: Learners | Sequence[Learners] | Mapping[str, Learners] = "all",
    *,
    test_tasks: Tasks | Sequence[Tasks] | Mapping[str, Tasks] | None = None,
    n_trials: int = 20,
    budget: float | None = None,
    n_test_tasks: int = 600,
    n_valid_tasks: int = 100,
    n_seeds: int = 5,
    max_steps: int = 500,
    tasks_per_step: int = 16,
    storage: str | os.PathLike[str] | BaseStorage | None = None,
    name: str | None = None,
    output: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    n_workers: int = 1,
    engine: str = "processes",
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    random_state: int = 0,
    search: Search = "separate",
    time_budget: float | str | timedelta | None = None,
    ensemble: bool = False,
    warm_start: WarmStart | None = None,
    objective: str = "auto",
    max_latency: float | None = None,
    max_memory: float | None = None,
    baselines: bool = True,
    trial_timeout: float | None = None,
    log: str | None = None,
    verbose: int = 1,
) -> Comparison:
    """Tune learners with Optuna on task distributions and judge the tuned ones on the same held-out tasks.

    Every learner has one Optuna study per task distribution, with the same number of trials of the same length.
    Its best trial is meta-trained again from ``n_seeds`` seeds and judged on meta-test tasks that no study has seen.
    Of every run the θ counts that did best on the meta-valid tasks, the untrained one included, not the last one.
    Ctrl-C ends the call: it warns and returns what is done so far. Call again with the same ``output`` (or ``storage``
    and ``name``) to go on from there; that call may add learners and task distributions, and ask for more trials, seeds
    and test tasks. Only what is missing is done: final runs are repeated where a better trial is found or more test
    tasks are asked for, and with ``budget`` it must grow too, so that every run has as long as before.

    Parameters
    ----------
    tasks : str, TaskSampler, list of those, or dict of those by label
        Task distributions.
    learners : "all", str, Learner, list of those, or dict of those by label
        ``"all"``: every installed learner; those that do not fit are listed in ``skipped`` with the reason.
        ``"maml:reptile"``, or a tuple of two, names the meta-optimizer too. An object's parameters are its trial 0;
        one outside the search space stays as it is.
    test_tasks : as ``tasks``, optional
        Other distributions to judge on as well: every final run, after judging on the meta-test tasks of its own
        distribution, is judged on those of each of these that has the same problem and input shape. Nothing of them
        enters tuning or meta-training. What cannot be judged where is listed in ``skipped``. In all tables ``tasks``
        is what is judged on and ``trained_on`` what was trained on.
    n_trials : int, default=20
        Trials per study; trial 0 has the defaults. A learner with fewer combinations of choices gets one for each.
    budget : float, optional
        Seconds of meta-training for each learner on each task distribution, shared equally by trials and final
        runs. Such scores depend on the speed of the machine. None: ``max_steps`` alone counts.
    n_test_tasks, n_valid_tasks : int
        Tasks on which final runs are judged, and tasks on which trials are judged.
    n_seeds : int, default=5
        Final runs of each learner on each task distribution. With one, nothing is decided about the learners; they
        take as long as so many trials more.
    max_steps, tasks_per_step : int
        Outer steps of a run, and tasks in each.
    storage : str or optuna.storages.BaseStorage, optional
        Database URL, journal file (``.log``) or ``grpc://host:port``, what ``autometa serve`` serves there (extra
        ``grpc``). Left out: ``journal.log`` in ``output``, or memory without ``output``.
        PostgreSQL and MySQL need the extras ``postgres`` and ``mysql``. A database that does not answer for a while is
        asked again for five minutes, with a warning; no trial counts as failed for it.
    name : str, optional
        Name of the comparison in the storage; the folder's name, or "comparison", when left out.
    output : path, optional
        Folder for the journal, tables, the report, models and the winner. The same call, or one that asks for more,
        goes on in it, unless what the files of ``tasks`` hold has changed.
    device : str or torch.device, default="auto"
    n_workers : int, default=1
        Processes. With one, and without ``budget``, equal calls have equal results; with several, what a study
        draws depends on which trials have ended.
        Each imports the program that asks for it, so that the call must stand below ``if __name__ == "__main__":``
        in a file of Python.
    engine : {"processes", "ray"}, default="processes"
        Where the workers run: on this machine, or on the nodes of a Ray cluster (extra ``ray``), which have the same
        autometa and plugins. There every worker starts where ``resources`` are free, or once they are, and what a lost
        node was at work on is done elsewhere. This process serves the storage to the nodes, so it may be any; they
        must reach this machine. Models are kept where the nodes see ``output`` too; else the winner is meta-trained
        again here.
    address : str, optional
        Of the Ray cluster, as ``ray.init`` takes it. Left out: the connection that this process has, the cluster that
        ``RAY_ADDRESS`` names or that was started on this machine, else a Ray of its own on this machine.
    resources : dict of str to float, optional
        What each Ray worker has for itself, such as ``{"cpu": 2, "gpu": 0.5}``: cores, which are also its threads,
        GPUs, two of such workers sharing one, and resources by the names that the nodes gave them. Left out: a core,
        and a GPU where ``device`` is "cuda".
    random_state : int, default=0
    search : {"separate", "race", "joint"}, default="separate"
        ``"separate"`` is the fair comparison: equal budgets for all. ``"race"``: after a first round in which every
        learner has the same, rounds move trials from learners that are clearly behind to the better ones, and the best
        five (and the baselines that all are held against) have final runs; never more work than ``"separate"``.
        :attr:`Comparison.race` tells who had what. A race may be given more trials later, not more learners.
        ``"joint"``: one study per task distribution chooses among the learners as well, and only the winner is judged:
        less work, and no comparison of equals.
    time_budget : float, str or datetime.timedelta, optional
        Seconds, or a text such as ``"30min"`` or ``"1h30min"``, that the whole call may take, with ``search="race"``:
        rounds go on until what is left is needed for final runs, and as many learners have those as there is time for.
        Seconds left after that go to more final runs of these, three times ``n_seeds`` at most; where time was short,
        some have fewer, with a warning, and ``n_seeds`` of the leaderboard tells how many. A run has at most as many
        seconds as let the first round end in good time. Such a result depends on the speed of the machine. The first
        trial and the winner's first final run are never cut short; where there is no time for these, the call takes
        longer.
        The same call again has as much time again, and a later one may have more or less: it goes on with runs as long
        as before.
    ensemble : bool, default=False
        Judge an ensemble as well, under the name "ensemble": for every seed, of the final runs of that seed, members
        and weights chosen greedily by the meta-valid tasks (Caruana et al. 2004). ``members`` of the result tells
        them. A later call may ask for it of what is done already.
    warm_start : path or list of paths, optional
        Folders of finished comparisons, or their files ``portfolio.json``; ``"installed"`` stands for the files of that
        name in the packages of plugins, the bundled ones among them. The hyperparameters that did best there for a
        learner with the same meta-optimizer, up to three of tasks with the same problem and input, are tried right
        after the defaults. What fits nothing here is a warning. A call that goes on keeps those that the first one
        read, also where they are gone.
    objective : str, default="auto"
        What trials are tuned on, what decides which θ of a run is kept, and what final runs are judged and ranked by.
        Meta-training descends the learner's loss, whatever this is. ``"auto"``: the metric of the problem, which stays
        as a column beside any other.

        - classification: ``"accuracy"``; ``"log_loss"``, where a probability of the right class below 1e-6 counts as
          1e-6; ``"brier"``, 0 to 2; ``"calibration_error"``, the expected calibration error of all queries together
          in 10 bins, where every task counts as much as every other. Of n queries in all tasks together, a learner
          that is perfectly calibrated is off by up to 1.3 / √n on average: by 4 points of 1000 queries, by 1.3 of
          10 000. Less than that means nothing;
        - regression: ``"mse"``; ``"mae"``; ``"r2"``, of each task around the mean of its own query targets, so that a
          task whose targets hardly differ may have any number below 0; ``"log_likelihood"``, the mean logarithm of
          the density of a query target, of learners that predict a distribution (the others are listed in
          ``skipped``). It is their own distribution, which an estimator also scales to held-out tasks, and a standard
          deviation below 1e-6 in units of the targets drawn counts as 1e-6;
        - control: ``"return"``.
    max_latency : float, optional
        Milliseconds that adapting to one task and predicting its query may take: the median over a few tasks, mean over
        final runs. A learner over it stays in the tables, with ``over_limit``, and cannot win. Of its trials, which are
        timed on meta-valid tasks where a limit is given, the best within it is taken. Such results depend on the
        machine and its load. A later call may have another limit: trials stay as they are (those of a call without a
        limit were not timed, and count as within it), and final runs where it changes no best trial.
    max_memory : float, optional
        MiB that θ and the state adapted to one task may take; activations do not count. A trial over it ends before
        its meta-training, without a score, and a final run over it (a learner may remember what it is trained on)
        cannot win.
    baselines : bool, default=True
        Add scikit-learn's estimator fitted on the support set alone to a list that lacks it. If all ``tasks`` are
        tables, whose labels mean the same in every task, add every learner of the family "baseline", among them one
        pooled model for all.
    trial_timeout : float, optional
        Seconds that one outer step, or one batch of an evaluation, may take; a trial or final run that takes longer
        has failed, and all else goes on. None: 10 minutes, or 100 times the median step of the run where that is more.
    log : {None, "mlflow"}, default=None
        ``"mlflow"`` (extra ``mlflow``): at the end, write each final run to MLflow, see :meth:`Comparison.log`.
    verbose : int, default=1
        0: no progress. Where standard error is no terminal, a line a minute takes the place of the bar.

    Returns
    -------
    Comparison

    Raises
    ------
    InvalidParameter, UnknownName, InvalidData, MissingData, Incompatible, StorageError
        What was asked for cannot work; raised before any work is done.
    AutometaError
        Every trial failed.

    Examples
    --------
    Meta-train on letters, judge on letters and on digits:

    >>> import autometa as am
    >>> letters = am.make_tasks("glyphs", size=8, n_way=3)
    >>> found = am.compare(
    ...     {"letters": letters}, "prototypical", test_tasks="digits",
    ...     n_trials=1, n_seeds=1, max_steps=2, n_test_tasks=5, n_valid_tasks=5, verbose=0,
    ... )
    >>> sorted(set(zip(found.leaderboard["trained_on"], found.leaderboard["tasks"])))
    [('letters', 'digits'), ('letters', 'letters')]
    """
    refuse_to_begin_again(starts_processes=n_workers != 1)
    began = time.time()
    seconds = seconds_of(time_budget)
    if seconds is not None and budget is not None:
        raise InvalidParameter(
            f"time_budget={time_budget!r} and budget={budget!r}: give one; time_budget is for the whole call and is "
            "shared out by itself."
        )
    settings = Settings(
        n_trials=n_trials,
        budget=budget,
        n_test_tasks=n_test_tasks,
        n_valid_tasks=n_valid_tasks,
        n_seeds=n_seeds,
        max_steps=max_steps,
        tasks_per_step=tasks_per_step,
        random_state=random_state,
        search=search,
        time_budget=seconds,
        ensemble=ensemble,
        objective=objective,
        max_latency=max_latency,
        max_memory=max_memory,
    )
    check_int("n_workers", n_workers, most=MOST_WORKERS)
    check_int("verbose", verbose, least=0, also=(True, False))
    check_bool("baselines", baselines)
    check_real("trial_timeout", trial_timeout, above=0, also=(None,), such_as=3600)
    check_log(log)
    if log is not None and name is None and output is None:
        raise InvalidParameter(
            f"log={log!r} finds runs again by the name of their comparison: give name= or output=, so that another "
            "comparison is not taken for this one."
        )
    cluster = RayCluster.of(engine, address, resources, str(device))
    forks = n_workers > 1 and cluster is None
    in_folder = storage is None or output is not None  # which says what is left to do; a storage, only once it is open
    if forks and in_folder and not is_complete(output, asdict(settings)):
        prepare_processes()
    accelerator = pick_device(device).type != "cpu" if cluster is None else bool((resources or {}).get("gpu"))
    folder = prepare_output(output)
    if name is None:
        name = folder.name if folder is not None else "comparison"
    planned = partial(
        make_plan, tasks, learners, name=name, baselines=baselines, test_tasks=test_tasks, accelerator=accelerator
    )
    where, keeper = _place(storage, folder, n_workers, cluster, keeps_files=ensemble or search == "race")
    portfolio, is_lost = read_start(warm_start, where, name)
    plan = planned(settings, portfolio=portfolio)
    opened = open_storage(where)

    def begin(begun: Mapping[str, Any]) -> Call:
        """Register the plan, with what a plan that is there already decides; tell what that holds for a start."""
        kept, first = going_on(plan.settings, portfolio, begun)
        is_same = (kept, first) == (plan.settings, portfolio)
        run = Call(
            plan if is_same else planned(kept, portfolio=first), where, opened, folder, keeper, str(device), n_workers,
            make_display(verbose), trial_timeout, cluster, log,
        )  # fmt: skip
        run.register()
        if is_lost or first != portfolio:
            warn_user(other_start(name, warm_start, first, is_lost=is_lost))
        elif misfits := misfit_text(warm_start, portfolio, plan):
            warn_user(misfits)
        return run

    with quiet_optuna():
        begun = begun_plan(opened, name)
        if forks and not in_folder and not begun:
            prepare_processes()
        try:
            run = begin(begun)
        except InvalidParameter:
            now = begun_plan(opened, name)
            if now == begun:
                raise
            run = begin(now)  # another call was first
        clock = None if seconds is None else Clock(until=began + seconds, seconds=seconds, n_workers=n_workers)
        return run.go(clock)


def work(
    storage: str,
    name: str,
    *,
    device: str = "auto",
    trial_timeout: float | None = None,
    verbose: int = 0,
    allowed_paths: Paths = (),
    trusted: Collection[str] = (),
) -> Comparison:
    """Work on a comparison that another process began, until all of it is done.

    Who may write to the storage decides what is worked on. So paths are read and written only where this call allows
    it, and no function is called that it does not name.

    Parameters
    ----------
    storage : str
        Database URL or journal file that this machine can reach.
    name : str
        Name of the comparison.
    device : str, default="auto"
    trial_timeout : float, optional
        As in :func:`compare`.
    verbose : int, default=0
        0: no progress.
    allowed_paths : path or list of paths
        Files and folders that the task distributions may name, with all that lies in them.
    trusted : collection of str
        Import paths of functions that its learners may call, such as ``"my_package:encode"``.

    Raises
    ------
    StorageError
        The storage cannot be reached.
    InvalidParameter
        It holds no comparison of this name, or one that names paths or functions that are not allowed.
    Incompatible
        The comparison uses objects that only the process that began it has.
    """
    refuse_to_begin_again(starts_processes=False)
    if storage is None:
        raise InvalidParameter("storage=None: give the database URL or journal file that the comparison is in.")
    locate_storage(storage, None)
    check_text("name", name)
    pick_device(device)
    check_real("trial_timeout", trial_timeout, above=0, also=(None,), such_as=3600)
    check_int("verbose", verbose, least=0, also=(True, False))
    check_allowed_paths(allowed_paths)
    check_texts("trusted", trusted, such_as="my_package:my_function")
    opened = open_storage(storage, make=False)
    with quiet_optuna():
        plan = stored_plan(opened, name, allowed_paths=allowed_paths, trusted=trusted)
        folder = folder_of(storage, name)
        return Call(plan, storage, opened, folder, None, device, 1, make_display(verbose), trial_timeout).work_here()


def _place(
    storage: str | os.PathLike[str] | BaseStorage | None,
    folder: Path | None,
    n_workers: int,
    cluster: RayCluster | None,
    *,
    keeps_files: bool,
) -> tuple[str | BaseStorage | None, TemporaryFolder | None]:
    """Return where studies are kept, and a temporary folder for what has no other place.

    These are the studies of several processes without a storage, paused trials, and models of which ensembles are made.
    """
    where = locate_storage(storage, folder)
    if where is None and (n_workers > 1 or cluster is not None):
        keeper = TemporaryFolder()
        return str(keeper.path / JOURNAL), keeper
    if where is not None and not isinstance(where, str) and n_workers > 1 and cluster is None:
        raise InvalidParameter(
            f"storage={where!r} cannot be shared by n_workers={n_workers} processes; give its URL or file."
        )
    return where, TemporaryFolder() if keeps_files and folder is None else None
