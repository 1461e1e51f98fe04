"""What a learner promises: properties with a default, which a class attribute or a property overrides."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from torch import Tensor, nn

import autometa as am


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


def test_what_a_task_sampler_needs_is_a_tuple_of_names() -> None:
    assert am.TaskSamplerSpec(**GOOD, needs=["root"]).needs == ("root",)
    with pytest.raises(am.InvalidParameter, match=r"needs='root' of task sampler 'mine' must be a tuple"):
        am.TaskSamplerSpec(**GOOD, needs="root")
