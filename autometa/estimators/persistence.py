"""Estimators in files: tensors and JSON in one safetensors file, checked whole before anything is made of it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from safetensors import SafetensorError
from sklearn.utils.validation import NotFittedError
from torch import Tensor, nn

import autometa
from autometa.contracts.encoder import TableEncoder
from autometa.contracts.learner import Learner
from autometa.contracts.tasks import TaskInfo
from autometa.engine.seeding import fresh_module
from autometa.errors import AutometaError, InvalidFile, InvalidParameter, MissingData, StorageError, UnknownName
from autometa.estimators.base import FewShotEstimator
from autometa.estimators.classifier import FewShotClassifier
from autometa.estimators.encoding import Tensors, decode_array, decode_parameter, encode_array, encode_parameter
from autometa.estimators.regressor import FewShotRegressor
from autometa.estimators.state import Affine, Fitted, MetaTrained

FORMAT = 1
SUFFIX = ".autometa"
ESTIMATORS = {cls.__name__: cls for cls in (FewShotClassifier, FewShotRegressor)}


def save(estimator: FewShotEstimator, path: str | os.PathLike[str]) -> None:
    """Write an estimator with all it has learned; see :meth:`FewShotClassifier.save`."""
    if ESTIMATORS.get(type(estimator).__name__) is not type(estimator):
        raise InvalidParameter(f"a {type(estimator).__name__} cannot be saved; one of {sorted(ESTIMATORS)} can.")
    meta: MetaTrained | None = getattr(estimator, "_meta", None)
    fitted: Fitted | None = getattr(estimator, "_fitted", None)
    if meta is None and fitted is None:
        raise NotFittedError(f"This {type(estimator).__name__} has learned nothing to save yet; call meta_fit or fit.")
    tensors = Tensors()
    document = {
        "format": FORMAT,
        "version": autometa.__version__,
        "estimator": type(estimator).__name__,
        "params": {name: encode_parameter(value, name) for name, value in estimator.get_params(deep=False).items()},
        "meta": None if meta is None else _encode_meta(meta, tensors),
        "fitted": None if fitted is None else _encode_fitted(fitted, meta, tensors),
        "n_features": estimator.n_features_in_,
        "feature_names": encode_array(getattr(estimator, "feature_names_in_", None), "feature_names_in_"),
        "classes": encode_array(getattr(estimator, "classes_", None), "classes_"),
    }
    text = json.dumps(document)
    metadata = {"autometa": text, "sha256": _digest(text, tensors.by_name)}
    _write(Path(path), safetensors.torch.save(tensors.by_name, metadata=metadata))


def load(path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> Any:
    """Read an estimator that :meth:`FewShotClassifier.save` wrote.

    Nothing in the file is run: it holds numbers, and names of installed components.

    Parameters
    ----------
    path : path or str
        A file, or the name of an estimator that comes with autometa.
    trusted : collection of str, optional
        Import paths, such as ``"package.module:function"``, of functions that the estimator may call: a learner that
        encodes raw rows may name one.

    Returns
    -------
    FewShotClassifier or FewShotRegressor
        It predicts what the saved one predicted. Its tensors lie on the CPU; the next ``fit`` moves them to the
        estimator's device.

    Raises
    ------
    MissingData, UnknownName
        There is no such file, or a component it names is not installed.
    InvalidFile
        The file is damaged, changed, not one of autometa or of a later version of it, or names a function that is
        not among those trusted.
    """
    found = _find(path)
    try:
        data = found.read_bytes()
    except OSError as error:
        raise MissingData(f"{os.fspath(path)!r} cannot be read: {error}.") from error
    document, tensors = _read(data, found)
    try:
        estimator = _decode(document, tensors)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, AutometaError):
            error.add_note(f"while reading {found}, saved by autometa {document.get('version')}")
            raise
        raise InvalidFile(
            f"{found} does not fit the components installed here (it was saved by autometa {document.get('version')}): "
            f"{type(error).__name__}: {error}"
        ) from error
    for learner in (estimator.learner, getattr(estimator, "learner_", None)):
        for name in learner.names_code if isinstance(learner, Learner) else ():
            named = getattr(learner, name)
            if isinstance(named, str) and named not in trusted:
                raise InvalidFile(
                    f"{found} names the function {named!r} ({name} of its learner), which its predict would call with "
                    f"your rows; if you know it, load with trusted=[{named!r}]."
                )
    return estimator


def bundled() -> dict[str, Path]:
    """Estimators that come with autometa, by name."""
    folder = files("autometa") / "pretrained"
    if not folder.is_dir():
        return {}
    return {Path(f.name).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(SUFFIX)}


def _find(path: str | os.PathLike[str]) -> Path:
    given = Path(path)
    if given.is_file():
        return given
    known = bundled()
    if os.fspath(path) in known:
        return known[os.fspath(path)]
    if given.is_dir():
        raise MissingData(f"{os.fspath(path)!r} is a folder; give the file that save() wrote.")
    names = ", ".join(sorted(known)) or "none"
    if not isinstance(path, str) or given.suffix or given.parent != Path("."):
        raise MissingData(f"there is no file {os.fspath(path)!r} (bundled estimators: {names}).")
    raise UnknownName(f"{path!r} is neither a file nor a bundled estimator (bundled: {names}).")


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                part.unlink()
            raise
    except OSError as error:
        raise StorageError(
            f"path={str(path)!r} cannot be written: {error}; name a file in a folder you may change."
        ) from error


def _read(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check a file from outside to inside: container, origin, format, checksum."""
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidFile(f"{path} is truncated or not a file of autometa ({error}).") from error
    metadata = header.get("__metadata__") or {}
    if "autometa" not in metadata:
        raise InvalidFile(f"{path} is a safetensors file that autometa did not write.")
    text = metadata["autometa"]
    try:
        document = json.loads(text)
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidFile(f"{path} was changed after it was saved: its description is no longer readable.") from error
    if version != FORMAT:
        raise InvalidFile(
            f"{path} has format {version!r}, saved by autometa {document.get('version')}; autometa "
            f"{autometa.__version__} reads format {FORMAT}. Install the version that saved it, or a later one."
        )
    if metadata.get("sha256") != _digest(text, tensors):
        raise InvalidFile(f"{path} was changed or damaged after it was saved: its checksum does not match.")
    return document, tensors


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\x1f{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _encode_meta(meta: MetaTrained, tensors: Tensors) -> dict[str, Any]:
    return {
        "learner": encode_parameter(meta.learner, "learner"),
        "meta_optimizer": encode_parameter(meta.meta_optimizer, "meta_optimizer"),
        "module": tensors.encode(dict(meta.module.state_dict()), "module_"),
        "info": asdict(meta.info),
        "encoder": None if meta.encoder is None else meta.encoder.to_json(),
        "history": {name: column.tolist() for name, column in meta.history.items()},
        "max_steps": meta.max_steps,
        "tasks_per_step": meta.tasks_per_step,
        "n_features": meta.n_features,
        "feature_names": encode_array(meta.feature_names, "feature_names_in_"),
    }


def _decode_meta(code: dict[str, Any], tensors: Tensors) -> MetaTrained:
    learner, info = decode_parameter(code["learner"]), _info(code["info"])
    return MetaTrained(
        learner=learner,
        meta_optimizer=decode_parameter(code["meta_optimizer"]),
        module=_module(learner, info, tensors.decode(code["module"])),
        info=info,
        encoder=None if code["encoder"] is None else TableEncoder.from_json(code["encoder"]),
        history=pd.DataFrame(code["history"]),
        max_steps=code["max_steps"],
        tasks_per_step=code["tasks_per_step"],
        n_features=code["n_features"],
        feature_names=decode_array(code["feature_names"]),
    )


def _encode_fitted(fitted: Fitted, meta: MetaTrained | None, tensors: Tensors) -> dict[str, Any]:
    # After meta-training it is a copy of that network, perhaps in another precision.
    shared = meta is not None and _precision(fitted.module) == _precision(meta.module)
    return {
        "learner": encode_parameter(fitted.learner, "learner"),
        "module": None if shared else tensors.encode(dict(fitted.module.state_dict()), "module_"),
        "info": asdict(fitted.info),
        "adapted": tensors.encode(fitted.adapted, "the adapted state"),
        "present": tensors.encode(fitted.present, "present"),
        "columns": encode_array(fitted.columns, "columns"),
        "inputs": _encode_affine(fitted.inputs),
        "targets": _encode_affine(fitted.targets),
        "seed": fitted.seed,
        "dtype": str(fitted.dtype).removeprefix("torch."),
    }


def _decode_fitted(code: dict[str, Any], meta: MetaTrained | None, tensors: Tensors) -> Fitted:
    learner, info = decode_parameter(code["learner"]), _info(code["info"])
    if code["module"] is not None:
        # What the network is made of was decided in meta-training; adaptation parameters may have changed since.
        module = _module(learner if meta is None else meta.learner, info, tensors.decode(code["module"]))
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
        inputs=_decode_affine(code["inputs"]),
        targets=_decode_affine(code["targets"]),
        seed=code["seed"],
        device=torch.device("cpu"),
        dtype={"float32": torch.float32, "float64": torch.float64}[code["dtype"]],
    )


def _decode(document: dict[str, Any], by_name: dict[str, Tensor]) -> FewShotEstimator:
    if document["estimator"] not in ESTIMATORS:
        raise InvalidFile(f"the file holds a {document['estimator']!r}; this version knows {sorted(ESTIMATORS)}.")
    tensors = Tensors(by_name)
    params = {name: decode_parameter(code) for name, code in document["params"].items()}
    estimator = ESTIMATORS[document["estimator"]](**params)
    meta = None if document["meta"] is None else _decode_meta(document["meta"], tensors)
    if meta is not None:
        estimator._become(meta)
    if document["fitted"] is not None:
        estimator._hold(_decode_fitted(document["fitted"], meta, tensors))
    estimator.n_features_in_ = document["n_features"]
    if document["feature_names"] is not None:
        estimator.feature_names_in_ = decode_array(document["feature_names"])
    if document["classes"] is not None:
        estimator.classes_ = decode_array(document["classes"])
    return estimator


def _encode_affine(affine: Affine | None) -> Any:
    return None if affine is None else [encode_array(part, "scale") for part in (affine.offset, affine.scale)]


def _decode_affine(code: Any) -> Affine | None:
    return None if code is None else Affine(*(decode_array(part) for part in code))


def _info(code: dict[str, Any]) -> TaskInfo:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in code.items()}
    return TaskInfo(**fields)


def _precision(module: nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in (*module.parameters(), *module.buffers())}


def _module(learner: Learner, info: TaskInfo, state: dict[str, Any]) -> nn.Module:
    """Build a learner's network and give it the saved values, in their precision."""
    module = fresh_module(learner, info, seed=0)
    floating = [t.dtype for t in state.values() if isinstance(t, Tensor) and t.is_floating_point()]
    if floating:
        module = module.to(dtype=floating[0])
    module.load_state_dict(state)
    return module.eval()
