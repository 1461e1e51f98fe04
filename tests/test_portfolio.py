"""What did best in finished comparisons is tried first in new ones."""

from __future__ import annotations

import json
import re
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import optuna
import pytest

import autometa as am
from autometa.comparison.plan.portfolio import ENTRY, MOST, read_portfolio
from autometa.host.discovery import get_host
from autometa.schema import misfit
from test_comparison import FAST
from tiers import first_by_default

RIDGE: dict[str, Any] = {
    "tasks": "waves",
    "problem": "regression",
    "input": "vectors",
    "learner": "metric/ridge",
    "meta_optimizer": "optimization/gradient",
    "params": {"learner__regularization": 0.37},
}


def written(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "portfolio.json"
    path.write_text(json.dumps(entries))
    return path


def first_values(found: am.Comparison, name: str = "learner__regularization") -> list[float]:
    trials = found.trials.sort_values("slot")
    return [params[name] for params in trials["params"]]


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def ridge() -> dict[str, Any]:
    """The entry under the names that are installed."""
    found = am.compare("sinusoid", "ridge", **{**FAST, "n_trials": 1, "n_seeds": 1, "max_steps": 1})
    names = am.plugins().set_index("name")
    assert found.complete
    return RIDGE | {
        "learner": f"{names.loc['ridge', 'plugin']}/ridge",
        "meta_optimizer": f"{names.loc['gradient', 'plugin']}/gradient",
    }


def test_a_finished_comparison_tells_what_did_best_and_a_new_one_begins_with_it(tmp_path: Path) -> None:
    numbers = {**FAST, "n_seeds": 1}
    old = am.compare({"waves": "sinusoid"}, "ridge", output=tmp_path / "old", **{**numbers, "n_trials": 4})
    entries = read_portfolio(tmp_path / "old")
    assert [entry["tasks"] for entry in entries] == ["waves"]
    assert entries[0]["params"] == old.leaderboard["params"].iloc[0]
    new = am.compare("sinusoid", "ridge", warm_start=tmp_path / "old", **numbers)
    plain = am.compare("sinusoid", "ridge", **numbers)
    assert new.trials["params"].iloc[0] == plain.trials["params"].iloc[0], "the defaults are always first"
    best = entries[0]["params"]
    if best != plain.trials["params"].iloc[0]:
        assert new.trials["params"].iloc[1] == best


def test_alike_tasks_come_first_and_no_more_than_a_few(tmp_path: Path, ridge: dict[str, Any]) -> None:
    images = [ridge | {"input": "images", "params": {"learner__regularization": value}} for value in (0.11, 0.12)]
    vectors = [ridge | {"params": {"learner__regularization": value}} for value in (0.21, 0.21, 0.22, 0.23)]
    found = am.compare(
        "sinusoid", "ridge", warm_start=written(tmp_path, *images, *vectors), **{**FAST, "n_trials": 5, "n_seeds": 1}
    )
    assert first_values(found)[1 : 1 + MOST] == [0.21, 0.22, 0.23]
    assert first_values(found)[4] not in (0.11, 0.12)


@pytest.mark.parametrize(
    "other",
    first_by_default(
        2,
        [
            {"problem": "classification"},
            {"learner": "optimization/maml"},
            {"meta_optimizer": "optimization/reptile"},
            {"params": {"learner__regularization": -5.0}},
            {"params": {"learner__no_such": 1}},
        ],
    ),
)
def test_what_does_not_fit_is_not_tried(tmp_path: Path, ridge: dict[str, Any], other: dict[str, Any]) -> None:
    numbers = {**FAST, "n_trials": 2, "n_seeds": 1, "max_steps": 1}
    with pytest.warns(UserWarning, match="has no effect: its only entry does not fit"):
        found = am.compare("sinusoid", "ridge", warm_start=written(tmp_path, ridge | other), **numbers)
    assert first_values(found) == first_values(am.compare("sinusoid", "ridge", **numbers))


def test_a_folder_goes_on_with_the_start_it_was_begun_with_and_a_worker_knows_it(
    tmp_path: Path, ridge: dict[str, Any]
) -> None:
    from autometa.comparison import work

    numbers = {**FAST, "n_trials": 2, "n_seeds": 1, "max_steps": 1}
    path, output = written(tmp_path, ridge), tmp_path / "run"
    found = am.compare("sinusoid", "ridge", warm_start=path, output=output, **numbers)
    assert first_values(found)[1] == 0.37
    assert first_values(work(str(output / "journal.log"), "run")) == first_values(found)
    written(tmp_path, ridge | {"params": {"learner__regularization": 0.21}}, ridge)
    more = {**numbers, "n_trials": 4}
    for start, told in ((path, f", not with what warm_start={path!r} holds now."), (None, ".")):
        text = f"comparison 'run' goes on with what warm_start held when it was begun{told}"
        with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
            on = am.compare("sinusoid", "ridge", warm_start=start, output=output, **more)
        assert on.complete
        assert first_values(on)[:2] == first_values(found)
        assert 0.21 not in first_values(on)


GONE = "comparison 'run' goes on with what warm_start held when it was begun; warm_start={!r} cannot be read now."


@pytest.mark.parametrize("left", [None, "nonsense"])
def test_a_comparison_goes_on_with_its_start_where_that_is_gone(
    tmp_path: Path, ridge: dict[str, Any], left: str | None
) -> None:
    numbers = {**FAST, "n_trials": 2, "n_seeds": 1, "max_steps": 1}
    path, storage = written(tmp_path, ridge), f"sqlite:///{tmp_path / 'studies.db'}"
    places: list[dict[str, Any]] = [{"output": tmp_path / "run"}, {"storage": storage, "name": "run"}]
    for place in places:
        am.compare("sinusoid", "ridge", warm_start=path, **place, **numbers)
    path.unlink() if left is None else path.write_text(left)
    for place, more in zip(places, (3, 2), strict=True):
        with pytest.warns(UserWarning, match=f"^{re.escape(GONE.format(path))}$"):
            on = am.compare("sinusoid", "ridge", warm_start=path, **place, **{**numbers, "n_trials": more})
        assert on.complete
        assert first_values(on)[1] == 0.37
    elsewhere = "~nobody of that name/run"
    with pytest.warns(UserWarning, match=f"^{re.escape(GONE.format(elsewhere))}$"):
        am.compare("sinusoid", "ridge", warm_start=elsewhere, output=tmp_path / "run", **{**numbers, "n_trials": 3})
    for place in ({"output": tmp_path / "new"}, {"storage": f"sqlite:///{tmp_path / 'new.db'}"}, {}):
        with pytest.raises(am.InvalidParameter, match="unknown user; if this is its name, put './' before it"):
            am.compare("sinusoid", "ridge", warm_start=elsewhere, **place, **numbers)
        with pytest.raises(am.MissingData if left is None else am.InvalidFile, match="warm_start="):
            am.compare("sinusoid", "ridge", warm_start=path, **place, **numbers)
    assert not (tmp_path / "new" / "journal.log").exists()
    assert not (tmp_path / "new.db").exists()


def test_an_estimator_goes_on_with_its_start_where_that_is_gone(tmp_path: Path, ridge: dict[str, Any]) -> None:
    path = written(tmp_path, ridge)
    numbers = {name: value for name, value in FAST.items() if name != "baselines"} | {"n_seeds": 1, "max_steps": 1}
    chooser = am.AutoFewShotRegressor("ridge", warm_start=[path], output=tmp_path / "run", **numbers)
    chooser.meta_fit("sinusoid")
    path.unlink()
    with pytest.warns(UserWarning, match=re.escape(GONE.format([path]))):
        chooser.meta_fit("sinusoid")
    assert 0.37 in [params.get("learner__regularization") for params in chooser.comparison_.trials["params"]]


def test_a_folder_begun_without_a_start_goes_on_without_one(tmp_path: Path, ridge: dict[str, Any]) -> None:
    numbers = {**FAST, "n_seeds": 1, "max_steps": 1}
    am.compare("sinusoid", "ridge", output=tmp_path / "run", **{**numbers, "n_trials": 1})
    with pytest.warns(UserWarning, match="comparison 'run' goes on without warm_start, as it was begun, not with what"):
        on = am.compare("sinusoid", "ridge", warm_start=written(tmp_path, ridge), output=tmp_path / "run", **numbers)
    assert 0.37 not in first_values(on)


def test_a_first_call_that_was_killed_before_its_plan_counted_goes_on_with_it(
    tmp_path: Path, ridge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: Any) -> None:
        raise Killed

    numbers = {**FAST, "n_trials": 2, "n_seeds": 1, "max_steps": 1, "output": tmp_path / "run"}
    monkeypatch.setattr(optuna.Study, "set_user_attr", killed)
    with pytest.raises(Killed):
        am.compare("sinusoid", "ridge", warm_start=written(tmp_path, ridge), **numbers)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="goes on with what warm_start held when it was begun"):
        on = am.compare("sinusoid", "ridge", **numbers)
    assert first_values(on)[1] == 0.37


def test_two_first_calls_at_once_go_on_with_the_start_that_was_written_first(
    tmp_path: Path, ridge: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    comparing = import_module("autometa.comparison.compare")  # the package has the function under that name
    numbers = {**FAST, "n_trials": 2, "n_seeds": 1, "max_steps": 1, "output": tmp_path / "run"}
    found = []

    def read_too_early(*arguments: Any) -> dict[str, Any]:
        monkeypatch.undo()
        found.append(am.compare("sinusoid", "ridge", warm_start=written(tmp_path, ridge), **numbers))
        return {}

    monkeypatch.setattr(comparing, "begun_plan", read_too_early)
    with pytest.warns(UserWarning, match="goes on with what warm_start held when it was begun"):
        found.append(am.compare("sinusoid", "ridge", **numbers))
    assert [first_values(one)[1] for one in found] == [0.37, 0.37]


def test_a_race_begins_with_it_too(tmp_path: Path, ridge: dict[str, Any]) -> None:
    found = am.compare(
        "sinusoid", "ridge", search="race", warm_start=[written(tmp_path, ridge)],
        **{**FAST, "n_trials": 3, "n_seeds": 1, "max_steps": 4},
    )  # fmt: skip
    assert first_values(found)[1] == 0.37


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, am.MissingData, "has no portfolio.json"),
        ("nonsense", am.InvalidFile, "is no portfolio"),
        ("{}", am.InvalidFile, "is no portfolio"),
        ('[{"learner": "metric/ridge"}]', am.InvalidFile, "is no portfolio"),
    ],
)
def test_what_is_no_portfolio_is_one_error(tmp_path: Path, text: str | None, error: type, words: str) -> None:
    if text is not None:
        (tmp_path / "portfolio.json").write_text(text)
    with pytest.raises(error, match=words):
        am.compare("sinusoid", "ridge", warm_start=tmp_path, **FAST)
    with pytest.raises(am.InvalidParameter, match="warm_start=3"):
        am.compare("sinusoid", "ridge", warm_start=3, **FAST)


OTHER_LEARNER = RIDGE | {"learner": "optimization/maml"}
OTHER_PROBLEM = RIDGE | {"problem": "classification"}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], " holds no hyperparameters, so it has no effect."),
        (
            [OTHER_LEARNER],
            " has no effect: its only entry does not fit. 1 is for optimization/maml with optimization/gradient "
            "(regression); this comparison has {ridge} with optimization/gradient (regression).",
        ),
        (
            [OTHER_LEARNER, {"params": {"learner__no_such": 1}}],
            " has no effect: none of its 2 entries fits. 1 is for optimization/maml with optimization/gradient "
            "(regression); this comparison has {ridge} with optimization/gradient (regression). Left out: "
            "learner__no_such (not searched).",
        ),
        (
            [{}, OTHER_PROBLEM],
            ": 1 of 2 entries is tried. 1 is for metric/ridge with optimization/gradient (classification); this "
            "comparison has {ridge} with optimization/gradient (regression).",
        ),
        (
            [{}, {}, {"params": {"learner__regularization": -5.0, "meta_optimizer__lr": 0.002}}],
            ": 2 of 3 entries are tried, 1 of them in part. 1 is as the defaults or another entry. "
            "Left out: learner__regularization=-5.0 (of {range}).",
        ),
        ([{}], None),
    ],
)
def test_what_a_comparison_cannot_try_is_told_once(
    tmp_path: Path, ridge: dict[str, Any], entries: list[dict[str, Any]], told: str | None
) -> None:
    path = written(tmp_path, *(ridge | entry for entry in entries))
    seen = am.preview("sinusoid", "ridge", budget=1, baselines=False).searched.set_index("parameter")
    numbers = {**FAST, "n_trials": 3, "n_seeds": 1, "max_steps": 1, "warm_start": path}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        am.compare("sinusoid", "ridge", **numbers)
        am.preview("sinusoid", "ridge", budget=1, baselines=False, warm_start=path)
    texts = [str(warning.message) for warning in caught if "warm_start" in str(warning.message)]
    if told is not None:
        where = seen.loc["learner__regularization", "range"]
        told = f"warm_start={str(path)!r}" + told.replace("{ridge}", ridge["learner"]).replace("{range}", where)
    assert texts == ([] if told is None else [told, told])


@pytest.mark.parametrize(
    ("n_trials", "search", "values", "further", "told"),
    [
        (2, "separate", 4, 1, ": 1 of 5 entries is tried. 3 find no place: of n_trials=2 the defaults are first, then"),
        (9, "separate", 5, 1, f": {MOST} of 6 entries are tried. 2 find no place: of n_trials=9 the defaults are"),
        (
            1,
            "separate",
            4,
            0,
            " has no effect: none of its 4 entries has a trial of its own. 4 find no place: of n_tr",
        ),
        (
            2,
            "joint",
            1,
            0,
            " has no effect: its only entry has no trial of its own. 1 finds no place: of n_trials=2",
        ),
        (3, "joint", 1, 0, None),
        (9, "separate", 5, 0, None),
    ],
)
def test_entries_without_a_trial_are_told(
    tmp_path: Path, ridge: dict[str, Any], n_trials: int, search: str, values: int, further: int, told: str | None
) -> None:
    entries = [ridge | {"params": {"learner__regularization": 0.2 + i}} for i in range(values)]
    path = written(tmp_path, *entries, *[ridge | OTHER_PROBLEM] * further)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        am.preview(
            "sinusoid", ["ridge", "maml"], baselines=False, warm_start=path, n_trials=n_trials, search=search,
            n_seeds=1, max_steps=1,
        )  # fmt: skip
    texts = [str(warning.message) for warning in caught if "warm_start" in str(warning.message)]
    assert [text.startswith(f"warm_start={str(path)!r}{told}") for text in texts] == ([] if told is None else [True])


def test_entries_that_are_the_defaults_or_there_twice_have_no_trial_of_their_own(
    tmp_path: Path, ridge: dict[str, Any]
) -> None:
    numbers = {"n_trials": 9, "n_seeds": 1, "max_steps": 1, "baselines": False}
    searched = am.preview("sinusoid", "ridge", **numbers).searched
    default = searched.set_index("parameter").loc["learner__regularization", "default"]
    entries = [ridge | {"params": {"learner__regularization": float(value)}} for value in (default, 0.37, 0.37)]
    for given, told in (
        (
            [*entries, ridge | OTHER_PROBLEM],
            "1 of 4 entries is tried. 2 are as the defaults or another entry. 1 is for",
        ),
        (entries[:1], "its only entry has no trial of its own. 1 is as the defaults or another entry.$"),
    ):
        with pytest.warns(UserWarning, match=told):
            am.preview("sinusoid", "ridge", warm_start=written(tmp_path, *given), **numbers)


def test_portfolios_of_plugins_are_told_of_only_where_nothing_fits() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        am.preview("sinusoid", ["ridge", "maml"], budget=1, warm_start="installed")
    with pytest.warns(
        UserWarning, match=r"warm_start='installed' has no effect: none of its \d+ entries fits. \d+ are for"
    ):
        am.preview("sinusoid", "sklearn", budget=1, warm_start="installed")


def test_a_search_for_a_winner_begins_with_it_too(tmp_path: Path, ridge: dict[str, Any]) -> None:
    found = am.compare(
        "sinusoid", ["ridge", "sklearn"], search="joint", warm_start=written(tmp_path, ridge),
        **{**FAST, "n_trials": 4, "n_seeds": 1, "max_steps": 1},
    )  # fmt: skip
    assert 0.37 in [params.get("learner__regularization") for params in found.trials["params"]]


def test_a_name_that_is_none_says_which_there_is() -> None:
    with pytest.raises(am.MissingData, match="warm_start='Installed' has no portfolio.json.*or 'installed' for those"):
        am.compare("sinusoid", "ridge", warm_start="Installed", **FAST)


def test_a_mark_at_the_beginning_that_editors_write_is_no_part_of_it(tmp_path: Path) -> None:
    path = written(tmp_path, RIDGE)
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_portfolio(path) == [RIDGE]


def test_what_is_kept_fits_what_is_read(ridge: dict[str, Any]) -> None:
    assert misfit([ridge], [ENTRY]) is None


HOOK = """
import autometa as am

@am.hookimpl
def autometa_learners():
    return []
"""


def with_portfolio(install: Any, tmp_path: Path, name: str, text: str) -> None:
    """Install a plugin whose package holds a portfolio."""
    install(f"{name}-kit", name, HOOK)
    package = tmp_path / "site" / f"{name}-kit" / name
    package.mkdir()
    (package / "__init__.py").write_text(HOOK)
    (package / "portfolio.json").write_text(text)


def test_portfolios_of_plugins_are_read_and_a_faulty_one_is_named_and_left_out(
    tmp_path: Path, install: Any, ridge: dict[str, Any]
) -> None:
    bundled = read_portfolio("installed")
    get_host.cache_clear()
    with_portfolio(install, tmp_path, "sound", json.dumps([ridge]))
    with_portfolio(install, tmp_path, "torn", "[{")
    with pytest.warns(UserWarning, match=r"portfolio.json' of plugin 'torn' is no portfolio.* It is left out"):
        found = read_portfolio(["installed"])
    assert ridge in found
    assert [entry for entry in found if entry != ridge] == bundled


def test_the_bundled_portfolio_is_of_learners_and_parameters_that_there_are() -> None:
    names = am.plugins()
    known = set(names["plugin"] + "/" + names["name"])
    entries = read_portfolio("installed")
    assert len(entries) > 10
    for entry in entries:
        assert {entry["learner"], entry["meta_optimizer"] or entry["learner"]} <= known
    assert {entry["input"] for entry in entries} >= {"images", "vectors"}
