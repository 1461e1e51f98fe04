"""Completes the names of components for a shell, from the plugins that are installed."""

from __future__ import annotations

from collections.abc import Callable

Completion = Callable[[str], list[tuple[str, str]]]
"""Takes the word begun; returns words that go on from it, each with what it is."""


def names_of(kind: str, *, several: bool = False, then: str | None = None) -> Completion:
    """Return what completes the names of a kind of component.

    Parameters
    ----------
    kind : str
        As ``"learner"``.
    several : bool, default=False
        The word may be a list divided by commas, of which the last name is completed.
    then : str, optional
        Kind whose names may follow behind a colon, as a meta-optimizer follows a learner.
    """

    def complete(incomplete: str) -> list[tuple[str, str]]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        if "=" in last:
            return []  # a parameter's value
        owner, colon, begun = last.rpartition(":")
        if colon and then is None:
            return []
        prefix = f"{before}{comma}{owner}{colon}"
        known = _known(then if colon and then is not None else kind)
        return [(prefix + name, summary) for name, summary in known if name.startswith(begun)]

    return complete


def _known(kind: str) -> list[tuple[str, str]]:
    """Return the names of a kind, the full one where several plugins offer it, with what each is."""
    from autometa.cli.plugin_output import plugins_on_stderr
    from autometa.host.catalog import components

    with plugins_on_stderr():
        found = list(components(kind))
    names = [component.name for component in found]
    return sorted((one.full_name if names.count(one.name) > 1 else one.name, one.spec.summary) for one in found)


LEARNERS = names_of("learner", several=True, then="meta-optimizer")
TASKS = names_of("task sampler", several=True)
SAMPLER = names_of("task sampler")


def complete_component(incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a component of any kind."""
    from autometa.host.kinds import KINDS

    return [found for kind in KINDS for found in names_of(kind)(incomplete)]
