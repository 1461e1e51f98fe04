"""Bundled plugin: one trunk for all tasks, a head for each."""

from __future__ import annotations

from collections.abc import Iterable

import autometa as am


@am.hookimpl
def autometa_learners() -> Iterable[am.LearnerSpec]:
    """Offer multi-task learning."""
    yield am.LearnerSpec(
        name="multitask",
        factory="autometa_plugins.multitask.multitask:MultiTask",
        summary="One trunk trained with a head per training task; a new head for a new task.",
        problems=frozenset({"classification", "regression"}),
        reference="Caruana 1997, Multitask Learning, section 2",
        family="multitask",
    )
