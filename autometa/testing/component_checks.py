"""What every component must do as an object with scikit-learn parameters."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

from sklearn.base import clone

from autometa.testing.expectations import expect


def _values(component: Any) -> dict[str, Any]:
    return dict(component.get_params(deep=False))


def check_constructor_only_stores(component: Any) -> None:
    """The constructor stores every parameter unchanged under its name, and does nothing else."""
    cls = type(component)
    parameters = inspect.signature(cls).parameters.values()
    for parameter in parameters:
        expect(
            parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD),
            f"{cls.__name__}.__init__ takes *{parameter.name}; name each one, so that it can be tuned and cloned.",
        )
    marks = {parameter.name: object() for parameter in parameters}
    try:
        made = cls(**marks)
    except Exception as error:
        raise AssertionError(
            f"{cls.__name__}.__init__ looks at its parameters ({type(error).__name__}: {error}); "
            "store them and check them on use."
        ) from error
    for name, value in marks.items():
        expect(
            getattr(made, name, None) is value, f"{cls.__name__}.__init__ must store {name!r} unchanged as self.{name}."
        )
    more = sorted(set(vars(made)) - set(marks))
    expect(not more, f"{cls.__name__}.__init__ must store its parameters only; it also sets {more}.")


def check_clone(component: Any) -> None:
    """A clone has the same parameters and nothing that was learned."""
    before = repr(component)
    cloned = clone(component)
    expect(type(cloned) is type(component), f"clone() gives a {type(cloned).__name__}.")
    expect(cloned is not component and repr(cloned) == before, f"clone() gives {cloned!r} for {before}.")


def check_set_params(component: Any) -> None:
    """``set_params(**get_params())`` changes nothing, and a parameter set is a parameter got."""
    cloned = clone(component)
    values = _values(cloned)
    expect(cloned.set_params(**values) is cloned, "set_params() must return the component itself.")
    expect(
        _values(cloned) == values or repr(cloned) == repr(component), "set_params(**get_params()) changes parameters."
    )
    for name in values:
        mark = object()
        expect(
            _values(clone(component).set_params(**{name: mark}))[name] is mark,
            f"set_params({name}=...) is not what get_params() gives back.",
        )


def check_pickle(component: Any) -> None:
    """It can be sent to a worker process."""
    again = pickle.loads(pickle.dumps(component))
    expect(repr(again) == repr(component), f"after pickling it is {again!r}.")


def check_documented(component: Any) -> None:
    """The class says what it is and what each parameter means."""
    cls = type(component)
    text = inspect.getdoc(cls) or ""
    inherited = any(text == inspect.getdoc(base) for base in cls.__mro__[1:])
    expect(text and not inherited, f"class {cls.__name__} has no docstring.")
    missing = [name for name in _values(component) if name not in text]
    expect(not missing, f"the docstring of {cls.__name__} does not tell what {missing} mean.")


COMPONENT_CHECKS = (check_constructor_only_stores, check_clone, check_set_params, check_pickle, check_documented)
