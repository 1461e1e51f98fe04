"""``autometa compare``, ``worker`` and ``report``, as typed."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest

import autometa as am
from autometa.cli import main
from autometa.cli.compare import NAMES, _chosen_tasks, _has_gaps
from autometa.cli.component_text import labels, parse_component, parse_learner, split_components
from autometa.cli.option_names import option_names, with_options
from autometa.cli.study_file import NamedComponent, StudyFile, learners_from_texts, read_study_file, tasks_from_texts
from autometa.comparison.execution.storage import open_storage
from autometa.comparison.execution.stored_plan import begun_plan
from autometa.comparison.report.text import as_markdown
from autometa.comparison.results.record import INCOMPLETE
from autometa.errors import InvalidData, InvalidParameter, MissingData, StorageError
from tiers import first_by_default

SMALL = [
    *("--trials", "2", "--steps", "4", "--tasks-per-step", "2", "--test-tasks", "12", "--valid-tasks", "4"),
    *("--seeds", "1", "--device", "cpu", "--quiet"),
]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a small comparison."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert (
        main(
            ["compare", "--tasks", "sinusoid:n_shot=5", "--learners", "ridge,sklearn", *SMALL, "--output", str(folder)]
        )
        == 0
    )
    return folder


def test_compare_ends_with_the_leaderboard_and_the_path_of_the_report(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["compare", "--tasks", "sinusoid:n_shot=5", "--learners", "ridge,sklearn", *SMALL, "--output", str(first)]
    )
    said = capsys.readouterr().out
    assert code == 0
    assert re.search(r"sinusoid +mean squared error on 12 held-out tasks, 1 seed, 5 shot", said)
    for heading in (
        "learner",
        "score",
        "95% interval",
        "queries",
        "normalization",
        "trained",
        "adapt ms",
        "predict ms",
    ):
        assert heading in said
    assert re.search(r"^\* +(ridge|sklearn) ", said, re.MULTILINE)
    assert said.rstrip().endswith(f"Report: {first / 'report.html'}")
    assert (first / "report.html").exists()
    assert max(map(len, said.splitlines()[:-1])) <= 100


@pytest.mark.reports
def test_report_shows_the_leaderboard_again_and_rebuilds_the_page(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (first / "report.html").unlink()
    assert main(["report", str(first)]) == 0
    assert "ridge" in capsys.readouterr().out
    assert "<svg" in (first / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_told_beneath_the_leaderboard(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(first, other)
    (other / "report.html").unlink()
    (other / "report.html").mkdir()
    assert main(["report", str(other)]) == 1
    said = capsys.readouterr()
    assert "ridge" in said.out
    assert "report.html' cannot be written" in said.err
    assert "--format md, csv or json prints tables and writes nothing" in " ".join(said.err.split())


@pytest.mark.parametrize("where", ["leaderboard.csv", "best.autometa", "report.html", "figures"])
def test_a_full_disc_is_told_in_a_line_and_the_report_is_written_later(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "some runs"
    command = ["compare", "--tasks", "sinusoid:n_shot=5", "--learners", "ridge,sklearn", *SMALL, "--quiet"]
    replace = Path.replace

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_there(part: Path, place: Path) -> Path:
        return full() if place.name == where else replace(part, place)

    with monkeypatch.context() as disc:
        if where == "figures":
            disc.setattr("autometa.comparison.report.page.render", full)
        else:
            disc.setattr(Path, "replace", full_there)
        assert main([*command, "--output", str(folder)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"error: .* No space left on device\. .*\n", told.err)
    assert f"kept in '{folder}'" in told.err
    assert f"autometa report '{folder}'" in told.err
    assert not (folder / "report.html").exists()
    assert not list(folder.glob(".*.part"))
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").exists()
    assert main([*command, "--output", str(folder)]) == 0
    assert (folder / "best.autometa").exists()


@pytest.mark.filterwarnings("default:the report is not written")
def test_a_report_that_cannot_be_drawn_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of an earlier call, with fewer trials, does not stand beside the new tables."""
    command = ["compare", "--tasks", "sinusoid", "--learners", "ridge", *SMALL, "--output", str(tmp_path / "run")]
    assert main(command) == 0
    monkeypatch.setattr("autometa.comparison.report.page.render", lambda record: 1 / 0)
    assert main(command) == 1
    said = capsys.readouterr()
    assert "the report is not written: the report cannot be drawn: ZeroDivisionError" in said.err
    assert not (tmp_path / "run" / "report.html").exists()


def test_json_has_the_rows_of_the_leaderboard_and_nothing_else(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(first), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["learner"] for row in rows} == {"ridge", "sklearn"}
    assert [row["rank"] for row in rows] == [1, 2]
    assert rows[0]["score"] <= rows[1]["score"]
    assert isinstance(rows[0]["params"], dict)


def test_report_prints_the_leaderboard_and_the_verdicts_in_other_formats_and_writes_nothing(
    first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = am.Comparison.load(first).leaderboard
    page = (first / "report.html").stat().st_mtime_ns
    best, other = board["learner"]
    assert main(["report", str(first), "--format", "md"]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].startswith("## sinusoid   mean squared error on 12 held-out tasks, 1 seed, 5 shot")
    rows = [line for line in lines if line.startswith("|")]
    assert len({line.count(" | ") for line in rows}) == 1
    assert rows[2].startswith(f"| \\* | {best} | ")
    assert rows[3].startswith(f"| ? | {other} | ")
    assert f"**{best} did best: mean squared error" in said
    assert "\\* best, = no difference from it found, ? not decided." in said

    assert main(["report", str(first), "--format", "csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    pd.testing.assert_series_equal(table["score"], board["score"])
    assert table["verdict"].tolist() == ["best", "not decided"]

    assert main(["report", str(first), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["complete"] is True
    assert [row["verdict"] for row in told["leaderboard"]] == ["best", "not decided"]
    assert told["verdicts"]["sinusoid"]["answer"].startswith(f"{best} did best")
    assert len(told["significance"]) == 1
    assert (first / "report.html").stat().st_mtime_ns == page

    assert main(["report", str(first), "--format", "pdf"]) == 2
    assert "--format='pdf'" in capsys.readouterr().err
    assert main(["report", str(first), "--format", "md", "--json"]) == 2


@pytest.mark.thorough
@pytest.mark.reports
def test_what_the_file_of_a_report_ends_in_says_how_it_is_written(
    first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = am.Comparison.load(first)
    for kind in ("md", "csv", "json"):
        assert main(["report", str(first), "--format", kind]) == 0
        path = comparison.report(tmp_path / f"report.{kind}")
        assert path.read_text() == capsys.readouterr().out
    assert comparison.report(tmp_path / "new" / "REPORT.HTML").read_text().startswith("<!DOCTYPE html>")
    for name in ("report", "report.pdf", "html"):
        with pytest.raises(am.InvalidParameter, match=rf"path=.*{name}' must end in .html, .md, .csv, .json"):
            comparison.report(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_names_cannot_break_a_table_of_markdown(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = am.Comparison.load(first)
    monkeypatch.setattr(comparison, "significance", comparison.significance.iloc[:0])
    monkeypatch.setattr(comparison, "leaderboard", comparison.leaderboard.assign(learner=["a|b*<i>", "c\nd"]))
    rows = [line for line in as_markdown(comparison).splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert "a\\|b\\*\\<i\\>" in rows[2]


def test_a_worker_with_nothing_left_to_do_ends(first: Path) -> None:
    assert main(["worker", "--storage", str(first / "journal.log"), "--name", "first"]) == 0


def test_a_study_file_is_the_same_as_options_and_options_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        f"""
        trials = 2
        steps = 4
        tasks_per_step = 2
        test_tasks = 50
        valid_tasks = 4
        seeds = 1
        device = "cpu"
        output = "{(tmp_path / "out").as_posix()}"

        [tasks.waves]
        sampler = "sinusoid"
        n_shot = 5

        [learners.closed-form]
        learner = "ridge"

        [learners.sklearn]
        """
    )
    assert main(["compare", str(file), "--test-tasks", "12", "--quiet", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["tasks"], row["learner"], row["n_test_tasks"], row["n_shot"]) for row in rows} == {
        ("waves", "closed-form", 12, 5),
        ("waves", "sklearn", 12, 5),
    }
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.thorough
def test_a_table_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    slopes = np.repeat(rng.normal(size=20), 20)
    x = rng.normal(size=400)
    table = pd.DataFrame({"school": np.repeat(np.arange(20), 20), "hours": x, "score": slopes * x})
    table.to_csv(tmp_path / "data.csv", index=False)
    options = ["--table", str(tmp_path / "data.csv"), "--task-column", "school", "--target", "score", "--shots", "8"]
    assert (
        main(["compare", *options, "--learners", "ridge,sklearn", *SMALL, "--json", "--output", str(tmp_path / "out")])
        == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert {(row["tasks"], row["metric"], row["n_shot"]) for row in rows} == {("data", "mse", 8)}
    assert {"ridge", "sklearn", "sklearn_pooled"} <= {row["learner"] for row in rows}
    gaps = {row["learner"]: row["gap_to_pooled"] for row in rows}
    assert gaps["sklearn_pooled"] is None
    assert gaps["ridge"] is not None
    assert {"labelled_rows.csv", "entities.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_baselines_join_unless_they_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.toml"
    study.write_text('learners = ["ridge"]\nbaselines = false\n[tasks]\nsinusoid = {}\n')
    asked = ["--tasks", "sinusoid", "--learners", "ridge"]

    def learners(*options: str) -> list[str]:
        assert main(["compare", *options, "--dry-run", "--json", *SMALL]) == 0
        return [row["learner"] for row in json.loads(capsys.readouterr().out)["pairs"]]

    assert learners(*asked) == ["ridge", "sklearn"]
    assert learners(*asked, "--no-baselines") == ["ridge"]
    assert learners(str(study)) == ["ridge"]
    assert learners(str(study), "--baselines") == ["ridge", "sklearn"]
    assert main(["compare", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Baselines join every comparison" in said
    assert "--no-baselines" in said


@pytest.mark.thorough
def test_a_table_is_taken_as_people_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient": np.repeat(np.arange(12), 9), "day": np.tile(np.arange(9), 12)})
    table = table.assign(dose=rng.normal(size=108), ill=rng.choice(["yes", "no"], 108))
    table.to_csv(tmp_path / "data.csv", index=False)
    options = ["--table", str(tmp_path / "data.csv"), "--task-column", "patient", "--target", "ill", "--order", "day"]
    options += ["--learners", "sklearn", "--test-fraction", "0.5", "--problem", "classification", *SMALL, "--json"]
    assert main(["compare", *options, "--output", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["metric"], row["n_shot"], row["n_test_tasks"]) for row in rows} == {("accuracy", 4, 6)}
    assert main(["compare", *options, "--stratified", "--output", str(tmp_path / "each")]) == 0
    assert {row["n_shot"] for row in json.loads(capsys.readouterr().out)} == {2}, "of each class"
    numbers = [*options[:5], "dose", *SMALL, "--stratified", "--output", str(tmp_path / "none")]
    assert main(["compare", *numbers]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "it counts the rows of each class, and 'dose' is a column of numbers to predict; leave it out" in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--tasks", "sinusoidal"], "did you mean 'sinusoid'?"),
        (["--tasks", "sinusoid:n_shots=5"], "did you mean 'n_shot'?"),
        (["--tasks", "sinusoid:5"], "must look like key=value"),
        (["--tasks", "sinusoid", "--learners", "rigde"], "did you mean 'ridge'?"),
        (["--tasks", "sinusoid", "--trials", "0"], "--trials=0 must be an integer from 1 to 100000"),
        (["--tasks", "sinusoid", "--n-test-tasks", "0"], "--n-test-tasks=0 must be an integer from 1 to 10000000"),
        (["--tasks", "sinusoid", "--steps", "-1"], "--steps=-1 must be an integer from 1 to 1000000000"),
        (["--tasks", "sinusoid", "--device", "gpu7"], "--device='gpu7' is not a device"),
        (["--table", "x.csv"], "needs --task-column COLUMN and --target COLUMN"),
        (["--table", "x.csv", "--tasks", "glyphs"], "give either --table or --tasks"),
        (["--target", "score"], "--table FILE.csv, which is missing"),
        (["--trials", "many"], "Invalid value for '--trials'"),
    ],
)
def test_bad_usage_is_one_clear_error_and_exit_code_2(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *typed]) == 2
    error = re.sub(r"[│\s]+", " ", capsys.readouterr().err)
    assert said in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_test_tasks=0 must be", "--n-test-tasks=0 must be"),
        (
            "out holds another: n_trials=1 there and 2 here; max_steps=3",
            "out holds another: --trials=1 there and 2 here; --steps=3",
        ),
        ("name='b': output='x' holds", "--name='b': --output='x' holds"),
        ("device='gpu' of learner 'x' must be", "device='gpu' of learner 'x' must be"),
        ("learner__device=3, the_name=4 and a.name=5", "learner__device=3, the_name=4 and a.name=5"),
    ],
)
def test_errors_name_options_where_they_named_arguments(text: str, said: str) -> None:
    assert with_options(text, NAMES) == said
    with pytest.raises(InvalidParameter) as caught, option_names(NAMES):
        raise InvalidParameter(text)
    assert str(caught.value) == said
    with pytest.raises(StorageError, match="^--storage='x' cannot be used$"), option_names(NAMES):
        raise StorageError("storage='x' cannot be used")


@pytest.mark.thorough
@pytest.mark.reports
def test_a_joint_search_has_nothing_to_warn_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--trials", "6", "--steps", "2", "--test-tasks", "5", "--valid-tasks", "5", "--seeds", "1", "--quiet"]
    who = ["--tasks", "sinusoid", "--learners", "ridge,maml,sklearn", "--search", "joint", "--device", "cpu"]
    assert main(["compare", *who, *options, "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    assert "fewer than 4 trials have, the importance is a guess" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["compare", "nowhere.toml"], "'nowhere.toml' does not exist"),
        (["report", "nowhere"], "holds no comparison"),
    ],
)
def test_missing_data_is_one_clear_error_and_exit_code_1(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(typed) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


@pytest.mark.parametrize(
    ("stage", "learner", "search", "gaps"),
    [
        ("trial", "maml", "separate", False),
        ("trial", "lost", "separate", True),
        ("trial", "lost", "joint", False),
        ("final", "maml", "separate", True),
    ],
)
def test_a_failed_trial_is_no_failed_comparison(stage: str, learner: str, search: str, gaps: bool) -> None:
    comparison = SimpleNamespace(
        leaderboard=pd.DataFrame({"tasks": ["sinusoid"], "learner": ["maml"], "trained_on": ["sinusoid"]}),
        failures=pd.DataFrame({"tasks": ["sinusoid"], "learner": [learner], "stage": [stage]}),
        plan={"settings": {"search": search}},
    )
    assert _has_gaps(comparison) is gaps  # type: ignore[arg-type]


@pytest.mark.parametrize("command", first_by_default(1, ["compare", "worker", "serve", "report", "pretrain"]))
def test_help_has_an_example_and_imports_no_torch(command: str) -> None:
    code = (
        "import sys\nfrom autometa.cli import main\n"
        f"assert main([{command!r}, '--help']) == 0\n"
        "heavy = {'torch', 'pandas', 'optuna', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"Example: autometa {command} " in done.stdout


def test_the_demo_names_its_learners_one_or_two_of_each_family() -> None:
    asked = read_study_file(Path(__file__).parents[1] / "examples" / "demo.toml")
    assert asked.learners is not None
    listed = am.plugins().query("kind == 'learner'").set_index("name")["plugin"]
    families = [listed[component.name] for component in asked.learners.values()]
    assert set(families) == {"metric", "optimization", "model", "transfer", "multitask", "tabular", "baselines"}
    assert max(map(families.count, families)) <= 2


def test_parameters_follow_a_name_as_python_literals() -> None:
    assert parse_component("omniglot:root=../data,n_way=5,p=0.1,sizes=[1, 2],flag=true,text='a,b'") == (
        "omniglot",
        {"root": "../data", "n_way": 5, "p": 0.1, "sizes": [1, 2], "flag": True, "text": "a,b"},
    )
    assert parse_component("glyphs") == ("glyphs", {})
    assert parse_component("omniglot:root=C:\\data") == ("omniglot", {"root": "C:\\data"})
    assert parse_learner("maml:reptile:steps=3") == ("maml", "reptile", {"steps": 3})
    assert parse_learner("maml:reptile") == ("maml", "reptile", {})
    assert parse_learner("maml:steps=3") == ("maml", None, {"steps": 3})
    assert split_components("ridge, maml:steps=3,inner_lr=0.1,sklearn") == [
        "ridge",
        "maml:steps=3,inner_lr=0.1",
        "sklearn",
    ]


@pytest.mark.parametrize("text", [":n_way=5", "omniglot:5", "omniglot:n way=5", "omniglot:n_way=5,n_way=6"])
def test_what_is_not_a_name_with_parameters_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_component(text)


def test_labels_tell_namesakes_apart_by_what_differs() -> None:
    few = {"root": "../data", "n_way": 5}
    many = {"root": "../data", "n_way": 20}
    assert labels([("omniglot", few), ("glyphs", {})]) == ["omniglot", "glyphs"]
    assert labels([("omniglot", few), ("omniglot", many)]) == ["omniglot n_way=5", "omniglot n_way=20"]
    assert labels([("images", {"root": "a/cats"}), ("images", {"root": "a/dogs"})]) == [
        "images root=cats",
        "images root=dogs",
    ]
    assert labels([("glyphs", {}), ("glyphs", {})]) == ["glyphs", "glyphs#2"]
    assert list(tasks_from_texts(["omniglot:n_way=5", "omniglot:n_way=20"])) == [
        "omniglot n_way=5",
        "omniglot n_way=20",
    ]
    assert learners_from_texts(["all"]) is None
    assert learners_from_texts(["maml:reptile"]) == {
        "maml:reptile": NamedComponent(name="maml", meta_optimizer="reptile")
    }


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("trails = 3", InvalidParameter, "did you mean 'trials'?"),
        ("trials = 'three'", InvalidParameter, "trials='three' of study file .* must be a positive integer"),
        ("budget = true", InvalidParameter, "budget=True .* must be a positive number"),
        ("tasks = 3", InvalidParameter, r"must be a list of names, or tables such as \[tasks.NAME\]"),
        ("tasks = []", InvalidParameter, "must be names in quotes"),
        ("[tasks.five]\nsampler = 5", InvalidParameter, r"sampler=5 of \[tasks.five\]"),
        ("trials = ", InvalidData, "is not TOML"),
    ],
)
def test_a_wrong_study_file_is_told_by_key_and_value(
    content: str, error: type[Exception], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(content)
    with pytest.raises(error, match=said):
        read_study_file(file)
    with pytest.raises(MissingData, match="does not exist"):
        read_study_file(tmp_path / "none.toml")


def test_a_mark_at_the_beginning_that_editors_write_is_no_part_of_a_study_file(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text("trials = 3", encoding="utf-8-sig")
    assert read_study_file(file).options == {"n_trials": 3}


INTERRUPTIBLE = """
import signal, sys
from autometa.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell started the tests in the background, it is off
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A comparison of its own process that would take hours; its output is tmp_path / "out"."""
    options = ["--tasks", "sinusoid", "--learners", "ridge", "--steps", "1000000", "--trials", "2", "--device", "cpu"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "compare", *options, "-q", "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_ctrl_c_ends_every_command_with_the_exit_code_of_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*what: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autometa.comparison.work", interrupted)
    assert main(["worker", "--storage", "sqlite:///nothing.db", "--name", "first"]) == 130


def test_ctrl_c_before_anything_was_begun_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*what: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("autometa.comparison.call.register_plan", interrupted)
    out = tmp_path / "out"
    assert main(["compare", "--tasks", "sinusoid", "--learners", "ridge", "-q", "--output", str(out)]) == 130
    error = capsys.readouterr().err
    assert f"Interrupted. Nothing was begun, and {out} holds no comparison yet." in error
    assert "kept" not in error
    assert main(["report", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"output={str(out)!r} holds no comparison: there is no run.json in it, which is written before" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process alone")
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    endless: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    deadline = time.monotonic() + 120
    while not _has_a_running_trial(out / "journal.log"):
        assert endless.poll() is None, endless.communicate()
        assert time.monotonic() < deadline, "no trial was begun"
        time.sleep(0.1)
    endless.send_signal(signal.SIGINT)
    said, error = endless.communicate(timeout=120)
    assert endless.returncode == 130
    assert f"What is done is kept in {out}; the same command goes on from there." in error
    assert "Traceback" not in error
    assert f"Report: {out / 'report.html'}" in said
    assert INCOMPLETE in (out / "report.html").read_text(encoding="utf-8")
    assert main(["report", str(out)]) == 0
    assert "Not complete" in capsys.readouterr().err


def test_a_study_file_takes_a_table_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "study.toml"
    file.write_text('table = "data/x.csv"\ntask_column = "school"\ntarget = "score"\nshots = 3\nquiet = true\n')
    asked = read_study_file(file)
    as_they_come = {"stratified": False, "every_entity": True}
    params = {"data": "data/x.csv", "task": "school", "target": "score", "n_shot": 3, **as_they_come}
    assert asked.quiet
    assert _chosen_tasks(asked, None, {}) == {"x": NamedComponent(name="tasks/table", params=params)}
    typed = _chosen_tasks(asked, None, {"table": Path("y.csv"), "shots": 5})
    assert typed == {"y": NamedComponent(name="tasks/table", params=params | {"data": "y.csv", "n_shot": 5})}
    told = {"problem": "regression", "order": "day", "stratified": False, "test_fraction": 0.5}
    file.write_text(
        'order = "day"\nproblem = "regression"\nstratified = false\ntest_fraction = 0.5\n' + file.read_text()
    )
    assert _chosen_tasks(read_study_file(file), None, {})["x"].params == params | told
    plain = {key: value for key, value in asked.of_table.items() if key != "shots"}
    assert _chosen_tasks(StudyFile(of_table=plain), None, {})["x"].params["n_shot"] == "auto"
    assert list(_chosen_tasks(asked, ["sinusoid"], {})) == ["sinusoid"]
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        am, "compare", lambda samplers, *_, **options: given.update(options, of=list(samplers)) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):  # by which the replaced comparison ends
        main(["compare", str(file)])
    assert (given["of"], given["verbose"]) == (["x"], 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('table = "x.csv"', "needs --task-column COLUMN and --target COLUMN too"),
        ('target = "score"', "--table FILE.csv, which is missing"),
        ('table = "x.csv"\ntasks = "glyphs"', "has both tasks and table"),
        ("shots = 0", "shots=0 of study file .* must be a positive integer"),
        ("stratified = 1", "stratified=1 of study file .* must be true or false"),
        ('problem = "ranking"', "problem='ranking' of study file .* must be"),
        ("test_fraction = 1.5", "test_fraction=1.5 of study file .* must be"),
        ("quiet = 1", "quiet=1 of study file .* must be true or false"),
        ("tabel = 1", r"unknown key 'tabel'; did you mean 'table'\? It may have trials"),
        ("zzzz = 1", "unknown key 'zzzz'; it may have trials"),
        (
            'tasks = "sinusoid"\nlearners = ["ridge", "sklearn", "ridge"]',
            "learner 'ridge' is given twice; leave one out",
        ),
    ],
)
def test_what_a_study_file_cannot_mean_is_bad_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "study.toml").write_text(text)
    assert main(["compare", str(tmp_path / "study.toml")]) == 2
    assert re.search(said, re.sub(r"[│\s]+", " ", capsys.readouterr().err))


def test_a_learner_typed_twice_is_refused_and_others_of_its_name_are_not() -> None:
    with pytest.raises(InvalidParameter, match="learner 'maml:steps=3' is given twice"):
        learners_from_texts(["maml:steps=3,ridge", "maml:steps=3"])
    told_apart = learners_from_texts(["maml:steps=3,maml:steps=4,maml:reptile:steps=3"])
    assert told_apart is not None
    assert len(told_apart) == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the workers in /proc")
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start", "import", "work"])
def test_ctrl_c_ends_workers_quietly_at_any_moment(tmp_path: Path, moment: str) -> None:
    options = ["--tasks", "sinusoid", "--learners", "ridge", "--steps", "1000000", "--trials", "2", "--device", "cpu"]
    options += ["--workers", "2", "-q", "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "compare", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not _has_come(moment, process.pid, tmp_path / "out" / "journal.log"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no worker was begun"
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=240)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    journal = tmp_path / "out" / "journal.log"
    is_stored = journal.exists() and bool(begun_plan(open_storage(str(journal)), "out"))
    assert ("the same command goes on from there" if is_stored else "Nothing was begun") in said
    assert is_stored or moment != "work"


def _has_come(moment: str, parent: int, journal: Path) -> bool:
    """Tell whether the server that forks workers is there, is in the midst of importing, or a trial is at work."""
    if moment == "work":
        return _has_a_running_trial(journal)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    started = [child for child in children if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()]
    if moment == "start":
        return bool(started)
    return any("libtorch_cpu" in Path(f"/proc/{child}/maps").read_text() for child in started)


def _has_a_running_trial(journal: Path) -> bool:
    """Tell whether a hyperparameter of a trial has been drawn, which comes right before its meta-training."""
    return journal.exists() and "regularization" in journal.read_text().rpartition('"plan"')[2].partition("\n")[2]
