"""What a plugin's hooks return: a light description that names its class by a dotted path.

Nothing here imports torch, so a plugin's ``__init__`` can list what it offers in a blink.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from autometa.contracts.plugin_code import one_line, watch_ctrl_c
from autometa.contracts.problems import PROBLEMS as RECORDS
from autometa.errors import InvalidParameter, PluginError

PROBLEMS = frozenset(RECORDS)
_NAME = re.compile(r"[a-z][a-z0-9_+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One component a plugin offers.

    Parameters
    ----------
    name : str
        How users ask for it: lower case, digits and ``_``, such as ``"prototypical"``.
    factory : str or callable
        The class, or ``"package.module:Class"``, which is imported on first use.
    summary : str
        One line for listings.
    problems : frozenset of {"classification", "regression", "control"}
        What it can be used for. Task samplers and learners must say; others may leave it out, which means all.
    reference : str
        Paper and section.
    retired : mapping of str to object
        Parameters of earlier versions, each with the value that changed nothing. Saved files that give these values
        still load.
    needs : tuple of str
        Parameters that a user must give, such as ``("root",)``. A component with none works as it is: a sampler can be
        drawn from at once, without files or a network, and a learner takes part where all are asked for.
    """

    kind: ClassVar[str] = "component"
    must_name_problems: ClassVar[bool] = False
    _texts: ClassVar[tuple[str, ...]] = ("summary", "reference")
    """Fields that must be text."""

    name: str
    factory: str | Callable[..., Any]
    summary: str = ""
    problems: frozenset[str] = frozenset()
    reference: str = ""
    retired: Mapping[str, Any] = field(default_factory=dict, hash=False)
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise InvalidParameter(
                f"name={self.name!r} of a {self.kind} is not usable; "
                f"use lower case, digits and '_', like 'my_{self.kind}'."
            )
        for text in self._texts:
            if not isinstance(getattr(self, text), str):
                raise InvalidParameter(f"{text}={getattr(self, text)!r} of {self.kind} {self.name!r} must be text.")
        if not isinstance(self.retired, Mapping) or not all(isinstance(name, str) for name in self.retired):
            raise InvalidParameter(
                f"retired={self.retired!r} of {self.kind} {self.name!r} must be a dict from names of parameters to the "
                "values that changed nothing, such as {'bias': True}."
            )
        needs = tuple(self.needs) if isinstance(self.needs, tuple | list | set | frozenset) else None
        if needs is None or not all(isinstance(name, str) for name in needs):
            raise InvalidParameter(
                f"needs={self.needs!r} of {self.kind} {self.name!r} must be a tuple of names of parameters, such as "
                "('root',)."
            )
        object.__setattr__(self, "needs", needs)
        given = (self.problems,) if isinstance(self.problems, str) else self.problems
        if not isinstance(given, Collection) or not all(isinstance(problem, str) for problem in given):
            raise InvalidParameter(
                f"problems={given!r} of {self.kind} {self.name!r} must be a set of names, some of {sorted(PROBLEMS)}."
            )
        problems = frozenset(given)
        if not problems and self.must_name_problems:
            raise InvalidParameter(
                f"{self.kind} {self.name!r} does not say what it is for; write problems={{'classification'}} in its "
                f"{type(self).__name__}, or any others of {sorted(PROBLEMS)}."
            )
        if not problems <= PROBLEMS:
            raise InvalidParameter(
                f"problems={set(problems)!r} of {self.kind} {self.name!r} must be some of {sorted(PROBLEMS)}."
            )
        problems = problems or PROBLEMS
        object.__setattr__(self, "problems", problems)
        if not callable(self.factory) and not (isinstance(self.factory, str) and ":" in self.factory):
            raise InvalidParameter(
                f"factory={self.factory!r} of {self.kind} {self.name!r} must be a class "
                "or a path like 'package.module:Class'."
            )

    def resolve(self) -> Callable[..., Any]:
        """Import and return the class.

        Raises
        ------
        PluginError
            The dotted path does not lead to a callable.
        """
        if callable(self.factory):
            return self.factory
        module, _, name = self.factory.partition(":")
        known = getattr(sys.modules.get(module), "__dict__", {}).get(name)
        if callable(known):  # imported already
            return known  # type: ignore[no-any-return]
        with watch_ctrl_c() as ctrl_c:
            try:
                found = pkgutil.resolve_name(self.factory)
            except BaseException as error:
                ctrl_c.stop_if_pressed()
                raise PluginError(
                    f"{self.kind} {self.name!r} cannot be imported from {self.factory!r}: {one_line(error)}"
                ) from error
        if not callable(found):
            raise PluginError(
                f"factory {self.factory!r} of {self.kind} {self.name!r} is a {type(found).__name__}, not a class."
            )
        return found  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSamplerSpec(Spec):
    """A task distribution, returned by ``autometa_task_samplers``."""

    kind: ClassVar[str] = "task sampler"
    must_name_problems: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec(Spec):
    """A learner, returned by ``autometa_learners``."""

    kind: ClassVar[str] = "learner"
    must_name_problems: ClassVar[bool] = True

    _texts: ClassVar[tuple[str, ...]] = ("summary", "reference", "family")

    family: str = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaOptimizerSpec(Spec):
    """A meta-optimizer, returned by ``autometa_meta_optimizers``."""

    kind: ClassVar[str] = "meta-optimizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec(Spec):
    """A backbone, returned by ``autometa_backbones``; it sees inputs only, so any problem can use it."""

    kind: ClassVar[str] = "backbone"
