"""Setting the estimators' parameters, and finding those that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.base import BaseEstimator, clone

from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.same_value import same_value
from autometa.errors import InvalidParameter
from autometa.estimators.assemble import resolve_learner, resolve_meta_optimizer
from autometa.estimators.state import MetaTrained
from autometa.host import make_backbone

COMPONENTS = ("learner", "meta_optimizer", "backbone")


def set_nested(estimator: BaseEstimator, params: dict[str, Any], set_params: Callable[..., Any]) -> Any:
    """Set parameters as scikit-learn does, after turning names whose parameters are set into objects.

    The object is a copy of its own, so that clones which share it are not changed.
    """
    plain = {name: value for name, value in params.items() if "__" not in name}
    nested = {name: value for name, value in params.items() if "__" in name}
    set_params(**plain)
    for component in COMPONENTS:
        if any(name.partition("__")[0] == component for name in nested):
            setattr(estimator, component, _as_object(estimator, component))
    set_params(**nested)
    return estimator


def _as_object(estimator: BaseEstimator, component: str) -> Any:
    value = getattr(estimator, component)
    if not isinstance(value, str):
        return value
    if component == "learner":
        return resolve_learner(value, estimator.problem)
    if component == "meta_optimizer":
        learner = resolve_learner(estimator.learner, estimator.problem)
        made = resolve_meta_optimizer(value, learner)
        if made is None:
            raise InvalidParameter(
                f"meta_optimizer='auto' has no parameters to set: {type(learner).__name__} has nothing to meta-train."
            )
        return made
    if value == "auto":
        raise InvalidParameter("backbone='auto' has no parameters to set; name the backbone first, such as 'mlp'.")
    return clone(make_backbone(value))


def changed_since(meta: MetaTrained, learner: BaseLearner, estimator: BaseEstimator) -> str | None:
    """Name a parameter that changed after meta-training and needs a new one; None if there is none."""
    if type(learner) is not type(meta.learner):
        return f"learner={type(learner).__name__}"
    now, then = learner.get_params(deep=False), meta.learner.get_params(deep=False)
    for name in now:
        if name not in learner.adaptation_parameters and not same_value(now[name], then[name]):
            return f"learner__{name}={now[name]!r}"
    meta_optimizer = resolve_meta_optimizer(estimator.meta_optimizer, learner)
    if not same_value(meta_optimizer, meta.meta_optimizer):
        return f"meta_optimizer={meta_optimizer!r}"
    for name in ("max_steps", "tasks_per_step"):
        if getattr(estimator, name) != getattr(meta, name):
            return f"{name}={getattr(estimator, name)!r}"
    return None


def changed_for_adaptation(meta: MetaTrained, learner: BaseLearner) -> str:
    """Tell the values in meta-training of the parameters that changed after it, such as ``"steps=5"``."""
    now, then = learner.get_params(deep=False), meta.learner.get_params(deep=False)
    return ", ".join(f"{name}={then[name]!r}" for name in now if not same_value(now[name], then[name]))
