"""One run of an ensemble: choose members among the final runs of one seed, and judge what they answer together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.trial import FixedTrial, Trial
from torch import nn

from autometa.comparison.execution.ensemble_selection import MetaValidError, Votes, VotesLook, select
from autometa.comparison.execution.finals import judge_final, train_final
from autometa.comparison.execution.kept_best import KeptBest
from autometa.comparison.execution.label_files import model_file
from autometa.comparison.execution.patient_storage import lost_in
from autometa.comparison.execution.trial import start_training
from autometa.comparison.plan.ensemble import ensemble_of
from autometa.comparison.plan.pair import Pair
from autometa.comparison.plan.search_space import Drawn
from autometa.contracts.learner import Learner
from autometa.contracts.plugin_code import one_line, plugin_code
from autometa.contracts.same_value import same_value
from autometa.errors import AutometaError, InvalidFile, MissingData, TrainingDiverged, UnknownName, warn_user
from autometa.estimators.persistence import code_named_by, load
from autometa.estimators.state import module_on
from autometa.training import MetaTraining, evaluate


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A final run that may take part."""

    pair: Pair
    params: Mapping[str, Any]
    """Its hyperparameters, under their own names."""
    number: int
    """Its seed."""
    steps: int
    seconds: float
    """Of its meta-training."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a final run meta-trained."""

    learner: Learner
    module: nn.Module


def run_ensemble(
    pair: Pair, candidates: Sequence[Candidate], trial: Trial, device: torch.device, models: Path | None
) -> float:
    """Build the ensemble of one seed and store its results in the trial's user attribute ``"result"``.

    Members and weights are chosen by the meta-valid tasks alone. Whoever cannot take part is left out, with the reason
    in the result.

    Parameters
    ----------
    pair : Pair
        The ensemble's.
    candidates : sequence of Candidate
        The final runs of this seed.
    models : Path, optional
        Folder of the saved estimators; what is not in it is meta-trained again.

    Returns
    -------
    float
        Mean score on the meta-test tasks of the distribution trained on.

    Raises
    ------
    AutometaError
        Nobody can take part.
    """
    number = trial.user_attrs["slot"]
    trained, votes, left_out, badness = _asked(pair, candidates, device, models)
    if badness is None:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise AutometaError(f"no learner can take part in the ensemble of seed {number}. {why}".strip())
    counts = dict(zip(votes, select(list(votes.values()), badness), strict=True))
    shares = {name: count / sum(counts.values()) for name, count in counts.items() if count}
    members = [candidate for candidate in candidates if candidate.pair.learner in shares]
    training = together(pair, members, trained, shares, device)
    curve = [[float(training.step_count), training.seconds, KeptBest(pair, training).look()]]
    trial.set_user_attr("params", shares)
    result = judge_final(pair, training, models, number) | {"curve": curve, "members": shares, "left_out": left_out}
    trial.set_user_attr("result", result)
    return float(np.mean(result["scores"]))


def together(
    pair: Pair,
    members: Sequence[Candidate],
    trained: Mapping[str, Trained],
    shares: Mapping[str, float],
    device: torch.device,
) -> MetaTraining:
    """Join what members were meta-trained to; it took as long as all of them together."""
    names = [member.pair.learner for member in members]
    learner = ensemble_of([trained[name].learner for name in names], [shares[name] for name in names])
    training = start_training(pair, Drawn(learner, None), device, seed=pair.seed("final", members[0].number))
    training.module = nn.ModuleList([trained[name].module for name in names]).eval()
    training.step_count = sum(member.steps for member in members)
    training.seconds = sum(member.seconds for member in members)
    return training


def trained_by(candidate: Candidate, device: torch.device, models: Path | None) -> Trained:
    """Return what a final run meta-trained: from its file, or meta-trained again where there is none of it."""
    pair = candidate.pair
    drawn = pair.candidate.draw(FixedTrial({**pair.space.defaults, **candidate.params}))
    found = None if models is None else _read(candidate, drawn, models / model_file(pair, candidate.number))
    if found is None:
        training, *_ = train_final(pair, candidate.params, candidate.number, device)
        assert isinstance(training.learner, Learner)
        found = Trained(training.learner, training.module.eval())
    return Trained(found.learner, module_on(found.module, device))


def _read(candidate: Candidate, drawn: Drawn, path: Path) -> Trained | None:
    """Read the model of a final run; None if there is none, or one of other hyperparameters."""
    if not path.exists():
        return None
    learner, meta_optimizer = drawn.learner, drawn.meta_optimizer
    try:
        estimator = load(path, trusted=code_named_by(learner, meta_optimizer))
    except (InvalidFile, MissingData, UnknownName) as error:
        text = f"the saved model {str(path)!r} cannot be used ({error}) and is meta-trained again from its seed."
        warn_user(text)
        return None
    seed = candidate.pair.seed("final", candidate.number) % 2**32
    wanted = [learner, "auto" if meta_optimizer is None else meta_optimizer, seed]
    if not same_value([estimator.learner, estimator.meta_optimizer, estimator.random_state], wanted):
        return None
    return Trained(estimator.learner_, estimator.module_)


def _asked(
    pair: Pair, candidates: Sequence[Candidate], device: torch.device, models: Path | None
) -> tuple[dict[str, Trained], dict[str, Votes], dict[str, str], MetaValidError | None]:
    """Ask every candidate the queries of the meta-valid tasks.

    Returns
    -------
    trained, votes : dict by learner
    left_out : dict by learner
        The reasons why some cannot take part.
    badness : MetaValidError or None
        None where all are left out.
    """
    trained: dict[str, Trained] = {}
    votes: dict[str, Votes] = {}
    left_out: dict[str, str] = {}
    badness = None
    for candidate in candidates:
        name = candidate.pair.learner
        try:
            with plugin_code():
                found = trained_by(candidate, device, models)
                own, error = _ask(pair, found)
        except Exception as error_met:  # of a plugin, which may raise anything
            if lost_in(error_met) is not None:
                raise
            left_out[name] = one_line(error_met)
            continue
        trained[name], votes[name] = found, own
        badness = badness or error
    return trained, votes, left_out, badness


def _ask(pair: Pair, trained: Trained) -> tuple[Votes, MetaValidError]:
    domain, look = pair.domain, VotesLook()
    judged = evaluate(
        trained.learner,
        trained.module,
        domain.sampler,
        split="valid",
        n_tasks=domain.settings.n_valid_tasks,
        seed=domain.seed("valid"),
        look=look,
    )
    if not look.are_finite:
        raise TrainingDiverged("its answers to meta-valid tasks are not all finite numbers.")
    assert isinstance(pair.candidate.learner, Learner)
    return look.votes, MetaValidError(look.queries, judged.tasks, pair.candidate.learner, domain.objective)
