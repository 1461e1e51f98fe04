"""Every error a user or a plugin author meets, each also an instance of the standard exception it is; how to warn."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called autometa, from however deep within it and through whichever of its doors."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "autometa":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


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
