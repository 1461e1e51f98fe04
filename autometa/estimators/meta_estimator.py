"""What is learned once from many tasks, and scikit-learn's conventions about it."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import Tags, check_random_state

from autometa.checks import check_int, check_path
from autometa.contracts.backbone import BackboneLike
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.held_networks import HoldsNetworks, let_pickle
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.tasks import TaskSampler
from autometa.engine.device import pick_device, pick_dtype
from autometa.errors import AutometaError, Incompatible, InvalidParameter
from autometa.estimators.assemble import Setting, resolve_learner, resolve_meta_optimizer
from autometa.estimators.calibration import deviation_scale, needs_calibration, part_held_out
from autometa.estimators.images import range_met
from autometa.estimators.inputs import n_features
from autometa.estimators.parameters import changed_since, set_nested
from autometa.estimators.saved_state import save
from autometa.estimators.state import MetaTrained
from autometa.estimators.table_sampler import table_sampler, take_columns
from autometa.host import make_tasks
from autometa.training import MetaTraining
from autometa.training.run import run, seed_of


class MetaEstimator(HoldsNetworks):
    """Parameters, meta-training and files of few-shot estimators; what answers for one task is in a subclass."""

    problem: ClassVar[str]

    def __init__(
        self,
        learner: str | BaseLearner = "auto",
        meta_optimizer: str | MetaOptimizer = "auto",
        backbone: BackboneLike = "auto",
        max_steps: int = 1000,
        tasks_per_step: int = 16,
        device: str | torch.device = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        n_devices: int = 1,
    ) -> None:
        self.learner = learner
        self.meta_optimizer = meta_optimizer
        self.backbone = backbone
        self.max_steps = max_steps
        self.tasks_per_step = tasks_per_step
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.n_devices = n_devices

    def meta_fit(
        self,
        tasks: Any,
        y: Any = None,
        *,
        task: Any = None,
        n_shot: int | None = None,
        n_query: int | None = None,
        stratified: bool = True,
        order: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Learn from many tasks how to learn a new one.

        Whatever :meth:`fit` learned before is forgotten. An interrupted call leaves the estimator as it was.

        Standard deviations of a regression's learner are multiplied by a factor with which 90% of the new observations
        of meta-valid tasks lie in their 90% intervals, unless the learner sees to that itself ("mixed_effects"); so are
        the distances of quantiles from the median. On a table of at least 8 tasks, of which none is held out, the
        factor is measured by a second meta-training, without a quarter of the tasks, on that quarter; that takes as
        long again.

        With ``n_devices`` above 1 each device has a process of its own, which imports the main module anew: a script
        then needs ``if __name__ == "__main__":`` around what it does.

        Parameters
        ----------
        tasks : TaskSampler, str, DataFrame or array of shape [n, n_columns]
            A task distribution or its name; or, with ``y`` and ``task``, the rows of a table: a DataFrame of pandas,
            polars or pyarrow, an array or a list of rows. :class:`TableEncoder` tells what columns may hold. Every
            task of a table is trained on; none is held out. Only learners that adapt to drawn rows cannot train on a
            task that leaves none to be judged on (one row; if ``stratified``, one row of each class).
        y : array-like of shape [n] or column name, optional
            Targets of the table's rows: for a regression numbers of any type, for a classification strings, whole
            numbers, booleans or dates without a time zone. A name stands for that column of the table.
        task : array-like of shape [n] or column name, optional
            Which task each row of the table belongs to (school, patient, machine, ...). A column given by its name
            is no feature: :meth:`fit` and :meth:`predict` take rows without it.
        n_shot, n_query : int, optional
            Rows of a table's tasks to adapt on and to be judged on; see the task sampler ``table``. ``n_shot`` left
            out is half of the rows of the median task (of each class, for classes), between 1 and 10; a warning
            tells it.
        stratified : bool, default=True
            Whether ``n_shot`` counts the rows of each class of a table's task; False takes any rows of it.
        order : array-like of shape [n] or column name, optional
            Numbers or dates: meta-training adapts to the earliest rows of each task (of each class, if ``stratified``),
            not to any. A column given by its name is no feature.
        checkpoint : path, optional
            A file that keeps what has been learned so far, written twice a minute and at the end, whole or not at all.
            The same call goes on from it, on any number of devices; without a ``random_state``, with the seed it was
            begun with. Files that ``tasks`` are read from count by their content: if it changed, the call is refused.

        Returns
        -------
        self

        Raises
        ------
        InvalidParameter, UnknownName
            A parameter cannot work.
        Incompatible
            The tasks are of another problem, or learner and meta-optimizer do not fit.
        TrainingDiverged
            The loss or a weight is no longer finite.
        InvalidData
            The loss is not, since tasks were drawn that hold values that are not.
        InvalidFile, StorageError
            The checkpoint is no checkpoint of a meta-training, or cannot be written.
        MissingData
            ``n_devices`` needs an extra that is not installed.
        ProcessFailed
            The process of a device ended without a result.
        """
        check_path("checkpoint", checkpoint, also=(None,))
        sampler = self._sampler(
            tasks, y, task, stratified=stratified, order=order, whole=True, n_shot=n_shot, n_query=n_query
        )
        check_int("max_steps", self.max_steps, least=0)
        check_int("tasks_per_step", self.tasks_per_step)
        check_int("n_devices", self.n_devices)
        if sampler.info.problem != self.problem:
            raise Incompatible(
                f"tasks={type(sampler).__name__} are {sampler.info.problem} and {type(self).__name__} is for "
                f"{self.problem}; use {sampler.info.problem_record.estimator_name}."
            )
        setting: Setting = "tasks" if sampler.encoder is None else "table"
        learner = resolve_learner(self.learner, self.problem, self.backbone, setting=setting)
        is_table = y is not None or task is not None
        begun = seed_of(checkpoint) if checkpoint is not None and self.random_state is None else None
        seed = self._seed() if begun is None else begun
        training = self._trained(learner, sampler, seed, checkpoint)
        measured = training
        if is_table and needs_calibration(learner, sampler.info.problem_record.has_classes):
            part = part_held_out(sampler)
            measured = training if part is None else self._trained(learner, part, seed)
        self._become(meta_trained(training, max_steps=self.max_steps, measured=measured))
        return self

    def _trained(
        self,
        learner: BaseLearner,
        sampler: TaskSampler,
        seed: int,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> MetaTraining:
        """Return a finished meta-training."""
        training = MetaTraining(
            clone(learner),
            resolve_meta_optimizer(self.meta_optimizer, learner),
            sampler,
            n_steps=int(self.max_steps),
            tasks_per_step=int(self.tasks_per_step),
            seed=seed,
            device=pick_device(self.device) if self.n_devices == 1 else "cpu",
            dtype=pick_dtype(self.precision),
        )
        run(training, device=self.device, n_devices=self.n_devices, checkpoint=checkpoint, verbose=self.verbose)
        return training

    @classmethod
    def from_training(cls, training: MetaTraining, **params: Any) -> Self:
        """Make an estimator of a finished meta-training.

        Parameters
        ----------
        training : MetaTraining
        **params
            Parameters of the estimator that the training does not decide, such as ``device``.
        """
        meta_optimizer = training.meta_optimizer
        known = {
            "learner": clone(training.learner),
            "meta_optimizer": "auto" if meta_optimizer is None else clone(meta_optimizer),
            "tasks_per_step": training.tasks_per_step,
            "random_state": training.seed % 2**32,
        }
        if meta_optimizer is not None:
            known["max_steps"] = training.n_steps
        estimator = cls(**(known | params))
        problem = training.sampler.info.problem
        if problem != cls.problem:
            raise Incompatible(f"the training is for {problem} and {cls.__name__} is for {cls.problem}.")
        estimator._become(meta_trained(training, max_steps=estimator.max_steps))
        return estimator

    def _sampler(
        self,
        tasks: Any,
        y: Any,
        task: Any,
        *,
        stratified: bool = True,
        order: Any = None,
        whole: bool = False,
        **sizes: int | None,
    ) -> TaskSampler:
        if y is not None or task is not None:
            X, y, task, order = take_columns(tasks, y=y, task=task, order=order)
            X = resolve_learner(self.learner, self.problem, self.backbone, setting="table").encode_rows(X)
            return table_sampler(
                X, y, task, problem=self.problem, stratified=stratified, order=order, whole=whole, **sizes
            )
        if not stratified or order is not None or any(size is not None for size in sizes.values()):
            raise InvalidParameter(
                "n_shot and n_query are for tables, so are stratified and order: give y and task too, or set them on "
                "the sampler"
            )
        if not isinstance(tasks, (str, TaskSampler)):
            raise InvalidParameter(
                f"tasks={type(tasks).__name__} is no task sampler; give one, its name, or a table as "
                "meta_fit(X, y, task=ids)."
            )
        return make_tasks(tasks)

    def _become(self, meta: MetaTrained) -> None:
        """Take over what was meta-trained and forget what was fitted."""
        for name in [n for n in vars(self) if n.endswith("_") and not n.startswith("_")]:
            delattr(self, name)
        self.__dict__.pop("_fitted", None)
        self._meta = meta
        self.learner_, self.meta_optimizer_ = meta.learner, meta.meta_optimizer
        self.module_, self.task_info_, self.history_ = meta.module, meta.info, meta.history
        self.n_features_in_ = meta.n_features
        if meta.feature_names is not None:
            self.feature_names_in_ = meta.feature_names

    def _learner_now(self) -> BaseLearner:
        """Return the learner of the present parameters; after ``meta_fit`` it must be the one meta-trained."""
        meta: MetaTrained | None = getattr(self, "_meta", None)
        if meta is None:
            backbone = "backbones/identity" if self._is_auto("backbone") else self.backbone
            return resolve_learner(self.learner, self.problem, backbone, setting="rows")
        setting: Setting = "tasks" if meta.encoder is None else "table"
        learner = resolve_learner(self.learner, self.problem, self.backbone, setting=setting)
        changed = changed_since(meta, learner, self)
        if changed:
            free = ", ".join(f"learner__{name}" for name in sorted(meta.learner.adaptation_parameters)) or "none"
            raise InvalidParameter(
                f"{changed} changed after meta_fit, which was done with another value: call meta_fit again. "
                f"Parameters of the learner that may change without: {free}."
            )
        return learner

    def save(self, path: str | os.PathLike[str], *, keep_support: bool = True) -> None:
        """Write the estimator with all it has learned to a file, for :func:`autometa.load`.

        The file is in the safetensors format and holds numbers, names and, for code of your own, import paths, which
        :func:`autometa.load` follows only where they are trusted. Its checksum finds damage; it is no signature. It
        appears whole or not at all.

        Parameters
        ----------
        path : path or str
            Such as ``"model.autometa"``; an existing file is replaced.
        keep_support : bool, default=True
            False leaves out what :meth:`fit` learned, and with it all rows of the support set: loaded again, the
            estimator is as after :meth:`meta_fit`. Learners that remember rows of meta-training ("sklearn_pooled")
            keep those.

        Raises
        ------
        InvalidParameter
            ``keep_support=False`` without :meth:`meta_fit`, as nothing would be left.
            A component or value that could not be found again: of a class that stands in ``__main__`` or inside a
            function, or a network that its class does not build again without arguments.
        StorageError
            The path cannot be written to.
        NotFittedError
            Nothing has been learned.
        """
        save(self, path, keep_support=keep_support)

    def _seed(self) -> int:
        given: Any = self.random_state
        if not isinstance(given, np.random.RandomState) and given is not np.random:
            check_int("random_state", given, least=0, most=2**32 - 1, also=(None,))
        return int(check_random_state(given).randint(2**31 - 1))

    def _is_auto(self, name: str) -> bool:
        value = getattr(self, name)
        return isinstance(value, str) and value == "auto"

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``learner__steps=3`` also works for a learner given by name, which becomes an object.

        Returns
        -------
        self
        """
        set_nested(self, params, super().set_params)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted") or self._answers_without_rows()

    def __sklearn_clone__(self) -> Self:
        copied: Self = super().__sklearn_clone__()
        if hasattr(self, "_meta"):
            copied._become(self._meta)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        for name in ("_meta", "_fitted"):
            if name in state:
                state[name] = state[name].moved("cpu")
                state["module_"] = state[name].module
                let_pickle(state["module_"])
        return state

    def _means_nothing_yet(self) -> bool:
        """Tell whether the learner needs meta-training that has not been done."""
        if hasattr(self, "_meta"):
            return False
        try:
            return self.problem in self._learner_now().needs_meta_training
        except (AutometaError, TypeError):  # tags are read in reprs too, where a wrong parameter is no error yet
            return False

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        meta: MetaTrained | None = getattr(self, "_meta", None)
        takes_tables = meta is None or meta.encoder is not None
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = takes_tables
        return tags


def meta_trained(training: MetaTraining, *, max_steps: int, measured: MetaTraining | None = None) -> MetaTrained:
    """Return the record of a finished meta-training.

    Parameters
    ----------
    training : MetaTraining
    max_steps : int
    measured : MetaTraining, optional
        One of the same learner whose standard deviations are measured on its meta-valid tasks; by default the same.
    """
    sampler, measured = training.sampler, training if measured is None else measured
    info, encoder = sampler.info, sampler.encoder
    scale = 1.0
    if needs_calibration(training.learner, info.problem_record.has_classes):
        scale = deviation_scale(measured.learner, measured.module, measured.sampler, training.seed)
    return MetaTrained(
        learner=training.learner,
        meta_optimizer=None if training.meta_optimizer is None else clone(training.meta_optimizer),
        module=training.module.eval(),
        info=info,
        encoder=encoder,
        history=training.history,
        max_steps=max_steps,
        tasks_per_step=training.tasks_per_step,
        n_features=n_features(info.input_shape) if encoder is None else encoder.n_features_in_,
        feature_names=None if encoder is None else getattr(encoder, "feature_names_in_", None),
        input_range=range_met(sampler, training.tasks_per_step, training.seed),
        deviation_scale=scale,
    )
