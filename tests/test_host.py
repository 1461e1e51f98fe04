"""The host finds plugins, names what is wrong with them, and lets none of them hurt another."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import autometa as am
from autometa.cli import main
from autometa.contracts.problems import PROBLEMS
from autometa.host import GROUP, Host, PluginRecord, components, disable, find, get_host, listing
from autometa.host.catalog import name_of
from tiers import first_by_default

OFFER = """
    import autometa as am

    @am.hookimpl
    def autometa_learners():
        return [am.LearnerSpec(name="{name}", factory="{factory}", problems={{"classification"}})]
"""


def offer(name: str, factory: str = "nowhere:Nothing") -> str:
    return OFFER.format(name=name, factory=factory)


def hook(body: str, name: str = "autometa_learners") -> str:
    return f"import autometa as am\n\n@am.hookimpl\ndef {name}():\n    {body}\n"


def record(name: str) -> PluginRecord:
    (found,) = [r for r in get_host().records if r.name == name]
    return found


def entry_point(name: str, value: str, distribution: str) -> importlib.metadata.EntryPoint:
    """Make an entry point as the metadata of ``distribution`` would."""

    class Installed(importlib.metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            return f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n" if filename == "METADATA" else None

        def locate_file(self, path: object) -> str:
            return str(path)

    point = importlib.metadata.EntryPoint(name, value, GROUP)
    return point._for(Installed())  # type: ignore[attr-defined]


def damage(file: Path, content: str | bytes) -> None:
    """Overwrite a file of installed metadata."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_bundled_components_come_through_the_same_entry_points_as_everybodys() -> None:
    found = {c.full_name for c in components()}
    assert {"tasks/sinusoid", "metric/prototypical", "optimization/gradient", "backbones/conv4"} <= found
    assert {c.plugin.distribution for c in components() if c.plugin.name == "metric"} == {"autometa"}


def test_plugins_are_loaded_in_the_order_of_their_names(install) -> None:
    install("zoo", "zebra", offer("striped"))
    install("farm", "ant", offer("tiny"))
    names = [r.name for r in get_host().records]
    assert names == sorted(names)
    assert names[0] == "ant"
    assert names[-1] == "zebra"


def test_a_distribution_listed_twice_is_loaded_once(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"))
    twice = [entry_point("acme_plugin", "acme_plugin", name) for name in ("acme", "Acme")]
    assert [r.status for r in Host(found=twice).records] == ["active"]


def test_two_distributions_claiming_one_plugin_name_are_both_named_and_one_can_be_disabled(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"), plugin="cartoon")
    install("warner", "warner_plugin", offer("coyote"), plugin="cartoon")
    with pytest.raises(am.PluginError, match=r"acme \(acme_plugin\) and warner \(warner_plugin\).*'-p no:acme'"):
        am.make_learner("cartoon/coyote")
    disable(["acme"])
    assert find("learner", "coyote").plugin.distribution == "warner"


def test_a_plugin_named_like_a_bundled_one_is_broken_and_the_bundled_one_works(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"), plugin="metric")
    install("warner", "warner_plugin", offer("coyote"), plugin="metric")
    assert am.make_learner("metric/prototypical").get_params() == am.make_learner("prototypical").get_params()
    assert am.make_tasks("sinusoid").n_shot == 10
    status = {r.distribution: r for r in get_host().records if r.name == "metric"}
    assert {name: r.status for name, r in status.items()} == {
        "autometa": "active", "acme": "broken", "warner": "broken",
    }  # fmt: skip
    told = "plugin 'metric' of acme (acme_plugin) has the name of a plugin that comes with autometa, which is used"
    assert told in status["acme"].error
    assert "roadrunner" not in {c.name for c in components("learner")}


def test_two_plugins_offering_one_component_are_named_and_the_full_name_always_resolves(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"))
    install("warner", "warner_plugin", offer("roadrunner"))
    with pytest.raises(
        am.NameClash, match=r"acme \(plugin 'acme_plugin'\) and warner \(plugin 'warner_plugin'\)"
    ) as error:
        find("learner", "roadrunner")
    assert "'acme_plugin/roadrunner'" in str(error.value)
    assert "-p no:warner_plugin" in str(error.value)
    assert find("learner", "acme_plugin/roadrunner").plugin.distribution == "acme"
    assert find("learner", "warner_plugin/roadrunner").plugin.distribution == "warner"
    disable(["warner"])
    assert find("learner", "roadrunner").plugin.distribution == "acme"


def test_the_same_name_may_be_used_for_components_of_different_kinds(install) -> None:
    install("acme", "acme_plugin", offer("sinusoid"))
    assert find("learner", "sinusoid").plugin.name == "acme_plugin"
    assert find("task sampler", "sinusoid").plugin.name == "tasks"


BROKEN = {
    "misspelt hook": (
        hook("return []", "autometa_lerners"),
        "'autometa_lerners', which is no hook; did you mean 'autometa_learners'",
    ),
    "missing marker": (
        "def autometa_learners():\n    return []\n",
        "lacks its marker; put @autometa.hookimpl above it.",
    ),
    "misspelt and unmarked": (
        "def autometa_lerners():\n    return []\n",
        "lacks its marker.*did you mean 'autometa_learners'",
    ),
    "no hook at all": ("value = 1\n", "implements no hook"),
    "unknown argument": (hook("return []").replace("()", "(registry)"), "registry"),
    "None": (hook("return None"), r"autometa_learners\(\) of plugin 'faulty' returned None; .*list of LearnerSpec"),
    "str": (hook("return 'maml'"), r"autometa_learners\(\) of plugin 'faulty' returned a str"),
    "dict": (hook("return {'maml': 1}"), r"autometa_learners\(\) of plugin 'faulty' returned a dict"),
    "a bare spec": (
        hook("return am.LearnerSpec(name='a', factory='a:B', problems={'regression'})"),
        "returned a LearnerSpec; it must return a list",
    ),
    "a list of classes": (hook("return [dict]"), "returned a type among its specs"),
    "wrong spec class": (
        hook("return [am.BackboneSpec(name='a', factory='a:B')]"),
        "returned a BackboneSpec among its specs",
    ),
    "one name twice": (
        hook("return [am.LearnerSpec(name='a', factory='a:B', problems={'regression'})] * 2"),
        "offers learner 'a' twice",
    ),
    "bad name": (hook("return [am.LearnerSpec(name='My Learner', factory='a:B')]"), "name='My Learner' of a learner"),
    "a learner that names no problem": (
        hook("return [am.LearnerSpec(name='a', factory='a:B')]"),
        r"learner 'a' does not say what it is for; write problems={'classification'} in its LearnerSpec",
    ),
    "a sampler that names no problem": (
        hook("return [am.TaskSamplerSpec(name='a', factory='a:B', problems=())]", "autometa_task_samplers"),
        r"task sampler 'a' does not say what it is for; write problems={'classification'} in its TaskSamplerSpec",
    ),
    "bad problem": (hook("return [am.LearnerSpec(name='a', factory='a:B', problems={'clustering'})]"), "clustering"),
    "bad factory": (hook("return [am.BackboneSpec(name='a', factory='a.B')]", "autometa_backbones"), "factory='a.B'"),
    "generator raising midway": (
        hook(
            "yield am.LearnerSpec(name='a', factory='a:B', problems={'regression'})\n    raise OSError('disk on fire')"
        ),
        r"autometa_learners\(\) of plugin 'faulty' raised OSError: disk on fire",
    ),
    "hook raising": (
        hook("raise KeyError('boom')"),
        r"autometa_learners\(\) of plugin 'faulty' raised KeyError: 'boom'",
    ),
    "hook leaving": (hook("raise SystemExit(3)"), "raised SystemExit: 3"),
    "failing import": ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "exit at import": ("raise SystemExit('bye')\n", "SystemExit: bye"),
    "Ctrl-C of its own at import": ("raise KeyboardInterrupt('mine')\n", "KeyboardInterrupt: mine"),
    "GeneratorExit at import": ("raise GeneratorExit\n", "GeneratorExit"),
    "BaseException at import": ("raise BaseException('base')\n", "BaseException: base"),
    "an error without a text": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n\nraise Mute\n",
        "Mute",
    ),
    "hook of its own Ctrl-C": (hook("raise KeyboardInterrupt"), "raised KeyboardInterrupt"),
    "a summary that is no text": (
        hook("return [am.BackboneSpec(name='a', factory='a:B', summary=None)]", "autometa_backbones"),
        "summary=None of backbone 'a' must be text",
    ),
    "needs that are one text": (
        hook(
            "return [am.TaskSamplerSpec(name='a', factory='a:B', problems='regression', needs='root')]",
            "autometa_task_samplers",
        ),
        "needs='root' of task sampler 'a' must be a tuple of names",
    ),
    "a family that is no text": (
        hook("return [am.LearnerSpec(name='a', factory='a:B', problems='regression', family=3)]"),
        "family=3 of learner 'a' must be text",
    ),
}


@pytest.mark.parametrize("fault", first_by_default(4, BROKEN))
def test_a_faulty_plugin_is_kept_as_broken_with_its_reason_and_costs_the_others_nothing(
    install, capsys, fault: str
) -> None:
    code, reason = BROKEN[fault]
    install("faulty-dist", "faulty", code)
    broken = record("faulty")
    assert broken.status == "broken"
    assert [r.name for r in get_host().records if r.status == "broken"] == ["faulty"]
    with pytest.raises(am.PluginError, match=reason):
        am.make_learner("faulty/anything")
    assert "\n" not in broken.error
    assert any(name in broken.trace for name in ("Error", "Exit", "KeyboardInterrupt", "Exception", "Mute"))
    assert main(["plugins"]) == 0
    assert "broken faulty (faulty-dist)" in capsys.readouterr().out
    assert type(am.make_learner("prototypical")).__name__ == "Prototypical"


@pytest.mark.parametrize("where", ["import", "hook", "import that hides it"])
def test_the_users_own_ctrl_c_stops_the_loading(install, where: str) -> None:
    press = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
    code = {
        "import": press,
        "hook": "import os, signal\n" + hook("return os.kill(os.getpid(), signal.SIGINT)"),
        "import that hides it": f"try:\n    {press}\nexcept BaseException:\n    pass\n",
    }[where]
    install("faulty-dist", "faulty", code)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        get_host()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_plugin_is_loaded_in_any_thread_and_its_own_ctrl_c_is_its_own_there(install) -> None:
    install("faulty-dist", "faulty", "raise KeyboardInterrupt\n")
    with ThreadPoolExecutor(1) as pool:
        assert {r.name for r in pool.submit(get_host).result().records if r.status == "broken"} == {"faulty"}


def test_a_factory_whose_import_leaves_is_named(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner", "acme_heavy:Thing"))
    install("heavy", "acme_heavy", "raise SystemExit('no GPU')\n", plugin="heavy")
    with pytest.raises(am.PluginError, match="'acme_heavy:Thing': SystemExit: no GPU"):
        am.make_learner("roadrunner")
    assert name_of(am.make_learner("prototypical")) == "prototypical"


DAMAGE = {
    "METADATA": b"Metadata-Version: 2.1\nName: faulty-dist\nVersion: 1.0\nAuthor: Jos\xe9\n",
    "entry_points.txt": "[autometa]\nfaulty = faulty\n\n[console_scripts]\nno equals sign\n",
    "entry_points.txt in Latin-1": b"[autometa]\n# Jos\xe9\nfaulty = faulty\n",
    "entry_points.txt in UTF-16": "[autometa]\nfaulty = faulty\n".encode("utf-16"),
    "entry_points.txt without '='": "[autometa]\nfaulty\n",
}


@pytest.mark.parametrize("what", first_by_default(2, DAMAGE))
def test_a_plugin_with_damaged_metadata_is_named_and_costs_the_others_nothing(install, capsys, what: str) -> None:
    install("faulty-dist", "faulty", offer("roadrunner"))
    file = what.split()[0]
    damage(install.metadata["faulty-dist"] / file, DAMAGE[what])
    broken = record("faulty")
    assert (broken.status, broken.distribution, broken.version) == ("broken", "faulty-dist", "1.0")
    with pytest.raises(am.PluginError, match=f"'faulty' is broken: its {file} cannot be read"):
        am.make_learner("faulty/roadrunner")
    assert am.make_learner("prototypical")
    assert main(["plugins"]) == 0
    assert "broken faulty (faulty-dist)" in capsys.readouterr().out
    disable(["faulty"])
    assert record("faulty").status == "disabled"


@pytest.mark.parametrize("content", ["[x]\nno equals sign\n", b"[console_scripts]\nJos\xe9 = a:b\n"])
def test_an_unrelated_distribution_with_damaged_entry_points_is_named_too(install, capsys, content) -> None:
    install("other", "other_module", "")
    damage(install.metadata["other"] / "entry_points.txt", content)
    install("acme", "acme_plugin", offer("roadrunner"))
    assert record("acme_plugin").status == "active"
    assert {r.status for r in get_host().records if r.distribution == "autometa"} == {"active"}
    assert main(["plugins", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["plugin"] == "other"]
    assert row["status"] == "broken"
    assert "entry_points.txt cannot be read" in row["error"]


def test_other_damage_of_unrelated_distributions_is_none_of_ours(install, tmp_path) -> None:
    install("other", "other_module", "")
    (install.metadata["other"] / "entry_points.txt").unlink()
    (install.metadata["other"] / "METADATA").write_bytes(b"Name: \xe9\n")
    site = install.metadata["other"].parent
    (site / "empty-1.0.dist-info").mkdir()
    (site / "file-1.0.dist-info").write_text("")
    (site / "-odd.dist-info").mkdir()
    (site / "loop-1.0.dist-info").symlink_to(site / "loop-1.0.dist-info")
    install("acme", "acme_plugin", offer("roadrunner"))
    assert record("acme_plugin").status == "active"
    assert [r for r in get_host().records if r.status != "active" and r.name != "loop"] == []


def test_requirements_that_concern_others_are_not_judged(install) -> None:
    legacy = ("pytz (>dev)", "numpy>=1.0.*.*", "===", "x; nonsense == 1", "autometa-tools (>dev)", "autometa>=1")
    install("acme", "acme_plugin", offer("roadrunner"), requires=legacy)
    assert record("acme_plugin").status == "active"
    install("warner", "warner_plugin", offer("coyote"), requires=("autometa (>dev)",))
    get_host.cache_clear()
    assert "requires 'autometa (>dev)', which says no version" in record("warner_plugin").error


def test_meta_optimizers_and_backbones_are_for_all_problems_unless_they_say_otherwise() -> None:
    assert am.BackboneSpec(name="a", factory="a:B").problems == set(PROBLEMS)
    assert am.MetaOptimizerSpec(name="a", factory="a:B", problems="regression").problems == {"regression"}


def test_a_broken_plugin_has_a_row_in_the_listing() -> None:
    assert list(am.plugins().columns) == [
        "kind", "name", "plugin", "distribution", "version", "problems", "status", "error", "summary"
    ]  # fmt: skip


def test_the_listing_shows_what_is_active_disabled_and_broken(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"))
    install("faulty-dist", "faulty", "import no_such_module\n")
    disable(["acme"])
    rows = am.plugins().set_index("plugin")
    assert rows.loc["faulty", ["status", "distribution", "version"]].tolist() == ["broken", "faulty-dist", "1.0"]
    assert "no_such_module" in rows.loc["faulty", "error"]
    assert rows.loc["acme_plugin", "status"] == "disabled"
    assert set(rows.loc["metric", "status"]) == {"active"}


def test_what_a_plugin_offered_before_it_failed_is_listed_as_broken(install) -> None:
    code = (
        offer("roadrunner") + "\n    @am.hookimpl\n    def autometa_meta_optimizers():\n        raise OSError('no')\n"
    )
    install("acme", "acme_plugin", code)
    (row,) = [row for row in listing() if row["plugin"] == "acme_plugin"]
    assert (row["name"], row["status"]) == ("roadrunner", "broken")
    with pytest.raises(am.PluginError, match="plugin 'acme_plugin' is broken: autometa_meta_optimizers"):
        am.make_learner("roadrunner")


@pytest.mark.parametrize("choice", ["acme_plugin", "acme-tools", "Acme_Tools"])
def test_a_plugin_is_disabled_by_its_name_or_its_distributions(install, monkeypatch, choice: str) -> None:
    install("acme-tools", "acme_plugin", "raise RuntimeError('imported')\n")
    monkeypatch.setenv("AUTOMETA_DISABLED_PLUGINS", f"metric, {choice}")
    assert record("acme_plugin").status == "disabled"
    assert record("metric").status == "disabled"
    with pytest.raises(am.PluginError, match="plugin 'acme_plugin' is disabled"):
        am.make_learner("acme_plugin/roadrunner")


def test_disabling_is_inherited_by_child_processes(fresh_host) -> None:
    disable(["metric"])
    disable(["model"])
    assert os.environ["AUTOMETA_DISABLED_PLUGINS"] == "metric,model"
    assert {r.name for r in get_host().records if r.status == "disabled"} == {"metric", "model"}


def test_disabling_an_unknown_name_warns_with_the_nearest(fresh_host) -> None:
    disable(["metrics"])
    with pytest.warns(
        UserWarning, match="plugin 'metrics' was to be disabled but is not installed. Did you mean 'metric'"
    ):
        get_host()


def test_a_plugin_that_needs_another_autometa_is_broken_with_that_reason(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"), requires=("numpy", "autometa>=2"))
    assert record("acme_plugin").error == f"needs autometa>=2, and this is autometa {am.__version__}."


def test_a_requirement_of_an_extra_or_of_this_version_is_no_obstacle(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner"), requires=("autometa>=1", 'autometa>=2; extra == "next"'))
    assert record("acme_plugin").status == "active"


def test_a_factory_that_does_not_import_fails_only_when_asked_for(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner", "acme_plugin.missing:Thing"))
    assert record("acme_plugin").status == "active"
    with pytest.raises(
        am.PluginError, match=r"learner 'roadrunner' cannot be imported from 'acme_plugin.missing:Thing'"
    ):
        am.make_learner("roadrunner")
    assert name_of(am.make_learner("prototypical")) == "prototypical"


def test_a_factory_of_another_kind_is_named(install) -> None:
    install("acme", "acme_plugin", offer("roadrunner", "collections:OrderedDict"))
    with pytest.raises(am.PluginError, match=r"'roadrunner' is made by <class 'collections.OrderedDict'>, which is no"):
        am.make_learner("roadrunner")


def test_a_wrong_name_gets_the_nearest_one() -> None:
    with pytest.raises(am.UnknownName, match="learner 'mamll' is not installed; did you mean 'maml'"):
        am.make_learner("mamll")
    with pytest.raises(am.UnknownName, match="did you mean 'metric/prototypical'"):
        am.make_learner("metrics/prototypical")


def test_a_name_of_another_kind_is_recognized() -> None:
    with pytest.raises(am.UnknownName) as error:
        am.make_learner("conv4")
    assert error.value.__notes__[0] == "'conv4' is the name of a backbone."


def test_a_wrong_name_mentions_broken_plugins_which_may_have_offered_it(install) -> None:
    install("faulty-dist", "faulty", "import no_such_module\n")
    with pytest.raises(am.UnknownName) as error:
        am.make_learner("roadrunner")
    assert "faulty (faulty-dist): ModuleNotFoundError" in error.value.__notes__[-1]


def test_a_misspelt_parameter_gets_the_nearest_one() -> None:
    with pytest.raises(
        am.InvalidParameter, match="learner 'maml' has no parameter 'inner_rl'; did you mean 'inner_lr'"
    ):
        am.make_learner("maml", inner_rl=0.1)
    with pytest.raises(
        am.InvalidParameter, match="learner 'MAML' has no parameter 'inner_rl'; did you mean 'inner_lr'"
    ):
        am.make_learner(am.make_learner("maml"), inner_rl=0.1)


@pytest.mark.parametrize(
    ("make", "name", "parameter", "told"),
    [
        (am.make_learner, "maml", "multi_step_loss", ", but 'maml_plus_plus' has; 'maml' takes steps, inner_lr,"),
        (
            am.make_tasks,
            "digits",
            "noise",
            ", but 'harmonics' and 'linear' and 'gaussian_process' have; 'digits' takes",
        ),
        (am.make_learner, "ridge", "inner_lr", "; it takes backbone, regularization"),  # so many learners have it
        (am.make_learner, "ridge", "nobody_has_it", "; it takes backbone, regularization"),
    ],
)
def test_a_parameter_of_few_other_components_is_told_to_be_theirs(
    make: Callable[..., object], name: str, parameter: str, told: str
) -> None:
    with pytest.raises(am.InvalidParameter, match=f" {name!r} has no parameter {parameter!r}{told}"):
        make(name, **{parameter: 1.0})


def test_a_component_that_cannot_be_imported_has_no_parameters_to_tell_of(install) -> None:
    install("acme", "acme_plugin", offer("torn", "no_such_module:Learner"))
    with pytest.raises(am.InvalidParameter, match="'multi_step_loss', but 'maml_plus_plus' has;"):
        am.make_learner("maml", multi_step_loss=1)


def test_an_object_passes_through_and_is_copied_only_to_change_it() -> None:
    learner = am.make_learner("maml", steps=3)
    assert am.make_learner(learner) is learner
    changed = am.make_learner(learner, steps=4)
    assert (learner.steps, changed.steps) == (3, 4)


def test_an_object_of_another_kind_is_refused() -> None:
    with pytest.raises(
        am.InvalidParameter, match=r"is no learner; give a name .* or an autometa.Learner or autometa.Actor object"
    ):
        am.make_learner(am.make_backbone("mlp"))


def test_an_object_knows_the_name_that_it_is_installed_under(install) -> None:
    install("acme", "acme_plugin", offer("prototypical", "collections:OrderedDict"))
    assert name_of(am.make_backbone("conv4")) == "conv4"
    assert name_of(am.make_learner("metric/prototypical")) == "metric/prototypical"


def test_the_listing_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(listing())) == listing()
