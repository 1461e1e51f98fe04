"""The best that an actor which starts ignorant can do on Bernoulli bandits, by dynamic programming."""

from __future__ import annotations

from functools import cache


def bernoulli_optimum(arms: int, pulls: int) -> float:
    """Return the expected return of the Bayes-optimal actor when success probabilities are uniform on [0, 1].

    States are what was seen of every arm, sorted: arms are alike before anything is seen.

    Parameters
    ----------
    arms, pulls : int
        5 arms and 10 pulls take a second; states grow like ``pulls`` to the power of twice the arms.
    """

    @cache
    def value(seen: tuple[tuple[int, int], ...], left: int) -> float:
        if left == 0:
            return 0.0
        best = 0.0
        for arm, (wins, losses) in enumerate(seen):
            if arm and seen[arm - 1] == (wins, losses):
                continue
            p = (wins + 1) / (wins + losses + 2)
            others = seen[:arm] + seen[arm + 1 :]
            won = value(tuple(sorted((*others, (wins + 1, losses)))), left - 1)
            lost = value(tuple(sorted((*others, (wins, losses + 1)))), left - 1)
            best = max(best, p * (1 + won) + (1 - p) * lost)
        return best

    return value(((0, 0),) * arms, pulls)
