"""Where the tables of the benchmarks are, and the episodes that their baselines were scored on."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


def find_folder(given: str | None, kinds: Sequence[str]) -> Path:
    """Return the folder of tables of these kinds, or leave with a word on what is missing."""
    root = os.environ.get("AUTOMETA_DATA")
    if given is None and root is None:
        sys.exit("Give the folder of tables, or set AUTOMETA_DATA to the folder that holds tables/.")
    folder = Path(given) if given is not None else Path(str(root)).expanduser() / "tables"
    missing = missing_in(folder, kinds)
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}; see the text at the head of the script.")
    return folder


def missing_in(folder: Path, kinds: Sequence[str]) -> list[str]:
    """Return what a folder lacks of the tables of these kinds, their episodes and their baselines."""
    return [name for name in ("score_baselines.py", "baselines.csv", *kinds) if not (folder / name).exists()]


def load_protocol(folder: Path) -> ModuleType:
    """Import score_baselines.py from the folder."""
    spec = importlib.util.spec_from_file_location("score_baselines", folder / "score_baselines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
