"""Every error a user or a plugin author meets, each also an instance of the standard exception it is; how to warn."""

from __future__ import annotations

import difflib
import sys
import traceback
import warnings
from collections.abc import Iterable
from types import FrameType


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's own code that called autometa, from however deep within it.

    Plugins, callbacks and libraries may stand in between: what counts is who called the outermost code of autometa.

    Parameters
    ----------
    text : str
        What is wrong, and what to do about it.
    category : type of Warning, optional
    """
    frame = _frame_of_user()
    warnings.warn_explicit(
        text,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


_OURS = frozenset({"autometa", "autometa_plugins"})
_BETWEEN = sys.stdlib_module_names | {"joblib", "sklearn", "torch"}
"""Packages through which users call autometa: decorators, context managers, ``cross_val_score``."""


def _frame_of_user() -> FrameType:
    """Return the frame that called the outermost one of autometa, beyond libraries if there is one."""
    frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(2))]
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    outermost = max((place for place, package in enumerate(packages) if package in _OURS), default=-1)
    beyond = range(outermost + 1, len(frames))
    own = [place for place in beyond if packages[place] not in _BETWEEN]
    return frames[next(iter([*own, *beyond, -1]))]


class AutometaError(Exception):
    """Root of all errors raised on purpose by autometa."""


class InvalidParameter(AutometaError, ValueError):
    """A parameter has a value that cannot work; the text names it, the value and what would work."""


class InvalidData(AutometaError, ValueError):
    """Data given by the user cannot be learned from as it is."""


class MissingData(AutometaError, FileNotFoundError):
    """Data that a component needs is not where it was looked for."""


class PluginError(AutometaError):
    """A plugin could not be loaded, raised in a hook or returned something that is not a spec."""


class NameClash(PluginError):
    """Two distributions claim one name."""


class UnknownName(AutometaError, LookupError):
    """No installed component has this name."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error with the nearest known name as a hint."""
        close = difflib.get_close_matches(name, list(known), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        return cls(f"{kind} {name!r} is not installed{hint} 'autometa plugins' lists all.")


class Incompatible(AutometaError, ValueError):
    """Components that cannot work together were combined."""


class TrainingDiverged(AutometaError, ArithmeticError):
    """Meta-training or adaptation led to numbers that are not finite."""


class ProcessFailed(AutometaError, RuntimeError):
    """One of several processes that worked together ended without a result."""


class StorageError(AutometaError, OSError):
    """An output folder or an Optuna storage cannot be used."""


class InvalidFile(AutometaError, ValueError):
    """A saved estimator is truncated, tampered with or not one of ours."""
