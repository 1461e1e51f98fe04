"""One set of checks with one wording."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autometa as am
from autometa.host import components, make


@pytest.mark.parametrize("value", [1, np.int64(3), 10**9, np.uint64(10**9)])
def test_whole_numbers_of_any_kind_are_taken(value: object) -> None:
    am.check_int("n", value)


def test_a_count_beyond_all_memory_is_refused_unless_a_bound_allows_it() -> None:
    am.check_int("seed", 10**30, most=10**30)
    with pytest.raises(am.InvalidParameter, match=r"^n=10{30} must be an integer from 1 to 1000000000\.$"):
        am.check_int("n", 10**30)
    with pytest.raises(am.InvalidParameter, match="positive integers"):
        am.check_ints("hidden", (64, 10**12))


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, math.nan, np.array([1, 2]), np.float64(2.0)])
def test_what_is_no_positive_whole_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(am.InvalidParameter, match=r"^n=.* of learner 'x' must be a positive integer\.$"):
        am.check_int("n", value, of="learner 'x'")


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        ({"least": 2}, "an integer of at least 2"),
        ({"least": 0, "most": 4}, "an integer from 0 to 4"),
        ({"also": ("auto", None)}, "a positive integer, or 'auto', or None"),
    ],
)
def test_bounds_of_whole_numbers_are_told(bounds: dict[str, object], wanted: str) -> None:
    with pytest.raises(am.InvalidParameter, match=rf"^n=-1 must be {wanted}\.$"):
        am.check_int("n", -1, **bounds)


def of_numpy(value: int | tuple[int, ...]) -> object:
    return tuple(map(np.int64, value)) if isinstance(value, tuple) else np.int64(value)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cavia", {"n_context": 7}),
        ("snail", {"length": 40, "n_filters": 8}),
        ("lstm", {"n_labels": 4, "hidden_size": 6}),
        ("gru", {"hidden_size": 6, "n_layers": 2}),
        ("learned_rule", {"hidden": (6, 5)}),
    ],
)
def test_a_whole_number_of_numpy_builds_what_a_plain_one_does(name: str, parameters: dict[str, int]) -> None:
    info = am.make_tasks("digits", n_way=3, n_shot=1).info
    ours, theirs = (
        {key: value.shape for key, value in am.make_learner(name, **given).build(info).state_dict().items()}
        for given in (parameters, {key: of_numpy(value) for key, value in parameters.items()})
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [("mlp", {"hidden": (6, 5)}, (4,)), ("resnet12", {"n_filters": (4, 6, 8, 10)}, (1, 8, 8))],
)
def test_whole_numbers_of_numpy_build_the_backbone_that_plain_ones_do(
    name: str, parameters: dict[str, tuple[int, ...]], shape: tuple[int, ...]
) -> None:
    plain, given = (
        am.make_backbone(name, **{key: kind(value) for key, value in parameters.items()}).build(shape)
        for kind in (tuple, of_numpy)
    )
    assert type(given.n_features) is int
    assert given.n_features == plain.n_features
    assert [value.shape for value in given.state_dict().values()] == [v.shape for v in plain.state_dict().values()]


@pytest.mark.parametrize("value", [(64, 64), [1], (np.int64(3), 4), range(2, 5)])
def test_a_sequence_of_whole_numbers_of_any_kind_is_taken(value: object) -> None:
    am.check_ints("hidden", value)


@pytest.mark.parametrize(
    "value", [(), (True, 16), (16, 0), (16.0,), 16, "64", b"64", None, {16, 32}, ((1, 2),), np.array([16, 16])]
)
def test_what_is_no_sequence_of_positive_whole_numbers_is_refused_by_name(value: object) -> None:
    wanted = r"of backbone 'x' must be a sequence of one or more positive integers, such as \(8, 8\)\.$"
    with pytest.raises(am.InvalidParameter, match=f"^hidden=.* {wanted}"):
        am.check_ints("hidden", value, of="backbone 'x'", such_as=(8, 8))


def test_how_many_whole_numbers_there_must_be_is_told() -> None:
    am.check_ints("hidden", (), may_be_empty=True)
    am.check_ints("sizes", (0, 1), least=0, length=2)
    with pytest.raises(am.InvalidParameter, match=r"^sizes=\(1,\) must be a sequence of 2 integers of at least 0\.$"):
        am.check_ints("sizes", (1,), least=0, length=2)
    with pytest.raises(am.InvalidParameter, match=r"^hidden=3 must be a sequence of positive integers\.$"):
        am.check_ints("hidden", 3, may_be_empty=True)


@pytest.mark.parametrize(
    ("make", "name", "parameter"),
    [
        (am.make_backbone, "mlp", "hidden"),
        (am.make_backbone, "resnet12", "n_filters"),
        (am.make_learner, "learned_rule", "hidden"),
    ],
)
def test_true_is_no_width(make: Callable[..., Any], name: str, parameter: str) -> None:
    made, info = make(name, **{parameter: (True, 16, 16, 16)}), am.make_tasks("digits").info
    with pytest.raises(
        am.InvalidParameter, match=rf"^{parameter}=\(True, 16, 16, 16\) of .* '{name}' must be a sequence"
    ):
        made.build(info if isinstance(made, am.Learner) else info.input_shape)


def test_a_chunk_of_numpy_divides_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, learner = am.make_tasks("sinusoid"), am.make_learner("ridge")
    sizes: list[int] = []

    def counted(self: am.Learner, module: object, batch: am.TaskBatch, progress: float) -> object:
        sizes.append(len(batch))
        return am.query_losses(self, module, batch)

    monkeypatch.setattr(type(learner), "meta_loss", counted)
    update = am.make_meta_optimizer("gradient", chunk=np.int64(2))
    update.start(learner, learner.build(tasks.info), tasks.info)
    update.step(tasks.sample(4, seed=0))
    assert sizes == [2, 2]


def test_meta_training_takes_whole_numbers_of_numpy_and_a_draw_no_truth_values() -> None:
    tasks = am.make_tasks("sinusoid")
    model = am.FewShotRegressor("ridge", max_steps=np.int64(2), tasks_per_step=np.int64(3), device="cpu")
    assert len(model.meta_fit(tasks).history_) == 2
    with pytest.raises(am.InvalidParameter, match="n_tasks=True must be a positive integer"):
        tasks.sample(True, seed=0)


def test_text_of_numpy_is_the_same_text() -> None:
    am.check_choice("norm", np.str_("batch"), ("batch",))
    with pytest.raises(am.InvalidParameter, match="must be a number"):
        am.check_real("x", 10**400)


def test_other_values_must_be_allowed_by_name() -> None:
    am.check_int("n", "auto", also=("auto",))
    am.check_real("lr", None, above=0, also=(None,))
    with pytest.raises(am.InvalidParameter, match="n='otto'"):
        am.check_int("n", "otto", also=("auto",))


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2), np.int64(1)])
def test_numbers_of_any_kind_are_taken(value: object) -> None:
    am.check_real("lr", value, above=0)


@pytest.mark.parametrize("value", [0, -1.0, True, "1", None, math.nan, math.inf, np.array([1.0, 2.0])])
def test_what_is_no_positive_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(am.InvalidParameter, match=r"^lr=.* must be a positive number, such as 0\.1\.$"):
        am.check_real("lr", value, above=0, such_as=0.1)


@pytest.mark.parametrize(
    ("bounds", "value", "wanted"),
    [
        ({"least": 0}, -0.1, "a number of at least 0"),
        ({"least": 0, "most": 1}, 1.1, "a number from 0 to 1"),
        ({"most": 1}, 2, "a number of at most 1"),
        ({"above": 0, "most": 1}, 0, "a positive number of at most 1"),
        ({"above": 1}, 1, "a number above 1"),
        ({"above": 0, "below": 1}, 1, "a number above 0 and below 1"),
        ({"above": 0, "below": 1}, 0.0, "a number above 0 and below 1"),
        ({"least": 0, "below": 1}, 1.0, "a number of at least 0 and below 1"),
        ({"below": 2}, 2, "a number below 2"),
        ({}, math.nan, "a number"),
    ],
)
def test_bounds_of_numbers_are_told_and_kept(bounds: dict[str, float], value: float, wanted: str) -> None:
    with pytest.raises(am.InvalidParameter, match=rf"must be {wanted}\.$"):
        am.check_real("x", value, **bounds)


def test_a_choice_is_one_of_its_values() -> None:
    am.check_choice("norm", None, ("batch", None))
    with pytest.raises(am.InvalidParameter, match=r"^norm=1 must be one of True, 'batch'\.$"):
        am.check_choice("norm", 1, (True, "batch"))
    with pytest.raises(am.InvalidParameter, match="must be one of 'batch'"):
        am.check_choice("norm", np.array(["batch", "layer"]), ("batch",))


@pytest.mark.parametrize("value", [True, False, np.True_, np.False_])
def test_true_and_false_of_any_kind_are_taken(value: object) -> None:
    am.check_bool("flag", value)


@pytest.mark.parametrize("value", ["no", "True", "", 0, 1, 0.0, None, "auto", np.array([True, False]), np.int64(1)])
def test_what_is_neither_true_nor_false_is_refused_by_name(value: object) -> None:
    with pytest.raises(am.InvalidParameter, match=r"^flag=.* of learner 'x' must be True or False\.$"):
        am.check_bool("flag", value, of="learner 'x'")
    with pytest.raises(am.InvalidParameter, match=r"^flag=.* must be True or False, or 'other'\.$"):
        am.check_bool("flag", value, also=("other",))
    am.check_bool("flag", "other", also=("other",))


FLAGS = [
    (component.kind, component.name, name)
    for component in components()
    for name, parameter in inspect.signature(component.spec.resolve()).parameters.items()
    if "bool" in str(parameter.annotation) or isinstance(parameter.default, bool)
]


@pytest.mark.parametrize(("kind", "component", "name"), FLAGS)
def test_no_flag_of_a_bundled_component_takes_a_text_for_true(kind: str, component: str, name: str) -> None:
    use: dict[str, Callable[[Any], object]] = {
        "learner": lambda learner: learner.build(am.make_tasks("glyphs").info),
        "backbone": lambda backbone: backbone.build((3, 84, 84)),
        "task sampler": lambda sampler: sampler.sample(1, seed=0),
    }
    made = make(kind, component, **{name: "no"})
    with pytest.raises(am.InvalidParameter, match=f"{name}='no' of {kind} '{component}' must be True or False"):
        use[kind](made)


def test_all_flags_are_looked_at() -> None:
    assert {"learn_lr", "first_order", "per_step_norm", "rotations", "pool", "normalize"} <= {flag[2] for flag in FLAGS}
