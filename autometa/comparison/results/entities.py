"""Which entities of a table gain by what is shared with the others, and which are hurt."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from autometa.comparison.results.references import References

ENTITIES = ["tasks", "task", "entity", "learner", "score", "own", "pooled", "gain_over_own", "gain_over_pooled"]


def entities_of(
    tasks: str,
    scores: pd.DataFrame,
    references: References,
    names: Sequence[str] | None,
    *,
    higher_is_better: bool,
    cannot_win: Collection[str] = (),
) -> pd.DataFrame:
    """Hold the best learner against both references, entity by entity.

    Parameters
    ----------
    tasks : str
    scores : DataFrame
        ``learner``, ``seed``, ``task``, ``score``: of what was trained and judged on these tasks.
    references : References
    names : sequence of str, optional
        Of the entities, by number; numbers stand for them where they have none.
    higher_is_better : bool
    cannot_win : collection of str, optional
        Learners that are not the best whatever their scores, unless nobody else is there.

    Returns
    -------
    pandas.DataFrame
        One row per entity, the one hurt most first. A gain is positive where the best learner that uses other
        entities is better. Without a model of each entity alone there is none.
    """
    means = scores.pivot_table(index="task", columns="learner", values="score", aggfunc="mean")
    learners = [name for name in means.columns if name not in (references.own, references.pooled)] or [
        name for name in means.columns if name == references.pooled
    ]
    if references.own is None or not learners:
        return pd.DataFrame(columns=ENTITIES)
    learners = [name for name in learners if name not in cannot_win] or learners
    sign = 1.0 if higher_is_better else -1.0
    best = (sign * means[learners].mean()).idxmax()
    own = means[references.own]
    pooled = means[references.pooled] if references.pooled is not None else pd.Series(np.nan, index=means.index)
    frame = pd.DataFrame(
        {
            "tasks": tasks,
            "task": means.index,
            "entity": [names[task] if names is not None and task < len(names) else str(task) for task in means.index],
            "learner": best,
            "score": means[best].to_numpy(),
            "own": own.to_numpy(),
            "pooled": pooled.to_numpy(),
            "gain_over_own": sign * (means[best] - own).to_numpy(),
            "gain_over_pooled": sign * (means[best] - pooled).to_numpy(),
        },
        columns=ENTITIES,
    )
    return frame.sort_values(["gain_over_own", "task"], ignore_index=True)
