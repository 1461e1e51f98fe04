"""AutoML for task distributions: meta-train every family of learner, compare them fairly, keep the winner.

Names are imported on first use, so ``import autometa`` is light and torch is loaded only when it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

_EXPORTS = {
    # errors
    "AutometaError": "autometa.errors",
    "Incompatible": "autometa.errors",
    "InvalidData": "autometa.errors",
    "InvalidFile": "autometa.errors",
    "InvalidParameter": "autometa.errors",
    "MissingData": "autometa.errors",
    "NameClash": "autometa.errors",
    "PluginError": "autometa.errors",
    "StorageError": "autometa.errors",
    "TrainingDiverged": "autometa.errors",
    "UnknownName": "autometa.errors",
    # what a plugin returns
    "hookimpl": "autometa.contracts.hookspecs",
    "BackboneSpec": "autometa.contracts.specs",
    "LearnerSpec": "autometa.contracts.specs",
    "MetaOptimizerSpec": "autometa.contracts.specs",
    "TaskSamplerSpec": "autometa.contracts.specs",
    # contracts
    "Backbone": "autometa.contracts.backbone",
    "ClassEpisodes": "autometa.contracts.class_episodes",
    "ClassImages": "autometa.contracts.class_episodes",
    "Examples": "autometa.contracts.examples",
    "IGNORED_CLASS": "autometa.contracts.learner",
    "Learner": "autometa.contracts.learner",
    "MetaOptimizer": "autometa.contracts.meta_optimizer",
    "SPLITS": "autometa.contracts.tasks",
    "TableEncoder": "autometa.contracts.encoder",
    "TaskBatch": "autometa.contracts.examples",
    "TaskInfo": "autometa.contracts.tasks",
    "TaskSampler": "autometa.contracts.tasks",
    "check_draw": "autometa.contracts.tasks",
    "derive_seed": "autometa.contracts.seeding",
    "draw_distinct": "autometa.contracts.drawing",
    "draw_uniform": "autometa.contracts.drawing",
    # components by name
    "make_backbone": "autometa.host",
    "make_learner": "autometa.host",
    "make_meta_optimizer": "autometa.host",
    "make_tasks": "autometa.host",
    "plugins": "autometa.host",
    # engine
    "apply_per_task": "autometa.engine.folding",
    "build_backbone": "autometa.engine.folding",
    "ParameterUpdate": "autometa.engine.update",
    "apply_head": "autometa.engine.heads",
    "call_per_task": "autometa.engine.inner_loop",
    "descend": "autometa.engine.inner_loop",
    "fit_head": "autometa.engine.heads",
    "loss_on": "autometa.engine.inner_loop",
    "per_task": "autometa.engine.inner_loop",
    "query_losses": "autometa.engine.forward",
    "task_losses": "autometa.engine.forward",
    # estimators
    "FewShotClassifier": "autometa.estimators",
    "FewShotRegressor": "autometa.estimators",
    "load": "autometa.estimators",
    # comparison
    "AutoFewShotClassifier": "autometa.comparison",
    "AutoFewShotRegressor": "autometa.comparison",
    "Comparison": "autometa.comparison",
    "compare": "autometa.comparison",
    # conformance kit
    "check_plugin": "autometa.testing",
    "parametrize_with_plugin_checks": "autometa.testing",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'autometa' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
