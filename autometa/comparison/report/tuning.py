"""The part of a report that shows what Optuna tried: history, hyperparameters found and their importance."""

from __future__ import annotations

import warnings
from collections import Counter

from optuna import Study
from optuna.importance import get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.comparison.plan.study_space import JOINT, JointSpace
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.figures import history_figure, history_of
from autometa.comparison.report.markup import escape, value_text
from autometa.comparison.results.record import Record

MIN_TRIALS = 4
"""Completed trials below which an importance would be noise."""


def tuning_section(record: Record, looks: dict[str, Style]) -> str:
    """Cards of every study, by task distribution."""
    board = record.frames.leaderboard
    parts = [
        "<p>Each dot is a trial's score on meta-valid tasks, the line the best so far, a cross a trial stopped early. "
        "Trial 0 has the learner's defaults. Bars: how much of the variation between trials a hyperparameter "
        "explains (PED-ANOVA).</p>"
    ]
    is_joint = record.plan["settings"].get("search") == "joint"
    for tasks in dict.fromkeys(board.loc[board["trained_on"] == board["tasks"], "tasks"]):
        rows = board[board["tasks"] == tasks].sort_values("rank", kind="stable")
        cards = []
        for row in rows.itertuples():
            study = None if is_joint else record.studies.get(f"{record.name}/{tasks}/{row.learner}")
            if study is not None:
                cards.append(study_card(study, row.learner, row.metric, dict(row.params or {}), looks[row.learner]))
        joint = record.studies.get(f"{record.name}/{tasks}/{JOINT}") if is_joint else None
        if joint is not None:
            winner = rows.iloc[0]
            chosen = JointSpace.join(winner.learner, winner.params)
            cards.append(study_card(joint, "all learners together", winner.metric, chosen, looks[winner.learner]))
        parts.append(f'<h3>{escape(tasks)}</h3><div class="cards">{"".join(cards)}</div>')
    return "".join(parts)


def _ending(trial: FrozenTrial) -> str:
    """Say how a trial ended; one that was cut has no error of its own, and another has taken its place."""
    if trial.state is TrialState.FAIL:
        return "failed" if "error" in trial.user_attrs else "interrupted"
    return trial.state.name.lower()


def study_card(study: Study, learner: str, metric: str, chosen: dict[str, object], look: Style) -> str:
    """History, chosen hyperparameters and importances of one study."""
    importances, missing = importances_of(study)
    trials = study.get_trials(deepcopy=False)
    counts = Counter(_ending(trial) for trial in trials)
    words = [f"{counts['complete']} complete"]
    words += [f"{counts[word]} {word}" for word in ("pruned", "failed", "interrupted") if counts[word]]
    done, cut = history_of(study)
    minimize = study.direction is StudyDirection.MINIMIZE
    picture = '<p class="note">No trial has a score.</p>'
    if done:
        picture = history_figure(done, cut, metric, look, minimize=minimize)
    rows = []
    for name in sorted({*chosen, *importances}, key=lambda name: (-importances.get(name, -1.0), name)):
        bar = (
            f'<span class="bar" title="{importances[name]:.0%}"><i style="width:{importances[name]:.0%};'
            f'background:var({look.variable})"></i></span>'
            if name in importances
            else ""
        )
        value = escape(value_text(chosen[name])) if name in chosen else "–"
        cells = f'<td class="w">{escape(plain_name(name))}</td><td class="n">{value}</td><td class="bars">{bar}</td>'
        rows.append(f"<tr>{cells}</tr>")
    found = f"<table>{''.join(rows)}</table>" if rows else ""
    note = f'<p class="note">{escape(missing)}</p>' if missing else ""
    return (
        f'<div class="card"><h4>{look.chip()}{escape(learner)}</h4><div class="note">{escape(", ".join(words))}</div>'
        f"{picture}{found}{note}</div>"
    )


def plain_name(parameter: str) -> str:
    """A nested parameter as a reader wants it: ``learner__steps`` is "steps"."""
    return parameter.replace("learner__", "").replace("meta_optimizer__", "meta-optimizer ").replace("__", " ")


def importances_of(study: Study) -> tuple[dict[str, float], str]:
    """Return the importance of every hyperparameter (adding up to 1), or none and the reason.

    Watanabe et al. 2023, "PED-ANOVA: Efficiently quantifying hyperparameter importance in arbitrary subspaces".
    """
    done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    varied = {name for trial in done for name in trial.params if trial.params[name] != done[0].params.get(name)}
    if not any(trial.params for trial in done):
        return {}, "No hyperparameters to tune."
    if len(done) < MIN_TRIALS:
        return {}, f"Importances need {MIN_TRIALS} complete trials; there are {len(done)}."
    if not varied:
        return {}, "No hyperparameter was varied."
    if len({trial.value for trial in done}) == 1:
        return {}, "Every trial scored the same: no hyperparameter matters here."
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some regimes for parameter")
        importances = get_param_importances(study)
    if any(sum(name in trial.params for trial in done) < MIN_TRIALS for name in importances):
        return importances, f"Of hyperparameters that fewer than {MIN_TRIALS} trials have, the importance is a guess."
    return importances, ""
