"""The four kinds of component: hook, spec and base class of each."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import Any

from autometa.contracts.specs import BackboneSpec, LearnerSpec, MetaOptimizerSpec, Spec, TaskSamplerSpec


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of component; the base class is named by its path so that listing plugins needs no torch."""

    spec: type[Spec]
    hook: str
    base_path: str
    public: str
    """Names of the classes that plugins derive from, for messages."""

    @property
    def name(self) -> str:
        """What users call it, such as ``"learner"``."""
        return self.spec.kind

    def base(self) -> type[Any]:
        """Import the abstract base class."""
        return pkgutil.resolve_name(self.base_path)  # type: ignore[no-any-return]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(TaskSamplerSpec, "autometa_task_samplers", "autometa.contracts.tasks:TaskSampler", "autometa.TaskSampler"),
        Kind(
            LearnerSpec,
            "autometa_learners",
            "autometa.contracts.base_learner:BaseLearner",
            "autometa.Learner or autometa.Actor",
        ),
        Kind(
            MetaOptimizerSpec,
            "autometa_meta_optimizers",
            "autometa.contracts.meta_optimizer:MetaOptimizer",
            "autometa.MetaOptimizer",
        ),
        Kind(BackboneSpec, "autometa_backbones", "autometa.contracts.backbone:Backbone", "autometa.Backbone"),
    )
}
HOOKS = frozenset(kind.hook for kind in KINDS.values())
