"""What both estimators share: ``meta_fit`` once, ``fit`` for every task, then predictions."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import Tensor

from autometa.checks import check_int, check_path
from autometa.contracts.backbone import BackboneLike
from autometa.contracts.examples import Examples
from autometa.contracts.forward import present_classes
from autometa.contracts.learner import Learner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.contracts.problems import find_problem
from autometa.contracts.seeding import derive_seed
from autometa.contracts.tasks import TaskInfo, TaskSampler
from autometa.engine.device import pick_device, pick_dtype
from autometa.engine.few_threads import enough_threads
from autometa.engine.random_state import fresh_module, seeded
from autometa.errors import AutometaError, Incompatible, InvalidData, InvalidParameter, PluginError, TrainingDiverged
from autometa.estimators.asking import Read, ask, ask_each, outputs_of
from autometa.estimators.assemble import Setting, resolve_learner, resolve_meta_optimizer
from autometa.estimators.entities import Ragged, entity_names, numbers_of_entities, size_groups
from autometa.estimators.images import are_images, range_met
from autometa.estimators.inputs import as_tensor, check_no_rows, check_proportion, n_features, plain_rows, rows_of
from autometa.estimators.parameters import changed_for_adaptation, changed_since, set_nested
from autometa.estimators.saved_state import save
from autometa.estimators.state import Affine, Fitted, MetaTrained, map_tensors
from autometa.estimators.table_sampler import table_sampler, take_columns, usual_n_shot
from autometa.host import make_tasks
from autometa.tables.encoder import TableEncoder
from autometa.training import MetaTraining
from autometa.training.run import run, seed_of


class FewShotEstimator(BaseEstimator):
    """Base of :class:`FewShotClassifier` and :class:`FewShotRegressor`."""

    problem: ClassVar[str]

    def __init__(
        self,
        learner: str | Learner = "auto",
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

    # ---------------------------------------------------------------- meta-training

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

        With ``n_devices`` above 1 each device has a process of its own, which imports the main module anew: a script
        then needs ``if __name__ == "__main__":`` around what it does.

        Parameters
        ----------
        tasks : TaskSampler, str, DataFrame or array of shape [n, n_columns]
            A task distribution or its name; or, with ``y`` and ``task``, the rows of a table: a DataFrame of pandas,
            polars or pyarrow, an array or a list of rows. :class:`TableEncoder` tells what columns may hold. Every
            task of a table is trained on; none is held out.
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
        begun = seed_of(checkpoint) if checkpoint is not None and self.random_state is None else None
        training = MetaTraining(
            learner,
            resolve_meta_optimizer(self.meta_optimizer, learner),
            sampler,
            n_steps=int(self.max_steps),
            tasks_per_step=int(self.tasks_per_step),
            seed=self._seed() if begun is None else begun,
            device=pick_device(self.device) if self.n_devices == 1 else "cpu",
            dtype=pick_dtype(self.precision),
        )
        run(training, device=self.device, n_devices=self.n_devices, checkpoint=checkpoint, verbose=self.verbose)
        self._become(meta_trained(training, max_steps=self.max_steps))
        return self

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

    # ---------------------------------------------------------------- one task

    def _support_rows(self, X: Any) -> tuple[NDArray[Any], TableEncoder | None]:
        """Return the rows of a support set as numbers [n, n_features], and what was fitted on them to encode more."""
        meta: MetaTrained | None = getattr(self, "_meta", None)
        return plain_rows(self, X) if meta is None else (rows_of(self, X, meta, reset=True), None)

    def _adapt(
        self,
        rows: NDArray[Any],
        y: NDArray[Any],
        n_outputs: int,
        *,
        mask: NDArray[np.bool_] | None = None,
        encoder: TableEncoder | None = None,
        targets: Affine | None,
    ) -> Fitted:
        """Adapt to tasks: rows [tasks, n, n_features], class indices [tasks, n] or targets [tasks, n, n_outputs]."""
        meta: MetaTrained | None = getattr(self, "_meta", None)
        learner = self._learner_now()
        seed, device = self._seed(), pick_device(self.device)
        if meta is not None:
            info, dtype = meta.info, pick_dtype(self.precision)
            # A copy, for running a network on parameters of a task swaps them into it: threads must not share one.
            module = copy.deepcopy(meta.module).to(device=device, dtype=dtype)
        else:
            # float64 on the CPU: what is predicted for a row then does not depend on the rows beside it.
            device = torch.device("cpu") if self._is_auto("device") else device
            dtype = pick_dtype(self.precision, torch.float32 if device.type == "mps" else torch.float64)
            assert encoder is not None
            info = self._plain_info(rows[0], n_outputs, encoder)
            module = fresh_module(learner, info, seed).to(device=device, dtype=dtype).eval()
        if (
            meta is not None
            and meta.encoder is None
            and not are_images(info)
            and any(True for _ in module.parameters())
        ):
            check_proportion(rows[0], dtype)
        x = as_tensor(rows.reshape(*rows.shape[:2], *info.input_shape), device, dtype)
        target = as_tensor(y, device, dtype if y.dtype.kind == "f" else torch.int64)
        support = Examples(
            x, target, n_classes=n_outputs if info.problem_record.has_classes else 0, problem=self.problem
        )
        if mask is not None:
            support = support.with_parts(mask=torch.tensor(mask, device=device))
        with torch.no_grad(), seeded(derive_seed(seed, "fit"), device), enough_threads(module, x):
            try:
                adapted = learner.adapt(module, support)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                raise TrainingDiverged(f"{learner!r} cannot solve for its weights; scale X ({error}).") from error
        self._check_finite(learner, adapted)
        # Laid out as it will be after a file or a pickle: the last bits of a product depend on the layout.
        adapted = map_tensors(lambda t: t.detach().clone(memory_format=torch.contiguous_format), adapted)
        return Fitted(
            learner=learner,
            module=module,
            info=info,
            adapted=adapted,
            present=present_classes(support),
            columns=None,
            encoder=encoder,
            targets=targets,
            seed=seed,
            device=device,
            dtype=dtype,
            prior=None if learner.predicts_unseen_classes else self._prior(device, dtype),
        )

    def _check_finite(self, learner: Learner, adapted: Any) -> None:
        tensors: list[Tensor] = []
        map_tensors(tensors.append, adapted)
        if all(tensor.isfinite().all() for tensor in tensors):
            return
        meta: MetaTrained | None = getattr(self, "_meta", None)
        changed = "" if meta is None else changed_for_adaptation(meta, learner)
        advice = f"it was meta-trained with {changed}" if changed else "lower its rates, or scale X"
        raise TrainingDiverged(f"{learner!r} adapted to values that are not finite; {advice}.")

    def _hold(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self.learner_, self.module_, self.task_info_ = fitted.learner, fitted.module, fitted.info

    def _outputs(self, X: Any, task: Any = None) -> NDArray[np.float64]:
        """Return the outputs [n, n_outputs] for the rows of ``X``."""
        return self._answers(X, task, outputs_of)[0]

    def _answers(self, X: Any, task: Any, read: Read) -> tuple[NDArray[np.float64], ...]:
        """Apply ``read`` to the rows of ``X``, a chunk at a time; return arrays [n, n_outputs]."""
        check_is_fitted(self)
        fitted: Fitted | None = getattr(self, "_fitted", None)
        fitted = self._adapted_to_nothing() if fitted is None else fitted
        if task is not None:
            X, task = take_columns(X, task=task)
        if fitted.encoder is None:
            rows = rows_of(self, X, self._meta, reset=False)
        else:
            rows, _ = plain_rows(self, X, fitted.encoder)
        whose = self._tasks_of_rows(fitted, len(rows), task)
        arrays = ask(fitted, rows, read) if whose is None else ask_each(fitted, rows, whose, read)
        if fitted.present is not None and any(array.shape[1] != fitted.present.shape[1] for array in arrays):
            raise PluginError(
                f"{type(fitted.learner).__name__}.predict returned {arrays[0].shape[1]} outputs for "
                f"{fitted.present.shape[1]} classes; it must return one logit for each."
            )
        arrays = tuple(array if fitted.columns is None else array[:, fitted.columns] for array in arrays)
        # Of logits some may be -inf, for classes that are impossible.
        ends = [array.max(axis=1) for array in arrays] if find_problem(self.problem).has_classes else arrays
        if not all(np.isfinite(end).all() for end in ends):
            raise TrainingDiverged(
                f"{type(fitted.learner).__name__} adapted to values that are not finite; lower its rates, or scale X."
            )
        return arrays

    # ---------------------------------------------------------------- many entities, or no row at all

    def _fit_entities(self, X: Any, y: Any, task: Any, order: Any) -> Self:
        """Meta-train on a table, then adapt to every one of its entities, and to no row for all others."""
        X, y, task, order = take_columns(X, y=y, task=task, order=order)
        if task is None:
            raise InvalidParameter("order without task: give the entity of each row too, as in fit(X, y, task=ids).")
        names = entity_names(task, may_miss=False)
        check_consistent_length(X, names)
        self.meta_fit(X, y, task=names, stratified=False, order=order, n_shot=usual_n_shot(names))
        known, number = np.unique(names, return_inverse=True)
        rows, y = rows_of(self, X, self._meta, reset=True), self._encoded_y(X, y)
        groups = size_groups(np.bincount(number, minlength=len(known) + self._answers_without_rows()))
        parts = []
        for group in range(groups.max() + 1):
            inside = groups == group
            layout = Ragged.of(np.where(inside, np.cumsum(inside) - 1, -1)[number], int(inside.sum()))
            padded, n_outputs = layout.padded(rows), self._meta.info.n_outputs
            targets, mask = self._target_scale(), layout.mask
            parts.append(self._adapt(padded, layout.padded(y), n_outputs, mask=mask, targets=targets))
        present = [part.present for part in parts if part.present is not None]
        back = torch.from_numpy(np.argsort(np.argsort(groups, kind="stable")))
        fitted = replace(
            parts[0],
            adapted=[part.adapted for part in parts],
            present=torch.cat(present)[back.to(parts[0].device)] if present else None,
            entities=known,
            groups=groups,
        )
        self._hold(fitted)
        return self

    def _fit_without_rows(self, X: Any, y: Any) -> Self:
        """Hold the answer of the population."""
        check_consistent_length(X, y)
        learner = self._learner_now()
        if learner.needs_support:
            raise InvalidData(f"X has no rows, and {type(learner).__name__} cannot answer without any (needs_support).")
        check_no_rows(self, X, self._meta)
        self._hold(self._adapted_to_nothing())
        return self

    def _adapted_to_nothing(self) -> Fitted:
        """Adapt to a support set without any row: what is answered before a label of an entity is known."""
        info = self._meta.info
        rows = np.zeros((1, 1, n_features(info.input_shape)))
        y = np.zeros((1, 1), dtype=np.int64) if info.problem_record.has_classes else np.zeros((1, 1, info.n_outputs))
        return self._adapt(rows, y, info.n_outputs, mask=np.zeros((1, 1), dtype=bool), targets=self._target_scale())

    def _has_population(self) -> bool:
        """Tell whether meta-training was on a table whose labels mean the same in every task."""
        meta: MetaTrained | None = getattr(self, "_meta", None)
        if meta is None or meta.encoder is None:
            return False
        return meta.info.shared_classes or not meta.info.problem_record.has_classes

    def _answers_without_rows(self) -> bool:
        return self._has_population() and not self._meta.learner.needs_support

    def _tasks_of_rows(self, fitted: Fitted, n: int, task: Any) -> NDArray[np.int64] | None:
        """Return the number of the task that answers each of ``n`` rows; None where there is one task only."""
        if task is None:
            names = np.full(n, None)
        else:
            names = entity_names(task, may_miss=True)
            check_consistent_length(np.empty(n), names)
        if fitted.entities is None:
            if task is not None and hasattr(self, "_fitted"):
                raise InvalidParameter("task is given to predict but was not to fit, which learned one task alone.")
            return None
        number = numbers_of_entities(names, fitted.entities)
        if fitted.learner.needs_support and (number == len(fitted.entities)).any():
            name = names[int(np.argmax(number))]
            raise InvalidData(
                f"the entity {name!r} was not among those fitted, and {type(fitted.learner).__name__} cannot answer "
                "without any row of it (needs_support)."
            )
        return number

    def _encoded_y(self, X: Any, y: Any) -> NDArray[Any]:
        """Return targets as they were in meta-training on a table: class indices [n] or reals [n, n_outputs]."""
        raise NotImplementedError

    def _target_scale(self) -> Affine | None:
        """Return the scale between the user's targets and those of meta-training; None for classes."""
        return None

    def _prior(self, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """Return the logits of the classes, [n_classes], where labels mean the same in every task."""
        return None

    def _plain_info(self, rows: NDArray[Any], n_outputs: int, encoder: TableEncoder) -> TaskInfo:
        has_classes = find_problem(self.problem).has_classes
        n_shot = max(1, len(rows) // n_outputs) if has_classes else len(rows)
        return TaskInfo(
            problem=self.problem,
            input_shape=(rows.shape[1],),
            n_outputs=n_outputs,
            n_shot=n_shot,
            n_query=1,
            shared_classes=has_classes,  # as there is no other task
            feature_kinds=encoder.kinds_,
            feature_columns=encoder.sources_,
        )

    def _learner_now(self) -> Learner:
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

    # ---------------------------------------------------------------- scikit-learn's conventions

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


def meta_trained(training: MetaTraining, *, max_steps: int) -> MetaTrained:
    """Return the record of a finished meta-training."""
    sampler = training.sampler
    info, encoder = sampler.info, sampler.encoder
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
    )
