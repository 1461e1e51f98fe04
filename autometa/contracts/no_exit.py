"""A plugin's ``os._exit`` as an error: it would end the whole process, without a word and as if all were well."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def exit_is_an_error() -> Iterator[None]:
    """Raise SystemExit where the block calls ``os._exit``.

    Other threads, and processes that the block forks, end as they ask to.
    """
    real, process, thread = os._exit, os.getpid(), threading.get_ident()

    def end(status: int) -> NoReturn:
        if os.getpid() == process and threading.get_ident() == thread:
            raise SystemExit(f"os._exit({status})")
        real(status)

    os._exit = end
    try:
        yield
    finally:
        if os._exit is end:
            os._exit = real
