"""A table with a column that names the task: predict the scores of a new school from five of its pupils.

The controls are the two things one does without meta-learning: one model for all schools, and one for each alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

import autometa as am

N_SCHOOLS, N_PUPILS, N_LABELLED = 120, 25, 5


def make_table() -> pd.DataFrame:
    """Every school has an effect of its own on how much an hour of study is worth."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"school": np.repeat(np.arange(N_SCHOOLS), N_PUPILS)})
    table["hours"] = rng.uniform(0, 9, len(table))
    table["public"] = rng.choice(["yes", "no"], len(table))
    effect = rng.normal(2, 1, N_SCHOOLS)[table["school"]]
    table["score"] = effect * table["hours"] + 3 * (table["public"] == "yes") + rng.normal(0, 1, len(table))
    return table


def numbers(X: pd.DataFrame) -> pd.DataFrame:
    """What scikit-learn's models need: a number for every cell."""
    return X.assign(public=(X["public"] == "yes").astype(float))


def main() -> None:
    table = make_table()
    new = table["school"] >= N_SCHOOLS - 20  # twenty schools that nobody has seen yet
    seen, columns = table[~new], ["hours", "public"]
    model = am.FewShotRegressor("ridge", max_steps=1000, device="cpu", random_state=0)
    model.meta_fit(seen[columns], seen["score"], task=seen["school"], n_shot=10)
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
    print(f"mean squared error in 20 new schools, {N_LABELLED} labelled pupils each (noise alone: 1.00)")
    print(f"meta-trained {few_shot:.2f}, one model for all {one_for_all:.2f}, one for each alone {one_for_each:.2f}")


if __name__ == "__main__":
    main()
