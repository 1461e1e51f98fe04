"""What follows from the guards against leaks of a comparison: which hold, which are broken, which mean nothing here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from autometa.comparison.execution.guards import COPIES, ORDER, OTHERS, PERMUTED
from autometa.comparison.results.judged import Judged

GUARDS = ["tasks", "learner", "guard", "verdict", "found", "expected", "limit", "words", "trained_on"]
HOLDS, BROKEN, EXPLAINED, LEFT_OUT, FAILED = "holds", "broken", "explained", "left out", "failed"
ERRORS = 4.0
"""Standard errors by which a guard may be missed by chance; with few tasks more, so that it is as rare."""
CHANGE = 0.01
"""Change of a probability, or of a target in standard deviations, up to which answers are the same."""


def guard_rows(judged: Judged) -> Iterator[dict[str, Any]]:
    """Rows of the frame of guards, see `GUARDS`: those of the first final run that has them."""
    kept: Mapping[str, Any] = next((of["guards"] for _, of in sorted(judged.results.items()) if "guards" in of), {})
    about = {"tasks": judged.tasks, "learner": judged.pair.learner, "trained_on": judged.pair.tasks}
    for guard, measured in kept.items():
        yield {**about, "guard": guard, **_judgement(guard, measured, judged)}


def warnings_of(guards: pd.DataFrame) -> list[str]:
    """Say what each broken guard means; copies of examples, which all learners share, once."""
    broken = guards[guards["verdict"] == BROKEN]
    told = [
        row.words if row.guard == COPIES else f"{row.learner} on {row.tasks}: {row.words}"
        for row in broken.itertuples()
    ]
    return list(dict.fromkeys(told))


def _judgement(guard: str, measured: Mapping[str, Any], judged: Judged) -> dict[str, Any]:
    if "left_out" in measured:
        return _row(LEFT_OUT, words=measured["left_out"])
    if "error" in measured:
        return _row(FAILED, words=measured["error"])
    if guard == PERMUTED:
        return _permuted(measured)
    if guard == COPIES:
        return _copies(measured, judged)
    return _queries(guard, measured)


def _row(
    verdict: str, found: float = math.nan, expected: float = math.nan, limit: float = math.nan, words: str = ""
) -> dict[str, Any]:
    return {"verdict": verdict, "found": found, "expected": expected, "limit": limit, "words": words}


def _permuted(measured: Mapping[str, Any]) -> dict[str, Any]:
    score, chance, error, n = (measured[name] for name in ("score", "chance", "standard_error", "n_tasks"))
    if n < 2:
        return _row(LEFT_OUT, score, chance, words="one test task says nothing about chance")
    limit = chance + error * errors_for(n)
    if score <= limit:
        return _row(HOLDS, score, chance, limit)
    words = (
        f"it sees more than the support labels: with permuted ones it is right in {score:.1%} of {n} test tasks' "
        f"queries, where chance is {chance:.1%}."
    )
    return _row(BROKEN, score, chance, limit, words)


def errors_for(n_tasks: int) -> float:
    """Return how many standard errors of ``n_tasks`` are as rare as `ERRORS` of many are."""
    return float(student.isf(norm.sf(ERRORS), n_tasks - 1))


def _queries(guard: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    change, transductive = float(measured["change"]), bool(measured["transductive"])
    if change <= CHANGE:
        return _row(HOLDS, change, 0.0, CHANGE)
    if guard == OTHERS and transductive:
        return _row(
            EXPLAINED, change, 0.0, CHANGE, "it is transductive: batch norm by the queries, which help one another"
        )
    what = "on the order of the queries" if guard == ORDER else "on the other queries of the task"
    words = f"its answers depend {what}, which no single new example has: they change by up to {change:.2g}."
    return _row(BROKEN, change, 0.0, CHANGE, words)


def _copies(measured: Mapping[str, Any], judged: Judged) -> dict[str, Any]:
    n, found = int(measured["n"]), int(measured["copies"])
    # Rows of a table agree now and then; that none did among some train entities does not say that they never do.
    more = 1 if judged.domain.info.labels_are_shared else 0
    share = (measured["natural"] + more) / max(1, measured["n_train"] + 2 * more)
    limit = n * share + ERRORS * math.sqrt(n * share * (1 - share))
    if found <= limit:
        return _row(HOLDS, found, n * share, limit)
    where = " and ".join(
        f"{measured[key]} in {part}" for key, part in (("in_train", "meta-train"), ("in_valid", "meta-valid"))
    )
    words = (
        f"{judged.tasks}: {found} of {n} examples of the first meta-test tasks are exact copies of what "
        f"{judged.pair.tasks} has for training and tuning ({where} tasks drawn); {n * share:.1f} would agree by chance."
    )
    return _row(BROKEN, found, n * share, limit, words)
