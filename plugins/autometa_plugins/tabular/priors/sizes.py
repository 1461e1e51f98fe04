"""Sizes of tables for pretraining: as people have them, with most weight on a few labelled rows."""

from __future__ import annotations

import math

from autometa_plugins.tabular.priors.draws import Draws

MOST_CELLS = 30_000
"""Most features of all rows of a task together."""
_CLASSES = {2: 5, 3: 3, 4: 2, 5: 3, 6: 0.7, 7: 0.5, 8: 0.4, 9: 0.2, 10: 0.2}
_SHOTS = {1: 3, 2: 3, 3: 2, 4: 1.5, 5: 2.5, 6: 1, 8: 1, 10: 2, 12: 0.5, 16: 0.4, 30: 0.3, 60: 0.1}
_QUERIES = 30


def draw_sizes(problem: str, seed: int) -> dict[str, int | bool]:
    """Draw the size parameters of a prior, from the seed alone.

    Columns: 1 to 40 with uniform logarithms, in a tenth 20 to 60, seldom up to 100. Rows: 2 to 1,000, mostly up to 100
    in the support. Classes: 2 to 10. Values are missing in 30%, and 60% of the classifications are stratified.
    """
    draws = Draws(seed, "sizes")
    kind = draws.one_of([89, 10, 1])
    n_columns = (int(draws.log_number(1.5, 40)), draws.count(20, 60), draws.count(60, 100))[kind]
    if n_columns == 1 and draws.chance(0.8):
        n_columns = 2
    share = (0.0, draws.number(0, 1), 1.0)[draws.one_of([55, 40, 5])]
    n_levels = (draws.count(2, 4), draws.count(3, 12), int(draws.log_number(8, 22)))[draws.one_of([5, 4, 1])]
    sizes: dict[str, int | bool] = {
        "n_columns": n_columns,
        "n_categorical": round(share * n_columns),
        "n_levels": n_levels,
        "missing": draws.chance(0.3),
    }
    n_support = int(draws.log_number(100, 800) if draws.chance(0.07) else draws.log_number(2, 100))
    sizes |= {"n_shot": n_support, "n_query": _QUERIES + draws.count(-6, 10), "stratified": False}
    if problem == "classification":
        n_classes = list(_CLASSES)[draws.one_of(list(_CLASSES.values()))]
        sizes |= {"n_classes": n_classes, "n_shot": max(n_support, n_classes)}
        if draws.chance(0.6):
            n_shot = list(_SHOTS)[draws.one_of(list(_SHOTS.values()))]
            sizes |= {"n_shot": n_shot, "n_query": math.ceil(_QUERIES / n_classes), "stratified": True}
    return _bounded(sizes)


def _bounded(sizes: dict[str, int | bool]) -> dict[str, int | bool]:
    """Lower the levels, then the columns, until all cells are few enough."""
    groups = sizes.get("n_classes", 1) if sizes["stratified"] else 1
    widest = MOST_CELLS // (groups * (sizes["n_shot"] + sizes["n_query"])) - sizes["n_columns"]
    n_categorical = sizes["n_categorical"]
    if n_categorical:
        sizes["n_levels"] = max(2, min(sizes["n_levels"], widest // n_categorical))
    most = max(1, (widest + sizes["n_columns"]) // (1 + (sizes["n_levels"] if n_categorical else 1)))
    sizes["n_columns"] = min(sizes["n_columns"], most)
    sizes["n_categorical"] = min(n_categorical, sizes["n_columns"])
    return sizes
