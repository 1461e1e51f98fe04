"""How much of a portfolio a comparison can try, and what to say where that is not all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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
    that fit but have no trial of their own count only beside something else, or if nothing is tried: they are as the
    defaults or another entry, or others of the learner are before them.

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
    fit = _fit_of(portfolio, plan)
    if fit.n_tried and (INSTALLED in items or not (fit.without or fit.left_out)):
        return None
    n = len(portfolio)
    if fit.n_tried:
        told = f"{shown}: {fit.n_tried} of {n} entries {'is' if fit.n_tried == 1 else 'are'} tried"
        told += f", {fit.n_in_part} of them in part." if fit.n_in_part else "."
    elif fit.n_again + fit.n_waiting:
        only, each = "its only entry has no trial of its own", f"none of its {n} entries has a trial of its own"
        told = f"{shown} has no effect: {only if n == 1 else each}."
    else:
        told = f"{shown} has no effect: {'its only entry does not fit' if n == 1 else f'none of its {n} entries fits'}."
    if fit.n_again:
        told += f" {fit.n_again} {'is' if fit.n_again == 1 else 'are'} as the defaults or another entry."
    if fit.n_waiting:
        told += (
            f" {fit.n_waiting} {'finds' if fit.n_waiting == 1 else 'find'} no place: of "
            f"n_trials={plan.settings.n_trials} the defaults are first, then at most {MOST} entries for each learner."
        )
    if fit.without:
        has = _some(_learner(key_of(pair.candidate)) for pair in _searched(plan)) or "nothing to tune"
        told += f" {len(fit.without)} {'is' if len(fit.without) == 1 else 'are'} for "
        told += f"{_some(map(_learner, fit.without))}; this comparison has {has}."
    if fit.left_out:
        told += f" Left out: {_some(fit.left_out)}."
    return told


@dataclass(slots=True)
class _Fit:
    """What becomes of the entries of a portfolio."""

    n_tried: int = 0
    """Those with a trial of their own."""
    n_in_part: int = 0
    """Those of them of which something is left out."""
    n_again: int = 0
    """Those that fit, but are as the defaults or another entry."""
    n_waiting: int = 0
    """Those that fit, but find no place among the trials."""
    without: list[Mapping[str, Any]] = field(default_factory=list)
    """Those for other learners."""
    left_out: list[str] = field(default_factory=list)
    """What does not fit, and why."""


def _fit_of(portfolio: Portfolio, plan: Plan) -> _Fit:
    keys = [(pair, key_of(pair.candidate)) for pair in _searched(plan)]
    first = list(_first_trials(plan))
    free = [trial for trial in first if not trial.is_default]
    fit = _Fit()
    for entry in portfolio:
        of = [pair for pair, key in keys if is_for(entry, key)]
        if not of:
            fit.without.append(entry)
            continue
        misfits = min((_misfits(entry, pair) for pair in of), key=len)
        fit.left_out += misfits
        if len(misfits) == len(entry["params"]):
            continue
        if own := next((trial for trial in free if trial.is_of(entry, of)), None):
            free.remove(own)
            fit.n_tried += 1
            fit.n_in_part += bool(misfits)
        elif any(trial.is_of(entry, of) for trial in first):
            fit.n_again += 1
        else:
            fit.n_waiting += 1
    return fit


def _searched(plan: Plan) -> list[Pair]:
    return [pair for pair in plan.pairs if not pair.space.is_empty]


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """One of those that a comparison begins with."""

    pair: Pair
    params: Mapping[str, Any]

    @property
    def is_default(self) -> bool:
        return self.params == self.pair.space.defaults

    def is_of(self, entry: Mapping[str, Any], pairs: Iterable[Pair]) -> bool:
        """Tell whether it is of one of these pairs, and what fits of an entry with defaults for the rest."""
        space = self.pair.space
        is_theirs = any(pair is self.pair for pair in pairs)
        return is_theirs and self.params == {**space.defaults, **fitting_params(entry, space)}


def _first_trials(plan: Plan) -> Iterator[_Trial]:
    for space in plan.spaces:
        for slot, params in space.fixed.items():
            if slot < space.n_slots:
                learner, own = space.split(params)
                yield _Trial(space.pair(learner), own)


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
