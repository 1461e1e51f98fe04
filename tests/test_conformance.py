"""All bundled components pass the conformance kit, and the kit catches components that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import autometa as am
from autometa.contracts.problems import PROBLEMS
from autometa.host import Component, components
from autometa.testing import Check, checks_of, kit
from autometa.testing.meta_optimizer_checks import case_for, check_improves
from autometa.testing.toys import Blobs, Lines, Shifts
from tiers import first_by_default, is_representative, thorough_unless

KNOWN_DEVIATIONS: dict[str, str] = {}
"""Checks that a bundled component does not pass, with the reason."""

NEED_PARAMETERS = ("cifar_fs", "ensemble", "gymnasium", "half_cheetah", "images", "lake_runs", "omniglot", "table")
BUNDLED = [c.full_name for c in components() if c.plugin.distribution == "autometa" and c.name not in NEED_PARAMETERS]


SLOW = {
    *(f"{name}-check_learns[classification]" for name in ("gru", "lstm", "mann", "sklearn", "sklearn_pooled")),
    *(
        f"{name}-check_learns[{problem}]"
        for name in (
            *("imaml", "kernel_experts", "learned_rule", "meta_lstm", "meta_networks", "pfn", "pfn_related"),
            "plastic",
        )
        for problem in ("classification", "regression")
    ),
    *(f"{name}-check_learns[{problem}]" for name, problem in (("mann", "regression"), ("snail", "classification"))),
    *(
        f"{name}-check_learns[control]"
        for name in ("fine_tuned_policy", "maml_policy", "multitask_policy", "neuromodulated", "varibad")
    ),
    *(
        f"{name}-check_permuted_labels_score_chance[classification]"
        for name in (
            *("gru", "imaml", "kernel_experts", "learned_rule", "lstm", "mann", "meta_lstm", "meta_networks", "pfn"),
            *("plastic", "sklearn", "snail"),
        )
    ),
    *(
        f"{name}-check_improves"
        for name in ("cmaes", "collect", "evolution_strategy", "imitation", "implicit", "policy_gradient", "promp")
    ),
    *(
        f"mixed_effects-{check}[{problem}]"
        for check in (
            *("check_adapt_is_pure", "check_learns", "check_search_space", "check_shapes"),
            *("check_state_dict_round_trip", "check_support_order_does_not_matter", "check_supports_of_few_rows"),
            "check_tasks_are_independent",
        )
        for problem in ("classification", "regression")
    ),
}
"""Checks that take seconds, of components that have tests of their own by default."""


DEAR = {
    *("check_acting_is_pure", "check_adapt_is_pure", "check_advice", "check_along_is_acting"),
    *("check_build_is_seeded", "check_demonstrations", "check_draws_are_independent", "check_ends"),
    *("check_gradient_flows", "check_hidden_is_for_critics", "check_improves", "check_learns"),
    *("check_memory_lasts", "check_no_graph_without_gradients", "check_order_tells_nothing"),
    *("check_other_task_sizes", "check_padding_changes_nothing", "check_prefix", "check_provides"),
    *("check_queries_are_independent", "check_resumes", "check_same_in_another_process", "check_search_space"),
    *("check_seeded", "check_sizes_follow_parameters", "check_splits_are_disjoint", "check_start_forgets"),
    *("check_state_dict_round_trip", "check_support_and_query_are_disjoint"),
    *("check_support_order_does_not_matter", "check_supports_of_few_rows", "check_tasks_are_independent"),
    "check_untold_rewards",
}
"""Checks that draw, act, adapt or train more than once: by default they are for representatives only."""


def stays(check: Check) -> bool:
    """Return whether a check is one of the default suite, unless it is slow."""
    return is_representative(check.component) or check.name.partition("[")[0] not in DEAR


def tiers_marked(checks: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Give the checks named in SLOW their mark, and those that need not stay in the default suite theirs."""
    name, params = checks.args
    assert {param.id for param in params} >= SLOW
    marked = [param._replace(marks=[*param.marks, pytest.mark.slow]) if param.id in SLOW else param for param in params]
    return pytest.mark.parametrize(name, thorough_unless(stays, marked))


@tiers_marked(am.parametrize_with_plugin_checks(*BUNDLED, expected_failures=KNOWN_DEVIATIONS))
def test_bundled_component(check: Check) -> None:
    check()


META_OPTIMIZERS = [
    c.full_name
    for c in components("meta-optimizer")
    if c.plugin.distribution == "autometa" and "regression" in c.spec.problems
]
TESTED_ELSEWHERE = {
    "cifar_fs": {"classification"},
    "ensemble": {"classification", "regression"},
    "gymnasium": {"control"},
    "half_cheetah": {"control"},
    "images": {"classification"},
    "lake_runs": {"classification"},
    "omniglot": {"classification"},
    "table": {"classification", "regression"},
}
"""Problems on which components that a user must tell more pass the kit: below, in test_cifar_fs.py, in
test_ensemble_learner.py, in test_gymnasium_tasks.py and in test_lake_runs.py."""


@pytest.mark.slow
@pytest.mark.parametrize("name", META_OPTIMIZERS)
def test_a_bundled_meta_optimizer_improves_on_regression_as_well(name: str) -> None:
    # What "collect" keeps helps where rows of other tasks say something about a new one.
    tasks = Shifts() if name == "baselines/collect" else Lines()
    check_improves(case_for(am.make_meta_optimizer(name), "regression", tasks, None))


class Habit(am.Actor):
    """Choose by the same probabilities everywhere."""

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.ParameterList([torch.zeros(info.n_outputs)])

    def start(self, module: nn.Module, n_tasks: int) -> dict[str, Tensor]:
        return {}

    def act(self, module: nn.Module, memory: Any, observation: Tensor) -> tuple[am.Decision, Any]:
        (logits,) = module.parameters()
        return am.Decision(am.Choice(logits.expand(len(observation), -1)), None), memory

    def observe(self, module: nn.Module, memory: Any, transition: am.Transition) -> Any:
        return memory


@pytest.mark.parametrize(
    ("name", "params"),
    first_by_default(1, [("cmaes", {}), ("evolution_strategy", {"population": 6, "sigma": 0.5, "lr": 0.1})]),
)
def test_a_bundled_meta_optimizer_that_differentiates_nothing_improves_an_actor_as_well(
    name: str, params: dict[str, Any]
) -> None:
    tasks = am.make_tasks("gridnavi", size=3, steps=6, n_shot=0)
    check_improves(case_for(am.make_meta_optimizer(name, **params), "control", tasks, Habit()))


PRIORS = [name for name in BUNDLED if name.startswith("tabular/prior_")]


@pytest.mark.parametrize("name", first_by_default(2, PRIORS))
def test_a_prior_of_tables_conforms_on_regression_as_well(name: str) -> None:
    missing = {} if name == "tabular/prior_entities" else {"missing": True}
    assert_conforms(am.make_tasks(name, problem="regression", **missing))


def problems_tested(component: Component) -> set[str]:
    if component.kind == "meta-optimizer":
        required = am.make_meta_optimizer(component.full_name).requires
        if required & {"decisions", "policy"}:
            return {"control"}
        return {"classification", "regression"} | (set() if required else {"control"})  # the kit, and the tests above
    if component.name in NEED_PARAMETERS:
        return TESTED_ELSEWHERE[component.name]
    if component.kind == "task sampler":
        if component.full_name in PRIORS:
            return {"classification", "regression"}  # the kit, and the test above
        return {am.make_tasks(component.full_name).info.problem}
    names = [check.name for check in checks_of(component.full_name, kind=component.kind)]
    return {problem for problem in PROBLEMS if f"check_learns[{problem}]" in names}


@pytest.mark.parametrize(
    "component",
    [c for c in components() if c.plugin.distribution == "autometa" and c.kind != "backbone"],
    ids=lambda c: c.full_name,
)
def test_a_bundled_component_claims_the_problems_it_is_tested_on(component: Component) -> None:
    assert component.spec.problems == problems_tested(component)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in range(12):
        folder = tmp_path / "images" / f"class_{label:02}"
        folder.mkdir(parents=True)
        for number in range(6):
            Image.fromarray(generator.integers(0, 255, (10, 10, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def omniglot_root(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for part, alphabets in (("images_background", "abcdefgh"), ("images_evaluation", "yz")):
        for alphabet in alphabets:
            for character in range(3):
                folder = tmp_path / "omniglot" / part / f"Alphabet_{alphabet}" / f"character{character + 1:02}"
                folder.mkdir(parents=True)
                for drawer in range(20):
                    ink = generator.random((105, 105)) < 0.5
                    Image.fromarray(ink).save(folder / f"{ord(alphabet)}{character}_{drawer + 1:02}.png")
    return tmp_path / "omniglot"


def school_table(target: str) -> pd.DataFrame:
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(generator.normal(size=(360, 3)), columns=["a", "b", "c"])
    frame["kind"] = generator.choice(["x", "y", "z"], size=360)
    frame["school"] = [f"school {n}" for n in np.repeat(np.arange(18), 20)]
    frame["score"] = frame["a"] + np.repeat(generator.normal(size=18), 20)
    frame["passed"] = np.where(frame["score"] > 0, "yes", "no")
    return frame[["a", "b", "c", "kind", "school", target]]


@pytest.mark.parametrize(("target", "stratified"), [("score", True), ("passed", True), ("passed", False)])
def test_table_conforms(target: str, stratified: bool) -> None:
    table = {"data": school_table(target), "task": "school", "target": target}
    assert_conforms(am.make_tasks("table", **table, n_shot=5, n_query=5, stratified=stratified))


def test_images_conform(image_folder: Path) -> None:
    assert_conforms(am.make_tasks("images", root=image_folder, n_way=2, n_shot=2, n_query=3, size=8))


@pytest.mark.parametrize("split", ["alphabet"])
def test_omniglot_conforms(omniglot_root: Path, tmp_path: Path, split: str) -> None:
    assert_conforms(
        am.make_tasks("omniglot", root=omniglot_root, cache=tmp_path / "cache", split=split, n_way=3, n_query=4)
    )


def assert_conforms(component: Any) -> None:
    frame = am.check_plugin(component)
    failed = frame[frame["status"] == "failed"]
    assert failed.empty, "\n".join(f"{row.check}: {row.error}" for row in failed.itertuples())
    assert (frame["status"] == "passed").sum() >= 20


@pytest.mark.parametrize("toy", [Blobs(), Lines(), Shifts()], ids=lambda toy: type(toy).__name__)
def test_the_kits_own_task_distributions_conform(toy: am.TaskSampler) -> None:
    for check in checks_of(toy):
        if check.name != "check_same_in_another_process":
            check()


# What follows is wrong on purpose, each in one way.


class Centroids(am.Learner):
    """A sound learner for the faulty ones to spoil: the nearest class mean, scaled."""

    provides = frozenset({"gradient"})
    default_meta_optimizer = "gradient"

    def build(self, info: am.TaskInfo) -> nn.Module:
        return nn.Linear(info.input_shape[0], 8)

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        members = support.one_hot().transpose(1, 2)
        return {"means": members @ module(support.x) / members.sum(-1, keepdim=True).clamp(min=1)}

    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return -torch.cdist(module(x), adapted["means"])


class WritesIntoTheta(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            module.weight.mul_(0.99)
        return super().adapt(module, support)


class RemembersOnItself(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        self.count = getattr(self, "count", 0) + 1
        return super().adapt(module, support)


class GivesOtherResultsTheSecondTime(Centroids):
    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        outputs = super().predict(module, adapted, x)
        return outputs + 0.1 * torch.randn_like(outputs)


class LetsTasksSeeEachOther(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        means = super().adapt(module, support)["means"]
        return {"means": means - 0.5 * means.mean(dim=0, keepdim=True)}


class LooksAtTheOrderOfTheSupport(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        means = super().adapt(module, support)["means"]
        return {"means": means + 0.2 * module(support.x)[:, :1]}


class LooksAtOtherQueries(Centroids):
    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return super().predict(module, adapted, x - x.mean(dim=1, keepdim=True))


class IgnoresTheMask(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        return super().adapt(module, am.Examples(support.x, support.y, n_classes=support.n_classes))


class IgnoresTheSupport(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        means = torch.arange(support.n_classes * 8, dtype=support.x.dtype).sin().reshape(-1, 8)
        return {"means": means.expand(len(support), -1, -1)}


class DividesByTheRowsOfAClass(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        members = support.one_hot().transpose(1, 2)
        return {"means": members @ module(support.x) / members.sum(-1, keepdim=True)}


class SaysThatItNeedsRows(DividesByTheRowsOfAClass):
    needs_support = True

    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return super().predict(module, adapted, x).nan_to_num()


class KeepsTheGraph(Centroids):
    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        with torch.enable_grad():
            return super().adapt(module, support)


class BreaksTheGraph(Centroids):
    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return super().predict(module, adapted, x).detach()


class KnowsOneNumberOfClasses(Centroids):
    def predict(self, module: nn.Module, adapted: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return super().predict(module, adapted, x)[..., :3]


class ForgetsWhenSaved(Centroids):
    def build(self, info: am.TaskInfo) -> nn.Module:
        module = super().build(info)
        module.scale = 1 + torch.rand(8)
        return module

    def adapt(self, module: nn.Module, support: am.Examples) -> dict[str, torch.Tensor]:
        return {"means": super().adapt(module, support)["means"] * module.scale}


class ChecksInTheConstructor(Centroids):
    def __init__(self, rate: float = 0.1) -> None:
        if not rate > 0:
            raise ValueError("rate")
        self.rate = rate


class ChangesItsParameters(Centroids):
    def __init__(self, rate: float = 0.1) -> None:
        self.rate = [rate]


class HasItsDefaultsOutside(Centroids):
    """Searches ``rate``."""

    def __init__(self, rate: float = 5.0) -> None:
        self.rate = rate

    @classmethod
    def suggest(cls, trial: Any, info: am.TaskInfo) -> HasItsDefaultsOutside:
        return cls(rate=trial.suggest_float("rate", 0.1, 1.0))


class MisspellsItsParameter(HasItsDefaultsOutside):
    @classmethod
    def suggest(cls, trial: Any, info: am.TaskInfo) -> MisspellsItsParameter:
        return cls(rate=trial.suggest_float("raet", 0.1, 10.0))


FAULTY_LEARNERS: list[Any] = [
    (WritesIntoTheta, "check_adapt_is_pure"),
    (RemembersOnItself, "check_adapt_is_pure"),
    (GivesOtherResultsTheSecondTime, "check_adapt_is_pure"),
    (LetsTasksSeeEachOther, "check_tasks_are_independent"),
    (LooksAtTheOrderOfTheSupport, "check_support_order_does_not_matter"),
    (LooksAtOtherQueries, "check_queries_are_independent"),
    (IgnoresTheMask, "check_padding_changes_nothing"),
    pytest.param(IgnoresTheSupport, "check_learns", marks=pytest.mark.thorough),
    (DividesByTheRowsOfAClass, "check_supports_of_few_rows"),
    (KeepsTheGraph, "check_no_graph_without_gradients"),
    (BreaksTheGraph, "check_provides"),
    (KnowsOneNumberOfClasses, "check_other_task_sizes"),
    (ForgetsWhenSaved, "check_state_dict_round_trip"),
    (ChecksInTheConstructor, "check_constructor_only_stores"),
    (ChangesItsParameters, "check_constructor_only_stores"),
    (HasItsDefaultsOutside, "check_search_space"),
    (MisspellsItsParameter, "check_search_space"),
]


def failures(component: Any, check: str, **given: Any) -> list[str]:
    """Texts with which the checks of this name fail."""
    texts = []
    for one in checks_of(component, **given):
        if one.name.partition("[")[0] == check:
            row = kit.run_check(one)
            texts += [row["error"]] if row["status"] == "failed" else []
    return texts


def test_the_learner_that_the_faulty_ones_spoil_is_sound() -> None:
    frame = am.check_plugin(Centroids(), tasks=Blobs())
    assert set(frame.loc[frame["status"] == "failed", "check"]) == set()


@pytest.mark.parametrize(("learner", "check"), FAULTY_LEARNERS, ids=lambda value: getattr(value, "__name__", value))
def test_a_faulty_learner_is_caught_by_the_right_check(learner: Callable[[], am.Learner], check: str) -> None:
    (text,) = failures(learner(), check, tasks=Blobs())
    assert "Traceback" not in text


def test_a_learner_may_say_that_it_needs_rows() -> None:
    assert failures(SaysThatItNeedsRows(), "check_supports_of_few_rows", tasks=Blobs()) == []


def test_a_distribution_that_is_none_is_caught() -> None:
    cnp = type(am.make_learner("cnp"))

    class OtherMeans(cnp):  # type: ignore[misc, valid-type]
        def predict(self, *given: Any) -> torch.Tensor:
            return super().predict(*given) + 1

    class NegativeDeviations(cnp):  # type: ignore[misc, valid-type]
        def predict_distribution(self, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
            mean, deviation = super().predict_distribution(*given)
            return mean, deviation if torch.is_grad_enabled() else -deviation

    (other,) = failures(OtherMeans(), "check_provides", tasks=Lines())
    assert "not what predict() returns" in other
    (negative,) = failures(NegativeDeviations(), "check_provides", tasks=Lines())
    assert "must be positive" in negative


class Exponential(type(am.make_learner("cnp"))):  # type: ignore[misc]
    """Sound: what is asked for lies above a least value by an exponentially distributed amount."""

    provides = frozenset({"gradient", "distribution", "quantiles"})

    def predict_quantiles(self, module: nn.Module, adapted: Any, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.predict_distribution(module, adapted, x)
        return mean + deviation * (-torch.log1p(-q[:, None, None, None]) - 1)


class HasQuantilesAlone(Exponential):
    provides = frozenset({"gradient", "quantiles"})


class PutsQuantilesLast(Exponential):
    def predict_quantiles(self, *given: Any) -> torch.Tensor:
        return super().predict_quantiles(*given).movedim(0, -1)


class KnowsNoTails(Exponential):
    def predict_quantiles(self, *given: Any) -> torch.Tensor:
        found = super().predict_quantiles(*given)
        return found.where(given[-1][:, None, None, None] < 0.99, torch.inf)


class TurnsQuantilesRound(Exponential):
    def predict_quantiles(self, module: nn.Module, adapted: Any, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return super().predict_quantiles(module, adapted, x, 1 - q)


class MeansTheMedian(Exponential):
    def predict_quantiles(self, *given: Any) -> torch.Tensor:
        return super().predict_quantiles(*given) + 0.3 * self.predict_distribution(*given[:3])[1]


class HasOtherDeviations(Exponential):
    def predict_quantiles(self, *given: Any) -> torch.Tensor:
        mean = self.predict(*given[:3])
        return mean + 1.5 * (super().predict_quantiles(*given) - mean)


class SortsItsQuantiles(Exponential):
    def predict_quantiles(self, *given: Any) -> torch.Tensor:
        return torch.sort(super().predict_quantiles(*given), dim=0)[0]


class WidensByItsTasks(Exponential):
    def predict_quantiles(self, module: nn.Module, adapted: Any, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        mean = self.predict(module, adapted, x)
        return mean + (1 + len(x) / 100) * (super().predict_quantiles(module, adapted, x, q) - mean)


class WidensByItsQueries(Exponential):
    def predict_quantiles(self, module: nn.Module, adapted: Any, x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        mean = self.predict(module, adapted, x)
        return mean + (1 + x.shape[1] / 100) * (super().predict_quantiles(module, adapted, x, q) - mean)


def test_quantiles_of_a_skewed_distribution_are_sound() -> None:
    for check in ("check_provides", "check_supports_of_few_rows"):
        assert failures(Exponential(), check, tasks=Lines()) == []


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (HasQuantilesAlone, "without 'distribution'"),
        (PutsQuantilesLast, r"[quantiles, tasks, n, n_outputs] is (200, "),
        (KnowsNoTails, "not finite"),
        (TurnsQuantilesRound, "quantiles that decrease"),
        (MeansTheMedian, "0.30 standard deviations from that of predict_distribution()"),
        (HasOtherDeviations, "times that of predict_distribution()"),
        (SortsItsQuantiles, "asked for beside it, or on their order"),
        (WidensByItsTasks, "depend on the other tasks"),
        (WidensByItsQueries, "depend on the queries beside it"),
    ],
)
def test_quantiles_that_are_none_are_caught(learner: Callable[[], am.Learner], said: str) -> None:
    (text,) = failures(learner(), "check_provides", tasks=Lines())
    assert said in text


class Laplace(type(am.make_learner("cnp"))):  # type: ignore[misc]
    """Sound: a density with a peak."""

    provides = frozenset({"gradient", "distribution", "density"})

    def predict_log_density(self, module: nn.Module, adapted: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, deviation = self.predict_distribution(module, adapted, x)
        width = deviation / 2**0.5
        return -(y - mean).abs() / width - (2 * width).log()


class HasDensityAlone(Laplace):
    provides = frozenset({"gradient", "density"})


class ForgetsTheWidth(Laplace):
    def predict_log_density(self, *given: Any) -> torch.Tensor:
        return super().predict_log_density(*given) + 0.3


class LiesElsewhere(Laplace):
    def predict_log_density(self, module: nn.Module, adapted: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().predict_log_density(
            module, adapted, x, y + 0.3 * self.predict_distribution(module, adapted, x)[1]
        )


class SumsItsQueries(Laplace):
    def predict_log_density(self, *given: Any) -> torch.Tensor:
        return super().predict_log_density(*given).sum(dim=1)


class HasAnEnd(Laplace):
    def predict_log_density(self, *given: Any) -> torch.Tensor:
        found = super().predict_log_density(*given)
        return found.where(found > -10, -torch.inf)


def test_a_density_with_a_peak_is_sound() -> None:
    assert failures(Laplace(), "check_provides", tasks=Lines()) == []


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (HasDensityAlone, "'density' without 'distribution'"),
        (ForgetsTheWidth, "has the integral 1.35 to 1.35, not 1"),
        (LiesElsewhere, "0.30 standard deviations from that of predict_distribution()"),
        (SumsItsQueries, "it must return finite numbers of that shape"),
        (HasAnEnd, "it must return finite numbers of that shape"),
    ],
)
def test_densities_that_are_none_are_caught(learner: Callable[[], am.Learner], said: str) -> None:
    (text,) = failures(learner(), "check_provides", tasks=Lines())
    assert said in text


class IgnoresTheSeed(Lines):
    """Draws as it likes."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        return super().sample(n_tasks, split=split, seed=int(torch.randint(1000, ())))


class IgnoresTheSplit(Blobs):
    """Draws meta-test tasks from the meta-train classes."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        am.check_draw(n_tasks, split, seed)
        return super().sample(n_tasks, split="train", seed=seed)


class DependsOnTheNumberOfTasks(Lines):
    """Draws other first tasks where more are asked for."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        am.check_draw(n_tasks, split, seed)
        return super().sample(n_tasks, split=split, seed=seed + n_tasks)


class CountsItsCalls(Lines):
    """Draws something else every time."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        vars(self)["_calls"] = vars(self).get("_calls", 0) + 1
        return super().sample(n_tasks, split=split, seed=seed + self._calls)


class AsksWhatItHasShown(Blobs):
    """Its query holds the support."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        return am.TaskBatch(support=batch.support, query=batch.support.join(batch.query), classes=batch.classes)


class SortsItsQuery(Blobs):
    """Its queries come class by class."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        batch = super().sample(n_tasks, split=split, seed=seed)
        order = batch.query.y.argsort(dim=1)
        x = torch.take_along_dim(batch.query.x, order.unsqueeze(-1), dim=1)
        return am.TaskBatch(
            support=batch.support, query=am.Examples(x, batch.query.y.gather(1, order)), classes=batch.classes
        )


class HandsOutDoubles(Lines):
    """Gives float64."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        return super().sample(n_tasks, split=split, seed=seed).to(dtype=torch.float64)


class TakesAnySplit(Lines):
    """Takes any split for meta-train."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        return super().sample(n_tasks, split=split if split in am.SPLITS else "train", seed=seed)


class GivesItsOwnTensor(Lines):
    """Hands out one tensor again and again."""

    def sample(self, n_tasks: int, *, split: str = "train", seed: int) -> am.TaskBatch:
        kept = vars(self).setdefault("_kept", {})
        if (n_tasks, split, seed) not in kept:
            kept[n_tasks, split, seed] = super().sample(n_tasks, split=split, seed=seed)
        return kept[n_tasks, split, seed]


class PromisesAnotherShape(Lines):
    """Says that inputs have another shape."""

    @property
    def info(self) -> am.TaskInfo:
        return am.TaskInfo(problem="regression", input_shape=(7,), n_outputs=1, n_shot=self.n_shot, n_query=8)


FAULTY_SAMPLERS: list[tuple[am.TaskSampler, str]] = [
    (IgnoresTheSeed(), "check_seeded"),
    (IgnoresTheSplit(), "check_splits_are_disjoint"),
    (DependsOnTheNumberOfTasks(), "check_prefix"),
    (CountsItsCalls(), "check_draws_are_independent"),
    (AsksWhatItHasShown(), "check_support_and_query_are_disjoint"),
    (SortsItsQuery(), "check_order_tells_nothing"),
    (HandsOutDoubles(), "check_shapes"),
    (PromisesAnotherShape(), "check_shapes"),
    (PromisesAnotherShape(), "check_sizes_follow_parameters"),
    (TakesAnySplit(), "check_refuses_bad_arguments"),
    (GivesItsOwnTensor(), "check_sampling_changes_nothing"),
]


@pytest.mark.parametrize(
    ("sampler", "check"), FAULTY_SAMPLERS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_faulty_sampler_is_caught_by_the_right_check(sampler: am.TaskSampler, check: str) -> None:
    (text,) = failures(sampler, check)
    assert "Traceback" not in text


ODD_ELSEWHERE = """
import os, sys
from autometa.testing.toys import Lines

ELSEWHERE = os.environ.get("PYTHONHASHSEED") == "12345"


class Hashes(Lines):
    def sample(self, n_tasks, *, split="train", seed):
        return super().sample(n_tasks, split=split, seed=seed + abs(hash("text")) % 10**6)


class Prints(Lines):
    def sample(self, n_tasks, *, split="train", seed):
        print("drawing")
        return super().sample(n_tasks, split=split, seed=seed)


class Raises(Lines):
    def sample(self, n_tasks, *, split="train", seed):
        if ELSEWHERE:
            raise OSError("no data here")
        return super().sample(n_tasks, split=split, seed=seed)


class Exits(Lines):
    def sample(self, n_tasks, *, split="train", seed):
        if ELSEWHERE:
            sys.exit(3)
        return super().sample(n_tasks, split=split, seed=seed)
"""


@pytest.mark.slow
def test_a_sampler_that_another_process_draws_otherwise_is_caught(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "odd_samplers.py").write_text(ODD_ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    import odd_samplers

    def caught(sampler: am.TaskSampler) -> list[str]:
        return failures(sampler, "check_same_in_another_process")

    assert caught(odd_samplers.Hashes()) == ["another process draws other tasks for the same seed."]
    assert caught(odd_samplers.Prints()) == []
    (text,) = caught(odd_samplers.Raises())
    assert text.startswith("drawing in another process failed:\nTraceback")
    assert "no data here" in text
    assert caught(odd_samplers.Exits()) == ["drawing in another process ended it, exit code 3."]


class Wrong(am.MetaOptimizer):
    """Gradient descent for the faulty ones to spoil."""

    requires = frozenset({"gradient"})
    sign = -1.0

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        self.learner_, self.module_ = learner, module
        self.moments_ = [torch.zeros_like(p) for p in module.parameters()]

    def step(self, batch: am.TaskBatch) -> dict[str, torch.Tensor]:
        loss = am.query_losses(self.learner_, self.module_, batch).mean()
        gradients = torch.autograd.grad(loss, list(self.module_.parameters()))
        with torch.no_grad():
            for p, moment, gradient in zip(self.module_.parameters(), self.moments_, gradients, strict=True):
                moment.mul_(0.5).add_(gradient)
                p.add_(moment, alpha=self.sign * 0.05)
        return {"loss": loss.detach()}


class Ascends(Wrong):
    """Goes the wrong way."""

    sign = 1.0


class DescendsThenAscends(Wrong):
    """Has clearly improved after a quarter of the run, and ends far above its start."""

    def step(self, batch: am.TaskBatch) -> dict[str, torch.Tensor]:
        self.sign = -1.0 if self.progress < 0.25 else 1.0
        return super().step(batch)


class ReportsNoLoss(Wrong):
    """Tells nothing."""

    def step(self, batch: am.TaskBatch) -> dict[str, torch.Tensor]:
        super().step(batch)
        return {}


class RemembersAnEarlierRun(Wrong):
    """Goes on with old moments."""

    def start(self, learner: am.Learner, module: nn.Module, info: am.TaskInfo) -> None:
        moments = vars(self).get("moments_")
        super().start(learner, module, info)
        self.moments_ = moments or self.moments_


@pytest.mark.parametrize(
    ("meta_optimizer", "check"),
    [
        (Ascends, "check_improves"),
        (DescendsThenAscends, "check_improves"),
        (Wrong, "check_resumes"),
        (ReportsNoLoss, "check_reports_loss"),
        (RemembersAnEarlierRun, "check_start_forgets"),
    ],
)
def test_a_faulty_meta_optimizer_is_caught_by_the_right_check(
    meta_optimizer: Callable[[], am.MetaOptimizer], check: str
) -> None:
    (text,) = failures(meta_optimizer(), check, learner=am.make_learner("prototypical"), tasks=Blobs())
    assert "Traceback" not in text


class BatchNormed(am.Backbone):
    """Normalizes by the examples given."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        if len(input_shape) != 1:
            raise am.InvalidParameter(f"input_shape={input_shape} must have one axis.")
        module = nn.Sequential(nn.Linear(input_shape[0], 8), nn.BatchNorm1d(8, track_running_stats=False))
        module.n_features = 8
        return module


class WrongWidth(am.Backbone):
    """Says that it has one feature more than it has."""

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        module = nn.Sequential(nn.Flatten(), nn.LazyLinear(8))
        module(torch.zeros(1, *input_shape))
        module.n_features = 9
        return module


def test_a_faulty_backbone_is_caught() -> None:
    assert "(1, 8), not [batch, n_features] = (1, 9)" in failures(WrongWidth(), "check_shapes")[0]
    assert failures(BatchNormed(), "check_examples_are_independent")


@pytest.mark.thorough
def test_a_plugin_that_imports_torch_when_listed_is_caught(install: Any) -> None:
    install(
        "heavy",
        "heavy_plugin",
        "import torch\nimport autometa as am\n\n@am.hookimpl\ndef autometa_learners():\n"
        "    factory = 'autometa_plugins.metric.prototypical:Prototypical'\n"
        "    return [am.LearnerSpec(name='heavy', factory=factory, problems={'classification'})]\n",
    )
    assert "imports torch when it is listed" in failures("heavy", "check_light_import")[0]
    assert failures("metric/prototypical", "check_light_import") == []


def test_a_spec_without_a_class_behind_it_is_caught(install: Any) -> None:
    install(
        "acme",
        "acme_plugin",
        "import autometa as am\n\n@am.hookimpl\ndef autometa_learners():\n"
        "    return [am.LearnerSpec(name='dict', factory='builtins:dict', problems={'regression'})]\n",
    )
    with pytest.raises(am.PluginError, match="'acme_plugin/dict' is made by <class 'dict'>"):
        am.check_plugin("dict")


def test_known_deviations_count_as_expected_and_must_fail() -> None:
    reason = "its whole point"
    known = {"check_no_graph_without_gradients": reason}
    frame = am.check_plugin(KeepsTheGraph(), tasks=Blobs(), expected_failures=known).set_index("check")
    row = frame.loc["check_no_graph_without_gradients[classification]"]
    assert row["status"] == "expected"
    assert row["error"].startswith(reason)
    frame = am.check_plugin("identity", expected_failures={"check_shapes": reason}).set_index("check")
    assert frame.loc["check_shapes", "status"] == "failed"
    assert "it passes, but was expected to fail" in frame.loc["check_shapes", "error"]


def test_a_misspelt_deviation_is_named() -> None:
    with pytest.raises(am.InvalidParameter, match="'check_shape', which is no check .* did you mean 'check_shapes'"):
        am.check_plugin("identity", expected_failures={"check_shape": "no reason"})


def test_pytest_sees_every_check_and_strict_deviations() -> None:
    mark = am.parametrize_with_plugin_checks("identity", expected_failures={"identity-check_shapes": "why"}).mark
    names = [param.id for param in mark.args[1]]
    assert "identity-check_build_is_seeded" in names
    (marked,) = [param for param in mark.args[1] if param.marks]
    assert (marked.id, marked.marks[0].kwargs) == ("identity-check_shapes", {"reason": "why", "strict": True})


def test_a_whole_plugin_is_checked_by_its_name() -> None:
    assert {check.component for check in checks_of("backbones")} == {"identity", "mlp", "conv4", "resnet12"}


def test_a_sampler_that_needs_files_is_checked_as_far_as_possible_by_name() -> None:
    frame = am.check_plugin("omniglot")
    assert set(frame["status"]) == {"passed", "skipped"}
    assert "needs root=...; check an object" in frame["error"].iloc[-1]


def test_an_accelerator_check_is_skipped_with_a_reason_where_there_is_none() -> None:
    (check,) = [c for c in checks_of("prototypical") if c.name.startswith("check_devices_agree")]
    if torch.accelerator.is_available():
        check()
    else:
        with pytest.raises(SkipTest, match="no accelerator"):
            check()
