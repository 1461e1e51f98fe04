"""The report: one file that needs nothing else and tells everything a comparison found."""

from __future__ import annotations

import itertools
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from autometa.comparison.report import canvas, drawing
from autometa.comparison.report.canvas import styles
from autometa.comparison.report.page import render, write_report
from autometa.comparison.report.repeat import command_text
from autometa.comparison.report.significance import verdicts_beside_best
from autometa.comparison.report.tuning import importances_of, study_card
from autometa.comparison.results.record import INCOMPLETE, Frames, Record
from autometa.errors import StorageError

pytestmark = pytest.mark.pictures

optuna.logging.set_verbosity(optuna.logging.WARNING)

LEARNERS = {
    "prototypical": "metric",
    "ridge": "metric",
    "maml": "optimization",
    "fine_tune": "transfer",
    "multitask": "multitask",
    "in_context": "model",
    "sklearn": "baseline",
    "sklearn_pooled": "baseline",
}


def a_study(
    n_trials: int, seed: int = 0, *, names: tuple[str, ...] = ("lr", "inner_steps", "norm"), maximize: bool = True
) -> optuna.Study:
    rng = np.random.default_rng(seed)
    spaces = {
        "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "inner_steps": optuna.distributions.IntDistribution(1, 10),
        "norm": optuna.distributions.CategoricalDistribution(["batch", "group"]),
    }
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for _ in range(n_trials):
        params = {
            "lr": float(10 ** rng.uniform(-4, -1)),
            "inner_steps": int(rng.integers(1, 11)),
            "norm": str(rng.choice(["batch", "group"])),
        }
        value = 0.7 - 0.1 * abs(np.log10(params["lr"]) + 2) + 0.01 * rng.normal()
        pruned = rng.random() < 0.2
        study.add_trial(
            optuna.trial.create_trial(
                params={name: params[name] for name in names},
                distributions={name: spaces[name] for name in names},
                value=None if pruned else value if maximize else 1.2 - value,
                intermediate_values={0: value - 0.1 if maximize else 1.3 - value},
                state=optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE,
            )
        )
    return study


def made_up(
    tasks: tuple[str, ...] = ("glyphs", "digits", "sinusoid"),
    learners: tuple[str, ...] = tuple(LEARNERS),
    n_trials: int = 12,
) -> Record:
    """The record of a comparison, made up."""
    rng = np.random.default_rng(0)
    board, curves, pairs, studies = [], [], [], {}
    for name in tasks:
        mse = name == "sinusoid"
        scores = sorted(
            np.exp(rng.uniform(-2, 2.5, len(learners))) if mse else rng.uniform(0.4, 0.97, len(learners)),
            reverse=not mse,
        )
        for rank, (learner, score) in enumerate(zip(learners, scores, strict=True), 1):
            half = 0.08 * score if mse else 0.012
            trained = 0.0 if learner == "sklearn" else float(np.exp(rng.uniform(1, 5)))
            study = a_study(
                n_trials,
                rank,
                names=() if learner.startswith("sklearn") else ("lr", "inner_steps", "norm"),
                maximize=not mse,
            )
            studies[f"first/{name}/{learner}"] = study
            board.append(
                {
                    "tasks": name,
                    "rank": rank,
                    "learner": learner,
                    "family": LEARNERS[learner],
                    "metric": "mse" if mse else "accuracy",
                    "score": score,
                    "ci_low": score - half,
                    "ci_high": score + half,
                    "run_spread": half / 3,
                    "n_test_tasks": 600,
                    "n_seeds": 3,
                    "n_shot": 10 if mse else 1,
                    "n_query": 10,
                    "normalization": "none" if mse or rank % 3 == 0 else "batch (inductive)",
                    "meta_train_seconds": trained,
                    "adapt_ms": float(np.exp(rng.uniform(-1, 4))),
                    "predict_ms": float(np.exp(rng.uniform(-2, 1))),
                    "n_trials": n_trials,
                    "params": study.trials[0].params,
                    "trained_on": name,
                }
            )
            for seed in range(3):
                for step in range(0, 501, 50):
                    gone = np.exp(-step / 150) * (score * 2 if mse else -0.3)
                    curves.append((name, learner, seed, "outer steps", step, score + gone + 0.01 * rng.normal()))
                    curves.append((name, learner, seed, "seconds", trained * step / 500 + seed, score + gone))
                for step in range(6) if learner in ("maml", "fine_tune") else ():
                    gone = np.exp(-step / 1.5) * (score if mse else -0.2)
                    curves.append((name, learner, seed, "adaptation steps", step, score + gone + 0.005 * rng.normal()))
                for shot in (1, 2, 5, 10):
                    curves.append(
                        (
                            name,
                            learner,
                            seed,
                            "shots",
                            shot,
                            score * (1 + 1 / shot) if mse else 1 - (1 - score) / shot**0.4,
                        )
                    )
        for (i, a), (j, b) in itertools.combinations(enumerate(learners), 2):
            far = j - i > 1
            pairs.append(
                (
                    name,
                    a,
                    b,
                    scores[i] - scores[j],
                    scores[i] - scores[j] - 0.01,
                    scores[i] - scores[j] + 0.01,
                    1e-5 if far else 0.2,
                    4e-4 if far else 0.4,
                    "different" if far else "no difference found",
                    None if not far else b if (scores[i] > scores[j]) == mse else a,
                    3 if far else 40,
                    1e-6,
                    (1e-4 if far else 0.4) if i == 0 else float("nan"),
                    0.01,
                    name,
                    name,
                )
            )
    none = pd.DataFrame()
    frames = Frames(
        leaderboard=pd.DataFrame(board),
        scores=none,
        ranks=none,
        history=none,
        trials=none,
        curves=pd.DataFrame(curves, columns=["tasks", "learner", "seed", "axis", "value", "score"]),
        significance=pd.DataFrame(
            pairs,
            columns=[
                *("tasks", "learner_a", "learner_b", "difference", "ci_low", "ci_high", "p_value", "p_holm"),
                *("verdict", "better", "runs_needed", "p_models", "p_beside_best", "run_spread"),
                *("trained_on_a", "trained_on_b"),
            ],
        ),
        skipped=pd.DataFrame(
            [("sinusoid", "nearest", "it is a classifier; sinusoid is regression <b>")],
            columns=["tasks", "learner", "reason"],
        ),
        failures=pd.DataFrame(
            [("digits", "broken", "trial", 3, "loss is nan")], columns=["tasks", "learner", "stage", "slot", "reason"]
        ),
    )
    return Record(
        name="first",
        complete=True,
        plan={
            "settings": {"n_trials": n_trials, "budget": None, "max_steps": 500},
            "tasks": {name: {"name": name, "class": "module:Class", "params": {"n_query": 15}} for name in tasks},
            "learners": {
                name: {
                    "learner": {"name": name, "class": "module:Class", "params": {"backbone": "auto"}},
                    "meta_optimizer": {"name": "reptile", "class": "module:Class", "params": {"lr": 0.1}},
                }
                for name in learners
            },
        },
        frames=frames,
        studies=studies,
        environment={
            "command": "autometa compare --tasks glyphs --tasks digits --tasks sinusoid --trials 12",
            "versions": {"autometa": "1.0.0", "torch": "2.13.0", "python": "3.11.2"},
            "device": "cpu",
            "random_state": 0,
        },
    )


def emptied(record: Record, *names: str) -> Record:
    """The same record with no row in some of its tables."""
    return replace(record, frames=replace(record.frames, **{name: getattr(record.frames, name)[:0] for name in names}))


class _Parser(HTMLParser):
    """Collects what a browser would load, the nesting of elements, ids and links."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if (
                name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
                and value
                and not value.startswith(("#", "data:image/png;base64,"))
            ):
                self.loads.append(f"<{tag} {name}={value}>")
            if tag == "a" and name == "href" and value:
                self.links.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return render(made_up(("glyphs", "sinusoid")))


def test_the_report_is_one_file_that_loads_nothing(page: str) -> None:
    parser = _Parser()
    parser.feed(page)
    assert not parser.open, "every element is closed"
    assert parser.loads == []
    assert not {"link", "iframe", "object"} & set(parser.tags)
    assert parser.tags.count("script") == 1
    assert "@import" not in page
    assert all(found.startswith("#") for found in re.findall(r"url\(['\"]?([^)'\"]*)", page))
    assert "http://" not in page
    assert "https://" not in page


def test_every_link_and_every_reference_inside_the_report_leads_somewhere(page: str) -> None:
    parser = _Parser()
    parser.feed(page)
    assert parser.links
    targets = set(parser.ids)
    assert {link[1:] for link in parser.links} <= targets
    assert set(re.findall(r"(?:xlink:href=\"|url\()#([^)\"]+)", page)) <= targets


def test_figures_follow_the_colour_scheme(page: str) -> None:
    plots = re.findall(r'<svg class="plot".*?</svg>', page, re.DOTALL)
    used = {name for plot in plots for name in re.findall(r"var\((--\w+)\)", plot)}
    assert used >= {"--ink", "--grid", "--s0", "--g0"}
    for scheme in ("light dark", "prefers-color-scheme: dark", "@media print"):
        assert scheme in page
    for name in used:
        assert len(re.findall(rf"{name}: #", page)) == 3, f"{name} has a colour on screen, in the dark and on paper"
    fixed = {color.lower() for plot in plots for color in re.findall(r"#[0-9a-fA-F]{6}\b", plot)}
    assert not fixed, "no colour is fixed"


def test_the_report_tells_everything_a_comparison_found(page: str) -> None:
    record = made_up(("glyphs", "sinusoid"))
    text = re.sub(r"<[^>]+>", " ", page)
    for row in record.frames.leaderboard.itertuples():
        assert row.learner in text
        assert (f"{100 * row.score:.1f}%" if row.metric == "accuracy" else f"{row.score:#.4g}") in text
    for said in (
        "95% interval",
        "queries",
        "batch (inductive)",
        "meta-training",
        "Score over outer steps",
        "Score over seconds",
        "Score over adaptation steps",
        "Score over shots",
        "Score against seconds to meta-train",
        "p (Holm)",
        "it is a classifier; sinusoid is regression &lt;b&gt;",
        "loss is nan",
        "autometa compare --tasks glyphs",
        "versions.torch",
        "sinusoid(n_query=15)",
        "ridge(backbone=auto) by reptile(lr=0.1)",
        "max_steps",
        "inner_steps",
        "No hyperparameters to tune.",
    ):
        assert said in text, said


def test_an_interrupted_comparison_says_so(page: str) -> None:
    record = made_up(("sinusoid",), ("ridge", "sklearn"), n_trials=1)
    assert INCOMPLETE in render(replace(record, complete=False))
    assert INCOMPLETE not in page


@pytest.mark.thorough
def test_the_same_comparison_gives_the_same_report_byte_for_byte() -> None:
    few = ("maml", "sklearn")
    assert render(made_up(("glyphs",), few)) == render(made_up(("glyphs",), few))


def test_what_does_not_differ_significantly_from_the_best_is_level_with_it(page: str) -> None:
    frames = made_up(("glyphs",)).frames
    beside = verdicts_beside_best(frames.leaderboard, frames.significance, "glyphs")
    assert beside == {"ridge": "no difference found"}
    glyphs = page[page.index('id="tasks-0"') : page.index('id="tasks-1"')]
    rows = {row.split("</svg>")[1].split("<")[0]: row for row in glyphs.split("<tr")[2:] if "</svg>" in row}
    assert ">best<" in rows["prototypical"]
    assert ">no difference found<" in rows["ridge"]
    assert "badge" not in rows["maml"]


def test_differences_are_coloured_by_what_is_better(page: str) -> None:
    part = page[page.index('id="significance"') : page.index('id="tuning"')]
    accuracy, error = part.split("<h3>sinusoid</h3>")
    assert all(
        sign == ("+" if css == "better" else "−") for css, sign in re.findall(r'"(better|worse)">([+−])', accuracy)
    )
    assert all(sign == ("−" if css == "better" else "+") for css, sign in re.findall(r'"(better|worse)">([+−])', error))
    assert '"better"' in accuracy
    assert '"better">−' in error


@pytest.mark.parametrize("learners", [("ridge",), ("ridge", "sklearn")])
def test_a_small_comparison_has_a_report_too(learners: tuple[str, ...]) -> None:
    page = render(emptied(made_up(("sinusoid",), learners, n_trials=1), "curves", "failures", "skipped"))
    assert "Nothing failed." in page
    assert ("Only one learner finished" in page) == (len(learners) == 1)


def test_a_comparison_in_which_everything_failed_says_so() -> None:
    record = made_up(("sinusoid",), ("ridge", "sklearn"))
    page = render(emptied(record, "leaderboard", "curves", "significance"))
    assert "No learner finished" in page
    assert "loss is nan" in page


def test_importances_are_told_only_where_they_mean_something() -> None:
    importances, missing = importances_of(a_study(30))
    assert max(importances, key=lambda name: importances[name]) == "lr"
    assert sum(importances.values()) == pytest.approx(1)
    assert missing == ""
    assert importances_of(a_study(3))[1].startswith("Importances need 4 complete trials")
    assert importances_of(a_study(10, names=())) == ({}, "No hyperparameters to tune.")


def test_styles_depend_on_the_set_of_names_only_and_none_repeats() -> None:
    names = [f"learner_{i}" for i in range(14)]
    given = styles(names, names[:2])
    assert given == styles(reversed(names), names[:2])
    assert len({(style.color, style.marker) for style in given.values()}) == len(names)
    assert [name for name, style in given.items() if style.dashed] == names[:2]


@pytest.mark.thorough
def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    record = made_up(("glyphs",), ("ridge", "sklearn"), n_trials=2)
    path = write_report(record, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="name a file in a folder you may change"):
        write_report(record, tmp_path / "file" / "report.html")


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a server that forks processes that draw")
def test_other_processes_draw_the_same_figures_and_none_is_lost_where_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = made_up(("glyphs",), ("ridge", "sklearn"), n_trials=2)
    alone = write_report(record, tmp_path / "alone.html").read_text(encoding="utf-8")
    monkeypatch.delattr(canvas.FigureCanvasSVG, "print_svg")  # nothing can be drawn here
    together = write_report(record, tmp_path / "together.html", n_processes=2).read_text(encoding="utf-8")
    assert together == alone
    assert '<svg class="plot"' in together
    monkeypatch.undo()
    monkeypatch.setattr(drawing, "_depend_on_the_other", end_at_once)
    assert write_report(record, tmp_path / "ended.html", n_processes=2).read_text(encoding="utf-8") == alone


def end_at_once() -> None:
    os._exit(9)


def test_the_command_is_told_as_one_types_it() -> None:
    assert command_text(["/opt/venv/bin/autometa", "compare", "--name", "a b"]) == "autometa compare --name 'a b'"
    assert command_text(["/x/autometa/__main__.py", "compare"]) == "python -m autometa compare"
    assert command_text(["study/run.py"]) == "python run.py"


def test_a_trial_that_was_cut_and_done_again_is_no_failure() -> None:
    study = optuna.create_study()
    finished = [(TrialState.COMPLETE, {}), (TrialState.FAIL, {}), (TrialState.FAIL, {"error": "OSError: full"})]
    for state, attributes in finished:
        value = 0.5 if state is TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs={"slot": 0, **attributes}))
    assert "1 complete, 1 failed, 1 interrupted" in study_card(
        study, "ridge", "accuracy", {}, styles(["ridge"], [])["ridge"]
    )
