"""A small process that ends this one where nothing in this one can, for code in C may keep all its threads waiting."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SCRIPT = r"""
import os, sys, threading, time
process, left, lock = int(sys.argv[1]), [0.0], threading.Lock()

def listen():
    for line in sys.stdin:
        with lock:
            left[0] = float(line)
    if left[0] > 0:
        sys.stderr.write(sys.argv[3] + "\n")
        sys.stderr.flush()
    os._exit(0)

def stopped():
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return False

threading.Thread(target=listen, daemon=True).start()
while True:
    time.sleep(0.2)
    runs = not stopped()
    with lock:  # nothing may be told between a look at the time left and what follows from it
        if left[0] > 0 and runs:
            left[0] -= 0.2
            if left[0] <= 0:
                sys.stderr.write(sys.argv[2] + "\n")
                sys.stderr.flush()
                os.kill(process, 9)
                break
"""
_TEXT = (
    "error: TrialTimeout: no outer step was finished for too long, and nothing could interrupt it, so the process was "
    "ended. The same call goes on, with this trial in a process of its own."
)
_ENDED = (
    "error: the process ended in the midst of a trial or final run. The same call goes on, with that one in a process "
    "of its own."
)


class Monitor:
    """Ends this process unless it is told in time not to. Time for which the process is stopped does not count."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def expect(self, seconds: float) -> None:
        """Expect the next call within so many seconds; 0: expect none."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # somebody ended it, and nobody is watched then
            os.write(self._process.stdin.fileno(), f"{seconds}\n".encode())


@contextmanager
def monitored() -> Iterator[Monitor | None]:
    """Have a monitor in a block; none where Python cannot be started."""
    if not sys.executable:
        yield None
        return
    command = [sys.executable, "-I", "-S", "-c", _SCRIPT, str(os.getpid()), _TEXT, _ENDED]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    with process:
        yield Monitor(process)
