"""Code of plugins that runs while a plan is made."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from autometa.contracts.plugin_code import plugin_code
from autometa.engine.process_state import restored_process


@contextmanager
def guarded(whose: str) -> Iterator[None]:
    """Run code of a plugin; put back, and name, what it changes in the process.

    Raises
    ------
    PluginError
        It raised something that is to end the process.
    """
    changed: list[str] = []
    try:
        with restored_process() as changed, plugin_code(whose):
            yield
    finally:
        if changed:
            warnings.warn(changes_text(whose, changed), UserWarning, stacklevel=4)


def changes_text(whose: str, changed: list[str]) -> str:
    """Say what was changed in the process."""
    return f"{whose} changed {', '.join(changed)} of the whole process, which was put back."
