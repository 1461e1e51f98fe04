"""Labels of any kind: no two share a file, and none breaks what is printed or drawn."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import pytest

import autometa as am
from autometa.cli.component_text import labels
from autometa.comparison.execution.label_files import file_name
from autometa.comparison.plan.entrants import check_name
from autometa.host.catalog import name_of

PLAIN = ["prototypical", "five-way", "a_b", "v1.5", "0", "-x"]
ODD = [
    "age<50", "age>50", "age_50", "a b", "a_b", "a\tb", "A", "a", "A_b", "\N{FIRE}", "\N{HERB}", "_", "é", "e\N{COMBINING ACUTE ACCENT}",
    ".", "..", "...", ".hidden", "end.", "end", "con", "CON", "nul.txt", "com1", "a=b", "a", "x" * 61, "x" * 62, "x" * 150,
    "漢" * 150, "ß", "ss", "ſ", "s", "İ", "i", "\x1b[31m", "[/red]", "$x_$", "=1+1", "'=1+1", "", " ", "a:b", "a*b", "a?b",
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
    assert not set(name) & set('<>:"/\\|?*\0') and name.isprintable()
    assert not name.endswith((".", " ")) and not name.startswith(".")
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
