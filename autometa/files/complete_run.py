"""Whether an output folder holds all that a call asks for; found without importing anything heavy."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

RUN_FILE = "run.json"
"""The file of an output folder that says which comparison it holds."""

GROWS = ("n_trials", "n_seeds", "n_test_tasks", "ensemble")
"""Settings of which a later call may ask for more: only what is missing is done then."""


def is_complete(
    output: str | os.PathLike[str] | None, settings: Mapping[str, Any], **labels: Collection[str] | None
) -> bool:
    """Tell whether a folder, by its own word, holds all that is asked for.

    False where that is not sure; True where a comparison is complete but for what only a look into its studies tells,
    such as a damaged record.

    Parameters
    ----------
    output : path, optional
        The folder; None if there is none.
    settings : mapping
        What is asked for; what is left out counts as no more than there is.
    **labels : collection of str, optional
        Of ``tasks``, ``learners``, ``test_tasks``, where they are known.
    """
    try:
        run = json.loads((Path(output or os.devnull).expanduser() / RUN_FILE).read_text(encoding="utf-8"))
        plan, done = run["plan"], run["plan"]["settings"]
        return (
            run["complete"] is True
            and all(settings[name] <= done[name] for name in GROWS if name in settings)
            and all(label in plan.get(kind, {}) for kind, asked in labels.items() for label in asked or ())
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):  # the last of a home folder too
        return False
