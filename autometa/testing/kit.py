"""Run checks: all at once into a table, or one by one under pytest."""

from __future__ import annotations

import difflib
import time
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from autometa.contracts.learner import Learner
from autometa.contracts.tasks import TaskSampler
from autometa.errors import AutometaError, InvalidParameter
from autometa.testing.checklist import Check, checks_of

if TYPE_CHECKING:
    import pandas as pd
    import pytest


def check_plugin(
    component: Any,
    kind: str | None = None,
    *,
    tasks: TaskSampler | None = None,
    learner: Learner | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Run the conformance kit over a component, or over all that a plugin offers.

    Parameters
    ----------
    component, kind, tasks, learner
        See :func:`checks_of`.
    expected_failures : mapping of str to str, optional
        Names of checks that are known to fail, each with the reason.

    Returns
    -------
    pandas.DataFrame
        One row per check: ``component``, ``check``, ``status`` ("passed", "failed", "skipped", "expected"),
        ``seconds``, ``error``. A check that was expected to fail and passes counts as failed. The component conforms
        when no row is "failed".

    Examples
    --------
    >>> import autometa as am
    >>> set(am.check_plugin("identity").status) <= {"passed", "skipped"}
    True
    """
    import pandas as pd

    checks = checks_of(component, kind, tasks=tasks, learner=learner)
    expected = dict(expected_failures or {})
    _check_expected(expected, checks)
    rows = [run_check(check, _reason(check, expected)) for check in checks]
    return pd.DataFrame(rows, columns=["component", "check", "status", "seconds", "error"])


def run_check(check: Check, expected: str | None = None) -> dict[str, Any]:
    """Run one check and return its row of the table."""
    started = time.perf_counter()
    status, error = "passed", ""
    try:
        check()
    except SkipTest as reason:
        status, error = "skipped", str(reason)
    except AssertionError as failure:
        status, error = "failed", str(failure)
    except AutometaError as failure:
        status, error = "failed", f"{type(failure).__name__}: {failure}"
    except Exception as failure:
        status, error = "failed", "".join(traceback.format_exception(failure))
    if expected is not None:
        if status == "failed":
            status, error = "expected", f"{expected} ({error})"
        elif status == "passed":
            status, error = "failed", f"it passes, but was expected to fail: {expected}"
    return {
        "component": check.component,
        "check": check.name,
        "status": status,
        "seconds": time.perf_counter() - started,
        "error": error,
    }


def parametrize_with_plugin_checks(
    *components: Any,
    kind: str | None = None,
    tasks: TaskSampler | None = None,
    learner: Learner | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Decorate a pytest function so that it runs every check of some components.

    Parameters
    ----------
    *components : str or object
        See :func:`checks_of`.
    kind, tasks, learner
        See :func:`checks_of`.
    expected_failures : mapping of str to str, optional
        Names of checks that are known to fail, each with the reason; should one pass, its test fails.

    Examples
    --------
    >>> import autometa as am
    >>> @am.parametrize_with_plugin_checks("identity")
    ... def test_conformance(check):
    ...     check()
    """
    import pytest

    checks = [check for one in components for check in checks_of(one, kind, tasks=tasks, learner=learner)]
    expected = dict(expected_failures or {})
    _check_expected(expected, checks)
    params = []
    for check in checks:
        reason = _reason(check, expected)
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason is not None else []
        params.append(pytest.param(check, id=str(check), marks=marks))
    return pytest.mark.parametrize("check", params)


def _check_expected(expected: Mapping[str, str], checks: list[Check]) -> None:
    known = {name for check in checks for name in _names(check)}
    for name in expected:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the checks are {sorted(known)}."
            raise InvalidParameter(f"expected_failures names {name!r}, which is no check of this component{hint}")


def _names(check: Check) -> tuple[str, ...]:
    """Return the names by which ``expected_failures`` may call a check: with or without component and problem."""
    short = check.name.partition("[")[0]
    return str(check), f"{check.component}-{short}", check.name, short


def _reason(check: Check, expected: Mapping[str, str]) -> str | None:
    return next((expected[name] for name in _names(check) if name in expected), None)
