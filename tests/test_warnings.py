"""Every warning of autometa points at the line of the user's code that called it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import cross_val_score
from torch import nn

import autometa as am
from autometa import errors
from test_comparison import Mean

PACKAGES = [Path(am.__file__).parent, Path(am.__file__).parents[1] / "plugins" / "autometa_plugins"]
FIXED = re.compile(r"\bwarnings\.warn\(|\bstacklevel=")
CALL = "called here"


@pytest.fixture(autouse=True)
def without_checked_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look through the frames that only tests have."""
    monkeypatch.setattr(errors, "_BETWEEN", errors._BETWEEN | {"beartype", "jaxtyping", "shape_checks"})


def places_told(call: Callable[[], object], match: str) -> set[str]:
    """Return the lines of source that warnings with this text point at."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    assert any(re.search(match, str(warning.message)) for warning in told), told
    mine = [warning for warning in told if re.search(match, str(warning.message))]
    return {
        Path(warning.filename).read_text().splitlines()[warning.lineno - 1].rpartition("# ")[2]
        if Path(warning.filename).is_file()
        else warning.filename
        for warning in mine
    }


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"school": np.repeat(list("abcdefgh"), 6), "x": rng.normal(size=48), "y": rng.normal(size=48)})


def test_a_sampler_of_a_plugin_made_by_name(tmp_path: Path) -> None:
    table().assign(**{"": np.nan}).to_csv(tmp_path / "table.csv", index=False)

    def call() -> None:
        sampler = am.make_tasks("table", data=tmp_path / "table.csv", task="school", target="y", n_shot=2)
        _ = sampler.info  # called here

    assert places_told(call, "without a name and a value") == {CALL}


def test_a_sampler_of_a_plugin_made_by_its_class() -> None:
    from autometa_plugins.tasks.table import Table

    def call() -> None:
        rows = table().reset_index(names="Unnamed: 0")
        _ = Table(data=rows, task="school", target="y", n_shot=2).info  # called here

    assert places_told(call, "seems to be the row names") == {CALL}


class Changing(Mean):
    """Changes the process, and warns as the code of a plugin does."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        torch.set_default_dtype(torch.float64)
        return super().build(info)

    def adapt(self, module: nn.Module, support: am.Examples) -> torch.Tensor:
        am.warn_user("said within a trial")
        return super().adapt(module, support)


def test_code_of_a_plugin_that_a_context_manager_guards() -> None:
    def call() -> None:
        am.preview("sinusoid", [Changing()], device="cpu", n_trials=1)  # called here

    assert places_told(call, "of the whole process, which was put back") == {CALL}


def test_code_of_a_plugin_within_a_trial(tmp_path: Path) -> None:
    few: dict[str, Any] = {"n_trials": 1, "n_seeds": 1, "n_test_tasks": 4, "n_valid_tasks": 2, "max_steps": 1}

    def call() -> None:
        am.compare("sinusoid", [Changing()], device="cpu", verbose=0, output=tmp_path / "run", **few)  # called here

    assert places_told(call, "said within a trial") == {CALL}


def test_an_estimator_called_by_scikit_learn_and_joblib() -> None:
    frame = table()
    frame["x"] = frame["x"].astype(str)
    estimator = am.FewShotRegressor("ridge", device="cpu")

    def call() -> None:
        cross_val_score(estimator, frame[["school", "x"]], frame["y"], cv=2)  # called here

    assert places_told(call, "'x' is taken as categories") == {CALL}


def test_a_function_behind_decorators_and_context_managers() -> None:
    @contextmanager
    def entered() -> Any:
        errors.warn_user("entered")
        yield

    @torch.no_grad()
    def decorated() -> None:
        with entered():
            pass

    namespace: dict[str, Any] = {"__name__": "autometa.somewhere", "decorated": decorated, "torch": torch}
    exec("@torch.no_grad()\ndef outermost():\n    decorated()\n", namespace)

    def call() -> None:
        namespace["outermost"]()  # called here

    assert places_told(call, "entered") == {CALL}


def test_no_warning_counts_frames() -> None:
    files = [path for package in PACKAGES for path in package.rglob("*.py")]
    assert len(files) > 300
    assert [str(path) for path in files if FIXED.search(path.read_text())] == []
