"""How much of a portfolio a comparison can try, and what to say where that is not all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.plan import Plan
from autometa.comparison.plan.portfolio import (
    INSTALLED,
    MOST,
    Portfolio,
    WarmStart,
    fitting_params,
    is_for,
    items_of,
    key_of,
)
from autometa.comparison.plan.search_space import range_text

SHOWN = 3
"""How many learners, and how many parameters, a text names."""


def misfit_text(warm_start: WarmStart | None, portfolio: Portfolio, plan: Plan) -> str | None:
    """Say what of a portfolio a comparison cannot try: what was found, and what was looked for.

    Portfolios of plugins are for many learners and problems, so of these it counts only if nothing is tried. Entries
    that fit but have no trial, for others of the learner are before them, count only beside something else, or if
    nothing is tried.

    Parameters
    ----------
    warm_start : path, list of paths or None
        Where the portfolio was read.
    portfolio : sequence of entries
    plan : Plan
        What is compared.

    Returns
    -------
    str or None
        None: there is nothing to say.
    """
    items = [str(item) for item in items_of(warm_start)]
    if not items:
        return None
    shown = f"warm_start={items[0] if len(items) == 1 else items!r}"
    if not portfolio:
        return f"{shown} holds no hyperparameters, so it has no effect."
    keys = [(pair, key_of(pair.candidate)) for pair in plan.pairs if not pair.space.is_empty]
    tried = list(_tried(plan))
    without: list[Mapping[str, Any]] = []
    left_out: list[str] = []
    n_tried = n_in_part = n_waiting = 0
    for entry in portfolio:
        of = [pair for pair, key in keys if is_for(entry, key)]
        if not of:
            without.append(entry)
            continue
        misfits = min((_misfits(entry, pair) for pair in of), key=len)
        left_out += misfits
        if any(_is_tried(entry, pair, tried) for pair in of):
            n_tried += 1
            n_in_part += bool(misfits)
        else:
            n_waiting += len(misfits) < len(entry["params"])
    n = len(portfolio)
    if n_tried and (INSTALLED in items or not (without or left_out)):
        return None
    if n_tried:
        told = f"{shown}: {n_tried} of {n} entries {'is' if n_tried == 1 else 'are'} tried"
        told += f", {n_in_part} of them in part." if n_in_part else "."
    else:
        none = "is tried" if n_waiting else "fits"
        only = "is not tried" if n_waiting else "does not fit"
        told = f"{shown} has no effect: {f'its only entry {only}' if n == 1 else f'none of its {n} entries {none}'}."
    if n_waiting:
        told += (
            f" {n_waiting} {'has' if n_waiting == 1 else 'have'} no trial: of n_trials={plan.settings.n_trials} the "
            f"defaults are first, then at most {MOST} entries for each learner."
        )
    if without:
        has = _some([_learner(key) for _, key in keys]) or "nothing to tune"
        told += f" {len(without)} {'is' if len(without) == 1 else 'are'} for {_some(map(_learner, without))}; "
        told += f"this comparison has {has}."
    if left_out:
        told += f" Left out: {_some(left_out)}."
    return told


def _tried(plan: Plan) -> Iterator[tuple[Pair, Mapping[str, Any]]]:
    """Yield the hyperparameters of the trials that a comparison begins with."""
    for space in plan.spaces:
        for slot, params in space.fixed.items():
            if slot < space.n_slots:
                learner, own = space.split(params)
                yield space.pair(learner), own


def _is_tried(entry: Mapping[str, Any], pair: Pair, tried: Iterable[tuple[Pair, Mapping[str, Any]]]) -> bool:
    """Tell whether some trial has all that fits of an entry."""
    fitting = fitting_params(entry, pair.space).items()
    return bool(fitting) and any(of is pair and fitting <= params.items() for of, params in tried)


def _misfits(entry: Mapping[str, Any], pair: Pair) -> list[str]:
    """Return what is left out of an entry where a pair tries it, and why."""
    known = {**pair.space.distributions, **pair.space.opened}
    fitting = fitting_params(entry, pair.space)
    return [
        f"{name}={value!r} (of {range_text(known[name])})" if name in known else f"{name} (not searched)"
        for name, value in entry["params"].items()
        if name not in fitting
    ]


def _learner(key: Mapping[str, Any]) -> str:
    """Name a learner with its meta-optimizer and its problem."""
    optimizer = f" with {key['meta_optimizer']}" if key["meta_optimizer"] else ""
    return f"{key['learner'] or 'a learner of no plugin'}{optimizer} ({key['problem']})"


def _some(texts: Iterable[str]) -> str:
    """List the first of several texts, each once, and how many more there are."""
    each = list(dict.fromkeys(texts))
    more = f" and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
    return ", ".join(each[:SHOWN]) + more
