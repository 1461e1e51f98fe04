"""What a learner promises: properties with a default, which a class attribute or a property overrides."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import Tensor, nn

import autometa as am
from autometa.host import components
from autometa.testing import checks_of


class Silent(am.Learner):
    """Promises nothing."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        return {}

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        return x


class Plain(Silent):
    """The same answer for every object, as a plugin without annotations writes it."""

    replayable = True
    adaptation_parameters = frozenset({"steps"})
    needs_meta_training = frozenset({"regression"})


class Asked(Silent):
    """Answers that follow from the object's parameters."""

    def __init__(self, *, learn_lr: bool = False) -> None:
        self.learn_lr = learn_lr

    @property
    def replayable(self) -> bool:
        return not self.learn_lr

    @property
    def adaptation_parameters(self) -> frozenset[str]:
        return frozenset() if self.learn_lr else frozenset({"lr"})

    @property
    def needs_meta_training(self) -> frozenset[str]:
        return frozenset({"classification"} if self.learn_lr else ())


@pytest.mark.parametrize(
    ("learner", "replayable", "adaptation_parameters", "needs_meta_training"),
    [
        (Silent(), False, set(), set()),
        (Plain(), True, {"steps"}, {"regression"}),
        (Asked(), True, {"lr"}, set()),
        (Asked(learn_lr=True), False, set(), {"classification"}),
    ],
)
def test_a_class_attribute_or_a_property_overrides_what_a_learner_promises(
    learner: am.Learner, replayable: bool, adaptation_parameters: set[str], needs_meta_training: set[str]
) -> None:
    assert learner.replayable is replayable
    assert learner.adaptation_parameters == adaptation_parameters
    assert learner.needs_meta_training == needs_meta_training


BROKEN: list[tuple[str, object, str]] = [
    *(
        (name, value, "must be a frozenset of names")
        for name in ("adaptation_parameters", "needs_meta_training", "provides", "names_code")
        for value in (None, "steps", ["steps"], frozenset({1}), True)
    ),
    *(
        (name, value, "must be True or False")
        for name in ("replayable", "predicts_unseen_classes")
        for value in (None, "yes", 1, frozenset())
    ),
    ("default_meta_optimizer", 3, "must be the name of a meta-optimizer, or None"),
    ("adaptation_parameters", lambda self: frozenset(), "a method; .*put @property above it"),
    ("replayable", lambda self: True, "a method; .*put @property above it"),
    ("adaptation_parameters", property(lambda self: None), "None; it must be a frozenset"),
]


@pytest.mark.parametrize(("name", "value", "text"), BROKEN)
def test_a_promise_of_the_wrong_kind_names_learner_and_property(name: str, value: object, text: str) -> None:
    broken = type("Broken", (Silent,), {name: value})()
    message = f"{name} of learner Broken is .*{text}"
    estimator = am.FewShotRegressor(broken, max_steps=1, device="cpu")
    with pytest.raises(am.PluginError, match=message):
        estimator.fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(am.PluginError, match=message):
        estimator.meta_fit("sinusoid")
    with pytest.raises(am.AutometaError, match=message):
        am.compare("sinusoid", broken, verbose=0)
    (check,) = [c for c in checks_of(broken) if c.name == "check_promises_are_kept[regression]"]
    with pytest.raises(am.PluginError, match=message):
        check()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("adaptation_parameters", r"names \['stepz'\], which are no parameters of it"),
        ("names_code", r"names \['stepz'\], which are no parameters of it"),
        ("needs_meta_training", r"names \['stepz'\]; problems are"),
    ],
)
def test_the_kit_finds_promises_about_what_is_not_there(name: str, text: str) -> None:
    broken = type("Broken", (Silent,), {name: frozenset({"stepz"})})()
    (check,) = [c for c in checks_of(broken) if c.name == "check_promises_are_kept[regression]"]
    with pytest.raises(AssertionError, match=f"{name} of Broken {text}"):
        check()


@pytest.mark.parametrize("name", [c.name for c in components("learner") if not c.spec.needs])
def test_bundled_learners_keep_their_promises(name: str) -> None:
    (check,) = [c for c in checks_of(am.make_learner(name)) if c.name.startswith("check_promises_are_kept[")][:1]
    check()


SPECS = (am.LearnerSpec, am.TaskSamplerSpec, am.MetaOptimizerSpec, am.BackboneSpec)
GOOD = {"name": "mine", "factory": "mine.module:Mine", "problems": {"regression"}}
STRANGE = (None, 1, 2.5, b"text", [1], [["a"]], object())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("value", STRANGE)
def test_every_field_of_a_spec_is_refused_by_name(spec: type[am.LearnerSpec], value: object) -> None:
    for field in dataclasses.fields(spec):
        with pytest.raises(am.InvalidParameter, match=f"{field.name}=.* of (a )?{spec.kind}"):
            spec(**{**GOOD, field.name: value})


@pytest.mark.parametrize("spec", SPECS)
def test_fields_of_a_spec_take_what_they_are_for(spec: type[am.LearnerSpec]) -> None:
    assert spec(**{**GOOD, "problems": "regression"}).problems == {"regression"}
    assert spec(**{**GOOD, "problems": ["regression"], "retired": {"bias": True}}).problems == {"regression"}


@pytest.mark.parametrize("spec", SPECS)
def test_what_a_component_needs_is_a_tuple_of_names(spec: type[am.LearnerSpec]) -> None:
    assert spec(**GOOD, needs=["root"]).needs == ("root",)
    with pytest.raises(am.InvalidParameter, match=rf"needs='root' of {spec.kind} 'mine' must be a tuple"):
        spec(**GOOD, needs="root")
