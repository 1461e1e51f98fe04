"""AutoML for task distributions: meta-train every family of learner, compare them fairly, keep the winner.

Names are imported on first use, so ``import autometa`` is light and torch is loaded only when it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from autometa._version import __version__ as __version__

if TYPE_CHECKING:
    from autometa.checks import check_bool as check_bool
    from autometa.checks import check_choice as check_choice
    from autometa.checks import check_int as check_int
    from autometa.checks import check_ints as check_ints
    from autometa.checks import check_path as check_path
    from autometa.checks import check_real as check_real
    from autometa.comparison import AutoFewShotClassifier as AutoFewShotClassifier
    from autometa.comparison import AutoFewShotRegressor as AutoFewShotRegressor
    from autometa.comparison import Comparison as Comparison
    from autometa.comparison.compare import compare as compare
    from autometa.comparison.preview import preview as preview
    from autometa.comparison.results.equivalence import practical_equivalence as practical_equivalence
    from autometa.comparison.results.from_scores import significance as significance
    from autometa.comparison.results.rank_groups import critical_difference as critical_difference
    from autometa.contracts.actor import Actor as Actor
    from autometa.contracts.backbone import Backbone as Backbone
    from autometa.contracts.backbone import BackboneLike as BackboneLike
    from autometa.contracts.content import content_of as content_of
    from autometa.contracts.environments import Environments as Environments
    from autometa.contracts.environments import StepResult as StepResult
    from autometa.contracts.environments import Worlds as Worlds
    from autometa.contracts.examples import Examples as Examples
    from autometa.contracts.examples import TaskBatch as TaskBatch
    from autometa.contracts.experience import Experience as Experience
    from autometa.contracts.experience import Transition as Transition
    from autometa.contracts.fixed_forward import fixed_forward as fixed_forward
    from autometa.contracts.folders import walk_folder as walk_folder
    from autometa.contracts.forward import predict_outputs as predict_outputs
    from autometa.contracts.forward import present_classes as present_classes
    from autometa.contracts.forward import query_losses as query_losses
    from autometa.contracts.forward import task_losses as task_losses
    from autometa.contracts.hookspecs import hookimpl as hookimpl
    from autometa.contracts.keys import draw_keys as draw_keys
    from autometa.contracts.learner import Learner as Learner
    from autometa.contracts.losses import IGNORED_CLASS as IGNORED_CLASS
    from autometa.contracts.meta_optimizer import MetaOptimizer as MetaOptimizer
    from autometa.contracts.policies import Choice as Choice
    from autometa.contracts.policies import Decision as Decision
    from autometa.contracts.policies import Normal as Normal
    from autometa.contracts.round_actor import RoundActor as RoundActor
    from autometa.contracts.seeding import derive_seed as derive_seed
    from autometa.contracts.specs import BackboneSpec as BackboneSpec
    from autometa.contracts.specs import LearnerSpec as LearnerSpec
    from autometa.contracts.specs import MetaOptimizerSpec as MetaOptimizerSpec
    from autometa.contracts.specs import TaskSamplerSpec as TaskSamplerSpec
    from autometa.contracts.tasks import SPLITS as SPLITS
    from autometa.contracts.tasks import TaskInfo as TaskInfo
    from autometa.contracts.tasks import TaskSampler as TaskSampler
    from autometa.contracts.tasks import check_draw as check_draw
    from autometa.engine.collecting import collect as collect
    from autometa.engine.folding import apply_per_task as apply_per_task
    from autometa.engine.folding import build_backbone as build_backbone
    from autometa.engine.heads import apply_head as apply_head
    from autometa.engine.heads import fit_head as fit_head
    from autometa.engine.heads import solve_ridge as solve_ridge
    from autometa.engine.inner_loop import SupportLoss as SupportLoss
    from autometa.engine.inner_loop import call_per_task as call_per_task
    from autometa.engine.inner_loop import descend as descend
    from autometa.engine.inner_loop import loss_on as loss_on
    from autometa.engine.inner_loop import per_task as per_task
    from autometa.engine.judging import Outcome as Outcome
    from autometa.engine.judging import TrialOutcome as TrialOutcome
    from autometa.engine.judging import judge as judge
    from autometa.engine.population import PopulationLosses as PopulationLosses
    from autometa.engine.replay import Replay as Replay
    from autometa.engine.update import ParameterUpdate as ParameterUpdate
    from autometa.errors import AutometaError as AutometaError
    from autometa.errors import Incompatible as Incompatible
    from autometa.errors import InvalidData as InvalidData
    from autometa.errors import InvalidFile as InvalidFile
    from autometa.errors import InvalidParameter as InvalidParameter
    from autometa.errors import MissingData as MissingData
    from autometa.errors import NameClash as NameClash
    from autometa.errors import PluginError as PluginError
    from autometa.errors import ProcessFailed as ProcessFailed
    from autometa.errors import StorageError as StorageError
    from autometa.errors import TrainingDiverged as TrainingDiverged
    from autometa.errors import UnknownName as UnknownName
    from autometa.errors import warn_user as warn_user
    from autometa.estimators import FewShotClassifier as FewShotClassifier
    from autometa.estimators import FewShotRegressor as FewShotRegressor
    from autometa.estimators import MetaAgent as MetaAgent
    from autometa.estimators import load as load
    from autometa.estimators.cross_validation import cross_validate_tasks as cross_validate_tasks
    from autometa.files.weights import read_weights as read_weights
    from autometa.host import make_backbone as make_backbone
    from autometa.host import make_learner as make_learner
    from autometa.host import make_meta_optimizer as make_meta_optimizer
    from autometa.host import make_tasks as make_tasks
    from autometa.host import plugins as plugins
    from autometa.sampling.class_episodes import ClassEpisodes as ClassEpisodes
    from autometa.sampling.class_images import ClassImages as ClassImages
    from autometa.sampling.gymnasium_environments import GymnasiumEnvironments as GymnasiumEnvironments
    from autometa.sampling.pixels import PixelReader as PixelReader
    from autometa.sampling.random_draws import draw_distinct as draw_distinct
    from autometa.sampling.random_draws import draw_uniform as draw_uniform
    from autometa.sampling.tensor_environments import TensorEnvironments as TensorEnvironments
    from autometa.tables.encoder import TableEncoder as TableEncoder
    from autometa.tables.frames import as_frame as as_frame
    from autometa.tables.frames import check_column as check_column
    from autometa.tables.targets import read_target as read_target
    from autometa.testing import check_plugin as check_plugin
    from autometa.testing import parametrize_with_plugin_checks as parametrize_with_plugin_checks
    from autometa.training.pretrain import pretrain as pretrain

_EXPORTS = {
    # errors and warnings
    "AutometaError": "autometa.errors",
    "Incompatible": "autometa.errors",
    "InvalidData": "autometa.errors",
    "InvalidFile": "autometa.errors",
    "InvalidParameter": "autometa.errors",
    "MissingData": "autometa.errors",
    "NameClash": "autometa.errors",
    "PluginError": "autometa.errors",
    "ProcessFailed": "autometa.errors",
    "StorageError": "autometa.errors",
    "TrainingDiverged": "autometa.errors",
    "UnknownName": "autometa.errors",
    "warn_user": "autometa.errors",
    # checks of parameters
    "check_bool": "autometa.checks",
    "check_choice": "autometa.checks",
    "check_column": "autometa.tables.frames",
    "check_int": "autometa.checks",
    "check_ints": "autometa.checks",
    "check_path": "autometa.checks",
    "check_real": "autometa.checks",
    # what a plugin returns
    "hookimpl": "autometa.contracts.hookspecs",
    "BackboneSpec": "autometa.contracts.specs",
    "LearnerSpec": "autometa.contracts.specs",
    "MetaOptimizerSpec": "autometa.contracts.specs",
    "TaskSamplerSpec": "autometa.contracts.specs",
    # contracts
    "Backbone": "autometa.contracts.backbone",
    "BackboneLike": "autometa.contracts.backbone",
    "ClassEpisodes": "autometa.sampling.class_episodes",
    "ClassImages": "autometa.sampling.class_images",
    "Examples": "autometa.contracts.examples",
    "IGNORED_CLASS": "autometa.contracts.losses",
    "Learner": "autometa.contracts.learner",
    "MetaOptimizer": "autometa.contracts.meta_optimizer",
    "RoundActor": "autometa.contracts.round_actor",
    "SPLITS": "autometa.contracts.tasks",
    "PixelReader": "autometa.sampling.pixels",
    "TableEncoder": "autometa.tables.encoder",
    "as_frame": "autometa.tables.frames",
    "read_target": "autometa.tables.targets",
    "TaskBatch": "autometa.contracts.examples",
    "TaskInfo": "autometa.contracts.tasks",
    "TaskSampler": "autometa.contracts.tasks",
    "check_draw": "autometa.contracts.tasks",
    "content_of": "autometa.contracts.content",
    "fixed_forward": "autometa.contracts.fixed_forward",
    "walk_folder": "autometa.contracts.folders",
    "derive_seed": "autometa.contracts.seeding",
    "draw_distinct": "autometa.sampling.random_draws",
    "draw_uniform": "autometa.sampling.random_draws",
    # control
    "Actor": "autometa.contracts.actor",
    "Choice": "autometa.contracts.policies",
    "Decision": "autometa.contracts.policies",
    "Environments": "autometa.contracts.environments",
    "Experience": "autometa.contracts.experience",
    "GymnasiumEnvironments": "autometa.sampling.gymnasium_environments",
    "Normal": "autometa.contracts.policies",
    "StepResult": "autometa.contracts.environments",
    "TensorEnvironments": "autometa.sampling.tensor_environments",
    "Transition": "autometa.contracts.experience",
    "TrialOutcome": "autometa.engine.judging",
    "Worlds": "autometa.contracts.environments",
    "collect": "autometa.engine.collecting",
    "draw_keys": "autometa.contracts.keys",
    # components by name
    "make_backbone": "autometa.host",
    "make_learner": "autometa.host",
    "make_meta_optimizer": "autometa.host",
    "make_tasks": "autometa.host",
    "plugins": "autometa.host",
    # engine
    "Outcome": "autometa.engine.judging",
    "judge": "autometa.engine.judging",
    "apply_per_task": "autometa.engine.folding",
    "build_backbone": "autometa.engine.folding",
    "ParameterUpdate": "autometa.engine.update",
    "Replay": "autometa.engine.replay",
    "PopulationLosses": "autometa.engine.population",
    "SupportLoss": "autometa.engine.inner_loop",
    "apply_head": "autometa.engine.heads",
    "call_per_task": "autometa.engine.inner_loop",
    "descend": "autometa.engine.inner_loop",
    "fit_head": "autometa.engine.heads",
    "loss_on": "autometa.engine.inner_loop",
    "per_task": "autometa.engine.inner_loop",
    "solve_ridge": "autometa.engine.heads",
    "predict_outputs": "autometa.contracts.forward",
    "present_classes": "autometa.contracts.forward",
    "query_losses": "autometa.contracts.forward",
    "task_losses": "autometa.contracts.forward",
    # estimators
    "FewShotClassifier": "autometa.estimators",
    "FewShotRegressor": "autometa.estimators",
    "MetaAgent": "autometa.estimators",
    "load": "autometa.estimators",
    "cross_validate_tasks": "autometa.estimators.cross_validation",
    # pretraining
    "pretrain": "autometa.training.pretrain",
    "read_weights": "autometa.files.weights",
    # comparison
    "AutoFewShotClassifier": "autometa.comparison",
    "AutoFewShotRegressor": "autometa.comparison",
    "Comparison": "autometa.comparison",
    "compare": "autometa.comparison.compare",
    "preview": "autometa.comparison.preview",
    "critical_difference": "autometa.comparison.results.rank_groups",
    "practical_equivalence": "autometa.comparison.results.equivalence",
    "significance": "autometa.comparison.results.from_scores",
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
