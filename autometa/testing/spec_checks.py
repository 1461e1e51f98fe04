"""What an installed component's spec and plugin must do."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from unittest import SkipTest

from autometa.host import Component, get_host, make, name_of
from autometa.host.discovery import DISABLED_VARIABLE
from autometa.host.kinds import KINDS
from autometa.testing.expectations import expect

HEAVY = ("torch", "sklearn", "pandas", "optuna", "matplotlib", "scipy")
LOAD = """
import sys
from autometa.host import get_host
(record,) = [record for record in get_host().records if record.status != "disabled"]
print(record.error or " ".join({heavy} & set(sys.modules)))
"""


def check_light_import(component: Component) -> None:
    """Listing the plugin imports no heavy package, so that ``autometa plugins`` answers at once."""
    heavy = _heavy_imports(component.plugin.name)
    expect(
        not heavy,
        f"plugin {component.plugin.name!r} imports {heavy} when it is listed; name the class by a dotted path in the "
        "spec, and import it on first use.",
    )


@functools.cache
def _heavy_imports(plugin: str) -> str:
    """Return the heavy packages that a fresh process imports when it loads this one plugin."""
    others = {record.name for record in get_host().records} - {plugin}
    environment = os.environ | {
        DISABLED_VARIABLE: ",".join(sorted(others)),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    code = LOAD.format(heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    expect(done.returncode == 0, f"plugin {plugin!r} cannot be loaded in a fresh process:\n{done.stderr}")
    return done.stdout.strip()


def check_factory(component: Component) -> None:
    """The factory imports and is a class of the component's kind."""
    base = KINDS[component.kind].base()
    made = component.spec.resolve()
    expect(
        isinstance(made, type) and issubclass(made, base),
        f"factory {component.spec.factory!r} must be a subclass of autometa.{base.__name__}.",
    )


def check_name_round_trip(component: Component) -> None:
    """An object made by name knows its name, so that it can be saved and listed under it."""
    if component.spec.needs:
        raise SkipTest(f"needs {component.spec.needs} to be made")
    name = name_of(make(component.kind, component.full_name))
    expect(name in (component.name, component.full_name), f"made by {component.full_name!r}, it is known as {name!r}.")


def check_summary(component: Component) -> None:
    """The spec has a summary of one line."""
    summary = component.spec.summary
    expect(summary.strip() and "\n" not in summary, f"the summary must be one line; it is {summary!r}.")


SPEC_CHECKS = (check_light_import, check_factory, check_name_round_trip, check_summary)
