"""Processes that draw a report's figures: how many, what they import, and when they end."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path

import pytest

import autometa as am
from test_comparison import FAST, Mean
from test_process_start import CALL, on_linux, run_program, with_tests


@pytest.fixture
def n_that_drew(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of processes that were to draw reports, on a machine with three cores."""
    found: list[int] = []
    write = am.Comparison.write

    def told(self: am.Comparison, output: Path, *, n_processes: int = 1) -> None:
        found.append(n_processes)
        write(self, output)

    monkeypatch.setattr(am.Comparison, "write", told)
    monkeypatch.setattr("autometa.comparison.call.usable_cores", lambda: 3)
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("n_workers", [2, 4])
def test_as_many_processes_draw_as_worked_at_most_one_for_each_core(
    n_workers: int, n_that_drew: list[int], tmp_path: Path
) -> None:
    for _ in range(2):  # the second time nothing is left, and no server begins
        am.compare("sinusoid", [Mean()], n_workers=n_workers, output=tmp_path, **FAST)
    assert n_that_drew == [min(n_workers, 3), 1]


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_processes_that_draw_do_not_import_the_program(how: str, tmp_path: Path) -> None:
    call = CALL.replace("n_workers=2", "output='run'").replace("am.compare", "found = am.compare")
    ended = run_program(f"{call}found.report('report.html', n_processes=2)\n", tmp_path, how=how)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["imported", "compared"]
    assert "<svg" in (tmp_path / "report.html").read_text()


PRESSED = """
import multiprocessing, signal
from functools import partial
from autometa.comparison.report import drawing

def render():
    return drawing._sheet.get().add(partial(signal.raise_signal, signal.SIGINT))

if __name__ == "__main__":
    process = multiprocessing.get_context("forkserver").Process(target=print, args=("of the program",))
    process.start()
    process.join()
    print(repr(drawing.drawn_by(2, render)))
"""


@pytest.mark.thorough
@on_linux
def test_processes_that_draw_leave_ctrl_c_to_who_asked(tmp_path: Path) -> None:
    """Those too that a server of the program itself forks, where it does not wait."""
    ended = run_program(PRESSED, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["of the program", "''"]


FIGURE = """
import time
from pathlib import Path

def figure(number):
    time.sleep(0.05)
    (Path(__file__).parent / f"figure {number}").touch()
    return ""
"""
FAILING = """
from functools import partial
from pathlib import Path
from autometa.comparison.report import drawing
from slow_figure import figure

def render():
    for number in range(300):
        drawing._sheet.get().add(partial(figure, number))
    while not list(Path(__file__).parent.glob("figure *")):
        pass
    raise RuntimeError("no more figures")

if __name__ == "__main__":
    drawing.drawn_by(2, render)
"""


@pytest.mark.thorough
@on_linux
def test_figures_that_nobody_waits_for_any_more_are_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "slow_figure.py").write_text(FIGURE)
    ended = run_program(FAILING, tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.endswith("RuntimeError: no more figures\n")
    assert len(list(tmp_path.glob("figure *"))) < 300


DRAWING = """
import os, signal, time
from autometa.comparison.report import drawing

def render():
    sheet = drawing._sheet.get()
    for _ in range(3):
        sheet.add(os.getpid)
    print(*sheet._pool._processes, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    drawing.drawn_by(2, render)
"""


@on_linux
def test_processes_that_draw_end_with_who_asked(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(DRAWING)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env=with_tests(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        assert caller.stdout is not None
        drawing = [os.pidfd_open(int(pid)) for pid in caller.stdout.readline().split()]
        assert len(drawing) == 2
        caller.kill()
    left = list(drawing)
    while left:
        ended = wait(left, 300)
        assert ended, "a process draws on"
        left = [one for one in left if one not in ended]
    for one in drawing:
        os.close(one)
