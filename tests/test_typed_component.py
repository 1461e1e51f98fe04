"""Typed parameters are read by what the component's constructor takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import autometa as am
from autometa.cli import main
from autometa.cli.component_text import parse_component
from autometa.cli.typed_component import make_typed


def typed(kind: str, text: str) -> Any:
    name, params = parse_component(text)
    return make_typed(kind, name, params)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *((word, True) for word in ("yes", "true", "on", "True", "YES", "'yes'")),
        *((word, False) for word in ("no", "false", "off", "False", "Off")),
    ],
)
def test_words_for_yes_and_no_switch_a_flag(text: str, wanted: bool) -> None:
    assert typed("learner", f"maml:checkpoint={text}").checkpoint is wanted
    assert typed("learner", f"maml_plus_plus:per_step_norm={text}").per_step_norm is wanted
    assert typed("task sampler", f"omniglot:rotations={text}").rotations is wanted
    assert typed("backbone", f"resnet12:pool={text}").pool is wanted


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("learner", "maml:checkpoint=nein", "checkpoint='nein' of learner 'maml' must be yes or no."),
        ("learner", "optimization/maml:learn_lr=1", "learn_lr=1 of learner 'maml' must be yes or no."),
        ("learner", "maml:first_order=none", "first_order=None of learner 'maml' must be yes or no."),
        ("learner", "maml:steps=x", "steps='x' of learner 'maml' must be an integer."),
        ("learner", "maml:inner_lr=0,1", "'1' in 'maml:inner_lr=0,1' must look like key=value"),
        ("learner", "maml:inner_lr=small", "inner_lr='small' of learner 'maml' must be a number or 'auto'."),
        ("learner", "lstm:chunk=x", "chunk='x' of learner 'lstm' must be an integer or none."),
        ("learner", "cavia:n_context=x", "n_context='x' of learner 'cavia' must be an integer or 'auto'."),
        ("learner", "maml_plus_plus:per_step_norm=x", "must be yes or no or 'auto'."),
        ("learner", "maml:strategy=fast", "strategy='fast' of learner 'maml' must be 'auto' or 'bmm' or"),
        ("meta-optimizer", "gradient:lr=x", "lr='x' of meta-optimizer 'gradient' must be a number."),
        ("task sampler", "images:root=1.5", "root=1.5 of task sampler 'images' must be text; put it in quotes."),
        ("learner", "maml:stepz=3", "has no parameter 'stepz'; did you mean 'steps'?"),
    ],
)
def test_what_a_constructor_does_not_take_is_refused_by_name(kind: str, text: str, message: str) -> None:
    with pytest.raises(am.InvalidParameter) as caught:
        typed(kind, text)
    assert message in str(caught.value)


def test_other_values_are_what_was_typed() -> None:
    assert typed("learner", "cavia:n_context=auto").n_context == "auto"
    assert typed("learner", "lstm:chunk=none").chunk is None
    assert typed("learner", "maml:steps=3,inner_lr=1").get_params(deep=False)["steps"] == 3
    assert typed("learner", "simple_shot:transform=none").transform == "none"
    assert typed("backbone", "conv4:norm=none").norm == "none"
    assert typed("task sampler", "images:root=2024").root == "2024"
    assert typed("task sampler", "images:root=none").root is None
    assert typed("task sampler", "linear:prior_mean=[1, 2]").prior_mean == [1, 2]
    assert typed("task sampler", "glyphs:n_way=varied").n_way == "varied"


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--tasks", "sinusoid", "--learners", "maml:learn_lr=maybe"],
        ["compare", "--tasks", "augmented_shot:rotations=maybe", "--learners", "sklearn"],
        ["tasks", "augmented_shot:rotations=maybe"],
        ["plugins", "check", "maml:checkpoint=maybe"],
    ],
)
def test_every_command_refuses_a_wrong_word(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "='maybe' of " in capsys.readouterr().err


def test_a_study_file_is_read_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "study.toml"
    study.write_text('tasks = ["sinusoid"]\n[learners.maml]\ncheckpoint = "maybe"\n')
    assert main(["compare", str(study)]) == 2
    assert "checkpoint='maybe' of learner 'maml' must be yes or no." in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("steps", "x"), ("inner_lr", "x"), ("checkpoint", "no"), ("steps", None)])
def test_compare_names_a_wrong_parameter_of_a_learner_before_it_searches(name: str, value: object) -> None:
    with pytest.raises(am.InvalidParameter, match=f"{name}={value!r} of learner 'maml' must be"):
        am.compare("sinusoid", am.make_learner("maml", **{name: value}), n_trials=1, verbose=0)
