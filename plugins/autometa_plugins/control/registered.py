"""Registered environments of Gymnasium, made with values of a task's own."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from types import ModuleType
from typing import Any

import autometa as am

_WHOSE = "task sampler 'gymnasium'"
_OF_MAKE = {"self", "id", "max_episode_steps", "disable_env_checker", "render_mode"}
"""Parameters of a constructor that are not for tasks to vary."""


def import_gymnasium(whose: str) -> ModuleType:
    """Return Gymnasium.

    Raises
    ------
    MissingData
        It is not installed.
    """
    try:
        return importlib.import_module("gymnasium")
    except ImportError as error:
        raise am.MissingData(
            f"{whose} needs the package gymnasium; install autometa with the extra 'control'."
        ) from error


def spec_of(env: Any) -> Any:
    """Return what Gymnasium knows of an id, ``"CartPole-v1"``, or ``"module:Name-v0"``, whose module is imported first.

    Raises
    ------
    InvalidParameter
        It is no id, or not registered.
    """
    gymnasium = import_gymnasium(_WHOSE)
    if not isinstance(env, str) or not env.strip():
        raise am.InvalidParameter(f"env={env!r:.80} of {_WHOSE} must be an id, such as 'CartPole-v1'.")
    module, _, name = env.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise am.InvalidParameter(
                f"env={env!r:.80} of {_WHOSE}: importing {module!r:.80} raised {type(error).__name__}: {error!s:.200}."
            ) from error
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=3)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    raise am.InvalidParameter(
        f"env={env!r:.80} of {_WHOSE} is not registered with Gymnasium{hint} 'module:{name:.40}' imports a module that "
        "registers it."
    )


def make_varied(env: str, values: Mapping[str, Any], steps: int | None) -> Any:
    """Make an environment whose constructor, or else attributes, are given values.

    Parameters
    ----------
    env : str
        See :func:`spec_of`.
    values : mapping
    steps : int, optional
        Most steps of an episode; None: as it is registered.

    Raises
    ------
    InvalidParameter
        A name is none of its parameters or attributes, or a value does not suit it.
    MissingData
        It needs a package that is not installed.
    """
    spec = spec_of(env)
    takes = _parameters(spec)
    given = {name: value for name, value in values.items() if name in takes}
    made = _made(spec, given, steps)
    others = {name: value for name, value in values.items() if name not in takes}
    if others:
        _set(made.unwrapped, others, takes, env)
    return made


def _made(spec: Any, given: Mapping[str, Any], steps: int | None) -> Any:
    gymnasium = import_gymnasium(_WHOSE)
    try:
        return gymnasium.make(spec, max_episode_steps=steps, disable_env_checker=True, **given)
    except gymnasium.error.DependencyNotInstalled as error:
        extra = "; autometa's extra 'mujoco' brings it" if "mujoco" in str(error).lower() else ""
        raise am.MissingData(f"{spec.id} needs a package that is not installed{extra}: {error!s:.300}") from error
    except Exception as error:
        with_these = f" with {dict(given)!r:.200}" if given else ""
        raise am.InvalidParameter(
            f"env={spec.id!r} of {_WHOSE} cannot be made{with_these}: {type(error).__name__}: {error!s:.300}"
        ) from error


def _parameters(spec: Any) -> set[str]:
    """Return the parameters of an environment's constructor that tasks may vary."""
    entry = spec.entry_point
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        try:
            entry = getattr(importlib.import_module(module), name)
        except Exception:  # making it tells better what is missing
            return set()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {one.name for one in inspect.signature(entry).parameters.values() if one.kind in kinds} - _OF_MAKE


def _set(env: Any, values: Mapping[str, Any], takes: set[str], which: str) -> None:
    for name, value in values.items():
        if not _is_plain(env, name):
            raise _unknown(env, name, takes, which)
        try:
            setattr(env, name, value)
        except Exception as error:
            raise am.InvalidParameter(
                f"vary[{name!r:.40}] of {_WHOSE} cannot be {value!r:.40}: {type(error).__name__}: {error!s:.200}"
            ) from error
    for derive, follows in _derivations(env):
        for name in values.keys() & follows.keys():
            raise am.InvalidParameter(
                f"vary[{name!r}] of {_WHOSE}: {name} of {which} follows from {follows[name]}; vary these."
            )
        derive(env)


def _derivations(env: Any) -> Iterator[tuple[Callable[[Any], None], dict[str, str]]]:
    for kind in type(env).__mro__:
        if (found := _DERIVE.get(f"{kind.__module__}:{kind.__name__}")) is not None:
            yield found


def _is_plain(env: Any, name: str) -> bool:
    """Tell whether an environment has a number or text of a public name."""
    try:
        return not name.startswith("_") and isinstance(getattr(env, name), Real | str)
    except Exception:  # there is none, or a property that means nothing before the first reset
        return False


def _unknown(env: Any, name: str, takes: set[str], which: str) -> am.InvalidParameter:
    has = {other for other in dir(env) if _is_plain(env, other)}
    close = difflib.get_close_matches(name, has | takes, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return am.InvalidParameter(
        f"vary[{name!r:.40}] of {_WHOSE}: {which} has nothing of this name{hint} Its constructor takes "
        f"{', '.join(sorted(takes)) or 'nothing'}; its attributes are {', '.join(sorted(has)) or 'none'}."
    )


def _derive_cart(env: Any) -> None:
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def _derive_torque(env: Any) -> None:
    env.action_space = type(env.action_space)(-env.max_torque, env.max_torque, (1,), env.action_space.dtype.type)


def _derive_force(env: Any) -> None:
    env.action_space = type(env.action_space)(env.min_action, env.max_action, (1,), env.action_space.dtype.type)


_CLASSIC = "gymnasium.envs.classic_control"
_DERIVE: dict[str, tuple[Callable[[Any], None], dict[str, str]]] = {
    f"{_CLASSIC}.cartpole:CartPoleEnv": (
        _derive_cart,
        {"total_mass": "masspole and masscart", "polemass_length": "masspole and length"},
    ),
    f"{_CLASSIC}.pendulum:PendulumEnv": (_derive_torque, {}),
    f"{_CLASSIC}.continuous_mountain_car:Continuous_MountainCarEnv": (_derive_force, {}),
}
"""By class: what works out anew what its constructor did from attributes, and numbers that follow from others."""
