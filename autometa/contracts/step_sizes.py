"""What to lower where numbers have grown beyond all bounds."""

from __future__ import annotations

from sklearn.base import BaseEstimator

_SIZES = frozenset({"lr", "learning_rate", "step_size", "clip", "largest_gradient"})


def advice_on_steps(*components: BaseEstimator | None, otherwise: str = "look for huge numbers in the tasks") -> str:
    """Name the parameters of components that bound their steps, to be lowered.

    Parameters
    ----------
    *components : learner or meta-optimizer
        None is passed over.
    otherwise : str, optional
        The advice where there is no such parameter.
    """
    named = [
        f"{' or '.join(sizes)} of {type(component).__name__}"
        for component in components
        if component is not None and (sizes := _sizes_of(component))
    ]
    return f"lower {', or '.join(named)}" if named else otherwise


def _sizes_of(component: BaseEstimator) -> list[str]:
    given = component.get_params(deep=False).items()
    return [name for name, value in given if name in _SIZES or (name.endswith("_lr") and not isinstance(value, bool))]
