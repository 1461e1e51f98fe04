"""Resolving names and "auto" to a learner and a meta-optimizer."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

from sklearn.base import clone

from autometa.contracts.backbone import BackboneLike
from autometa.contracts.base_learner import BaseLearner, check_promises
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.own_network import check_network
from autometa.contracts.problems import find_problem
from autometa.errors import Incompatible
from autometa.host import make_backbone, make_learner, make_meta_optimizer
from autometa.host.catalog import components, find, name_of

Setting: TypeAlias = Literal["tasks", "rows", "table"]
"""What "auto" depends on: a task distribution, rows of features without meta-training, or the tasks of a table."""


def resolve_learner(
    learner: str | BaseLearner, problem: str, backbone: BackboneLike = "auto", *, setting: Setting = "tasks"
) -> BaseLearner:
    """Return a fresh learner for a problem.

    Parameters
    ----------
    learner : str or Learner
        A name, an object, which is cloned, or ``"auto"``: the default learner of the problem in this setting.
    problem : {"classification", "regression"}
    backbone : str, Backbone, nn.Module or callable, default="auto"
        For a learner that has a backbone and leaves it "auto". One with a choice of its own keeps it, and one
        without a backbone has no use for it.
    setting : {"tasks", "rows", "table"}, default="tasks"

    Raises
    ------
    UnknownName
        No installed learner has the name.
    InvalidParameter
        The object is no learner.
    PluginError
        A property of the learner is of the wrong kind.
    Incompatible
        The learner is not for this problem; the text names those that are.
    """
    made = make_learner(_default_learner(problem, setting) if _is_auto(learner) else learner)
    check_promises(made)
    check_problem(learner if isinstance(learner, str) and not _is_auto(learner) else made, problem)
    for network in (backbone, made.get_params(deep=False).get("backbone")):
        check_network(network)
    made = cast(BaseLearner, clone(made))
    parameters = made.get_params(deep=False)
    if "backbone" in parameters and _is_auto(parameters["backbone"]) and not _is_auto(backbone):
        made.set_params(backbone=clone(make_backbone(backbone)))
    return made


def resolve_meta_optimizer(meta_optimizer: str | MetaOptimizer, learner: BaseLearner) -> MetaOptimizer | None:
    """Return a fresh meta-optimizer; None for ``"auto"`` if the learner has nothing to meta-train.

    Raises
    ------
    UnknownName
        No installed meta-optimizer has the name.
    InvalidParameter
        The object is no meta-optimizer.
    """
    if _is_auto(meta_optimizer):
        if learner.default_meta_optimizer is None:
            return None
        meta_optimizer = learner.default_meta_optimizer
    return clone(make_meta_optimizer(meta_optimizer))  # type: ignore[no-any-return]


def _default_learner(problem: str, setting: Setting) -> str:
    """Return the full name of the default learner; those for tables lie in a plugin that may be absent."""
    record = find_problem(problem)
    wanted = {"tasks": None, "rows": record.rows_learner, "table": record.table_learner}[setting]
    installed = {found.full_name for found in components("learner")}
    return wanted if wanted is not None and wanted in installed else record.learner


def check_problem(learner: str | BaseLearner, problem: str) -> None:
    """Refuse an installed learner for a problem its plugin does not claim.

    Raises
    ------
    Incompatible
        Names one that does claim it.
    """
    name = learner if isinstance(learner, str) else name_of(learner)
    if name is None:  # an object of a class that no plugin offers claims nothing and may try everything
        return
    spec = find("learner", name).spec
    if problem not in spec.problems:
        usual = find_problem(problem).learner
        others = [found for found in components("learner") if problem in found.spec.problems]
        example = min(others, key=lambda found: (found.full_name != usual, found.name), default=None)
        advice = f"use another, such as {example.name!r}" if example is not None else "no installed learner is"
        raise Incompatible(
            f"learner {name!r} is for {' and '.join(sorted(spec.problems))}, not for {problem}; {advice}."
        )


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
