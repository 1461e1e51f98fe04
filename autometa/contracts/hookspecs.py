"""The four hooks a plugin can implement, each with an example that runs."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from autometa.contracts.specs import BackboneSpec, LearnerSpec, MetaOptimizerSpec, TaskSamplerSpec

PROJECT = "autometa"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def autometa_task_samplers() -> Iterable[TaskSamplerSpec]:  # type: ignore[empty-body]
    """Offer task distributions.

    >>> import autometa as am
    >>> @am.hookimpl
    ... def autometa_task_samplers():
    ...     yield am.TaskSamplerSpec(name="waves", factory="my_plugin.waves:Waves", problems={"regression"})
    """


@hookspec
def autometa_learners() -> Iterable[LearnerSpec]:  # type: ignore[empty-body]
    """Offer learners.

    >>> import autometa as am
    >>> @am.hookimpl
    ... def autometa_learners():
    ...     yield am.LearnerSpec(name="nearest", factory="my_plugin.nearest:Nearest", problems={"classification"})
    """


@hookspec
def autometa_meta_optimizers() -> Iterable[MetaOptimizerSpec]:  # type: ignore[empty-body]
    """Offer meta-optimizers.

    >>> import autometa as am
    >>> @am.hookimpl
    ... def autometa_meta_optimizers():
    ...     yield am.MetaOptimizerSpec(name="annealing", factory="my_plugin.annealing:Annealing")
    """


@hookspec
def autometa_backbones() -> Iterable[BackboneSpec]:  # type: ignore[empty-body]
    """Offer backbones. Comparisons search those whose class has a ``suggest``; see :class:`autometa.Backbone`.

    >>> import autometa as am
    >>> @am.hookimpl
    ... def autometa_backbones():
    ...     yield am.BackboneSpec(name="tiny", factory="my_plugin.tiny:Tiny")
    """
