"""The default estimators, without any meta-training, as a plain classifier and a plain regressor.

    python examples/benchmarks/tables/untrained.py FOLDER --output examples/benchmarks/tables

First real tables with 20 and with 50 labelled rows, mean of ten random splits, judged on the other rows (2,000 at
most). Then scikit-learn's own data by five-fold cross-validation. FOLDER holds ``classification/*.csv`` and
``regression/*.csv``; without it, ``tables`` in the folder that ``AUTOMETA_DATA`` names. Nothing was chosen by these
scores.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from protocol import find_folder
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold, StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

import autometa as am

TABLES = {
    "penguins": "classification",
    "titanic": "classification",
    "credit_german": "classification",
    "insurance_charges": "regression",
    "auto_mpg": "regression",
}
BUNDLED = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}
N_SPLITS, MOST_ASKED = 10, 2000
KINDS = ("classification", "regression")
BESIDE = ("linear", "random_forest")
CONTROLS: dict[str, dict[str, Any]] = {
    "classification": {
        "linear": LogisticRegression(max_iter=2000),
        "random_forest": RandomForestClassifier(random_state=0),
        "hist_gradient_boosting": HistGradientBoostingClassifier(random_state=0),
        "svm": SVC(),
    },
    "regression": {
        "linear": Ridge(),
        "random_forest": RandomForestRegressor(random_state=0),
        "hist_gradient_boosting": HistGradientBoostingRegressor(random_state=0),
        "svm": SVR(),
    },
}


def methods(kind: str) -> dict[str, Any]:
    """Return the default estimator and scikit-learn's, each behind the usual preparation of columns."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    categories = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepared = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
        sparse_threshold=0,
    )
    default = am.FewShotClassifier() if kind == "classification" else am.FewShotRegressor()
    return {"default": default} | {name: make_pipeline(prepared, model) for name, model in CONTROLS[kind].items()}


def few_rows(frame: pd.DataFrame, kind: str, n_rows: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return random splits in rows to learn from and rows to judge on; of classes every one is in both."""
    splits, labels = [], frame["target"] if kind == "classification" else None
    for seed in range(N_SPLITS):
        if labels is None:
            known, rest = train_test_split(np.arange(len(frame)), train_size=n_rows, random_state=seed)
        else:
            ((known, rest),) = StratifiedShuffleSplit(1, train_size=n_rows, random_state=seed).split(frame, labels)
        splits.append((known, rest[:MOST_ASKED]))
    return splits


def score(x: pd.DataFrame, y: pd.Series, kind: str, splits: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Return the mean accuracy or R² of every method, the default's gain over the better of two, and its seconds."""
    found: dict[str, list[float]] = {}
    started = seconds = 0.0
    for known, asked in splits:
        for name, method in methods(kind).items():
            started = time.perf_counter()
            method.fit(x.iloc[known], y.iloc[known])
            found.setdefault(name, []).append(method.score(x.iloc[asked], y.iloc[asked]))
            seconds += (time.perf_counter() - started) * (name == "default")
    means = {name: float(np.mean(scores)) for name, scores in found.items()}
    gain = np.subtract(found["default"], found[max(BESIDE, key=means.__getitem__)])
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return means | {"gain": float(gain.mean()), "error": error, "seconds": seconds / len(splits)}


def score_all(folder: Path) -> pd.DataFrame:
    """Score all tables, a row for each."""
    rows = []
    for name, kind in TABLES.items():
        frame = pd.read_csv(folder / kind / f"{name}.csv")
        x, y = frame.drop(columns="target"), frame["target"]
        for n_rows in (20, 50):
            rows.append(
                {"table": name, "learned from": f"{n_rows} rows"} | score(x, y, kind, few_rows(frame, kind, n_rows))
            )
            print(rows[-1], flush=True)
    for name, load in BUNDLED.items():
        data = load(as_frame=True)
        kind = "regression" if name == "diabetes" else "classification"
        folds: Any = KFold if kind == "regression" else StratifiedKFold
        splits = list(folds(5, shuffle=True, random_state=0).split(data.data, data.target))
        rows.append({"table": name, "learned from": "4 of 5 folds"} | score(data.data, data.target, kind, splits))
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def report(scores: pd.DataFrame) -> list[str]:
    """Return the table of the result."""
    names = ["default", *CONTROLS["classification"]]
    behind = scores["gain"] < -2 * scores["error"]
    lines = [
        "# The default, without meta-training",
        "",
        "Accuracy (R² of insurance_charges, auto_mpg and diabetes) of `FewShotClassifier()` and `FewShotRegressor()` "
        "as they are (`kernel_experts`), and of scikit-learn's estimators behind one-hot coding, imputation and "
        f"scaling: mean of {N_SPLITS} splits, or of five folds. *Gain*: over the better of linear (logistic "
        "regression, ridge) and random forest, chosen by the score itself, ± the standard error over splits. "
        "Seconds: fit and score of the default.",
        "",
        f"The gain is below zero in {int((scores['gain'] < 0).sum())} of {len(scores)} rows, by more than two standard "
        f"errors in {int(behind.sum())}.",
        "",
        "| table | learned from | " + " | ".join(names) + " | gain | seconds |",
        "|---" * (len(names) + 4) + "|",
    ]
    for _, row in scores.iterrows():
        cells = [row["table"], row["learned from"], *(f"{row[name]:.3f}" for name in names)]
        cells += [f"{row['gain']:+.3f} ± {row['error']:.3f}", f"{row['seconds']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    """Score, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="folder of tables; by default tables/ in $AUTOMETA_DATA")
    parser.add_argument("--output", help="folder for untrained.md; by default it is printed only")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    lines = [
        *report(score_all(find_folder(arguments.folder, KINDS))),
        f"{datetime.date.today()}, `python examples/benchmarks/tables/untrained.py FOLDER`  ",
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    ]
    print("\n".join(lines))
    if arguments.output:
        Path(arguments.output).joinpath("untrained.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
