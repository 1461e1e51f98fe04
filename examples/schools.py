"""A table with a column that names the task: predict the scores of a new school from five of its pupils.

The controls are the two things one does without meta-learning: one model for all schools, and one for each alone.
``python examples/schools.py schools.csv`` writes the table, which the demo compares learners on.
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

import autometa as am

N_SCHOOLS, N_LABELLED = 120, 5


def make_table() -> pd.DataFrame:
    """Schools of 8 to 24 pupils; each has a level of its own, and makes more or less of an hour of study."""
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(N_SCHOOLS), rng.integers(8, 25, N_SCHOOLS))
    level, effect = rng.normal(0, 5, N_SCHOOLS)[school], rng.normal(2, 1, N_SCHOOLS)[school]
    table = pd.DataFrame({"school": [f"school {number}" for number in school]})
    table["hours"] = rng.uniform(0, 9, len(table)).round(1)
    table["absences"] = rng.poisson(3, len(table)).astype(float)
    table["kind"] = rng.choice(["private", "public"], N_SCHOOLS)[school]
    table["score"] = 40 + level + effect * table["hours"] + 4 * (table["kind"] == "public") - table["absences"]
    table["score"] = (table["score"] + rng.normal(0, 4, len(table))).round(1)
    table.loc[rng.random(len(table)) < 0.05, "absences"] = np.nan
    return table


def numbers(X: pd.DataFrame) -> pd.DataFrame:
    """What scikit-learn's linear models need: a number for every cell."""
    return X.assign(kind=(X["kind"] == "public").astype(float)).fillna({"absences": 3.0})


def main() -> None:
    table = make_table()
    if len(sys.argv) > 1:
        table.to_csv(sys.argv[1], index=False)
        return
    held_out = table["school"].unique()[-24:]  # schools that nobody has seen yet
    new = table["school"].isin(held_out)
    seen, columns = table[~new], ["hours", "absences", "kind"]
    model = am.FewShotRegressor(random_state=0)
    model.meta_fit(seen[columns], seen["score"], task=seen["school"], n_shot=N_LABELLED)
    pooled = Ridge().fit(numbers(seen[columns]), seen["score"])

    errors = []
    for _, school in table[new].groupby("school"):
        X, y = school[columns], school["score"].to_numpy()
        model.fit(X[:N_LABELLED], y[:N_LABELLED])
        alone = Ridge().fit(numbers(X[:N_LABELLED]), y[:N_LABELLED])
        rest, truth = X[N_LABELLED:], y[N_LABELLED:]
        predictions = (model.predict(rest), pooled.predict(numbers(rest)), alone.predict(numbers(rest)))
        errors.append([np.mean((prediction - truth) ** 2) for prediction in predictions])
    few_shot, one_for_all, one_for_each = np.mean(errors, axis=0)
    print(f"mean squared error in {len(errors)} new schools, {N_LABELLED} labelled pupils each (noise alone: 16.0)")
    print(f"meta-trained {few_shot:.1f}, one model for all {one_for_all:.1f}, one for each alone {one_for_each:.1f}")


if __name__ == "__main__":
    main()
