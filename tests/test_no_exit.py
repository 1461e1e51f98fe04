"""A plugin that asks the process to end is a plugin that failed."""

from __future__ import annotations

import os

import pytest

import autometa as am
from autometa.contracts.plugin_code import plugin_code


def test_an_exit_at_once_is_the_plugins_error() -> None:
    real = os._exit
    with pytest.raises(am.PluginError, match=r"it raised SystemExit: os._exit\(0\)"), plugin_code():
        os._exit(0)
    assert os._exit is real


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_that_a_plugin_forks_end_as_they_ask_to() -> None:
    with plugin_code():
        child = os.fork()
        if child == 0:
            os._exit(3)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3


def test_a_comparison_goes_on_without_whom_would_have_ended_it() -> None:
    ridge = type(am.make_learner("ridge"))

    class Leaves(ridge):  # type: ignore[misc, valid-type]
        def predict(self, *what: object) -> object:
            os._exit(0)

    few = {"n_trials": 1, "n_seeds": 1, "max_steps": 1, "n_test_tasks": 4, "n_valid_tasks": 4, "tasks_per_step": 2}
    with pytest.warns(UserWarning, match="leaves on sinusoid"):
        found = am.compare("sinusoid", {"leaves": Leaves(), "ridge": "ridge"}, baselines=False, verbose=0, **few)
    assert list(found.leaderboard["learner"]) == ["ridge"]
    assert "os._exit(0)" in found.failures.iloc[0]["reason"]
