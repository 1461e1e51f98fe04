"""What the code imports is what an installation brings, in the versions it was tested with."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
OURS = {"autometa", "autometa_plugins"}


def imported(folder: Path) -> Iterator[str]:
    """Top-level packages that are imported anywhere in a folder, inside functions too."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).partition(".")[0]


def required(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def pins(file: str) -> dict[str, Version]:
    lines = (REPOSITORY / file).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


@pytest.fixture(scope="module")
def pinned() -> dict[str, Version]:
    return pins("constraints.txt")


def test_an_installation_brings_what_is_imported() -> None:
    providers = packages_distributions()
    names = {name for folder in ("autometa", "plugins") for name in imported(REPOSITORY / folder)}
    foreign = names - OURS - set(sys.stdlib_module_names)
    dependencies = set(required(PROJECT["dependencies"]))
    by_package = {name: {canonicalize_name(d) for d in providers.get(name, [])} for name in sorted(foreign)}
    missing = {name for name, found in by_package.items() if not found & dependencies}
    # The conformance kit's pytest decorator imports pytest when a test suite calls it.
    optional = {"lightning_fabric": "parallel", "cmaes": "evolution", "gpboost": "gpboost", "statsmodels": "mixed"}
    optional |= {"gymnasium": "control", "grpc": "grpc", "ray": "ray", "mlflow": "mlflow"}
    assert missing - {"pytest"} == set(optional)
    extras = PROJECT["optional-dependencies"]
    for name, extra in optional.items():
        assert by_package[name] <= set(required(extras[extra])), "also where it is installed beside dev"
    assert dependencies <= set().union(*by_package.values()), "a dependency that nothing imports"


def test_every_requirement_is_pinned_to_a_version_that_it_allows(pinned: dict[str, Version]) -> None:
    direct = required(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])
    assert set(direct) <= set(pinned)
    for name, requirement in direct.items():
        assert pinned[name] in requirement.specifier


def test_what_the_requirements_need_is_pinned_too(pinned: dict[str, Version]) -> None:
    todo, seen = [*required(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"])], set[str]()
    while todo:
        name = canonicalize_name(todo.pop())
        # The builds of torch for CUDA pin what they need of it themselves.
        if name in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add(name)
        needs = map(Requirement, distribution(name).requires or [])
        todo += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert seen - set(pinned) == set()


def test_the_oldest_versions_that_are_tested_are_the_lower_bounds() -> None:
    extras = PROJECT["optional-dependencies"]
    oldest = pins("constraints-oldest.txt")
    optional = [extras[name] for name in ("control", "evolution", "gpboost", "mixed", "parallel")]
    direct = required(sum(optional, PROJECT["dependencies"]))
    for name, requirement in direct.items():
        assert {Version(bound.version) for bound in requirement.specifier if bound.operator == ">="} == {oldest[name]}
