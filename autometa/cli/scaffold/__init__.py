"""What ``autometa plugins new`` writes: a small plugin project, whole and tested."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from autometa.errors import InvalidParameter, StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What a project starts with.

    Parameters
    ----------
    module : str
        Module of the class, and name of its template.
    offers : str
        Kind of component that it is, as the hook and the spec are named after.
    problems : str
        Those of its spec, as code.
    """

    module: str
    offers: str
    problems: str = '{"classification", "regression"}'


SKETCHES = {
    "learner": Sketch(module="learner", offers="learner"),
    "actor": Sketch(module="actor", offers="learner", problems='{"control"}'),
    "task sampler": Sketch(module="task_sampler", offers="task_sampler", problems='{"regression"}'),
    "environment": Sketch(module="environment", offers="task_sampler", problems='{"control"}'),
    "meta-optimizer": Sketch(module="meta_optimizer", offers="meta_optimizer"),
    "backbone": Sketch(module="backbone", offers="backbone"),
}
"""What can be begun, by what it is called: kinds of components, a learner that acts, and a sampler of environments."""


def write_project(name: str, kind: str, directory: Path) -> Path:
    """Write the project and return its folder.

    Parameters
    ----------
    name : str
        Name of plugin, package and component: lower case, digits and ``_``.
    kind : {"learner", "actor", "task sampler", "environment", "meta-optimizer", "backbone"}
    directory : Path
        The project becomes its folder ``name``.

    Raises
    ------
    InvalidParameter
        The name cannot be a package's or is that of another, of a plugin or of a component, or the folder exists and
        is not empty.
    StorageError
        The folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in ("autometa", "test", "tests"):
        raise InvalidParameter(
            f"name={name!r} must be a new package's name: lower case, digits and '_', like 'my_plugin'."
        )
    claimed = _claimed_by(name)
    if claimed is not None:
        raise InvalidParameter(f"name={name!r} is the name of {claimed}; choose another, such as {_free(name)!r}.")
    folder = directory / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidParameter(f"{folder} exists already; choose another name or --directory.")
    sketch = SKETCHES[kind]
    module = sketch.module
    words = {
        "name": name,
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "distribution": f"autometa-{name.replace('_', '-')}",
        "kind": kind,
        "Kind": f"{'An' if kind[0] in 'aeiou' else 'A'} {kind}",
        "module": module,
        "offers": sketch.offers,
        "problems": sketch.problems,
        "Spec": f"{sketch.offers.title().replace('_', '')}Spec",
    }
    texts = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "readme.md",
        f"{name}/__init__.py": "init.py",
        f"{name}/{module}.py": f"{module}.py",
        f"tests/test_{name}.py": "test.py",
    }
    try:
        for target, template in texts.items():
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).write_text(_template(template).substitute(words), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error}") from error
    return folder


def _claimed_by(name: str) -> str | None:
    """Return what has the name already, in words: the new package would hide it, or make its name ambiguous."""
    from autometa.host import components, get_host

    for component in components(status=None):
        if component.name == name:
            return f"a {component.kind} of plugin {component.plugin.name!r}"
    if any(record.name == name for record in get_host().records):
        return "an installed plugin"
    found = find_spec(name)
    # A bare folder where the command is typed is a module without an origin: whether it is free is seen when writing.
    if (found is not None and found.origin is not None) or name in packages_distributions():
        return "an installed package or module"
    return None


def _free(name: str) -> str:
    """Return a name like this one that nothing has."""
    names = (f"my_{name}{number}" for number in ("", *range(2, 100)))
    return next(candidate for candidate in names if _claimed_by(candidate) is None)


def _template(name: str) -> Template:
    return Template((files(__package__) / "templates" / f"{name}.tmpl").read_text(encoding="utf-8"))
