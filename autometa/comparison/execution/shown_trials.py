"""What an actor did in a few held-out worlds, as small as it must be to lie in a storage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autometa.comparison.execution.patient_storage import lost_in
from autometa.contracts.experience import Transition
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.printable import printable
from autometa.engine.judging import TrialOutcome
from autometa.errors import PluginError

WORLDS = 3
"""Worlds that are shown."""
MOST_CHARACTERS = 12_000
"""Of all pictures of a final run; later worlds are left out where earlier ones take so many."""
MOST_TIMES, MOST_SERIES = 50, 4
"""Points of a curve, and numbers of an observation, that are kept where there is no picture."""


def shown_trials(outcome: TrialOutcome) -> dict[str, Any]:
    """Keep the first and the last episode of the first worlds.

    Returns
    -------
    dict
        ``shown``: ``key``, how to read the pictures, and ``worlds``, a list of lists of episodes. An episode has its
        ``number`` from 1, its ``return``, and either a ``picture``, or ``steps`` (numbers of steps from 1), the
        ``reward`` and the ``observation`` at each, as [series][time]; numbers have four digits. Or the ``error`` that
        a plugin raised when it drew.
    """
    worlds: list[list[dict[str, Any]]] = []
    left = MOST_CHARACTERS
    try:
        for task in range(min(WORLDS, len(outcome.environments))):
            world = _episodes(outcome, task)
            fits = _characters(world) <= left
            if worlds and not fits:
                break
            worlds.append(world if fits else _episodes(outcome, task, draw=False))
            left -= _characters(worlds[-1])
        key = printable(outcome.environments.picture_key, lines=True)
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"shown": {"error": one_line(error)}}
    return {"shown": {"key": key, "worlds": worlds}}


def shown_world(outcome: TrialOutcome, task: int, most: int) -> dict[str, Any]:
    """Keep the first and the last episode of one trial.

    Returns
    -------
    dict
        ``episodes`` as in :func:`shown_trials`, with pictures if they have no more than ``most`` characters; the
        ``error`` that a plugin raised when it drew.
    """
    try:
        drawn = _episodes(outcome, task)
    except Exception as error:
        if lost_in(error) is not None:
            raise
        return {"episodes": _episodes(outcome, task, draw=False), "error": one_line(error)}
    return {"episodes": drawn if _characters(drawn) <= most else _episodes(outcome, task, draw=False)}


def _episodes(outcome: TrialOutcome, task: int, *, draw: bool = True) -> list[dict[str, Any]]:
    last = outcome.environments.info.n_episodes - 1
    return [_episode(outcome, task, episode, draw=draw) for episode in dict.fromkeys((0, last))]


def _characters(world: list[dict[str, Any]]) -> int:
    return sum(len(episode.get("picture", "")) for episode in world)


def _episode(outcome: TrialOutcome, task: int, episode: int, *, draw: bool = True) -> dict[str, Any]:
    worlds, experience = outcome.environments, outcome.experience
    about = {"number": episode + 1, "return": _short(outcome.returns[task, episode])}
    picture = None
    if draw:
        with plugin_code():
            picture = worlds.picture_of(experience, task, episode)
        if not isinstance(picture, str | None):
            raise PluginError(
                f"picture_of() of {type(worlds).__name__} returned a {type(picture).__name__}; it must be text or None."
            )
    if picture is not None:
        return {**about, "picture": printable(picture, lines=True)}
    return {**about, **_over_time(experience.of_episode(task, episode))}


def _over_time(steps: Transition) -> dict[str, Any]:
    """Thin rewards and observations out, first and last step among what stays."""
    n_steps = len(steps.reward)
    kept = torch.linspace(0, n_steps - 1, min(n_steps, MOST_TIMES), dtype=torch.float64).round().long()
    kept = kept.to(steps.reward.device)
    observation = steps.observation[kept].flatten(1)[:, :MOST_SERIES].T
    return {
        "steps": (kept + 1).tolist(),
        "reward": [_short(value) for value in steps.reward[kept]],
        "observation": [[_short(value) for value in series] for series in observation],
    }


def _short(value: Tensor) -> float:
    return float(f"{float(value):.4g}")
