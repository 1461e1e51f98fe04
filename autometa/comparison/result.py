"""The result of a comparison: its tables, its winners, its files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
import pandas as pd
import torch
from optuna.storages import BaseStorage

from autometa.checks import check_int, check_path, check_texts
from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.race import Race
from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.storage import TemporaryFolder, locate_storage
from autometa.comparison.folder_reading import read_comparison
from autometa.comparison.folder_writing import save_winners, write_portfolio, write_tables
from autometa.comparison.plan.foreign import Paths, check_allowed_paths
from autometa.comparison.plan.plan import Plan
from autometa.comparison.results.equivalence import practical_equivalence
from autometa.comparison.results.rank_groups import critical_difference
from autometa.comparison.results.record import Record
from autometa.comparison.results.references import references_in
from autometa.comparison.results.tables import collect_record
from autometa.comparison.winner import Winners
from autometa.contracts.plugin_code import one_line
from autometa.errors import AutometaError, InvalidParameter, StorageError, warn_user
from autometa.estimators import FewShotClassifier, FewShotRegressor
from autometa.files.atomic import reason_of, write_whole

if TYPE_CHECKING:
    from autometa.comparison.report.advice import Advice

REPORTS = ("html", "md", "csv", "json")
"""Kinds of reports, by what their files end in."""


class Comparison:
    """Tuned and judged learners; made by :func:`autometa.compare` or :meth:`load`.

    Attributes
    ----------
    leaderboard : pandas.DataFrame
        One row per task distribution judged on, learner and distribution trained on, best first: ``tasks`` (judged
        on), ``rank`` (equal scores share one), ``learner``, ``family``, ``metric``, ``score`` (mean over meta-test
        tasks and seeds),
        ``ci_low``, ``ci_high`` (95%, of the learner: tasks and training runs are random; with one run of the trained
        model, over tasks alone; NaN on one task), ``run_spread`` (standard deviation of the mean score from run to
        run; NaN for a single run), ``n_test_tasks``, ``n_seeds``,
        ``n_shot`` (as asked for), ``n_query`` (query examples that the meta-test tasks have, of each class where tasks
        have classes of their own; ``"5–20"`` where tasks differ), ``normalization``, ``meta_train_seconds`` (of one
        run), ``adapt_ms``, ``predict_ms`` (one task), ``n_trials``, ``params``, ``trained_on`` (tuned and meta-trained
        on; other than ``tasks`` for ``test_tasks`` alone). Where the learner ``sklearn_pooled`` took part, also
        ``gap_to_pooled`` (score minus its score, on the same tasks), ``gap_error`` (standard error), ``gap_p_value``,
        ``gap_p_holm`` (corrected for the number of learners) and ``gap_verdict`` ("better" or "worse" if significant).
        ``mebibytes``: θ and the state adapted to one task, in MiB. ``over_limit``: which of ``max_latency`` and
        ``max_memory`` it is over, in words, or empty; such a learner comes after all others and cannot win. With an
        ``objective``, ``metric`` names that and a last column, such as ``accuracy``, has the problem's own metric.
    scores : pandas.DataFrame
        ``tasks``, ``learner``, ``seed``, ``task``, ``metric``, ``score``, ``trained_on``; with an ``objective`` also
        the problem's own metric.
    significance : pandas.DataFrame
        Which learners differ: what :func:`autometa.significance` says of ``scores``, but that ``p_beside_best`` is
        about the best of those that keep to the limits.
    ranks : pandas.DataFrame
        Average rank over task distributions, of the learners judged on all of them: ``learner``, ``mean_rank``,
        ``n_distributions``; differences that the tests do not find move no rank. With ``test_tasks``, over all pairs of
        distributions trained on and judged on.
    pareto : pandas.DataFrame
        Score against cost, one row per row of the leaderboard: ``tasks``, ``learner``, ``score``,
        ``milliseconds_per_task`` (to adapt and to predict), ``mebibytes`` (θ, with what it remembers, and the state
        adapted to one task; activations do not count), ``on_front`` (no other on these tasks has a score as good at no
        more milliseconds and mebibytes), ``trained_on``.
    history : pandas.DataFrame
        Loss of the final runs: ``tasks``, ``learner``, ``seed``, ``step``, ``seconds``, ``loss``.
    curves : pandas.DataFrame
        ``tasks``, ``learner``, ``seed``, ``axis`` ("outer steps", "seconds", "adaptation steps" or "shots"),
        ``value``, ``score``: on meta-valid tasks over outer steps and seconds, else on meta-test tasks. Every learner
        has one over shots, up to those of the tasks, and one over adaptation steps if it takes any. On tables the
        axis "labelled rows" takes the place of "shots", and where learners act "episodes" (of a trial, from 1) does.
    trials : pandas.DataFrame
        ``tasks``, ``learner``, ``slot``, ``state``, ``value``, ``seconds``, ``params``.
    failures : pandas.DataFrame
        Trials and final runs that raised: ``tasks`` (trained on), ``learner``, ``stage`` ("trial", "final",
        "judging on TASKS", "measuring its doubt" or "drawing what it did"), ``slot``, ``reason``.
    skipped : pandas.DataFrame
        Pairs that cannot work, or of which no trial keeps to ``max_memory``: ``tasks``, ``learner``, ``reason``,
        ``trained_on``.
    race : pandas.DataFrame
        With ``search="race"``, one row per task distribution and learner, the best on the meta-valid tasks first:
        ``tasks``, ``learner``, ``rounds`` it took part in, ``trials`` (settings that were tried), ``complete`` (how
        many of these to the end of meta-training), ``runs`` (what it was given, in whole meta-training runs), ``score``
        of its best trial on the meta-valid tasks, ``behind`` (how far behind that of the best learner) with its
        standard error ``behind_error`` over tasks, ``state`` ("finalist", "left after round 2", "no finalist", "no
        trial succeeded", "no time", or "in the race" as long as it runs).
    guards : pandas.DataFrame
        Guards against leaks, of the first final run of each learner on the first 20 meta-test tasks: ``tasks``,
        ``learner``, ``guard``, ``verdict`` ("holds", "broken", "explained", "left out" or "failed"), ``found``,
        ``expected``, ``limit`` (up to which it holds), ``words`` (what is broken or why it is left out),
        ``trained_on``. Guards: "permuted labels" (with support labels dealt out anew its accuracy is that of chance),
        "order of queries" and "other queries" (no answer changes when queries come in another order, or fewer of them),
        "copies of test examples" (no more of them are in a train or valid task than chance explains).
    labelled_rows : pandas.DataFrame
        Of tables whose labels mean the same in every task: ``tasks``, ``learner``, ``seed``, ``rows`` (labelled rows
        that the entity has: 0, 1, 2, 5, 10, 20, as far as half of the entities have as many), ``task``, ``metric``,
        ``score``. Meta-test entities and query rows are the same for all learners and numbers of rows.
    best_by_rows : pandas.DataFrame
        The best learner for each number of labelled rows: ``tasks``, ``rows``, ``learner``, ``metric``, ``score``,
        ``ci_low``, ``ci_high``, ``n_entities``; the score of the pooled model ``pooled``, ``gap_to_pooled`` with its
        95% interval ``pooled_low``, ``pooled_high`` and ``pooled_p_holm``; likewise ``own``, ``gap_to_own``,
        ``own_low``, ``own_high``, ``own_p_holm`` for a model of the entity's own rows.
    calibration : pandas.DataFrame
        ``tasks``, ``learner``, ``seed``, ``rows`` (labelled rows; elsewhere the shots of the meta-test tasks), and for
        regression ``coverage`` (share of query rows within 90%
        intervals, of learners that predict a distribution), for classification ``log_loss`` and
        ``calibration_error`` (expected calibration error, 10 bins).
    entities : pandas.DataFrame
        One row per meta-test entity of a table, the one hurt most first: ``tasks``, ``task``, ``entity`` (its name),
        ``learner`` (the best that uses other entities), its ``score``, those of ``own`` and ``pooled``,
        ``gain_over_own``, ``gain_over_pooled`` (positive where the learner is better).
    members : pandas.DataFrame
        What each ensemble was chosen from: ``tasks``, ``seed``, ``learner``, ``share`` (of the votes; 0: not chosen;
        NaN: it could not take part), ``reason`` (why it could not; else empty).
    studies : dict of str to optuna.Study
        By name.
    environment : dict
        Versions, machine, device, seeds and times.
    complete : bool
        True if every trial and final run is over, and a race decided.
    left : str
        What is left to do, in words; empty if it is complete.
    """

    def __init__(
        self,
        plan: Plan,
        arms: Sequence[Arm],
        *,
        environment: Mapping[str, Any],
        folder: Path | None,
        device: str | torch.device = "auto",
        keeper: TemporaryFolder | None = None,
        trusted: Collection[str] | None = (),
        races: Sequence[Race] = (),
    ) -> None:
        self._arms, self._races = arms, races
        self._plan, self._folder, self._device, self._keeper = plan, folder, device, keeper
        self._trusted = trusted
        self._record: Record = collect_record(plan, arms, environment, races)
        frames = self._record.frames
        self.leaderboard = frames.leaderboard
        self.scores = frames.scores
        self.significance = frames.significance
        self.ranks = frames.ranks
        self.pareto = frames.pareto
        self.history = frames.history
        self.curves = frames.curves
        self.trials = frames.trials
        self.failures = frames.failures
        self.skipped = frames.skipped
        self.race = frames.race
        self.guards = frames.guards
        self.labelled_rows = frames.labelled_rows
        self.best_by_rows = frames.best_by_rows
        self.calibration = frames.calibration
        self.entities = frames.entities
        self.members = frames.members
        self.studies: dict[str, optuna.Study] = dict(self._record.studies)
        self.environment = dict(self._record.environment)
        self.complete = self._record.complete
        self.left = self._record.left

    @property
    def name(self) -> str:
        """Name of the comparison, the first part of its studies' names."""
        return self._record.name

    @property
    def plan(self) -> dict[str, Any]:
        """What was asked for, as JSON: ``settings``, ``tasks``, ``test_tasks``, ``learners`` and ``version``."""
        return dict(self._record.plan)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        n_rows = f"{len(self.leaderboard)} row{'' if len(self.leaderboard) == 1 else 's'}"
        return f"<Comparison {self.name!r} on {', '.join(self._plan.domains)}: {n_rows}, {state}>"

    @classmethod
    def load(
        cls,
        output: str | os.PathLike[str],
        *,
        storage: str | BaseStorage | None = None,
        trusted: Collection[str] = (),
        allowed_paths: Paths | None = None,
    ) -> Comparison:
        """Read the comparison kept in an output folder; nothing is written.

        Its task distributions are opened again, with the files that they name. A folder from somebody else may name
        any: give ``allowed_paths``.

        Parameters
        ----------
        output : path
        storage : str or optuna.storages.BaseStorage, optional
            Where its studies are. Needed for a database with a password, which the folder does not store, and for a
            storage that was given open.
        trusted : collection of str, optional
            Import paths of code that its learners may call, see :func:`autometa.load`.
        allowed_paths : path or list of paths, optional
            Files and folders that its task distributions may name, with all that lies in them. Left out: any.

        Raises
        ------
        MissingData
            The folder holds no comparison.
        StorageError
            Its storage cannot be reached, or a file is damaged.
        Incompatible
            It holds objects that only the process that made it has.
        InvalidParameter
            It was made by another version, or names a path that is not allowed.
        """
        check_path("output", output)
        check_texts("trusted", trusted, such_as="my_package:my_function")
        if allowed_paths is not None:
            check_allowed_paths(allowed_paths)
        locate_storage(storage, None)
        with quiet_optuna():
            kept = read_comparison(Path(output), storage=storage, allowed_paths=allowed_paths)
            return cls(
                kept.plan,
                kept.arms,
                environment=kept.environment,
                folder=kept.folder,
                trusted=trusted,
                races=kept.races,
            )

    def best_estimator(
        self, tasks: str | None = None, *, trained_on: str | None = None
    ) -> FewShotClassifier | FewShotRegressor:
        """Return the winner on some tasks, meta-trained, ready for ``fit`` and ``predict``.

        The winner is the first row of the leaderboard for those tasks, which no learner over a limit is; of its seeds,
        the one with the best score on the meta-valid tasks. A model that was not saved (no shared folder, or a learner
        that no plugin offers), or whose file is damaged, is meta-trained again from the same seed.

        Parameters
        ----------
        tasks : str, optional
            Name of the task distribution judged on; may be left out where there is one.
        trained_on : str, optional
            Name of the task distribution trained on. Left out: any.

        Raises
        ------
        InvalidParameter
            ``tasks`` is left out although there are several, or nothing judged has the name given.
        Incompatible
            Every learner is over ``max_latency`` or ``max_memory``.
        InvalidFile
            The comparison was loaded, and the winner names code that is not trusted.
        """
        return self._winners.estimator(tasks, trained_on)[0]

    @property
    def _winners(self) -> Winners:
        return Winners(
            plan=self._plan,
            arms=self._arms,
            frames=self._record.frames,
            models=None if self._folder is None else self._folder / "models",
            device=self._device,
            trusted=self._trusted,
        )

    def without(self, *learners: str) -> Comparison:
        """Return this comparison without some learners: as if they had never taken part.

        Verdicts are corrected for the number of learners that are left. An ensemble with one of them among its members
        is left out as well. Nothing is lost: this comparison and its folder stay as they are.

        Parameters
        ----------
        *learners : str
            Labels, as on the leaderboard.

        Raises
        ------
        UnknownName
            One of them takes no part.
        InvalidParameter
            Nothing would be left, or ``search="joint"`` judged none but its winner.

        Examples
        --------
        >>> import autometa as am
        >>> small = dict(n_trials=1, n_seeds=1, max_steps=2, n_test_tasks=5, n_valid_tasks=5, verbose=0)
        >>> found = am.compare("sinusoid", ["ridge", "maml", "sklearn"], **small)
        >>> sorted(found.without("maml").leaderboard["learner"])
        ['ridge', 'sklearn']
        """
        check_texts("learners", learners, such_as="maml")
        plan = self._plan.without(learners)
        chosen = self.members[self.members["share"] > 0]
        tainted = set(chosen["tasks"][chosen["learner"].isin(learners)])
        plan = replace(plan, ensembles=[pair for pair in plan.ensembles if pair.tasks not in tainted])
        left = {(pair.tasks, pair.learner) for pair in (*plan.pairs, *plan.ensembles)}
        return Comparison(
            plan,
            [arm for arm in self._arms if (arm.tasks, arm.space.label) in left],
            environment=self.environment,
            folder=self._folder,
            device=self._device,
            keeper=self._keeper,
            trusted=self._trusted,
            races=self._races,
        )

    def advice(self, tasks: str) -> Advice | None:
        """Say which learner to use, by how much it is better, how sure that is and what it costs.

        Parameters
        ----------
        tasks : str
            Name of a task distribution judged on.

        Returns
        -------
        Advice or None
            ``answer`` and ``sureness``, a sentence or two each; None where no learner was judged on it.
        """
        from autometa.comparison.report.verdict import verdict_on

        return verdict_on(self._record, tasks)

    def practical_equivalence(
        self,
        *,
        rope: float | Mapping[str, float] | None = None,
        over: Literal["tasks", "distributions"] = "tasks",
        method: Literal["signed_rank", "mean"] = "signed_rank",
        pairs: Literal["all", "best"] = "best",
        n_samples: int = 10_000,
        random_state: int = 0,
    ) -> pd.DataFrame:
        """Tell which learners differ by more than is of practical account, and which can be taken for each other.

        Parameters
        ----------
        rope : float, or mapping from tasks to float, optional
            Difference of mean scores, either way, that nobody would act on. Left out: one point of accuracy, a
            hundredth of the error of the baseline (a model of the labelled examples alone), a hundredth of the way
            from the worst return to the best.
        over, method, pairs, n_samples, random_state
            As for :func:`autometa.practical_equivalence`; here the best beside each other learner unless asked for all.

        Returns
        -------
        pandas.DataFrame
            What :func:`autometa.practical_equivalence` says of ``scores``.
        """
        return practical_equivalence(
            self.scores,
            rope=rope,
            over=over,
            method=method,
            pairs=pairs,
            baseline=references_in(self._record.plan, self.leaderboard["learner"]).own,
            n_samples=n_samples,
            random_state=random_state,
        )

    def critical_difference(
        self,
        *,
        over: Literal["tasks", "distributions"] = "tasks",
        test: Literal["learners", "nemenyi", "wilcoxon"] | None = None,
    ) -> pd.DataFrame:
        """Rank learners on every task or distribution, and group those that are not told apart.

        Parameters
        ----------
        over, test
            As for :func:`autometa.critical_difference`.

        Returns
        -------
        pandas.DataFrame
            What :func:`autometa.critical_difference` says of ``scores``.
        """
        return critical_difference(self.scores, over=over, test=test)

    def report(self, path: str | os.PathLike[str], *, n_processes: int = 1) -> Path:
        """Write the comparison to a file and return its path.

        Parameters
        ----------
        path : path
            What it ends in says how: ``.html``, one self-contained page; ``.md``, the leaderboards and what is said of
            them; ``.csv``, the leaderboard with verdicts; ``.json``, the same with all tests.
        n_processes : int, optional
            Processes that draw the figures of a page, on Linux; elsewhere, and by default, this one does.

        Raises
        ------
        InvalidParameter
            It ends in anything else, or ``n_processes`` is no number of processes.
        StorageError
            The file cannot be written, or the system has no room.
        AutometaError
            Something in the comparison cannot be drawn.
        """
        check_path("path", path)
        check_int("n_processes", n_processes, least=1)
        file = Path(path)
        kind = file.suffix.lower().removeprefix(".")
        if kind not in REPORTS:
            raise InvalidParameter(f"path={str(path)!r} must end in {', '.join(f'.{one}' for one in REPORTS)}.")
        try:
            if kind == "html":
                from autometa.comparison.report.page import write_report

                write_report(self._record, file, n_processes)
            else:
                from autometa.comparison.report.text import FORMATS

                write_whole(file, FORMATS[kind](self) + "\n", make_folders=True)
        except AutometaError:
            raise
        except OSError as error:
            raise StorageError(f"the report cannot be drawn: {one_line(error)}; the system refused it.") from error
        except Exception as error:  # of whatever draws
            raise AutometaError(f"the report cannot be drawn: {one_line(error)}") from error
        return file

    def log(self) -> None:
        """Write the final runs, the tables and the report to MLflow (extra ``mlflow``).

        The experiment has the name of the comparison, and every final run is a run of it. What is there already is not
        written again. MLflow's own settings say where to: ``MLFLOW_TRACKING_URI``, or ``mlflow.set_tracking_uri``. If
        it fails, a warning says so.

        Raises
        ------
        InvalidParameter
            MLflow is not installed.
        """
        from autometa.comparison.report.mlflow_runs import check_log, log_to_mlflow

        check_log("mlflow")
        log_to_mlflow(self._record)

    def write(self, output: Path, *, n_processes: int = 1) -> None:
        """Write the tables as CSV, the winners and ``report.html``.

        ``best.autometa`` is the winner where there is one task distribution; each of several, test tasks among
        them, has its own ``best-TASKS.autometa``. ``n_processes`` draw the report.

        Raises
        ------
        StorageError
            The folder cannot be written to, or the system has no room.
        """
        page = output / "report.html"
        try:
            write_tables(self._record.frames, self._plan, output)
            write_portfolio(self._arms, output)
            save_winners(self._winners, output)
            # Last of all: what cannot be drawn costs no more than the drawing.
            self.report(page, n_processes=n_processes)
        except StorageError as error:
            raise StorageError(
                f"{reason_of(error)}. What was found is kept in {str(output)!r}: the same call writes what is missing, "
                f"and the report alone is written by: autometa report {shlex.quote(str(output))}"
            ) from error
        except AutometaError as error:
            page.unlink(missing_ok=True)  # an earlier one tells of less than the tables
            warn_user(f"the report is not written: {error}")
