"""The user's program: a process that is started imports its file again, before it does anything else."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from autometa.errors import ProcessFailed

WORKER = "a worker of autometa's"
"""The name of the processes that a comparison starts, which no program gives one of its own."""
OURS = "AUTOMETA_STARTS"
"""A variable of the environment of processes that others start for autometa, and that have no name of ours."""
BEGINS_AGAIN = 78
"""Exit code of a process that would begin the work again which it was started for."""


def has_file() -> bool:
    """Tell whether the program can be imported again: a session, or a script on standard input, cannot."""
    program = sys.modules["__main__"]
    if getattr(program, "__spec__", None) is not None:
        return True
    file = getattr(program, "__file__", None)
    return file is not None and os.path.isfile(file)


@contextmanager
def program_left_out() -> Iterator[None]:
    """Keep processes that are started in the block, by whichever thread, from importing the program.

    Several threads may be in such a block at once: the last of them puts back what the first one found.
    """
    program = vars(sys.modules["__main__"])
    with _changing:
        names = () if _taken_out else ("__file__", "__spec__")
        _taken_out.append({name: program.pop(name) for name in names if name in program})
        program["__spec__"] = None
    try:
        yield
    finally:
        with _changing:
            found = _taken_out[0]
            _taken_out.pop()
            if not _taken_out:
                program.update(found)


_changing = threading.Lock()
_taken_out: list[dict[str, Any]] = []
"""For each block of :func:`program_left_out` that goes on, the first one's first, what it took from the program."""


def importable_program() -> AbstractContextManager[None]:
    """Keep processes that are started in the block from importing a program that has no file."""
    return nullcontext() if has_file() else program_left_out()


def refuse_to_begin_again(*, starts_processes: bool = True) -> None:
    """Refuse work in a process that is still importing the program, which does that work where it is imported.

    A process that autometa started ends at once: whoever asked for it raises :func:`unguarded` in its place.

    Raises
    ------
    ProcessFailed
        In a process that the program itself started, where the work starts processes, which cannot be done there.
    """
    process = multiprocessing.current_process()
    if not getattr(process, "_inheriting", False):  # as multiprocessing itself looks for it
        return
    if process.name == WORKER or OURS in os.environ:
        os._exit(BEGINS_AGAIN)
    if starts_processes:
        raise unguarded()


def unguarded() -> ProcessFailed:
    """Make the error for a program whose work would be begun again by every process that it starts."""
    name = Path(getattr(sys.modules["__main__"], "__file__", None) or "the program").name
    return ProcessFailed(
        f"every process that is started imports {name!r} first, and would begin this work again: it stands outside of "
        "'if __name__ == \"__main__\":'. Leave imports, classes and functions as they are, and write below them\n\n"
        'if __name__ == "__main__":\n'
        "    ...  # the work of the program, this call included\n"
    )
