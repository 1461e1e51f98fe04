"""Leaderboard and tests of one task distribution, and tables over several distributions."""

from __future__ import annotations

import pandas as pd

from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import escape, score_text, table
from autometa.contracts.problems import PROBLEMS, problem_of_metric

OWN_METRICS = {problem.name: problem.metric for problem in PROBLEMS.values()}


def shown_name(learner: str, trained_on: str, tasks: str) -> str:
    """What a table calls a learner judged on ``tasks``: with what it was trained on in brackets if that differs."""
    return learner if trained_on == tasks else f"{learner} ({trained_on})"


def leaderboard_on(board: pd.DataFrame, tasks: str) -> pd.DataFrame:
    """The leaderboard of one task distribution, best first, with :func:`shown_name` for learners."""
    rows = board[board["tasks"] == tasks].sort_values("rank", kind="stable")
    return rows.assign(learner=list(map(shown_name, rows["learner"], rows["trained_on"], rows["tasks"])))


def over_limit(rows: pd.DataFrame) -> dict[str, str]:
    """Learners of a leaderboard that are over a limit of the comparison, and over which; they cannot win."""
    if "over_limit" not in rows.columns:
        return {}
    return {str(name): str(over) for name, over in zip(rows["learner"], rows["over_limit"], strict=True) if over}


def on_front(pareto: pd.DataFrame, tasks: str) -> set[str]:
    """Learners on ``tasks``, by shown name, that no other beats in score, time and memory; of one alone nothing."""
    rows = pareto[pareto["tasks"] == tasks] if len(pareto) else pareto
    if len(rows) < 2:
        return set()
    front = rows[rows["on_front"]]
    return set(map(shown_name, front["learner"], front["trained_on"], front["tasks"]))


def metric_beside(rows: pd.DataFrame) -> str | None:
    """Name the problem's metric where it has a column beside the score, which is of another objective."""
    metric = OWN_METRICS[problem_of_metric(str(rows["metric"].iloc[0])).name]
    return metric if metric in rows.columns and metric != rows["metric"].iloc[0] else None


def tests_on(significance: pd.DataFrame, tasks: str) -> pd.DataFrame:
    """The tests on one task distribution, with :func:`shown_name` for learners."""
    rows = significance[significance["tasks"] == tasks]
    names = {
        f"learner_{side}": list(map(shown_name, rows[f"learner_{side}"], rows[f"trained_on_{side}"], rows["tasks"]))
        for side in "ab"
    }
    return rows.assign(**names)


def learner_cell(name: str, looks: dict[str, Style]) -> str:
    """A learner's name with its marker."""
    return looks[name].chip() + escape(name)


def across_section(board: pd.DataFrame, looks: dict[str, Style]) -> str:
    """A table of all scores, with the mean rank of the learners that were judged on every distribution."""
    names = list(dict.fromkeys(board["tasks"]))
    board = board.assign(rank=board.groupby("tasks")["rank"].rank("min"))  # among those trained on the same tasks
    by_learner = {name: rows.set_index("tasks") for name, rows in board.groupby("learner")}
    mean_rank = {name: float(rows["rank"].mean()) for name, rows in by_learner.items()}
    complete = {name: len(rows) == len(names) for name, rows in by_learner.items()}
    body = []
    for name in sorted(by_learner, key=lambda name: (not complete[name], mean_rank[name], name)):
        cells = [learner_cell(name, looks)]
        for tasks in names:
            if tasks not in by_learner[name].index:
                cells.append('<span class="same">–</span>')
                continue
            row = by_learner[name].loc[tasks]
            text = f"{score_text(row['score'], row['metric'])} <span class='note'>({int(row['rank'])})</span>"
            cells.append(f"<b>{text}</b>" if row["rank"] == 1 else text)
        cells.append(f"{mean_rank[name]:.1f}" if complete[name] else "–")
        body.append(cells)
    columns = [("learner", ""), *((name, "n") for name in names), ("mean rank", "n")]
    judged = problem_of_metric(str(board["metric"].iloc[0]))
    direction = "accuracies and returns are better when higher, errors when lower"
    if judged.metric not in OWN_METRICS.values():  # an objective, which all task distributions share
        direction = f"{'higher' if judged.higher_is_better else 'lower'} is better"
    caption = f"Scores with ranks in brackets; {direction}."
    return table(columns, body, caption=caption)


def domains_section(board: pd.DataFrame, looks: dict[str, Style]) -> str:
    """Scores of every learner, by what it was trained on, on everything it was judged on."""
    judged = list(dict.fromkeys(board["tasks"]))
    trained = list(dict.fromkeys(board["trained_on"]))
    body = []
    for learner in sorted(set(board["learner"])):
        of = board[board["learner"] == learner]
        for trained_on in trained:
            rows = of[of["trained_on"] == trained_on].set_index("tasks")
            if rows.empty:
                continue
            cells = [learner_cell(learner, looks), escape(trained_on)]
            for tasks in judged:
                if tasks not in rows.index:
                    cells.append('<span class="same">–</span>')
                    continue
                row = rows.loc[tasks]
                text = score_text(row["score"], row["metric"])
                text = f"<u>{text}</u>" if tasks == trained_on else text
                cells.append(f"<b>{text}</b>" if row["rank"] == 1 else text)
            body.append(cells)
    columns = [("learner", ""), ("trained on", ""), *((f"on {name}", "n") for name in judged)]
    caption = (
        "Scores on the meta-test tasks of each distribution, which are the same for all. Underlined: the distribution "
        "trained on; bold: the best of a column. Tuning and meta-training saw nothing of the other distributions."
    )
    return table(columns, body, caption=caption)
