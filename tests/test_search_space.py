"""Search spaces from ``suggest``: names, defaults, what stays fixed, and the sampler chosen."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import optuna
import pytest
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import FixedTrial
from torch import Tensor, nn

import autometa as am
from autometa.comparison.execution.slot_records import quiet_optuna
from autometa.comparison.execution.slot_study import SlotStudy
from autometa.comparison.plan.domains import Domain
from autometa.comparison.plan.pair import Pair, make_pair
from autometa.comparison.plan.plan import make_plan, restore_plan
from autometa.comparison.plan.search_space import Candidate, SearchSpace
from autometa.comparison.plan.settings import Settings
from autometa.comparison.plan.slot_sampler import N_HELD, make_sampler
from autometa.comparison.plan.study_space import JointSpace, PairSpace
from learning import assert_better

INFO = am.TaskInfo(problem="regression", input_shape=(1,), n_outputs=1, n_shot=5, n_query=5)


class Searched(am.Learner):
    """A learner that only has hyperparameters."""

    default_meta_optimizer: ClassVar[str | None] = None
    provides: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, rate: float = 0.1, steps: int = 2, note: str = "", kind: str = "plain") -> None:
        self.rate, self.steps, self.note, self.kind = rate, steps, note, kind

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Identity()

    def adapt(self, module: nn.Module, support: am.Examples) -> Any:
        return support.y

    def predict(self, module: nn.Module, adapted: Any, x: Tensor) -> Tensor:
        return x

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(rate=trial.suggest_float("rate", 1e-3, 1.0, log=True), steps=trial.suggest_int("steps", 1, 5))


class Branching(Searched):
    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        steps = trial.suggest_int("steps", 1, 5)
        return cls(steps=steps, rate=trial.suggest_float("rate", 0.1, 1.0) if steps > 3 else 0.1)


class Choosing(Searched):
    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(kind=trial.suggest_categorical("kind", ["plain", "fancy"]))


class Nothing(Searched):
    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls()


class Wrong(Searched):
    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Any:
        return {"rate": 1.0}


class Tuned(am.MetaOptimizer):
    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None: ...

    def step(self, batch: am.TaskBatch) -> dict[str, Tensor]:
        return {}

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        return cls(rate=trial.suggest_float("rate", 0.0, 1.0))


def candidate(learner: am.Learner, meta_optimizer: am.MetaOptimizer | None = None) -> Candidate:
    return Candidate(label="it", learner=learner, meta_optimizer=meta_optimizer, info=INFO)


def test_parameters_of_both_components_have_prefixed_names_and_defaults() -> None:
    space = SearchSpace.of(candidate(Searched(), Tuned()))
    assert set(space.distributions) == {"learner__rate", "learner__steps", "meta_optimizer__rate"}
    assert space.defaults == {"learner__rate": 0.1, "learner__steps": 2, "meta_optimizer__rate": 0.5}
    assert not space.conditional


def test_drawing_sets_the_parameters_by_their_prefixed_names() -> None:
    trial = FixedTrial({"learner__rate": 0.3, "learner__steps": 4, "meta_optimizer__rate": 0.25})
    drawn = candidate(Searched(), Tuned()).draw(trial)
    assert drawn.learner.get_params() == {"rate": 0.3, "steps": 4, "note": "", "kind": "plain"}
    assert drawn.meta_optimizer is not None
    assert drawn.meta_optimizer.get_params() == {"rate": 0.25}


def test_an_objects_parameters_are_the_first_trial_and_those_not_searched_stay() -> None:
    mine = candidate(Searched(rate=0.7, note="mine"))
    assert SearchSpace.of(mine).defaults["learner__rate"] == 0.7
    learner = mine.draw(FixedTrial({"learner__rate": 0.2, "learner__steps": 1})).learner
    assert learner.get_params() == {"rate": 0.2, "steps": 1, "note": "mine", "kind": "plain"}


def test_a_value_set_outside_the_space_is_not_searched() -> None:
    mine = candidate(Searched(steps=50))
    assert set(SearchSpace.of(mine).distributions) == {"learner__rate"}
    learner = mine.draw(FixedTrial({"learner__rate": 0.2})).learner
    assert learner.get_params()["steps"] == 50


def test_a_parameter_asked_for_at_some_values_only_makes_the_space_conditional() -> None:
    assert SearchSpace.of(candidate(Branching())).conditional


class Middle(Searched):
    """Asks for more at a choice that is neither the default nor at an end."""

    @classmethod
    def suggest(cls, trial: optuna.Trial, info: am.TaskInfo) -> Self:
        kind = trial.suggest_categorical("kind", ["plain", "odd", "fancy"])
        return cls(kind=kind, rate=trial.suggest_float("rate", 0.1, 1.0) if kind == "odd" else 0.1)


def test_every_choice_is_asked_for_what_it_adds() -> None:
    assert SearchSpace.of(candidate(Middle())).conditional


def test_few_choices_are_all_tried_once_with_the_defaults_first() -> None:
    space = SearchSpace.of(candidate(Choosing(kind="fancy")))
    assert space.grid(20) == [{"learner__kind": "fancy"}, {"learner__kind": "plain"}]
    assert space.grid(1) is None
    assert SearchSpace.of(candidate(Searched())).grid(20) is None
    assert SearchSpace.of(candidate(Middle())).grid(20) is None


@pytest.mark.parametrize(
    ("learner", "gaussian"), [(Searched(), True), (Branching(), False), (Choosing(), False), (Nothing(), False)]
)
def test_a_gaussian_process_searches_numbers_that_are_always_asked_for(learner: am.Learner, gaussian: bool) -> None:
    space = SearchSpace.of(candidate(learner))
    assert isinstance(make_sampler(space, 20, seed=0).inner, GPSampler) == gaussian
    assert isinstance(make_sampler(space, 1000, seed=0).inner, TPESampler)


def test_suggest_returning_something_else_names_the_plugin() -> None:
    with pytest.raises(am.PluginError, match=r"Wrong\.suggest returned a dict"):
        SearchSpace.of(candidate(Wrong()))


def draws(learner: am.Learner, n_slots: int = 3) -> dict[int, dict[str, Any]]:
    """Parameters drawn for each slot when every earlier trial has failed, so that history plays no part."""
    one = candidate(learner)
    space = SearchSpace.of(one)
    with quiet_optuna():
        study = SlotStudy(
            optuna.storages.InMemoryStorage(),
            "study",
            n_slots=n_slots,
            higher_is_better=True,
            sampler=make_sampler(space, n_slots, seed=7),
            fixed={0: dict(space.defaults)},
        )
        found = {}
        for _ in range(n_slots):
            trial = study.claim()
            assert trial is not None
            one.draw(trial)
            found[trial.user_attrs["slot"]] = trial.params
            trial.set_user_attr("error", "on purpose")
            study.study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return found


@pytest.mark.parametrize("learner", [Searched(), Branching(), Choosing()])
def test_a_slot_draws_the_same_whoever_fills_it(learner: am.Learner) -> None:
    assert draws(learner) == draws(learner)


def test_slots_draw_differently() -> None:
    found = draws(Searched())
    assert found[1] != found[2]


def test_the_first_slot_has_the_defaults() -> None:
    assert draws(Searched(), 1)[0] == {"learner__rate": 0.1, "learner__steps": 2}


def test_choosing_a_sampler_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws(Branching())


def test_a_joint_study_names_parameters_by_their_learner_and_gives_them_back() -> None:
    settings = Settings(search="joint", n_trials=1)
    waves = Domain(label="waves", sampler=am.make_tasks("sinusoid"), settings=settings)
    pairs = [make_pair(waves, name, (am.make_learner(name), "auto"), [])[0] for name in ("ridge", "maml", "sklearn")]
    space = JointSpace(pairs)
    assert space.n_slots == 3  # every learner with its defaults
    for pair, fixed in zip(pairs, space.fixed.values(), strict=True):
        assert fixed["learner"] == pair.learner
        assert {name for name in fixed if name != "learner"} == {f"{pair.learner}.{n}" for n in pair.space.defaults}
        assert space.split(fixed) == (pair.learner, dict(pair.space.defaults))
        trial = FixedTrial(fixed)
        chosen, seen = space.choose(trial)
        learner = chosen.candidate.draw(seen).learner
        assert chosen is pair
        assert type(learner) is type(pair.candidate.learner)
        assert trial.params == fixed
    assert space.split({}) == ("", {})  # a trial that was cut before it chose


# ---------------------------------------------------------------- networks to choose from


def space_of(learner: am.Learner | str, tasks: str) -> SearchSpace:
    return pair_of(learner, tasks, n_trials=3).space


@pytest.mark.parametrize(
    ("learner", "tasks", "choices"),
    [
        ("prototypical", "digits", ("auto", "identity", "mlp", "conv4")),
        ("maml", "glyphs", ("auto", "identity", "mlp", "conv4")),
        ("ridge", "prior_smooth", ("auto", "identity", "mlp")),
        ("ridge", "sinusoid", ("auto", "mlp")),  # one number is no feature to leave as it is
        (am.make_learner("prototypical", backbone="conv4"), "digits", None),
        ("sklearn", "digits", None),
    ],
)
def test_the_network_is_searched_where_the_user_left_it_open(
    learner: am.Learner | str, tasks: str, choices: tuple[str, ...] | None
) -> None:
    found = space_of(learner, tasks).distributions.get("learner__backbone")
    assert (None if found is None else found.choices) == choices


def test_the_first_trials_are_the_defaults_with_every_network() -> None:
    settings = Settings(n_trials=5, max_steps=10)
    plan = make_plan(am.make_tasks("digits"), "prototypical", settings, name="t", baselines=False)
    (space,) = plan.spaces
    first = [space.fixed[slot]["learner__backbone"] for slot in range(3)]
    assert first == ["auto", "identity", "mlp"]
    assert all(space.fixed[slot].items() >= {"learner__temperature": 1.0}.items() for slot in range(3))
    assert len(space.fixed) == 3


@pytest.mark.thorough
def test_a_family_may_choose_to_leave_images_as_they_are() -> None:
    """Four classes are too few to learn features of digits from: nearest means of pixels are better."""
    found = am.compare(
        am.make_tasks("digits", n_query=5),
        {"free": am.make_learner("prototypical"), "conv4": am.make_learner("prototypical", backbone="conv4")},
        n_trials=3, n_seeds=1, max_steps=4, n_test_tasks=200, n_valid_tasks=50, verbose=0,
    )  # fmt: skip
    scores = found.scores.pivot(index="task", columns="learner", values="score")
    assert_better(scores["free"].to_numpy(), scores["conv4"].to_numpy(), am.make_tasks("digits").info)
    board = found.leaderboard.set_index("learner")
    assert board.loc["free", "params"]["learner__backbone"] == "identity"
    assert board.loc["free", "score"] > board.loc["sklearn", "score"] - 0.02


def pair_of(learner: am.Learner | str, tasks: str, *, n_trials: int = 20, accelerator: bool = False) -> Pair:
    settings = Settings(n_trials=n_trials, max_steps=10)
    made = {"it": am.make_learner(learner)}
    plan = make_plan(am.make_tasks(tasks), made, settings, name="t", baselines=False, accelerator=accelerator)
    return plan.pairs[0]


def test_a_network_opens_its_own_parameters_and_takes_what_is_drawn() -> None:
    pair = pair_of("prototypical", "digits")
    names = {name.removeprefix("learner__backbone__") for name in pair.space.opened}
    assert names == {"conv4__n_filters", "conv4__norm", "mlp__hidden", "mlp__n_layers", "mlp__norm"}
    assert pair.space.conditional
    drawn = {"learner__backbone": "conv4", "learner__backbone__conv4__n_filters": 32}
    trial = FixedTrial(pair.space.defaults | drawn | {"learner__backbone__conv4__norm": "group"})
    learner = pair.candidate.draw(trial).learner
    assert learner.backbone.get_params() == {"n_filters": 32, "norm": "group", "batch_norm": "inductive", "n_pools": 4}


def test_the_largest_network_is_searched_where_there_is_an_accelerator() -> None:
    pair = pair_of("prototypical", "digits", accelerator=True)
    assert [network.label for network in pair.candidate.networks] == ["identity", "mlp", "conv4", "resnet12"]
    assert pair.first_points[-1] == pair.space.defaults | {
        "learner__backbone": "resnet12",
        "learner__backbone__resnet12__drop_rate": 0.0,
    }


def tried(pair: Pair, n_slots: int) -> list[dict[str, Any]]:
    """Parameters of the first slots of a study in which every trial fails."""
    space = PairSpace(pair)
    with quiet_optuna():
        study = SlotStudy(
            optuna.storages.InMemoryStorage(), "study", n_slots=n_slots, higher_is_better=True,
            sampler=space.sampler(), fixed=space.fixed,
        )  # fmt: skip
        for _ in range(n_slots):
            trial = study.claim()
            assert trial is not None
            pair.candidate.draw(trial)
            trial.set_user_attr("error", "on purpose")
            study.study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return [trial.params for trial in study.trials()]


def test_the_first_trials_leave_details_as_they_are() -> None:
    pair = pair_of("prototypical", "digits", n_trials=40)
    found = tried(pair, 40)
    details = pair.candidate.details
    assert all(params[name] == details[name] for params in found[:N_HELD] for name in params if name in details)
    assert len({params["learner__temperature"] for params in found[:N_HELD]}) > 3  # which is drawn
    later = {name for params in found[N_HELD:] for name in params if name in details and params[name] != details[name]}
    assert later >= {"learner__backbone__conv4__norm", "learner__backbone__mlp__hidden", "tasks__train_n_way"}
    assert "meta_optimizer__schedule" in later
    assert len(later) == 13


TINY = """
import autometa as am
from autometa_plugins.backbones.mlp import MLP

class Tiny(am.Backbone):
    def __init__(self, width=4):
        self.width = width

    def build(self, input_shape):
        return MLP(hidden=[self.width]).build(input_shape)

    @classmethod
    def suggest(cls, trial, input_shape):
        return cls(width=trial.suggest_int("width", 2, 8))

class Silent(am.Backbone):
    def build(self, input_shape):
        return MLP(hidden=[2]).build(input_shape)

@am.hookimpl
def autometa_backbones():
    yield am.BackboneSpec(name="tiny", factory=Tiny)
    yield am.BackboneSpec(name="silent", factory=Silent)
    yield am.BackboneSpec(name="gone", factory="no_such_package:Gone")
"""


def test_a_backbone_of_another_plugin_joins_by_its_search_space(install: Any) -> None:
    install("acme", "acme_plugin", TINY)
    with pytest.warns(UserWarning, match="'gone' cannot be imported"):
        pair = pair_of("prototypical", "digits")
    assert pair.domain.settings.backbones is not None
    assert "acme_plugin/tiny" in pair.domain.settings.backbones
    assert "silent" not in pair.domain.settings.backbones
    assert "learner__backbone__tiny__width" in pair.space.opened
    chosen = {"learner__backbone": "tiny", "learner__backbone__tiny__width": 3}
    learner = pair.candidate.draw(FixedTrial(pair.space.defaults | chosen)).learner
    assert learner.build(pair.domain.info).n_features == 3


def test_every_process_searches_the_networks_of_the_plan() -> None:
    settings = Settings(n_trials=3, max_steps=10, backbones="backbones/mlp")
    plan = make_plan(am.make_tasks("digits"), "prototypical", settings, name="t", baselines=False, accelerator=True)
    again = restore_plan("t", plan.described)
    assert again.pairs[0].space == plan.pairs[0].space
    assert plan.pairs[0].space.distributions["learner__backbone"].choices == ("auto", "mlp")
