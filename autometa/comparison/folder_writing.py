"""Write what a comparison found into its output folder: tables, winners, what later ones may begin with, the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.ensemble_arm import EnsembleArm
from autometa.comparison.execution.label_files import file_name
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.portfolio import FILE as PORTFOLIO
from autometa.comparison.plan.portfolio import entry_of
from autometa.comparison.results.record import Frames
from autometa.comparison.results.spreadsheet import csv_text
from autometa.comparison.winner import Winners
from autometa.contracts.plugin_code import plugin_code
from autometa.engine.process_state import restored_process
from autometa.errors import AutometaError, StorageError, warn_user
from autometa.files.atomic import write_whole

ALWAYS = ("leaderboard", "scores", "significance", "skipped", "failures", "ranks", "pareto", "guards")
"""Tables that every comparison writes."""
OF_TABLES = ("labelled_rows", "best_by_rows", "calibration", "entities")
"""Those that comparisons on tables have besides."""


def write_tables(frames: Frames, plan: Plan, output: Path) -> None:
    """Write the tables as CSV."""
    names = [*ALWAYS]
    if len(frames.race):
        names.append("race")
    if plan.ensembles:
        names.append("members")
    has_tables = any(domain.info.is_table for domain in plan.domains.values())
    names += OF_TABLES if has_tables else ("calibration",) * bool(len(frames.calibration))
    for name in names:
        write_whole(output / f"{name}.csv", csv_text(getattr(frames, name)))


def write_portfolio(arms: Sequence[Arm], output: Path) -> None:
    """Write what a later comparison may begin with."""
    kept = [entry for arm in arms if (entry := _portfolio_entry(arm)) is not None]
    write_whole(output / PORTFOLIO, json.dumps(kept, indent=1))


def save_winners(winners: Winners, output: Path) -> None:
    """Save the winner, or one for each of several task distributions; what cannot be saved is a warning."""
    several = len(winners.plan.judged_on) > 1
    for tasks in dict.fromkeys(winners.frames.leaderboard["tasks"]):
        path = output / (f"best-{file_name(tasks)}.autometa" if several else "best.autometa")
        try:
            with restored_process(), plugin_code(f"the winner on {tasks!r}"):
                winner, damaged = winners.estimator(tasks)
                winner.save(path)
                if damaged is not None:
                    winner.save(damaged)
        except StorageError:
            raise
        except AutometaError as error:
            warn_user(f"the winner on {tasks!r} is not saved: {error}")


def _portfolio_entry(arm: Arm) -> dict[str, Any] | None:
    """Return the hyperparameters of the final runs of a learner; None where it has none."""
    finals = arm.finals()
    pair = arm.pair_of(finals[0]) if finals else None
    if pair is None or isinstance(arm, EnsembleArm):
        return None
    return entry_of(arm.tasks, pair.candidate, arm.params_of(finals))
