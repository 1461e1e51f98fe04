"""What an estimator has learned as JSON and tensors, and back."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import NotFittedError
from torch import Tensor, nn

from autometa.checks import check_bool, check_path
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.problems import PROBLEMS
from autometa.contracts.tasks import TaskInfo
from autometa.errors import InvalidFile, InvalidParameter
from autometa.estimators.images import InputRange
from autometa.estimators.inputs import n_features
from autometa.estimators.saved_network import network_of
from autometa.estimators.state import Affine, Fitted, MetaTrained, map_tensors
from autometa.files.atomic import write_whole
from autometa.files.codec import (
    ARRAY,
    PARAMETER,
    TREE,
    VALUE,
    Tensors,
    decode_array,
    decode_parameter,
    encode_array,
    encode_parameter,
)
from autometa.files.container import pack
from autometa.schema import Row, Schema, finite, positive, whole
from autometa.tables.encoder import TableEncoder
from autometa.training.finite import all_finite

ESTIMATORS = {problem.estimator_name: problem.estimator_path for problem in PROBLEMS.values()}
"""Classes that can be saved, by the name in the file."""


_INFO: Schema = {
    "problem": tuple(PROBLEMS),
    "input_shape": [whole(1)],
    "n_outputs": whole(1),
    **dict.fromkeys(("n_shot", "n_query"), whole()),
    **dict.fromkeys(("n_base_classes?", "n_base_tasks?"), (None, whole())),
    "shared_classes?": bool,
    "feature_kinds?": (None, [("numeric", "categorical", "missing")]),
    "feature_columns?": (None, [whole()]),
    "target_scale?": positive,
    **dict.fromkeys(("horizon?", "n_hidden?"), whole()),
    "action_bounds?": (None, Row([[finite], [finite]])),
    **dict.fromkeys(("adviser?", "arms?"), str | None),
    "tabular?": bool,
}
_META: Schema = {
    "learner": PARAMETER,
    "meta_optimizer": PARAMETER,
    "module": TREE,
    "info": _INFO,
    "encoder": str | None,
    "history": {str: [VALUE]},
    "max_steps": whole(),
    "tasks_per_step": whole(1),
    "n_features": whole(),
    "feature_names": ARRAY,
    "input_range?": (None, Row([finite, finite])),
    "pixel_bits?": (None, whole(1, 16)),
    "deviation_scale?": positive,
}
_FITTED: Schema = {
    "learner": PARAMETER,
    "module": (None, TREE),
    "info": _INFO,
    "adapted": TREE,
    "present": TREE,
    "columns": ARRAY,
    **dict.fromkeys(("inputs?", "targets"), (None, Row([ARRAY, ARRAY]))),
    "encoder?": str | None,
    "prior?": (None, TREE),
    **dict.fromkeys(("entities?", "groups?"), ARRAY),
    "seed": whole(),
    "dtype": ("float32", "float64"),
}
SAVED: Schema = {
    "estimator": tuple(ESTIMATORS),
    "params": {str: PARAMETER},
    "meta": (None, _META),
    "fitted": (None, _FITTED),
    "n_features": whole(),
    "feature_names": ARRAY,
    "classes": ARRAY,
    "numbered?": (None, [str]),
}
"""What the document of a saved estimator looks like."""


def save(estimator: BaseEstimator, path: str | os.PathLike[str], *, keep_support: bool = True) -> None:
    """Write an estimator with all it has learned; see :meth:`FewShotClassifier.save`."""
    check_path("path", path)
    kind = type(estimator)
    if ESTIMATORS.get(kind.__name__) != f"{kind.__module__}:{kind.__qualname__}":
        raise InvalidParameter(f"a {kind.__name__} cannot be saved; one of {sorted(ESTIMATORS)} can.")
    meta: MetaTrained | None = getattr(estimator, "_meta", None)
    fitted: Fitted | None = getattr(estimator, "_fitted", None)
    check_bool("keep_support", keep_support)
    if not keep_support:
        if meta is None and fitted is not None:
            raise InvalidParameter("keep_support=False would leave nothing to save: there was no meta_fit.")
        fitted = None
    if meta is None and fitted is None:
        raise NotFittedError(f"This {kind.__name__} has learned nothing to save yet; call meta_fit or fit.")
    tensors = Tensors()
    document = {
        "estimator": kind.__name__,
        "params": {
            name: encode_parameter(value, name, tensors) for name, value in estimator.get_params(deep=False).items()
        },
        "meta": None if meta is None else _encode_meta(meta, tensors),
        "fitted": None if fitted is None else _encode_fitted(fitted, meta, tensors),
        "n_features": estimator.n_features_in_,
        "feature_names": encode_array(getattr(estimator, "feature_names_in_", None), "feature_names_in_"),
        "classes": encode_array(getattr(estimator, "classes_", None) if keep_support else None, "classes_"),
        "numbered": getattr(estimator, "_numbered", None),
    }
    write_whole(Path(os.path.expanduser(path)), pack(document, tensors.by_name))


def _encode_meta(meta: MetaTrained, tensors: Tensors) -> dict[str, Any]:
    return {
        "learner": encode_parameter(meta.learner, "learner", tensors),
        "meta_optimizer": encode_parameter(meta.meta_optimizer, "meta_optimizer", tensors),
        "module": tensors.encode(dict(meta.module.state_dict()), "module_"),
        "info": asdict(meta.info),
        "encoder": None if meta.encoder is None else meta.encoder.to_json(),
        "history": {name: column.tolist() for name, column in meta.history.items()},
        "max_steps": meta.max_steps,
        "tasks_per_step": meta.tasks_per_step,
        "n_features": meta.n_features,
        "feature_names": encode_array(meta.feature_names, "feature_names_in_"),
        "input_range": None if meta.input_range is None else [meta.input_range.low, meta.input_range.high],
        "pixel_bits": None if meta.input_range is None else meta.input_range.bits,
        "deviation_scale": meta.deviation_scale,
    }


def decode_meta(code: dict[str, Any], tensors: Tensors, trusted: Collection[str]) -> MetaTrained:
    """Return what ``meta_fit`` had learned."""
    learner, info = decode_parameter(code["learner"], tensors, trusted), _info(code["info"])
    return MetaTrained(
        learner=learner,
        meta_optimizer=decode_parameter(code["meta_optimizer"], tensors, trusted),
        module=network_of(learner, info, tensors.decode(code["module"])),
        info=info,
        encoder=None if code["encoder"] is None else TableEncoder.from_json(code["encoder"]),
        history=pd.DataFrame(code["history"]),
        max_steps=code["max_steps"],
        tasks_per_step=code["tasks_per_step"],
        n_features=code["n_features"],
        feature_names=decode_array(code["feature_names"]),
        input_range=_input_range(code),
        deviation_scale=code.get("deviation_scale", 1.0),  # which files of earlier versions do not tell
    )


def _input_range(code: dict[str, Any]) -> InputRange | None:
    """Return what was met in images; files of earlier versions do not tell it, or tell no bits."""
    if code.get("input_range") is None:
        return None
    low, high = code["input_range"]
    return InputRange(low=low, high=high, bits=code.get("pixel_bits") or 16)


def _encode_fitted(fitted: Fitted, meta: MetaTrained | None, tensors: Tensors) -> dict[str, Any]:
    # After meta-training it is a copy of that network, perhaps in another precision.
    shared = meta is not None and _precision(fitted.module) == _precision(meta.module)
    return {
        "learner": encode_parameter(fitted.learner, "learner", tensors),
        "module": None if shared else tensors.encode(dict(fitted.module.state_dict()), "module_"),
        "info": asdict(fitted.info),
        "adapted": tensors.encode(fitted.adapted, "the adapted state"),
        "present": tensors.encode(fitted.present, "present"),
        "columns": encode_array(fitted.columns, "columns"),
        "encoder": None if fitted.encoder is None else fitted.encoder.to_json(),
        "targets": _encode_affine(fitted.targets),
        "prior": None if fitted.prior is None else tensors.encode(fitted.prior, "prior"),
        "entities": encode_array(fitted.entities, "entities"),
        "groups": encode_array(fitted.groups, "groups"),
        "seed": fitted.seed,
        "dtype": str(fitted.dtype).removeprefix("torch."),
    }


def decode_fitted(code: dict[str, Any], meta: MetaTrained | None, tensors: Tensors, trusted: Collection[str]) -> Fitted:
    """Return what ``fit`` had learned."""
    learner, info = decode_parameter(code["learner"], tensors, trusted), _info(code["info"])
    if code["module"] is not None:
        # What the network is made of was decided in meta-training; adaptation parameters may have changed since.
        module = network_of(learner if meta is None else meta.learner, info, tensors.decode(code["module"]))
    elif meta is not None:
        module = copy.deepcopy(meta.module)
    else:
        raise InvalidFile("the file holds no network.")
    return Fitted(
        learner=learner,
        module=module,
        info=info,
        adapted=tensors.decode(code["adapted"]),
        present=tensors.decode(code["present"]),
        columns=decode_array(code["columns"]),
        encoder=_plain_encoder(code),
        targets=_decode_affine(code["targets"]),
        prior=None if code.get("prior") is None else tensors.decode(code["prior"]),
        entities=None if code.get("entities") is None else decode_array(code["entities"]),
        groups=None if code.get("groups") is None else decode_array(code["groups"]),
        seed=code["seed"],
        device=torch.device("cpu"),
        dtype={"float32": torch.float32, "float64": torch.float64}[code["dtype"]],
    )


def _plain_encoder(code: dict[str, Any]) -> TableEncoder | None:
    """Return what encodes rows; files of earlier versions hold a mean and a scale of every feature."""
    if code.get("encoder") is not None:
        return TableEncoder.from_json(code["encoder"])
    inputs = _decode_affine(code.get("inputs"))
    if inputs is None:
        return None
    if not inputs.fits((n_features(code["info"]["input_shape"]),)):
        raise InvalidFile("the file holds a scale of the inputs that is not of positive numbers, one for each.")
    return TableEncoder.of_numbers(inputs.offset, inputs.scale)


def _encode_affine(affine: Affine | None) -> Any:
    return None if affine is None else [encode_array(part, "scale") for part in (affine.offset, affine.scale)]


def _decode_affine(code: Any) -> Affine | None:
    return None if code is None else Affine(*(decode_array(part) for part in code))


def _info(code: dict[str, Any]) -> TaskInfo:
    return TaskInfo(**{name: _as_tuples(value) for name, value in code.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _precision(module: nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in (*module.parameters(), *module.buffers())}


def check_consistent(estimator: Any) -> None:
    """Refuse an estimator of a file whose parts do not fit one another.

    Raises
    ------
    InvalidFile
        Names the parts.
    """
    meta: MetaTrained | None = getattr(estimator, "_meta", None)
    fitted: Fitted | None = getattr(estimator, "_fitted", None)
    if meta is None and fitted is None:
        raise InvalidFile("the file holds nothing that was learned.")
    for record in (meta, fitted):
        if record is None:
            continue
        if not isinstance(record.learner, BaseLearner):
            raise InvalidFile(f"the file holds {record.learner!r:.40} where a learner must be.")
    if meta is not None and meta.encoder is None and meta.n_features != n_features(meta.info.input_shape):
        raise InvalidFile(f"the file tells {meta.n_features} features for inputs of the shape {meta.info.input_shape}.")
    if meta is not None and estimator.n_features_in_ != meta.n_features:
        raise InvalidFile(f"the file tells both {estimator.n_features_in_} and {meta.n_features} features.")
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and len(names) != estimator.n_features_in_:
        raise InvalidFile(f"the file holds {len(names)} names for {estimator.n_features_in_} features.")
    if fitted is not None:
        if fitted.info != (fitted.info if meta is None else meta.info):
            raise InvalidFile("the file tells of other tasks in fit than in meta_fit.")
        if meta is None:
            _check_encoder(fitted, estimator.n_features_in_)
        _check_entities(fitted)
        _check_fitted(fitted, getattr(estimator, "classes_", None))


def _check_encoder(fitted: Fitted, n_features_in: int) -> None:
    """Refuse an encoder that reads other columns, or makes others, than ``fit`` had."""
    encoder = fitted.encoder
    if encoder is None:
        raise InvalidFile("the file does not tell how rows are encoded.")
    if encoder.n_features_in_ != n_features_in or len(encoder.kinds_) != n_features(fitted.info.input_shape):
        raise InvalidFile(f"the file tells {n_features_in} features for inputs of the shape {fitted.info.input_shape}.")


def _check_entities(fitted: Fitted) -> None:
    """Refuse states of entities that are not one for each, and perhaps one for all others."""
    names, groups = fitted.entities, fitted.groups
    if names is None and groups is None:
        return
    if names is None or groups is None or groups.dtype.kind not in "iu" or len(groups) - len(names) not in (0, 1):
        raise InvalidFile("the file does not tell which states are whose.")
    parts = fitted.adapted
    if not isinstance(parts, list) or set(groups.tolist()) != set(range(len(parts))):
        raise InvalidFile("the file holds groups of entities without a state.")
    for number, part in enumerate(parts):
        tensors: list[Tensor] = []
        map_tensors(tensors.append, part)
        if any(t.dim() == 0 or len(t) != int((groups == number).sum()) for t in tensors):
            raise InvalidFile("the file holds states of another number of entities than it names.")


def _check_fitted(fitted: Fitted, classes: Any) -> None:
    """Refuse what ``fit`` had learned if its parts do not fit one another."""
    tensors: list[Tensor] = []
    map_tensors(tensors.append, fitted.adapted)
    if not all_finite(tensors):
        raise InvalidFile("the file holds an adapted state that is not finite.")
    n_outputs = fitted.info.n_outputs
    if fitted.info.problem_record.has_classes:
        present, columns = fitted.present, fitted.columns
        if not isinstance(present, Tensor) or present.dtype != torch.bool or present.dim() != 2:
            raise InvalidFile("the file does not tell which classes were fitted.")
        if len(present) != (1 if fitted.groups is None else len(fitted.groups)):
            raise InvalidFile("the file does not tell which classes were fitted of every entity.")
        if fitted.prior is not None and fitted.prior.shape != present.shape[1:]:
            raise InvalidFile("the file holds a prior of other classes than were fitted.")
        n_outputs = present.shape[1]
        if columns is not None and not (columns.dtype.kind in "iu" and all(0 <= i < n_outputs for i in columns)):
            raise InvalidFile(f"the file names outputs that are not among the {n_outputs} there are.")
        n_classes = n_outputs if columns is None else len(columns)
        found = 0 if classes is None else len(classes)
        if found != n_classes:
            raise InvalidFile(f"the file holds {found} classes for {n_classes} outputs.")
    elif fitted.info.problem_record.acts:
        if fitted.targets is not None or fitted.present is not None:
            raise InvalidFile("the file tells of targets, and an agent has none.")
    elif fitted.targets is None or fitted.present is not None:
        raise InvalidFile("the file does not tell the scale of the targets.")
    if fitted.targets is not None and not fitted.targets.fits((1, n_outputs)):
        raise InvalidFile("the file holds a scale of the targets that is not of positive numbers, one for each.")
