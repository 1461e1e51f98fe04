"""What must be quick is quick because nothing heavy is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "sklearn", "scipy", "pandas", "optuna", "matplotlib", "numpy"]


def heavy_after(statements: str) -> list[str]:
    """Heavy packages that a fresh process has imported after some statements."""
    code = f"import sys\n{statements}\nimport json\nprint('\\n' + json.dumps([n for n in {HEAVY} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "statements",
    [
        "import autometa",
        "import autometa as am; am.hookimpl, am.LearnerSpec, am.InvalidParameter",
        "from autometa.cli import main; main(['--help'])",
        "from autometa.cli import main; main(['--version'])",
        "from autometa.cli import main; main(['compare', '--help'])",
        "from autometa.cli import main; main(['plugins'])",
        "from autometa.cli import main; main(['plugins', '--json'])",
        "from autometa.host import listing; listing()",
    ],
)
def test_nothing_heavy_is_imported(statements: str) -> None:
    assert heavy_after(statements) == []


def test_the_light_import_still_offers_every_public_name() -> None:
    import autometa as am

    for name in am.__all__:
        assert getattr(am, name) is not None
    assert set(am.__all__) <= set(dir(am))
    with pytest.raises(AttributeError, match="has no attribute 'makelearner'"):
        am.makelearner  # noqa: B018
