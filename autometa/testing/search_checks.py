"""What a search space must be: one ``suggest`` for all kinds of component."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sklearn.base import clone

from autometa.contracts.tasks import TaskInfo
from autometa.testing.expectations import expect

DRAWS = 6


def check_search_space(component: Any, info: TaskInfo | tuple[int, ...]) -> list[Any]:
    """Names are constructor parameters, defaults lie inside, and what is drawn can be made; returns what was drawn.

    As in a comparison, what the component was given and the space does not search stays.
    """
    cls = type(component)
    defaults = cls().get_params(deep=True)
    given = {
        name: value for name, value in component.get_params(deep=False).items() if repr(value) != repr(defaults[name])
    }
    drawn = []
    for trial, suggested in drawn_from(lambda trial: cls.suggest(trial, info)):
        expect(type(suggested) is cls, f"suggest() of {cls.__name__} returned a {type(suggested).__name__}.")
        unknown = sorted(set(trial.params) - set(defaults))
        expect(not unknown, f"suggest() of {cls.__name__} names {unknown}, which are no parameters of it.")
        got = suggested.get_params(deep=True)
        wrong = [name for name, value in trial.params.items() if got.get(name) != value]
        expect(not wrong, f"suggest() of {cls.__name__} draws {wrong} but does not hand them to the constructor.")
        _check_defaults_inside(cls.__name__, trial, defaults)
        clone(suggested)
        kept = {name: value for name, value in given.items() if name not in trial.params}
        drawn.append(suggested.set_params(**kept))
    return drawn


def drawn_from(suggest: Callable[[Any], Any]) -> Iterator[tuple[Any, Any]]:
    """Draw a few times from a search space; yield each trial with what was suggested."""
    study = _quiet_study()
    for _ in range(DRAWS):
        trial = study.ask()
        yield trial, suggest(trial)


def _quiet_study() -> Any:
    """A study whose making is not announced."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    optuna.logging.set_verbosity(verbosity)
    return study


def _check_defaults_inside(name: str, trial: Any, defaults: dict[str, Any]) -> None:
    import optuna

    for parameter, distribution in trial.distributions.items():
        try:
            optuna.create_trial(
                params={parameter: defaults[parameter]}, distributions={parameter: distribution}, value=0.0
            )
        except (ValueError, TypeError) as error:
            raise AssertionError(
                f"the default {parameter}={defaults[parameter]!r} of {name} lies outside its search space "
                f"{distribution}; trial 0 of every study is the defaults."
            ) from error
