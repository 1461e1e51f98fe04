"""``study.toml``: a comparison as a file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from autometa.checks import check_choice, check_int, check_real
from autometa.cli.component_text import labels, parse_component, parse_learner, split_components
from autometa.contracts.problems import objective_names
from autometa.errors import InvalidData, InvalidParameter, MissingData

_positive = partial(check_int, least=1)


def check_text(name: str, value: Any, *, of: str) -> None:
    """Refuse what is no text."""
    if not isinstance(value, str):
        raise InvalidParameter(f"{name}={value!r} of {of} must be text in quotes.")


def _check_flag(name: str, value: Any, *, of: str) -> None:
    if not isinstance(value, bool):
        raise InvalidParameter(f"{name}={value!r} of {of} must be true or false.")


def _check_paths(name: str, value: Any, *, of: str) -> None:
    """Refuse what is neither a text nor a list of texts."""
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise InvalidParameter(f"{name}={value!r} of {of} must be a folder in quotes, or a list of such.")


def resources_from_text(text: str) -> dict[str, float]:
    """Read what a Ray worker needs: ``"cpu=1,gpu=0.5"``.

    Raises
    ------
    InvalidParameter
        It does not look so.
    """
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        return {name.strip(): float(amount) for name, _, amount in pairs}
    except ValueError as error:
        raise InvalidParameter(f"--resources={text!r} must look like cpu=1,gpu=0.5.") from error


def _check_resources(name: str, value: Any, *, of: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(amount, int | float) for amount in value.values()):
        raise InvalidParameter(f"{name}={value!r} of {of} must be a table such as {{ cpu = 1, gpu = 0.5 }}.")


def _check_time(name: str, value: Any, *, of: str) -> None:
    """Refuse what is neither a text, which is read later, nor a number above 0."""
    if not isinstance(value, str):
        check_real(name, value, above=0, of=of)


class Check(Protocol):
    """Refuses a wrong value."""

    def __call__(self, name: str, value: Any, *, of: str) -> None:
        """Raise :class:`InvalidParameter` with the parameter, its value and whose it is."""


OPTIONS: dict[str, tuple[str, Check]] = {
    "trials": ("n_trials", _positive),
    "budget": ("budget", partial(check_real, above=0)),
    "time_budget": ("time_budget", _check_time),
    "steps": ("max_steps", _positive),
    "tasks_per_step": ("tasks_per_step", _positive),
    "seeds": ("n_seeds", _positive),
    "n_test_tasks": ("n_test_tasks", _positive),
    "valid_tasks": ("n_valid_tasks", _positive),
    "search": ("search", partial(check_choice, choices=("separate", "race", "joint"))),
    "ensemble": ("ensemble", _check_flag),
    "warm_start": ("warm_start", _check_paths),
    "objective": ("objective", partial(check_choice, choices=objective_names())),
    "max_latency": ("max_latency", partial(check_real, above=0)),
    "max_memory": ("max_memory", partial(check_real, above=0)),
    "name": ("name", check_text),
    "output": ("output", check_text),
    "storage": ("storage", check_text),
    "workers": ("n_workers", _positive),
    "engine": ("engine", partial(check_choice, choices=("processes", "ray"))),
    "address": ("address", check_text),
    "resources": ("resources", _check_resources),
    "device": ("device", check_text),
    "random_state": ("random_state", partial(check_int, least=0)),
    "trial_timeout": ("trial_timeout", partial(check_real, above=0)),
    "log": ("log", partial(check_choice, choices=("mlflow",))),
    "baselines": ("baselines", _check_flag),
}
"""Options of a comparison: name in a file (with dashes: on the command line), argument of ``am.compare``, check."""


OF_TABLE: dict[str, Check] = {
    "table": check_text,
    "task_column": check_text,
    "target": check_text,
    "shots": _positive,
    "problem": partial(check_choice, choices=("classification", "regression")),
    "order": check_text,
    "stratified": _check_flag,
    "test_fraction": partial(check_real, above=0, below=1),
}
"""Options about a table of the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedComponent:
    """A component that is asked for by name."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    meta_optimizer: str | None = None
    """Of a learner: the meta-optimizer to train it with, where one is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFile:
    """What a study file asks for; None and missing options are left to the defaults."""

    tasks: Mapping[str, NamedComponent] | None = None
    learners: Mapping[str, NamedComponent] | None = None
    """None: all."""
    test_tasks: Mapping[str, NamedComponent] | Sequence[str] | None = None
    """To judge on as well; texts are labelled when it is known what stands beside them."""
    of_table: Mapping[str, Any] = field(default_factory=dict)
    """Those of :data:`OF_TABLE` that it has."""
    options: Mapping[str, Any] = field(default_factory=dict)
    quiet: bool = False


def read_study_file(path: str | os.PathLike[str]) -> StudyFile:
    """Read a study file.

    ``tasks``, ``test_tasks`` and ``learners`` are lists of names as on the command line, or tables::

        trials = 20
        output = "runs/first"
        learners = ["prototypical", "maml:steps=3"]

        [tasks.five-way]
        sampler = "omniglot"
        root = "../data/omniglot"
        n_way = 5

        [test_tasks.letters]
        sampler = "glyphs"

    ``quiet`` and the options about a table (:data:`OF_TABLE`) mean what they mean on the command line. Paths are
    relative to the working folder, as typed ones are. ``test_tasks = 300`` is short for ``n_test_tasks = 300``, where
    no tasks to judge on are named.

    Raises
    ------
    MissingData
        There is no such file.
    InvalidData
        It is not TOML.
    InvalidParameter
        An unknown key (the nearest known one is suggested) or a wrong value.
    """
    name, content = os.fspath(path), read_toml(path)
    check_keys(content, [*OPTIONS, *OF_TABLE, "quiet", "tasks", "test_tasks", "learners"], f"study file {name!r}")
    if isinstance(content.get("test_tasks"), int) and "n_test_tasks" not in content:
        content["n_test_tasks"] = content.pop("test_tasks")
    options = {key: value for key, value in content.items() if key in OPTIONS}
    for key, value in options.items():
        OPTIONS[key][1](key, value, of=f"study file {name!r}")
    of_table = {key: value for key, value in content.items() if key in OF_TABLE}
    for key, value in of_table.items():
        OF_TABLE[key](key, value, of=f"study file {name!r}")
    if of_table and "tasks" in content:
        raise InvalidParameter(
            f"study file {name!r} has both tasks and {next(iter(of_table))}; give one, or the table among the tasks: "
            '[tasks.NAME] with sampler = "table", data, task and target.'
        )
    quiet = content.get("quiet", False)
    _check_flag("quiet", quiet, of=f"study file {name!r}")
    learners = content.get("learners", "all")
    return StudyFile(
        tasks=_tasks(content["tasks"], name) if "tasks" in content else None,
        test_tasks=_test_tasks(content["test_tasks"], name) if "test_tasks" in content else None,
        learners=None if learners in ("all", ["all"]) else _learners(learners, name),
        of_table=of_table,
        options={OPTIONS[key][0]: value for key, value in options.items()},
        quiet=quiet,
    )


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of options.

    Raises
    ------
    MissingData
        There is no such file.
    InvalidData
        It is not TOML.
    """
    name = os.fspath(path)
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return tomllib.loads(file.read().decode("utf-8-sig"))  # which some editors write
    except FileNotFoundError as error:
        raise MissingData(f"study file {name!r} does not exist.") from error
    except OSError as error:
        raise InvalidData(f"study file {name!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidData(f"study file {name!r} is not TOML: {error}.") from error


def tasks_from_texts(texts: Iterable[str]) -> dict[str, NamedComponent]:
    """Task distributions as typed: ``["glyphs,digits", "omniglot:n_way=5,root=data"]``, labelled."""
    parsed = [parse_component(text) for given in texts for text in split_components(given)]
    return {
        label: NamedComponent(name=name, params=params)
        for label, (name, params) in zip(labels(parsed), parsed, strict=True)
    }


def others_from_texts(texts: Iterable[str], tasks: Mapping[str, NamedComponent]) -> dict[str, NamedComponent]:
    """Task distributions to judge on, as typed: one of ``tasks`` has its label, any other a label that none has."""
    from autometa.host import find

    def in_full(component: NamedComponent) -> NamedComponent:
        return replace(component, name=find("task sampler", component.name).full_name)

    known = [in_full(component) for component in tasks.values()]
    given = [in_full(component) for component in tasks_from_texts(texts).values()]
    new = [component for component in given if component not in known]
    names = labels([(component.name, component.params) for component in [*known, *new]])[len(known) :]
    found = {label: component for label, component in tasks.items() if in_full(component) in given}
    for name, component in zip(names, new, strict=True):
        label, n = name, 2
        while label in tasks or label in found:
            label, n = f"{name}#{n}", n + 1
        found[label] = component
    return found


def learners_from_texts(texts: Iterable[str]) -> dict[str, NamedComponent] | None:
    """Learners as typed: ``["ridge,sklearn", "maml:reptile:steps=3"]``, labelled; None for all.

    Raises
    ------
    InvalidParameter
        One is given twice with the same parameters.
    """
    single = [text for given in texts for text in split_components(given)]
    if single == ["all"]:
        return None
    parsed = [parse_learner(text) for text in single]
    for i, text in enumerate(single):
        if parsed[i] in parsed[:i]:
            raise InvalidParameter(f"learner {text!r} is given twice; leave one out.")
    named = labels([(name if meta is None else f"{name}:{meta}", params) for name, meta, params in parsed])
    return {
        label: NamedComponent(name=name, params=params, meta_optimizer=meta)
        for label, (name, meta, params) in zip(named, parsed, strict=True)
    }


def check_keys(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse keys that nobody would read."""
    known = list(known)
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}? It" if close else "it"
            raise InvalidParameter(f"{where} has an unknown key {key!r}; {hint} may have {', '.join(known)}.")


def one_component(given: Any, what: str, key: str, where: str) -> NamedComponent:
    """One component: a text as on the command line, or a table such as ``[prior]`` with the key that names it.

    Raises
    ------
    InvalidParameter
        It is neither.
    """
    if isinstance(given, str):
        name, params = parse_component(given)
        return NamedComponent(name=name, params=params)
    if not isinstance(given, dict) or not isinstance(given.get(key), str):
        raise InvalidParameter(
            f"{what}={given!r:.80} in study file {where!r} must be a name in quotes, or a table [{what}] with "
            f'{key} = "NAME".'
        )
    return NamedComponent(name=given[key], params={name: value for name, value in given.items() if name != key})


def _tasks(given: Any, where: str) -> dict[str, NamedComponent]:
    if isinstance(given, str | list):
        return tasks_from_texts(_texts(given, "tasks", where))
    return {label: _table(label, entry, "tasks", "sampler", where) for label, entry in _tables(given, "tasks", where)}


def _test_tasks(given: Any, where: str) -> Mapping[str, NamedComponent] | Sequence[str]:
    if isinstance(given, str | list):
        return _texts(given, "test_tasks", where)
    tables = _tables(given, "test_tasks", where)
    return {label: _table(label, entry, "test_tasks", "sampler", where) for label, entry in tables}


def _learners(given: Any, where: str) -> dict[str, NamedComponent] | None:
    if isinstance(given, str | list):
        return learners_from_texts(_texts(given, "learners", where))
    return {
        label: _table(label, entry, "learners", "learner", where) for label, entry in _tables(given, "learners", where)
    }


def _texts(given: str | list[Any], what: str, where: str) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidParameter(f"{what}={given!r} in study file {where!r} must be names in quotes.")
    return texts


def _tables(given: Any, what: str, where: str) -> Iterable[tuple[str, dict[str, Any]]]:
    if not isinstance(given, dict) or not given or not all(isinstance(entry, dict) for entry in given.values()):
        raise InvalidParameter(
            f"{what} in study file {where!r} must be a list of names, or tables such as [{what}.NAME]."
        )
    return given.items()


def _table(label: str, entry: dict[str, Any], what: str, key: str, where: str) -> NamedComponent:
    """One table; without the key that names the component, the table's own name does."""
    named = {
        name: entry[name] for name in (key, "meta_optimizer") if name in entry and (name == key or key == "learner")
    }
    for name, value in named.items():
        if not isinstance(value, str):
            raise InvalidParameter(
                f"{name}={value!r} of [{what}.{label}] in study file {where!r} must be a name in quotes."
            )
    return NamedComponent(
        name=named.get(key, label),
        params={name: value for name, value in entry.items() if name not in named},
        meta_optimizer=named.get("meta_optimizer"),
    )
