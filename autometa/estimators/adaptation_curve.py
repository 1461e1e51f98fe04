"""Returns of an actor in held-out worlds, episode by episode, or round by round."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from autometa.contracts.actor import Actor
from autometa.contracts.round_actor import RoundActor
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskSampler
from autometa.engine.device import place_of
from autometa.engine.judging import judge, normalize_returns
from autometa.engine.rounds import returns_by_round


@torch.no_grad()
def adaptation_curve(
    learner: Actor, module: nn.Module, sampler: TaskSampler, *, n_tasks: int, seed: int
) -> pd.DataFrame:
    """Return ``task``, ``episode``, ``return`` and ``normalised``, see ``MetaAgent.adaptation_curve``."""
    at_once = sampler.info.problem_record.tasks_at_once
    device, dtype = place_of(module)
    in_rounds = isinstance(learner, RoundActor)
    parts: list[Tensor] = []
    known: dict[str, list[Tensor]] = {}
    for start in range(0, n_tasks, at_once):
        drawn = sampler.sample(min(at_once, n_tasks - start), split="test", seed=derive_seed(seed, "test", start))
        worlds = drawn.to(device, dtype)
        if isinstance(learner, RoundActor):
            parts.append(returns_by_round(learner, module, worlds))
        else:
            parts.append(judge(learner, module, worlds).returns)
        for name, values in worlds.reference.items():
            known.setdefault(name, []).append(values)
    returns = torch.cat(parts)
    normalised = normalize_returns(returns, {name: torch.cat(values) for name, values in known.items()})
    task, episode = np.indices(returns.shape)
    return pd.DataFrame({
        "task": task.ravel(),
        "episode": episode.ravel() + (0 if in_rounds else 1),
        "return": returns.cpu().numpy().ravel(),
        "normalised": np.nan if normalised is None else normalised.cpu().numpy().ravel(),
    })  # fmt: skip
