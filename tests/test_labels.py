"""Labels of any kind: no two share a file, and none breaks what is printed or drawn."""

from __future__ import annotations

import csv
import html
import io
import itertools
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

import autometa as am
from autometa.cli import main
from autometa.cli.component_text import labels
from autometa.cli.screen import make_console, show_leaderboard
from autometa.cli.tasks import _show_facts
from autometa.comparison.execution.label_files import file_name
from autometa.comparison.plan.entrants import check_name
from autometa.comparison.results.spreadsheet import csv_text
from autometa.contracts.printable import printable
from autometa.host.catalog import name_of

pytestmark = pytest.mark.pictures

PLAIN = ["prototypical", "five-way", "a_b", "v1.5", "0", "-x"]
ODD = [
    "age<50", "age>50", "age_50", "a b", "a_b", "a\tb", "A", "a", "A_b", "\N{FIRE}", "\N{HERB}", "_", "é",
    "e\N{COMBINING ACUTE ACCENT}", ".", "..", "...", ".hidden", "end.", "end", "con", "CON", "nul.txt", "com1", "a=b",
    "a", "x" * 61, "x" * 62, "x" * 150, "漢" * 150, "ß", "ss", "ſ", "s", "İ", "i",
    "\x1b[31m", "[/red]", "$x_$", "=1+1", "'=1+1", "", " ",
    "a:b", "a*b", "a?b",
]  # fmt: skip


def test_a_plain_label_is_the_name_of_its_file() -> None:
    assert [file_name(label) for label in PLAIN] == PLAIN


def test_two_labels_never_share_a_file_on_any_system() -> None:
    names = {label: file_name(label) for label in [*PLAIN, *ODD]}
    for forms in (str, str.lower, str.casefold, str.upper, lambda name: unicodedata.normalize("NFKD", name)):
        seen = {forms(name) for name in names.values()}
        assert len(seen) == len(names), forms


@pytest.mark.parametrize("label", ODD)
def test_every_label_becomes_a_name_that_every_system_takes(label: str, tmp_path: Path) -> None:
    name = file_name(label)
    assert not set(name) & set('<>:"/\\|?*\0')
    assert name.isprintable()
    assert not name.endswith((".", " "))
    assert not name.startswith(".")
    assert name.partition(".")[0].lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert len(f"best-{name}-10000.autometa".encode()) < 200
    (tmp_path / name).mkdir()


def test_a_name_with_a_digest_is_no_other_label() -> None:
    """A label that looks like the name made of another gets a name of its own."""
    once = file_name("age<50")
    assert file_name(once) != once


@pytest.mark.parametrize("kind", ["tasks", "learners", "name"])
@pytest.mark.parametrize("label", ["x" * 300, "a/b", "", " ", "a\0b", "a\ud800b", 5, None])
def test_a_label_that_cannot_be_kept_is_refused_before_any_work(kind: str, label: object) -> None:
    given = {"tasks": "sinusoid", "learners": "ridge"} | ({} if kind == "name" else {kind: {label: "ridge"}})
    given = given | ({"tasks": {label: "sinusoid"}} if kind == "tasks" else {})
    name = label if kind == "name" else "comparison"
    if kind == "name" and label is None:
        pytest.skip("no name is the default")
    with pytest.raises(am.InvalidParameter):
        am.compare(given["tasks"], given["learners"], name=name, verbose=0)  # type: ignore[arg-type]


def test_a_name_of_the_longest_length_is_taken() -> None:
    check_name("name", "x" * 150)


def test_typed_components_never_share_a_label() -> None:
    typed = [("table", {"data": data}) for data in ("p/a", "q/a", "r/a#2", "s/a#2", "t/a")]
    for order in itertools.permutations(typed):
        assert len(set(labels(order))) == len(typed)


SMALL = {"n_trials": 1, "max_steps": 2, "tasks_per_step": 2, "n_test_tasks": 6, "n_valid_tasks": 3, "n_seeds": 1}


@pytest.mark.thorough
def test_each_of_two_labels_of_one_look_keeps_its_own_model(tmp_path: Path) -> None:
    small, large = (am.make_tasks("sinusoid", n_shot=n_shot) for n_shot in (3, 7))
    found = am.compare(
        {"age<50": small, "age>50": large}, {"a b": "ridge", "a_b": "sklearn"}, output=tmp_path / "out", **SMALL,
        baselines=False, verbose=0,
    )  # fmt: skip
    models = sorted(path for path in (tmp_path / "out" / "models").rglob("*.autometa"))
    assert len(models) == 4
    assert len(list((tmp_path / "out").glob("best-*.autometa"))) == 2
    for _, row in found.leaderboard[found.leaderboard["rank"] == 1].iterrows():
        saved = am.load(tmp_path / "out" / f"best-{file_name(row['tasks'])}.autometa")
        for winner in (found.best_estimator(row["tasks"]), saved):
            assert name_of(winner.learner) == {"a b": "ridge", "a_b": "sklearn"}[row["learner"]]


MARKUP = [
    "[v2]ridge", "[bold]x", ":fire:", "$x_$", "$\\frac{", "\x1b[31mred\x1b[0m", "\u202eevil", "=1+1", "0.12345",
    "#010101", "<b>&", "\N{FIRE}", "a (b)", "${title}", "two\nlines", "\\", "#0a0001",
]  # fmt: skip


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a comparison whose labels all mean something to somebody."""
    folder = tmp_path_factory.mktemp("marked") / "out"
    learners = dict.fromkeys(MARKUP, "ridge")
    tasks = {"[v2]waves $x": "sinusoid"}
    am.compare(tasks, learners, output=folder, **SMALL, baselines=False, verbose=0)
    return folder


@pytest.mark.thorough
def test_every_label_stands_whole_in_report_and_figures(marked: Path) -> None:
    page = (marked / "report.html").read_text(encoding="utf-8")
    figures = "".join(re.findall(r"<svg class=\"plot\".*?</svg>", page, re.DOTALL))
    for label in MARKUP:
        shown = html.escape(printable(label), quote=False)
        assert f">{shown}<" in figures, label
        assert html.escape(printable(label, lines=True)) in page, label
    assert "\x1b" not in page


@pytest.mark.thorough
def test_every_label_stands_whole_on_the_terminal(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(marked)]) == 0
    said = capsys.readouterr()
    for label in MARKUP:
        assert re.search(rf"^[*=? ]+ +{re.escape(printable(label))} ", said.out, re.MULTILINE), label
    assert "\x1b" not in said.out + said.err


@pytest.mark.thorough
def test_no_cell_of_a_table_is_a_formula_and_none_is_lost(marked: Path) -> None:
    for file in marked.glob("*.csv"):
        for row in csv.reader(file.read_text(encoding="utf-8").splitlines()):
            assert not any(cell.startswith(("=", "+", "@")) for cell in row), (file.name, row)
    found = pd.read_csv(marked / "scores.csv")
    assert set(found["learner"]) == {*MARKUP} - {"=1+1"} | {"'=1+1"}


def test_text_that_begins_like_a_formula_stays_different_from_its_own_escape() -> None:
    cells = ["=1", "'=1", "''=1", "+1", "-x", "@a", "\t=1", "plain", "'plain", "1-2"]
    told = csv_text(pd.DataFrame({"cell": cells, "number": -1.5}))
    read = pd.read_csv(io.StringIO(told))
    assert read["cell"].nunique() == len(cells)
    assert list(read["cell"][7:]) == cells[7:]
    assert (read["number"] == -1.5).all()


def test_a_report_that_cannot_be_drawn_costs_neither_winner_nor_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*what: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("autometa.comparison.report.page.render", broken)
    with pytest.warns(UserWarning, match="the report is not written: the report cannot be drawn: RuntimeError: no ink"):
        found = am.compare("sinusoid", "ridge", output=tmp_path / "out", **SMALL, verbose=0)
    assert found.complete
    kept = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"best.autometa", "leaderboard.csv", "scores.csv", "run.json"} <= kept
    assert not [name for name in kept if name.startswith(".") or "tmp" in name]
    assert main(["report", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "error: the report cannot be drawn: RuntimeError: no ink\n"


@pytest.mark.parametrize("text", ["\x1b[2J", "\x07", "\x9b31m", "\u202e", "\ud800", "\u2028", "a\rb"])
def test_what_moves_a_cursor_is_printed_as_its_escape(text: str) -> None:
    assert printable(f"a{text}b").isprintable()
    assert printable(f"a{text}\nb", lines=True).split("\n")[1] == "b"


def test_what_people_write_is_printed_as_it_is() -> None:
    for text in ("plain", "å ß 漢字", "\N{FIRE}", "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}", "tab\tand\nline"):
        assert printable(text, lines=True) == text


@pytest.mark.thorough
def test_facts_and_reasons_are_no_markup(capsys: pytest.CaptureFixture[str], marked: Path) -> None:
    console = make_console()
    _show_facts(
        console,
        "Title[/red]",
        {"info": {"problem": "regression", "[/b]": "[/red]"}, "splits": {}, "about": {"[/i]": ["[/red]\x1b"]}},
    )
    found = am.Comparison.load(marked)
    found.failures.loc[0] = ["[/red]", "x", "trial", 0, "[/red] \x1b"]
    found.skipped.loc[0] = ["[/red]", "x", "[/red] \x1b", "y"]
    show_leaderboard(found, console)
    said = capsys.readouterr().out
    for text in ("Title[/red]", "[/b]", "[/i]", "[/red]\\x1b", "reason: [/red] \\x1b", "x on [/red]: [/red] \\x1b"):
        assert text in said
    assert "\x1b" not in said
