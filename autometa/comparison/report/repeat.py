"""What to type to run a comparison again, and all that its scores depend on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autometa.comparison.execution.address import without_passwords
from autometa.comparison.report.canvas import Style
from autometa.comparison.report.markup import escape, flatten, seconds_text, table, value_text
from autometa.comparison.results.record import Record


def environment_section(record: Record, looks: Mapping[str, Style]) -> str:
    """The command and everything needed to repeat the comparison."""
    facts = dict(record.environment)
    command = facts.pop("command", None)
    text = f"<pre>{escape(command_text(command))}</pre>" if command else ""
    if "seconds" in facts:
        facts["duration of the last call"] = seconds_text(facts.pop("seconds"))
    entrants = {f"learner {label}": entrant_words(entry) for label, entry in record.plan["learners"].items()}
    facts = {**record.plan["settings"], **entrants, **facts}
    body = [[escape(name), f"<code>{escape(value)}</code>"] for name, value in flatten(facts)]
    return text + table([("setting", ""), ("value", "w")], body)


def component_words(described: Any) -> str:
    """Write a component of a plan as ``maml(steps=3)``."""
    if not isinstance(described, Mapping) or "params" not in described:
        return value_text(described)
    params = ", ".join(f"{name}={component_words(value)}" for name, value in described["params"].items())
    name = (described["name"] or "").rpartition("/")[2] or described["class"].rpartition(":")[2]
    return f"{name}({params})"


def entrant_words(described: Mapping[str, Any]) -> str:
    """Write a learner of a plan, and its meta-optimizer if that is not the learner's own."""
    meta = described["meta_optimizer"]
    return component_words(described["learner"]) + ("" if meta == "auto" else f" by {component_words(meta)}")


def command_text(command: str | Sequence[str]) -> str:
    """Return what to type to run a process again, from its ``sys.argv``; passwords are hidden."""
    if isinstance(command, str):
        return without_passwords([command])[0]
    command = without_passwords(command)
    program = Path(command[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        start = ["python", program.name]
    else:
        start = [program.name or "python"]
    return shlex.join([*start, *command[1:]])
