"""The winner of a comparison: which learner it is, which of its runs, and the estimator made of that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from autometa.comparison.execution.arm import Arm
from autometa.comparison.execution.finals import to_estimator
from autometa.comparison.execution.label_files import model_file
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.study_space import JOINT
from autometa.comparison.results.record import Frames
from autometa.engine.device import pick_device
from autometa.errors import Incompatible, InvalidFile, InvalidParameter, MissingData, warn_user
from autometa.estimators import FewShotClassifier, FewShotRegressor
from autometa.estimators.persistence import code_named_by
from autometa.estimators.persistence import load as load_estimator


@dataclass(frozen=True, slots=True, kw_only=True)
class Winners:
    """The winners on all task distributions of a comparison."""

    plan: Plan
    arms: Sequence[Arm]
    frames: Frames
    models: Path | None
    """Folder of the meta-trained estimators."""
    device: str | torch.device
    trusted: Collection[str] | None
    """Import paths of code that learners may call; None: the comparison was made by this process, whose own code names
    what they call."""

    def estimator(
        self, tasks: str | None, trained_on: str | None = None
    ) -> tuple[FewShotClassifier | FewShotRegressor, Path | None]:
        """Return the winner on some tasks, and the damaged file that it should stand in.

        Raises
        ------
        InvalidParameter
            ``tasks`` is left out although there are several, or nothing judged has the name given.
        Incompatible
            Every learner is over a limit.
        InvalidFile
            The winner names code that is not trusted.
        """
        row = self._row(tasks, trained_on)
        pair = self.plan.pair(row["trained_on"], row["learner"])
        number = self._best_seed(pair)
        saved = None if self.models is None else self.models / model_file(pair, number)
        trusted = self._checked_code(pair)
        damaged = None
        if saved is not None and saved.exists():
            try:
                return load_estimator(saved, trusted=trusted), None
            except (InvalidFile, MissingData) as error:
                damaged = saved
                warn_user(
                    f"the saved model of the winner on {row['tasks']!r} cannot be used ({error}) and is made again "
                    "from its seed."
                )
        return self._trained_again(pair, number), damaged

    def _row(self, tasks: str | None, trained_on: str | None) -> pd.Series:
        """Return the winner's row of the leaderboard."""
        board = self.frames.leaderboard
        judged = list(dict.fromkeys(board["tasks"]))
        if tasks is None and len(self.plan.judged_on) > 1:
            raise InvalidParameter(f"tasks=None is ambiguous here; give one of {list(self.plan.judged_on)}.")
        tasks = tasks if tasks is not None else next(iter(self.plan.domains))
        if tasks not in judged:
            raise InvalidParameter(f"tasks={tasks!r} has no judged learner; those with one are {judged}.")
        rows = board[board["tasks"] == tasks]
        if trained_on is not None and trained_on not in set(rows["trained_on"]):
            raise InvalidParameter(
                f"trained_on={trained_on!r} has no learner judged on {tasks!r}; those with one are "
                f"{list(dict.fromkeys(rows['trained_on']))}."
            )
        row = (rows if trained_on is None else rows[rows["trained_on"] == trained_on]).iloc[0]
        if row["over_limit"]:
            raise Incompatible(
                f"no learner on {tasks!r} keeps to the limits; the best of all, {row['learner']!r}, does not: "
                f"{row['over_limit']}."
            )
        return row

    def _best_seed(self, pair: Pair) -> int:
        curves = self.frames.curves
        curve = curves[(curves["tasks"] == pair.tasks) & (curves["learner"] == pair.learner)]
        scores = curve[curve["axis"] == "outer steps"].groupby("seed")["score"]
        better = pair.domain.problem.higher_is_better
        return int(scores.max().idxmax() if better else scores.min().idxmin())

    def _checked_code(self, pair: Pair) -> Collection[str]:
        """Return the code that may be imported for a learner; refuse one that names other code."""
        named = code_named_by(pair.candidate.learner, pair.candidate.meta_optimizer)
        if self.trusted is None:
            return named
        unknown = sorted(named - set(self.trusted))
        if unknown:
            raise InvalidFile(
                f"learner {pair.learner!r} of this comparison names {unknown[0]!r}, code that it calls; if you know "
                f"it, give Comparison.load(..., trusted={unknown})."
            )
        return self.trusted

    def _trained_again(self, pair: Pair, number: int) -> FewShotClassifier | FewShotRegressor:
        """Repeat the final run of one seed."""
        study = JOINT if self.plan.settings.search == "joint" else pair.learner
        arm = next(arm for arm in self.arms if (arm.tasks, arm.space.label) == (pair.tasks, study))
        final = next(run for run in reversed(arm.finals()) if run.user_attrs["slot"] == number)
        return to_estimator(arm.train_again(final, pick_device(self.device), self.models))
