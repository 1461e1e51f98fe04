"""Code of plugins that runs while a plan is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autometa.contracts.plugin_code import plugin_code
from autometa.engine.process_state import restored_process
from autometa.errors import warn_user


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
            warn_user(changes_text(whose, changed))


def changes_text(whose: str, changed: list[str]) -> str:
    """Say what was changed in the process."""
    return f"{whose} changed {', '.join(changed)} of the whole process, which was put back."
