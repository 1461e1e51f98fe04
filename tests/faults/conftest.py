"""All of these are slow: each starts comparisons in processes of their own. ``FAULT_TURNS`` repeats every one.

``FAULT_TABLE`` names a file to which each appends what it counted.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.harness import Ended, Run, count_differences, read_scores
from postgres import Server, postgres_server

Judge = Callable[..., None]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat every test as often as is asked for."""
    turns = int(os.environ.get("FAULT_TURNS", "1"))
    if turns > 1 and Path(metafunc.module.__file__).parent == Path(__file__).parent:
        metafunc.fixturenames.append("turn")
        metafunc.parametrize("turn", range(turns))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as slow."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Server]:
    """Start a PostgreSQL server."""
    with postgres_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Run], Path]:
    """Return the output of the same comparison without a fault, made once for each kind."""
    made: dict[tuple[object, ...], Path] = {}

    def output_of(run: Run) -> Path:
        kind = (run.tasks, run.learners, *run.options)
        if kind not in made:
            other = Run(tmp_path_factory.mktemp("undisturbed"), run.tasks, run.learners, None, run.options)
            ended = other.finish()
            assert ended.code == 0, ended
            made[kind] = other.output
        return made[kind]

    return output_of


@pytest.fixture
def judge(undisturbed: Callable[[Run], Path], request: pytest.FixtureRequest) -> Judge:
    """Check that a comparison ended as if nothing had struck it, and count what was lost, doubled and said.

    ``without`` names a learner whose own fault it was, which is left out.
    """

    def check(run: Run, *struck: Ended, most_lines: int = 12, without: str = "") -> None:
        tables = (run.scores(), read_scores(undisturbed(run)))
        lost, doubled = count_differences(*(table[table["learner"] != without] for table in tables))
        lines = max((ended.lines for ended in struck), default=0)
        _note(request.node.name, lost, doubled, lines)
        assert (lost, doubled) == (0, 0)
        assert lines <= most_lines, "\n".join(ended.err for ended in struck)
        assert not any("Traceback" in ended.err for ended in struck), struck

    return check


def _note(name: str, lost: int, doubled: int, lines: int) -> None:
    table = os.environ.get("FAULT_TABLE")
    if table is None:
        return
    with Path(table).open("a", newline="") as file:
        csv.writer(file).writerow([name.partition("[")[0].removeprefix("test_"), name, lost, doubled, lines])
