"""What trials carry in a storage, checked before it is used: anybody may have written there."""

from __future__ import annotations

from typing import Any

from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.execution.owner import OWNER
from autometa.errors import StorageError
from autometa.schema import Row, Schema, finite, misfit, positive, whole


def _threads(value: Any) -> str | None:
    counts = list(value) if isinstance(value, tuple) else value  # a storage in memory keeps tuples
    return "a list of two whole numbers above 0" if misfit(counts, Row([whole(1), whole(1)])) else None


_ATTRIBUTES: dict[str, Schema] = {
    "slot": whole(most=2**31 - 1),
    "owner?": OWNER,
    "token?": str,
    "beat?": finite,
    "supervisor?": OWNER,
    "threads?": _threads,
    "retry_of?": whole(),
    "fixed?": dict,
    "drawn?": bool,
    "changed?": [str],
    "processor_seconds?": finite,
    "died?": str,
    "timeout?": finite,
    "error?": str,
    "traceback?": str,
    "params?": dict,
    "made_of?": {str: whole()},
    "n_test_tasks?": whole(1),
    "elsewhere?": [str],
    "over_limit?": str,
    "milliseconds?": finite,
    "steps?": whole(),
    "meta_train_seconds?": finite,
    "look_seconds?": finite,
    "valid_scores?": [finite],
    "begun_in?": whole(),
}
_RUNNING: dict[str, Schema] = {"owner": OWNER, "token": str, "beat": finite}
"""What a running trial carries besides, by which others tell whether it goes on."""
_GUARD: Schema = (
    {"left_out": str},
    {"error": str},
    {"score": finite, "chance": finite, "standard_error": float, "n_tasks": whole(1)},
    {"change": float, "transductive": bool},
    {name: whole() for name in ("copies", "in_train", "in_valid", "n", "natural", "n_train")},
)
_EPISODE: Schema = {
    "number": whole(1),
    "return": float,
    "picture?": str,
    "steps?": [whole(1)],
    "reward?": [float],
    "observation?": [[float]],
}
_JUDGED: dict[str, Schema] = {
    "tasks": [whole()],
    "scores": [finite],
    "metric_scores?": [finite],
    "normalization": str,
    "n_shot": whole(),
    "n_query": int | str,
    "adapt_ms": finite,
    "predict_ms": finite,
    "mebibytes?": finite,
    "guards?": {str: _GUARD},
    "hardest?": [
        (
            {"place": whole(), "task": whole(), "score": float, "answers": [float]},
            {"place": whole(), "task": whole(), "score": float, "episodes": [_EPISODE], "error?": str},
        )
    ],
}
_MEASURED: dict[str, Schema] = {"coverage?": finite, "log_loss?": finite, "calibration_error?": finite}
_POINT: Schema = {"rows": whole(), "scores": [finite], **_MEASURED}
RESULT: Schema = {
    **_JUDGED,
    "curve": [Row([finite, finite, finite])],
    "kept_step?": whole(),
    "history": [Row([finite, finite, finite])],
    "steps": whole(),
    "meta_train_seconds": finite,
    "axis": ("adaptation steps", "shots", "episodes"),
    "adaptation": [Row([finite, float])],
    "calibration?": (_MEASURED, {"error": str}),
    "over_shots?": [Row([finite, float])],
    "over_shots_error?": str,
    "labelled?": {"tasks": [whole()], "points": [(_POINT, {"rows": whole(), "error": str})]},
    "shown?": ({"key": str, "worlds": [[_EPISODE]]}, {"error": str}),
    "elsewhere?": {str: (_JUDGED, {"error": str})},
    "members?": {str: positive},
    "left_out?": {str: str},
}
"""What a final run stores, see ``run_final``."""


def check_trial(trial: FrozenTrial, study: str) -> None:
    """Refuse a trial that does not carry what trials of a comparison carry.

    Raises
    ------
    StorageError
        Something else stands there.
    """
    wrong = misfit(trial.user_attrs, _ATTRIBUTES)
    if wrong is None and trial.state == TrialState.RUNNING:
        wrong = misfit(trial.user_attrs, _RUNNING)
    if wrong:
        raise _damaged(trial, study, wrong)


def result_of(trial: FrozenTrial, study: str) -> dict[str, Any]:
    """Return the result that a complete final run stored.

    Raises
    ------
    StorageError
        Something else stands there.
    """
    result = trial.user_attrs.get("result")
    wrong = misfit(result, RESULT, "result") or misfit(trial.user_attrs.get("params"), dict, "params")
    judged = [result, *result.get("elsewhere", {}).values()] if wrong is None and result is not None else []
    for one in judged:
        n_tasks, n_scores = len(one.get("tasks", ())), len(one.get("scores", ()))
        n_scores = n_scores if n_scores != n_tasks else len(one.get("metric_scores", one.get("scores", ())))
        if n_tasks != n_scores or (n_scores == 0 and "error" not in one):
            wrong = f"result has {n_scores} scores of {n_tasks} tasks"
        unknown = {hard["task"] for hard in one.get("hardest", ())} - set(one.get("tasks", ()))
        if unknown:
            wrong = f"result has answers to task {min(unknown)}, which has no score"
    labelled = result.get("labelled", {}) if wrong is None and result is not None else {}
    for point in labelled.get("points", ()):
        n_tasks, n_scores = len(labelled["tasks"]), len(point.get("scores", labelled["tasks"]))
        if n_tasks != n_scores:
            wrong = f"result has {n_scores} scores of {n_tasks} tasks with {point['rows']} labelled rows"
    shown = [*result.get("shown", {}).get("worlds", ())] if wrong is None and result is not None else []
    shown += [hard["episodes"] for one in judged for hard in one.get("hardest", ()) if "episodes" in hard]
    for world in shown:
        for episode in world:
            n_steps = len(episode.get("steps", ()))
            series = [episode.get("reward", ()), *episode.get("observation", ())]
            if "picture" not in episode and any(len(values) != n_steps for values in series):
                wrong = f"result has numbers of other steps than the {n_steps} of episode {episode['number']}"
    if wrong:
        raise _damaged(trial, study, wrong)
    return dict(trial.user_attrs["result"])


def _damaged(trial: FrozenTrial, study: str, wrong: str) -> StorageError:
    return StorageError(
        f"the storage is damaged: in trial {trial.number} of study {study!r} {wrong}; delete that study, and the same "
        "command makes it again."
    )
