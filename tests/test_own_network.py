"""A network of one's own is a backbone wherever a name is: trained, compared, saved and loaded with trust."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor, nn

import autometa as am
import own_networks
from autometa.contracts.same_value import same_value
from autometa.files.codec import Tensors, decode_parameter, encode_parameter
from autometa.files.description import describe
from autometa.testing.toys import Blobs
from own_networks import Bending, Bent, MapOfFeatures, Narrow, Parametrized, Picky, Scaled, sequential
from tiers import first_by_default

TESTS = Path(__file__).parent


def tasks() -> am.TaskSampler:
    return am.make_tasks("digits", n_way=2, n_shot=3, n_query=5)


def support() -> tuple[NDArray[Any], NDArray[Any]]:
    batch = tasks().sample(1, split="test", seed=0)
    return batch.support.x[0].numpy(), batch.support.y[0].numpy()


def meta_trained(learner: Any, **settings: Any) -> am.FewShotClassifier:
    model = am.FewShotClassifier(learner, max_steps=3, tasks_per_step=2, device="cpu", random_state=0, **settings)
    return model.meta_fit(tasks())


def weights(estimator: am.FewShotClassifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in estimator.module_.state_dict().items()}


@pytest.mark.parametrize(
    "learner", first_by_default(3, ["prototypical", "maml", "fine_tune", "lstm", "relation", "reptile"])
)
@pytest.mark.parametrize("backbone", [Narrow(), MapOfFeatures, sequential], ids=["a network", "a class", "a function"])
def test_learners_train_a_network_of_ones_own(learner: str, backbone: am.BackboneLike) -> None:
    name, _, meta_optimizer = ("maml", "", "reptile") if learner == "reptile" else (learner, "", "auto")
    if name == "relation" and backbone is not MapOfFeatures:
        pytest.skip("compares maps of features")
    made = am.make_learner(name, backbone=backbone)
    start = am.FewShotClassifier(made, meta_optimizer, max_steps=0, device="cpu", random_state=0).meta_fit(tasks())
    trained = am.FewShotClassifier(made, meta_optimizer, max_steps=3, tasks_per_step=2, device="cpu", random_state=0)
    trained.meta_fit(tasks())
    before, after = weights(start), weights(trained)
    assert before.keys() == after.keys()
    own = [key for key in before if key.endswith(("layer.weight", "1.weight"))]
    assert own
    assert all(not torch.equal(before[key], after[key]) for key in own)
    assert set(trained.fit(*support()).predict(support()[0])) <= {0, 1}


def test_every_run_begins_at_the_weights_of_the_network_that_is_given() -> None:
    network = Narrow()
    given = copy.deepcopy(network.state_dict())
    for seed in (0, 1):
        start = am.FewShotClassifier("prototypical", backbone=network, max_steps=0, device="cpu", random_state=seed)
        found = weights(start.meta_fit(tasks()))
        assert all(any(torch.equal(value, other) for other in found.values()) for value in given.values())
    meta_trained("prototypical", backbone=network)
    assert all(torch.equal(value, given[key]) for key, value in network.state_dict().items())


def test_a_class_is_called_anew_with_the_runs_seed() -> None:
    def first_weights(seed: int) -> torch.Tensor:
        start = am.FewShotClassifier("prototypical", backbone=Narrow, max_steps=0, device="cpu", random_state=seed)
        return weights(start.meta_fit(tasks()))["network.layer.weight"]

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def test_features_are_counted_without_a_change_to_the_network() -> None:
    network = Narrow().train()
    built = am.make_backbone(network).build((1, 8, 8))
    assert built.n_features == 5
    assert all(module.training for module in built.modules())
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), built.state_dict().values(), strict=True)
    )
    mapped = am.make_backbone(MapOfFeatures).build((1, 8, 8))
    assert (mapped.n_features, mapped.feature_shape) == (48, (3, 4, 4))
    lazy = am.make_backbone(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(9))).build((1, 8, 8))
    assert lazy.n_features == 9


def comparing_rows() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6, track_running_stats=False))


@pytest.mark.parametrize("learner", first_by_default(2, ["maml", "prototypical", "fine_tune", "matching", "lstm"]))
def test_a_batch_norm_of_rows_without_averages_takes_any_rows_but_one_alone(learner: str) -> None:
    X, y = support()
    model = meta_trained(learner, backbone=comparing_rows).fit(X, y)
    assert set(model.predict(X)) <= {0, 1}
    with pytest.raises(am.InvalidData, match="backbone Sequential cannot take one row alone: a batch norm of it"):
        model.predict(X[:1])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (nn.Linear(3, 2), r"backbone Linear cannot turn inputs of shape \(1, 8, 8\) into features: RuntimeError"),
        (nn.Linear, "backbone Linear is called without arguments, and this failed"),
        (dict, "backbone dict made a dict; a function that is a backbone returns a torch.nn.Module"),
        (3, "3 is no backbone; give a name"),
        (nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), "Sequential has layers without weights yet"),
        (lambda: normalised(nn.utils.weight_norm), "'weight' of its layer '1' is computed from other weights"),
        (lambda: normalised(nn.utils.spectral_norm), "'weight' of its layer '1' is computed .* use those of torch.nn"),
    ],
)
def test_what_is_no_network_for_these_inputs_is_refused(backbone: Any, message: str) -> None:
    with pytest.raises(am.InvalidParameter, match=message):
        meta_trained("prototypical", backbone=backbone)
    if backbone != 3:  # which the checks of shapes, on in tests, refuse where a learner has it
        with pytest.raises(am.InvalidParameter, match=message):
            meta_trained(am.make_learner("prototypical", backbone=backbone))


class TooLarge(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")


def test_want_of_memory_is_no_fault_of_the_network() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        am.make_backbone(TooLarge).build((1, 8, 8))


def normalised(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.Sequential(nn.Flatten(), norm(nn.Linear(64, 3)))


class BuildsNorm(am.Learner):
    """Builds a network whose weights are computed as told."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        self.norm = norm

    def build(self, info: am.TaskInfo) -> nn.Module:
        return normalised(self.norm)

    def adapt(self, module: nn.Module, support: am.Examples, progress: float = 1.0) -> Tensor:
        raise NotImplementedError

    def predict(self, module: nn.Module, adapted: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_network_that_torch_cannot_copy_is_refused(norm: Callable[[nn.Module], nn.Module]) -> None:
    copied = "Sequential cannot be copied: 'weight' of its layer '1' .* use those of torch.nn.utils.parametrizations"
    with pytest.raises(am.InvalidParameter, match=f"backbone {copied}"):
        meta_trained("prototypical", backbone=normalised(norm))
    X, y = support()
    for estimator in (
        am.FewShotClassifier("prototypical", backbone=normalised(norm)),
        am.FewShotClassifier(am.make_learner("prototypical", backbone=normalised(norm))),
    ):
        with pytest.raises(am.InvalidParameter, match=f"backbone={copied}"):
            clone(estimator)
        rows = pd.DataFrame({"x": y, "entity": np.arange(len(X)) % 3})
        with pytest.raises(am.InvalidParameter, match=f"backbone={copied}"):
            am.cross_validate_tasks(estimator, rows, y, task="entity", n_shot=1, cv=2)
    with pytest.raises(am.InvalidParameter, match=r"network that BuildsNorm.build returns cannot be copied: 'weight'"):
        am.FewShotClassifier(BuildsNorm(norm), device="cpu").fit(X.reshape(len(X), -1), y)


@pytest.mark.parametrize("backbone", [Parametrized, Parametrized()], ids=["class", "network"])
@pytest.mark.parametrize("given_to", ["the learner", "the estimator"])
def test_computed_weights_are_pickled(tmp_path: Path, backbone: am.BackboneLike, given_to: str) -> None:
    """torch refuses to."""
    X, y = support()
    in_learner = given_to == "the learner"
    learner = am.make_learner("prototypical", backbone=backbone) if in_learner else "prototypical"
    model = meta_trained(learner, backbone="auto" if in_learner else backbone).fit(X, y)
    joblib.dump(model, tmp_path / "it.joblib")
    for other in (pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model)))), joblib.load(tmp_path / "it.joblib")):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
        assert set(weights(other)) == set(weights(model))
        again, same = weights(clone(other).meta_fit(tasks())), weights(clone(model).meta_fit(tasks()))
        assert all(torch.equal(value, same[key]) for key, value in again.items())


def test_a_compiled_network_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.jit.trace(Narrow().eval(), torch.ones(2, 64))  # type: ignore[no-untyped-call]
    with pytest.raises(am.InvalidParameter, match="is compiled by TorchScript; give the network it was compiled from"):
        meta_trained("prototypical", backbone=compiled)


class Maker:
    """Builds networks, by a call or by a method."""

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features

    def __call__(self) -> nn.Module:
        return Narrow(self.n_features)


@pytest.mark.parametrize("backbone", [partial(Narrow, 7), Maker(7), Maker(7).__call__, lambda: Narrow(7)])
def test_whatever_builds_a_network_does_so_in_every_fit(backbone: am.BackboneLike) -> None:
    X, y = support()
    model = meta_trained("prototypical", backbone=backbone)
    assert set(model.fit(X, y).predict(X)) <= {0, 1}
    with pytest.raises(am.InvalidParameter, match="changed after meta_fit"):
        model.set_params(backbone=partial(Narrow, 6)).fit(X, y)


@pytest.mark.parametrize(
    ("backbone", "path"),
    [
        (Narrow(), "own_networks:Narrow"),
        (Narrow, "own_networks:Narrow"),
        (sequential, "own_networks:sequential"),
        (Scaled(by=3.0), "own_networks:Scaled"),
        (Parametrized(), "own_networks:Parametrized"),
    ],
    ids=["a network", "a class", "a function", "a backbone", "computed weights"],
)
@pytest.mark.parametrize("given_to", ["the learner", "the estimator"])
def test_it_is_saved_by_its_import_path_and_loaded_with_trust(
    tmp_path: Path, backbone: am.BackboneLike, path: str, given_to: str
) -> None:
    if given_to == "the learner":
        model = meta_trained(am.make_learner("prototypical", backbone=backbone))
    else:
        model = meta_trained("prototypical", backbone=backbone)
    X, y = support()
    expected = model.fit(X, y).predict_proba(X)
    model.save(tmp_path / "it.autometa")
    with pytest.raises(am.InvalidFile, match=rf"names '{path}'.* load with trusted=\['{path}'\]"):
        am.load(tmp_path / "it.autometa")
    loaded = am.load(tmp_path / "it.autometa", trusted=[path])
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), expected)
    again, other = weights(model.meta_fit(tasks())), weights(loaded.meta_fit(tasks()))
    assert all(torch.equal(value, other[key]) for key, value in again.items())


@pytest.mark.thorough
def test_another_process_does_not_even_import_what_is_not_trusted(tmp_path: Path) -> None:
    meta_trained("prototypical", backbone=Narrow()).save(tmp_path / "it.autometa")
    script = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import autometa as am
try:
    am.load({str(tmp_path / "it.autometa")!r})
except am.InvalidFile:
    print("own_networks" in sys.modules)
print(type(am.load({str(tmp_path / "it.autometa")!r}, trusted=["own_networks:Narrow"]).module_).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines()[0] == "False"
    assert len(done.stdout.splitlines()) == 2


def in_main() -> type[nn.Module]:
    class Local(Narrow):
        pass

    return Local


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (lambda: in_main()(), "another process cannot import in_main.<locals>.Local"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
            r"cannot be built again without arguments \(Sequential",
        ),
        (lambda: Narrow(6), r"cannot be built again without arguments \(Narrow\(\) has other weights\)"),
        (lambda: type("Narrow", (Narrow,), {"__module__": "__main__"})(), "cannot import Narrow from '__main__'"),
        (lambda: in_main(), "another process cannot import in_main.<locals>.Local"),
        (lambda: Bent("tanh"), r"cannot be built again without arguments \(Bent\(\) has another bend\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(1)), r"\(Sequential\(\) has other layers\)"),
        (lambda: Picky("w"), r"\(Picky\(\) fails: w is needed\)"),
    ],
    ids=["local", "arguments", "other arguments", "main", "local class", "setting", "no weights", "its own error"],
)
def test_what_cannot_be_built_again_is_refused_by_save_alone(
    tmp_path: Path, backbone: Callable[[], Any], message: str
) -> None:
    model = meta_trained("prototypical", backbone=backbone())
    with pytest.raises(am.InvalidParameter, match=message):
        model.save(tmp_path / "it.autometa")
    assert not list(tmp_path.iterdir())


def test_saving_draws_no_random_number(tmp_path: Path) -> None:
    model = meta_trained("prototypical", backbone=Narrow())
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model.save(tmp_path / "it.autometa")
    assert torch.equal(torch.rand(3), expected)


def test_trust_is_a_list(tmp_path: Path) -> None:
    meta_trained("prototypical", backbone=Narrow).save(tmp_path / "it.autometa")
    with pytest.raises(am.InvalidParameter, match=r"must be a list of import paths, such as \['own_networks:Narrow'\]"):
        am.load(tmp_path / "it.autometa", trusted="own_networks:Narrow")


def test_the_source_of_a_network_is_part_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def described(factor: int) -> list[Any]:
        text = f"from torch import nn\nclass Net(nn.Flatten):\n    def forward(self, x):\n        return {factor} * x\n"
        folder = tmp_path / f"{factor} {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "my_net.py").write_text(text)
        with monkeypatch.context() as context:
            context.syspath_prepend(folder)
            context.delitem(sys.modules, "my_net", raising=False)
            module = importlib.import_module("my_net")
            made = [describe(am.make_learner("prototypical", backbone=given)) for given in (module.Net, module.Net())]
        sys.modules.pop("my_net", None)
        return made

    one, same, other = described(1), described(1), described(2)
    assert one == same
    assert all(a != b for a, b in zip(one, other, strict=True))
    assert describe(am.make_learner("prototypical", backbone=lambda: Narrow())) is not None


@pytest.mark.slow
def test_a_comparison_tunes_keeps_and_goes_on_with_it(tmp_path: Path) -> None:
    def compare() -> am.Comparison:
        mine, anew = (am.make_learner("prototypical", backbone=given) for given in (Narrow(), Narrow))
        sizes = {
            "n_trials": 2,
            "n_seeds": 2,
            "n_test_tasks": 10,
            "n_valid_tasks": 5,
            "max_steps": 2,
            "tasks_per_step": 2,
        }
        return am.compare(tasks(), {"mine": mine, "anew": anew}, **sizes, output=tmp_path / "run", verbose=0)

    torch.manual_seed(0)
    first = compare()
    assert {"mine", "anew"} <= set(first.leaderboard["learner"])
    torch.manual_seed(0)
    assert compare().leaderboard.equals(first.leaderboard)
    with pytest.raises(am.InvalidParameter, match="learners 'mine' has other parameters there"):
        compare()  # other weights


def test_frozen_networks_are_saved_likewise(tmp_path: Path) -> None:
    model = am.FewShotClassifier(
        am.make_learner("frozen_features", backbone=own_networks.MapOfFeatures()), device="cpu"
    )
    model.meta_fit(tasks())
    X, y = support()
    expected = model.fit(X, y).predict_proba(X)
    model.save(tmp_path / "it.autometa")
    loaded = am.load(tmp_path / "it.autometa", trusted=["own_networks:MapOfFeatures"])
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)


def with_frozen_layer(network: Narrow) -> Narrow:
    network.layer.requires_grad_(False)
    return network


@pytest.mark.parametrize(
    "learner",
    first_by_default(
        2, ["maml", "fine_tune", "maml_plus_plus", "meta_sgd", "boil", "imaml", "anil", "meta_lstm", "prototypical"]
    ),
)
def test_layers_that_are_frozen_in_a_network_are_so_once_it_is_loaded(tmp_path: Path, learner: str) -> None:
    options = {"tune": "all", "network_lr": 0.5} if learner == "fine_tune" else {}
    backbone = with_frozen_layer(Narrow())
    model = meta_trained(am.make_learner(learner, backbone=backbone, **options))
    X, y = support()
    model.save(tmp_path / "it.autometa")
    loaded = am.load(tmp_path / "it.autometa", trusted=["own_networks:Narrow"])
    np.testing.assert_array_equal(loaded.fit(X, y).predict_proba(X), model.fit(X, y).predict_proba(X))
    again = loaded.meta_fit(tasks()).learner_.backbone
    assert [name for name, value in again.named_parameters() if not value.requires_grad] == [
        "layer.weight",
        "layer.bias",
    ]


ONE = Narrow()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ONE, with_frozen_layer(copy.deepcopy(ONE))),
        (Bent("relu"), Bent("tanh")),
        (partial(Bent, "relu"), partial(Bent, "tanh")),
        ((lambda bend: lambda: Bent(bend))("relu"), (lambda bend: lambda: Bent(bend))("tanh")),
        (Bending("relu").build, Bending("tanh").build),
        (Bending("relu"), Bending("tanh")),
    ],
    ids=["a frozen layer", "a setting", "an argument", "a closure", "a method's object", "an object that is called"],
)
def test_networks_that_differ_in_what_no_weight_shows_are_two(
    tmp_path: Path, one: am.BackboneLike, other: am.BackboneLike
) -> None:
    def learner(backbone: am.BackboneLike) -> am.Learner:
        return am.make_learner("prototypical", backbone=backbone)

    assert describe(learner(one)) == describe(copy.deepcopy(learner(one)))
    assert describe(learner(one)) != describe(learner(other))
    with pytest.raises(am.InvalidParameter, match=r"(?s)learner__backbone=.* changed after meta_fit"):
        meta_trained(learner(one)).set_params(learner__backbone=other).fit(*support())
    assert meta_trained(learner(one)).set_params(learner__backbone=copy.deepcopy(one)).fit(*support()) is not None


def test_a_layer_that_knows_the_network_around_it_is_compared_and_described() -> None:
    network = nn.Sequential(nn.Flatten(), Bent())
    network[1].around = [network]
    assert same_value(network, copy.deepcopy(network))
    assert describe(network) == describe(copy.deepcopy(network))


def test_reading_a_network_draws_no_random_number() -> None:
    tensors = Tensors()
    code = encode_parameter(Narrow(), "it", tensors)
    before = torch.get_rng_state()
    decode_parameter(code, tensors, ["own_networks:Narrow"])
    assert torch.equal(torch.get_rng_state(), before)


class Turning(nn.Module):
    """Features before a classifier, turned by a sign that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.sign = nn.Linear(6, 5), 1.0

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(x * self.sign).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x


def test_how_a_network_with_a_classifier_is_called_is_read_anew_in_every_call() -> None:
    maml = am.make_learner("maml", backbone=Turning(), steps=2)
    module, batch = maml.build(Blobs().info), Blobs().sample(3, seed=0)

    def predictions(strategy: str) -> Tensor:
        learner = clone(maml).set_params(strategy=strategy)
        return learner.predict(module, learner.adapt(module, batch.support), batch.query.x)

    before = predictions("auto")
    module.backbone.network.sign = -1.0
    assert not torch.allclose(predictions("auto"), before)
    torch.testing.assert_close(predictions("auto"), predictions("loop"))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it where it compiles
@pytest.mark.parametrize("learner", ["prototypical", "maml"])
def test_a_network_that_torch_compile_wrapped_gives_what_the_network_gives(learner: str, tmp_path: Path) -> None:
    X, y = support()
    network = Narrow()
    plain = meta_trained(learner, backbone=network).fit(X, y).predict_proba(X)
    model = meta_trained(learner, backbone=torch.compile(network, backend="eager"))
    np.testing.assert_allclose(model.fit(X, y).predict_proba(X), plain, rtol=1e-5)
    with pytest.raises(am.InvalidParameter, match="Give a function of no arguments that builds it"):
        model.save(tmp_path / "it.autometa")
