"""What both estimators share: ``fit`` for every task, after ``meta_fit`` or without it, then predictions."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import Tensor

from autometa.contracts.examples import Examples
from autometa.contracts.forward import present_classes
from autometa.contracts.learner import Learner
from autometa.contracts.problems import find_problem
from autometa.contracts.seeding import derive_seed
from autometa.contracts.step_sizes import advice_on_steps
from autometa.contracts.tasks import TaskInfo
from autometa.engine.device import pick_device, pick_dtype
from autometa.engine.few_threads import enough_threads
from autometa.engine.random_state import fresh_module, seeded
from autometa.errors import InvalidData, InvalidParameter, PluginError, TrainingDiverged
from autometa.estimators.asking import Read, ask, ask_each, outputs_of
from autometa.estimators.entities import Ragged, entity_names, numbers_of_entities, size_groups
from autometa.estimators.images import are_images
from autometa.estimators.inputs import as_tensor, check_no_rows, check_proportion, n_features, plain_rows, rows_of
from autometa.estimators.meta_estimator import MetaEstimator
from autometa.estimators.parameters import changed_for_adaptation
from autometa.estimators.state import Affine, Fitted, MetaTrained, map_tensors
from autometa.estimators.table_sampler import take_columns, usual_n_shot
from autometa.tables.encoder import TableEncoder


class FewShotEstimator(MetaEstimator):
    """Base of :class:`FewShotClassifier` and :class:`FewShotRegressor`."""

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
        seed: int | None = None,
    ) -> Fitted:
        """Adapt to tasks: rows [tasks, n, n_features], class indices [tasks, n] or targets [tasks, n, n_outputs]."""
        meta: MetaTrained | None = getattr(self, "_meta", None)
        learner = self._learner_now()
        seed, device = self._seed() if seed is None else seed, pick_device(self.device)
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
        advice = f"it was meta-trained with {changed}" if changed else _advice_on(learner)
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
                f"{type(fitted.learner).__name__} adapted to values that are not finite; {_advice_on(fitted.learner)}."
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
        nothing = np.zeros((1, 1), dtype=bool)
        return self._adapt(rows, y, info.n_outputs, mask=nothing, targets=self._target_scale(), seed=0)

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


def _advice_on(learner: Learner) -> str:
    steps = advice_on_steps(learner, otherwise="")
    return f"{steps}, or scale X" if steps else "scale X"
