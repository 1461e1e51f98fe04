"""Workers begin with what they need imported, and with what the process has that asks for them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path

import optuna
import pytest
from torch import Tensor, nn

import autometa as am
from autometa.cli import main as autometa
from autometa.comparison.execution import own_session, workers
from autometa.comparison.execution.child import Child
from autometa.comparison.execution.owner import Owner
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.watch import Watch
from autometa.comparison.report import figures
from autometa.engine.process_start import NEEDED, ctrl_c_later, prepare_processes, process_context
from autometa.engine.program import program_left_out
from test_comparison import FAST, Mean
from test_startup import packages_after
from tiers import first_by_default

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="no server forks processes here")
comparing = import_module("autometa.comparison.compare")  # the package has the function under that name
VARIABLE = "AUTOMETA_TEST_VARIABLE"


class Orphaned(Mean):
    """Ends the server that forked its worker, once; then waits until the caller has told something, and may die.

    Parameters
    ----------
    folder : str
        Where the files ``killed`` and ``told`` are, or will be.
    dies : bool
    """

    def __init__(self, scale: float = 3.0, folder: str = "", dies: bool = False) -> None:
        super().__init__(scale)
        self.folder, self.dies = folder, dies

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        killed, told = Path(self.folder) / "killed", Path(self.folder) / "told"
        if not killed.exists():
            killed.write_text(str(os.getpid()))
            os.kill(os.getppid(), signal.SIGKILL)
            while not told.exists():
                time.sleep(0.01)
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().adapt(module, support)


def trials_that_died(output: Path) -> list[str]:
    """How the processes died that were at work on trials and final runs of a comparison."""
    storage = open_storage(str(output / "journal.log"))
    studies = optuna.get_all_study_names(storage)
    trials = [trial for name in studies for trial in optuna.load_study(study_name=name, storage=storage).get_trials()]
    return [trial.user_attrs["died"] for trial in trials if "died" in trial.user_attrs]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let :class:`Orphaned` know once the caller has told something."""
    tells = workers._tell

    def telling(text: str) -> None:
        (tmp_path / "told").touch()
        tells(text)

    monkeypatch.setattr(workers, "_tell", telling)


def wait_for_ever(watch: Watch) -> None:
    """Be a worker that does nothing."""
    time.sleep(3600)


class Stop(Exception):
    """Ends a call before its work."""


def stop(*args: object, **options: object) -> None:
    raise Stop


class InWorker(Mean):
    """Fails where it is not adapted in a worker that has a variable of the environment."""

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        assert parent_process() is not None
        assert os.environ.get(VARIABLE) == "set later"
        return super().adapt(module, support)


def test_a_command_begins_to_start_processes_before_it_imports_anything_heavy() -> None:
    heavy = ["torch", "sklearn", "optuna", "pandas"]
    assert packages_after("from autometa.engine.process_start import prepare_processes", heavy) == []


@pytest.mark.thorough
@on_linux
def test_what_the_server_imports_starts_no_thread_and_no_gpu() -> None:
    code = f"""
import importlib, os, sys
for name in {NEEDED}:
    importlib.import_module(name)
import torch
sys.exit(torch.cuda.is_initialized() or "grpc" in sys.modules or len(os.listdir("/proc/self/task")) > 1)
"""
    # OpenBLAS ends its threads before a fork by itself; here it has none.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.thorough
def test_workers_have_the_environment_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_processes()
    monkeypatch.setenv(VARIABLE, "set later")
    found = am.compare("sinusoid", [InWorker()], n_workers=2, output=tmp_path, **FAST)
    assert found.failures.empty
    assert found.complete


def test_no_process_is_started_where_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = am.compare("sinusoid", [Mean()], output=tmp_path, **FAST)
    monkeypatch.setattr(workers, "Child", None)
    monkeypatch.setattr(comparing, "prepare_processes", None)
    again = am.compare("sinusoid", [Mean()], n_workers=2, output=tmp_path, **FAST)
    assert again.complete
    assert len(again.trials) == len(first.trials)


@pytest.mark.parametrize(
    ("changes", "early"),
    [
        ([], 0),
        (["--trials", "2"], 1),
        (["--learners", "ridge"], 1),
        (["--test-tasks", "sinusoid"], 1),
        (["--output", "other"], 1),
    ],
)
def test_a_command_begins_to_start_processes_where_something_may_be_left(
    changes: list[str], early: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--tasks sinusoid --learners sklearn --trials 1 --seeds 1 --n-test-tasks 3 --valid-tasks 3 --steps 1"
    command = ["compare", *options.split(), "-q", "--output", "out"]
    assert autometa(command) == 0
    started: list[None] = []
    monkeypatch.setattr("autometa.cli.compare.prepare_processes", lambda: started.append(None))
    monkeypatch.setattr(am, "compare", stop)
    with suppress(Stop):
        autometa([*command, "--workers", "2", *changes])
    assert len(started) == early


@pytest.mark.thorough
@on_linux
def test_a_server_that_dies_while_it_starts_workers_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiprocessing.forkserver import _forkserver

    ask = _forkserver.connect_to_new_process

    def dying(fds: list[int]) -> tuple[int, int]:
        _forkserver.ensure_running()
        os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
        return ask(fds)

    monkeypatch.setattr("multiprocessing.forkserver.connect_to_new_process", dying)
    with pytest.raises(am.ProcessFailed, match="the process that starts the workers ended"):
        am.compare("sinusoid", [Mean()], n_workers=2, output=tmp_path, **FAST)
    monkeypatch.undo()
    assert am.compare("sinusoid", [Mean()], n_workers=2, output=tmp_path, **FAST).complete


@on_linux
@pytest.mark.usefixtures("tell")
def test_a_worker_lives_on_without_the_server_that_forked_it(tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="the process that starts the workers ended") as told:
        found = am.compare("sinusoid", [Orphaned(folder=str(tmp_path))], n_workers=2, output=tmp_path / "out", **FAST)
    assert len([warning for warning in told if warning.category is RuntimeWarning]) == 1
    assert found.complete
    assert trials_that_died(tmp_path / "out") == []


@on_linux
@pytest.mark.usefixtures("tell")
def test_a_worker_that_dies_after_the_server_that_forked_it_is_replaced(tmp_path: Path) -> None:
    learner = Orphaned(folder=str(tmp_path), dies=True)
    with pytest.warns(RuntimeWarning) as told:
        found = am.compare("sinusoid", [learner], n_workers=2, output=tmp_path / "out", **FAST)
    texts = [str(warning.message) for warning in told if warning.category is RuntimeWarning]
    assert [("process that starts the workers" in text, "; another goes on" in text) for text in texts] == [
        (True, False),
        (False, True),
    ]
    assert found.complete
    assert trials_that_died(tmp_path / "out") == ["an exit code that nobody saw"]


@on_linux
def test_the_end_of_a_worker_without_its_server_wakes_who_waits_for_it() -> None:
    from multiprocessing.forkserver import _forkserver

    child = Child(process_context(), wait_for_ever, (), Watch())
    child.start()
    assert child.process.pid is not None
    assert not wait([child.sentinel], 0)
    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
    assert wait([child.sentinel], 60)
    assert child.lives()
    assert child.is_orphan
    assert not wait([child.sentinel], 0)
    os.kill(child.process.pid, signal.SIGKILL)
    assert wait([child.sentinel], 60)
    assert not child.lives()


def count_pidfds() -> int:
    files = Path("/proc/self/fd")
    return sum(os.path.islink(file) and "pidfd" in os.readlink(file) for file in files.iterdir())


@pytest.mark.thorough
@on_linux
def test_a_worker_that_is_begun_again_leaves_no_open_file() -> None:
    from multiprocessing.forkserver import _forkserver

    before = count_pidfds()
    child = Child(process_context(), wait_for_ever, (), Watch())
    child.start()
    assert child.process.pid is not None
    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
    assert wait([child.sentinel], 60)
    assert child.lives()
    assert count_pidfds() == before + 1
    os.kill(child.process.pid, signal.SIGKILL)
    assert wait([child.sentinel], 60)
    child.begin()
    assert count_pidfds() == before


@on_linux
def test_ctrl_c_stops_a_worker_without_the_server_that_forked_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "_tell", press)
    with pytest.warns(UserWarning, match="interrupted"):
        am.compare("sinusoid", [Orphaned(folder=str(tmp_path))], n_workers=2, output=tmp_path / "out", **FAST)
    assert Owner.of(int((tmp_path / "killed").read_text())).started == ""


@pytest.mark.thorough
@on_linux
def test_the_server_imports_what_workers_and_figures_are_and_what_the_program_lets_it(tmp_path: Path) -> None:
    needed = {"this_one", workers._worker.__module__, figures.interval_figure.__module__}
    code = (
        f"MODULES = {needed!r}"
        + """
import multiprocessing, sys
from multiprocessing.forkserver import _forkserver
import autometa as am
from autometa.engine.process_start import prepare_processes

def modules():
    sys.exit(str(MODULES - sys.modules.keys()) if MODULES - sys.modules.keys() else 0)

if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["this_one"])
    prepare_processes()
    assert _forkserver._preload_modules == ["this_one"], _forkserver._preload_modules
    process = context.Process(target=modules)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""
    )
    (tmp_path / "this_one.py").touch()
    ended = run_program(code, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


SESSION = """
import autometa as am
from test_comparison import Mean
class Mine(Mean):
    pass
am.compare("sinusoid", {"mine": Mine()}, baselines=False, n_trials=1, n_seeds=1, n_workers=2, output="run")
"""


def with_tests() -> dict[str, str]:
    """Return the environment of a process that can import the modules of tests."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.mark.parametrize("label", first_by_default(1, ["Mine", "mine", "__main__"]))
def test_what_a_session_defines_is_refused_by_name_before_any_worker_starts(label: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-"],
        input=SESSION.replace('"mine"', repr(label)),
        env=with_tests(),
        text=True,
        capture_output=True,
        check=False,
        cwd=tmp_path,
    )
    assert "n_workers=2: the work cannot be sent to other processes ('Mine' is defined in this session" in ended.stderr
    assert ended.stderr.count("Traceback") == 1
    assert am.compare("sinusoid", {"mine": Mean()}, output=tmp_path / "run", **FAST).complete, "nothing was begun there"


def test_names_that_only_look_like_a_sessions_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_session, "has_file", lambda: False)
    assert own_session.why_not_imported(pickle.dumps(["__main__", "scale", Path, "__main__", Mean()])) is None
    monkeypatch.setattr(Mean, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Mean", Mean, raising=False)
    sent = pickle.dumps({"Mean": Mean(), "__main__": 1})
    assert own_session.why_not_imported(sent) == "'Mean' is defined in this session, which they cannot import"


SPAWN = """
import multiprocessing
from autometa.engine import process_start
process_start.process_context = lambda: multiprocessing.get_context("spawn")
"""
CALL = """
import autometa as am
print("imported", flush=True)
am.compare("sinusoid", "sklearn", n_trials=1, n_seeds=2, n_test_tasks=3, n_valid_tasks=3, n_workers=2, verbose=0)
print("compared", flush=True)
"""
GUARD = 'if __name__ == "__main__":'


def run_program(text: str, folder: Path, *, how: str = "file") -> subprocess.CompletedProcess[str]:
    """Run a program from a file, from standard input or from the command line."""
    path = folder / "program.py"
    path.write_text(text)
    arguments = {"file": [str(path)], "stdin": ["-"], "-c": ["-c", text], "-m": ["-m", "program"]}[how]
    given = text if how == "stdin" else ""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, input=given, env=with_tests(), cwd=folder, text=True, capture_output=True, check=False
    )


@pytest.mark.parametrize(
    ("start", "how"), first_by_default(1, [("", "file"), (SPAWN, "file"), ("", "-m"), (SPAWN, "-m")])
)
def test_a_program_that_workers_would_begin_again_is_one_error_that_says_what_to_write(
    start: str, how: str, tmp_path: Path
) -> None:
    ended = run_program(start + CALL, tmp_path, how=how)
    assert ended.returncode == 1
    assert ended.stderr.count("Traceback") == 1
    assert "ProcessFailed: every process that is started imports 'program.py' first" in ended.stderr
    assert f"\n{GUARD}\n    ..." in ended.stderr
    assert "compared" not in ended.stdout


@pytest.mark.parametrize(
    ("start", "how"),
    first_by_default(1, [("", "stdin"), ("", "-c"), (SPAWN, "stdin"), (SPAWN, "-c")]),
)
def test_workers_do_not_import_a_program_that_has_no_file(start: str, how: str, tmp_path: Path) -> None:
    ended = run_program(start + CALL, tmp_path, how=how)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["imported", "compared"]


@pytest.mark.thorough
def test_devices_of_a_program_that_they_would_begin_again_are_the_same_error(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric")
    call = "am.FewShotRegressor('maml', max_steps=2, n_devices=2, device='cpu').meta_fit('sinusoid')"
    ended = run_program(f"import autometa as am\n{call}\n", tmp_path)
    assert ended.stderr.count("Traceback") == 1
    assert "ProcessFailed: every process that is started imports 'program.py' first" in ended.stderr


@pytest.mark.thorough
def test_a_process_of_the_program_itself_is_told_what_to_write(tmp_path: Path) -> None:
    own = "import multiprocessing\n" + CALL.replace("am.compare", f"{GUARD}\n    START\nam.compare")
    start = "p = multiprocessing.get_context('spawn').Process(target=print); p.start(); p.join(); raise SystemExit"
    ended = run_program(own.replace("START", start), tmp_path)
    assert "autometa.errors.ProcessFailed: every process that is started imports" in ended.stderr
    assert "bootstrapping phase" not in ended.stderr


def test_a_process_of_the_program_itself_may_have_any_name(tmp_path: Path) -> None:
    own = f"""
import multiprocessing
from autometa.engine.program import refuse_to_begin_again
refuse_to_begin_again(starts_processes=False)
{GUARD}
    process = multiprocessing.get_context("spawn").Process(target=print, args=("done",), name="autometa")
    process.start()
    process.join()
"""
    assert run_program(own, tmp_path).stdout.splitlines() == ["done"]


@on_linux
def test_the_server_ends_before_the_process_that_began_it(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from multiprocessing.forkserver import _forkserver
from autometa.engine.process_start import prepare_processes
prepare_processes()
Path("server").write_text(str(_forkserver._forkserver_pid))
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)  # a pipe would wait for the server
    assert Owner.of(int((tmp_path / "server").read_text())).started == ""


@on_linux
def test_processes_that_the_program_lets_the_server_fork_are_waited_for(tmp_path: Path) -> None:
    program = """
import atexit
if __name__ == "__main__":
    atexit.register(print, "ended", flush=True)
import multiprocessing, time
from multiprocessing.forkserver import _forkserver
from autometa.engine.process_start import prepare_processes

def write():
    time.sleep(0.2)
    print("written", flush=True)

if __name__ == "__main__":
    prepare_processes()
    multiprocessing.get_context("forkserver").Process(target=write).start()
"""
    ended = run_program(program, tmp_path)
    assert (ended.stdout.splitlines(), ended.stderr) == (["written", "ended"], "")


@pytest.mark.thorough
@pytest.mark.parametrize("is_begun", [True, False])
def test_a_storage_without_a_folder_is_looked_into_before_a_server_begins(
    is_begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"storage": f"sqlite:///{tmp_path / 'studies.db'}", "name": "run"}
    if is_begun:
        am.compare("sinusoid", [Mean()], **place, **FAST)
        monkeypatch.setattr(workers, "Child", None)
    started: list[None] = []
    monkeypatch.setattr(comparing, "prepare_processes", lambda: started.append(None))
    assert am.compare("sinusoid", [Mean()], n_workers=2, **place, **FAST).complete
    assert len(started) == (not is_begun)


@on_linux
def test_a_fork_of_a_process_that_has_a_server_starts_one_of_its_own() -> None:
    code = """
import multiprocessing, os, sys
from autometa.engine.process_start import prepare_processes, process_context, start_process
if __name__ == "__main__":
    prepare_processes()
    if os.fork() == 0:
        process = process_context().Process(target=os.getpid)
        start_process(process)
        process.join()
        os._exit(process.exitcode)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


class Waiting(Mean):
    """Writes its process's number into a file, and never ends a slot.

    Parameters
    ----------
    file : str
    """

    def __init__(self, scale: float = 3.0, file: str = "") -> None:
        super().__init__(scale)
        self.file = file

    def adapt(self, module: nn.Module, support: am.Examples) -> Tensor:
        Path(self.file).write_text(str(os.getpid()))
        while True:
            time.sleep(0.1)


@on_linux
def test_a_worker_ends_with_the_process_that_asked_for_it_also_within_a_slot(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    file = str(tmp_path / "pid")
    call = f"am.compare('sinusoid', {{'waiting': Waiting(file={file!r})}}, n_trials=1, n_seeds=1, n_workers=2)"
    program.write_text(
        f"import autometa as am\nfrom test_process_start import Waiting\nif __name__ == '__main__':\n    {call}\n"
    )
    caller = subprocess.Popen([sys.executable, str(program)], env=with_tests())
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert caller.poll() is None
        time.sleep(0.05)
    worker = Owner.of(int((tmp_path / "pid").read_text()))
    caller.kill()
    caller.wait()
    until = time.monotonic() + 60.0
    while not worker.is_dead(last_beat=0.0) and time.monotonic() < until:
        time.sleep(0.05)
    assert worker.is_dead(last_beat=0.0)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Ctrl-C does not wait on this system.")
def test_ctrl_c_in_a_block_that_fails_is_heard_all_the_same() -> None:
    with pytest.raises(KeyboardInterrupt) as heard, ctrl_c_later():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise ImportError("something")
    assert isinstance(heard.value.__context__, ImportError)


@pytest.mark.thorough
def test_the_server_imports_nothing_from_the_folder_where_the_program_was_started(tmp_path: Path) -> None:
    (tmp_path / "optuna.py").write_text("open('imported', 'w').close()")
    (tmp_path / "programs").mkdir()
    program = tmp_path / "programs" / "program.py"
    program.write_text(f"{GUARD}\n    {CALL.strip().replace(chr(10), chr(10) + '    ')}\n")
    ended = subprocess.run(
        [sys.executable, str(program)], env=with_tests(), cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (tmp_path / "imported").exists()


def test_the_last_thread_that_leaves_the_program_out_puts_it_back() -> None:
    program = vars(sys.modules["__main__"])
    before = {name: program.get(name) for name in ("__file__", "__spec__")}
    first, second = program_left_out(), program_left_out()
    with ExitStack() as later:
        with first:
            later.enter_context(second)
        assert program["__spec__"] is None
        assert "__file__" not in program
    assert {name: program.get(name) for name in before} == before
