"""What must be quick is quick because nothing heavy is imported."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import autometa

HEAVY = ["torch", "sklearn", "scipy", "pandas", "optuna", "matplotlib", "numpy", "gymnasium"]


def packages_after(statements: str, of: list[str]) -> list[str]:
    """Those of some packages that a fresh process has imported after some statements."""
    code = f"import sys\n{statements}\nimport json\nprint('\\n' + json.dumps([n for n in {of} if n in sys.modules]))"
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
        "from autometa.contracts.problems import PROBLEMS; [p.estimator_name for p in PROBLEMS.values()]",
    ],
)
def test_nothing_heavy_is_imported(statements: str) -> None:
    assert packages_after(statements, HEAVY) == []


@pytest.mark.thorough
def test_meta_training_does_not_import_the_compiler_of_torch() -> None:
    few = "device='cpu', random_state=0, max_steps=2, meta_optimizer=am.make_meta_optimizer('gradient', clip=1.0)"
    trained = f"import autometa as am; am.FewShotRegressor('maml', {few}).meta_fit('sinusoid')"
    assert packages_after(trained, ["torch", "torch._dynamo"]) == ["torch"]


@pytest.mark.thorough
@pytest.mark.parametrize("learner", ["maml", "in_context", "pfn"])
def test_reading_an_estimator_does_not_import_the_compiler_of_torch(learner: str, tmp_path: Path) -> None:
    """Nor what tells the sizes of tensors: initial weights may be orthogonal, or come from a file."""
    place = tmp_path / "it.autometa"
    autometa.FewShotRegressor(learner, device="cpu", random_state=0, max_steps=1).meta_fit("linear").save(place)
    assert packages_after(f"import autometa as am; am.load({str(place)!r})", ["torch", "sympy"]) == ["torch"]


def test_the_light_import_still_offers_every_public_name() -> None:
    import autometa as am

    for name in am.__all__:
        assert getattr(am, name) is not None
    assert set(am.__all__) <= set(dir(am))
    with pytest.raises(AttributeError, match="has no attribute 'makelearner'"):
        am.makelearner  # noqa: B018


def test_what_type_checkers_see_is_what_is_exported() -> None:
    tree = ast.parse(Path(autometa.__file__).read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [(node.module, alias) for node in guarded.body for alias in node.names]
    assert all(alias.asname == alias.name for _, alias in imports), "only `import X as X` is a public name to checkers"
    assert sorted((alias.name, module) for module, alias in imports) == sorted(autometa._EXPORTS.items())
