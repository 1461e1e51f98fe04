"""Reading estimators from files: they hold no code, and name none that is called without trust."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Collection
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from autometa.checks import check_path, check_texts
from autometa.contracts.base_learner import BaseLearner
from autometa.contracts.meta_optimizer import MetaOptimizer
from autometa.errors import AutometaError, InvalidFile, InvalidParameter, MissingData, UnknownName
from autometa.estimators.base import FewShotEstimator
from autometa.estimators.saved_state import ESTIMATORS, SAVED, check_consistent, decode_fitted, decode_meta
from autometa.files.codec import Tensors, decode_array, decode_parameter, encode_parameter
from autometa.files.container import check_document, read, unpack
from autometa.files.own_code import named_code

SUFFIX = ".autometa"


def load(path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> Any:
    """Read an estimator that :meth:`FewShotClassifier.save` wrote.

    The file holds numbers, names and import paths, and no code. What it can name, and who made the file can choose, is:
    components of the plugins installed here, estimators of scikit-learn that neither read files nor call what a
    parameter names, and, from the paths in ``trusted`` alone, anything else. So a file runs no code of its maker's. It
    may still hold a model that answers wrongly, or one that takes long: its checksum finds damage, and is no signature.
    Load with ``trusted`` only what comes from somebody you trust.

    Parameters
    ----------
    path : path or str
        A file, or the name of an estimator that comes with autometa.
    trusted : collection of str, optional
        Import paths, such as ``"package.module:Network"``, of code that the estimator is made of or may call: a
        backbone, learner or meta-optimizer of your own that no plugin offers, a function that encodes raw rows, or
        an estimator of scikit-learn such as ``"sklearn.preprocessing._function_transformer:FunctionTransformer"``.

    Returns
    -------
    FewShotClassifier or FewShotRegressor
        It predicts what the saved one predicted. Its tensors lie on the CPU; the next ``fit`` moves them to the
        estimator's device.

    Raises
    ------
    InvalidParameter
        ``path`` is no path, or ``trusted`` no list.
    MissingData, UnknownName
        There is no such file, or a component it names is not installed.
    InvalidFile
        The file is damaged, changed, not one of autometa or of a later version of it, or names code that is not
        among what is trusted.
    """
    check_path("path", path)
    if isinstance(trusted, str):
        raise InvalidParameter(f"trusted={trusted!r} must be a list of import paths, such as [{trusted!r}].")
    check_texts("trusted", trusted, such_as="package.module:Network")
    found = _find(path)
    try:
        data = read(found)
    except OSError as error:
        raise MissingData(f"{os.fspath(path)!r} cannot be read: {error}.") from error
    document, tensors = unpack(data, found)
    kind = document.get("estimator")
    if not isinstance(kind, str) or kind not in ESTIMATORS:
        raise InvalidFile(f"{found}: the file holds a {kind!r:.40}; this version knows {sorted(ESTIMATORS)}.")
    check_document(document, SAVED, found)
    try:
        estimator = _decode(document, tensors, trusted)
        check_consistent(estimator)
        if hasattr(estimator, "_fitted"):
            estimator._hold(replace(estimator._fitted, source=str(found)))
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, AutometaError):
            error.add_note(f"while reading {found}, saved by autometa {document.get('version')}")
            raise
        raise InvalidFile(
            f"{found} does not fit the components installed here (it was saved by autometa {document.get('version')}): "
            f"{type(error).__name__}: {error}"
        ) from error
    return estimator


def code_named_by(*components: BaseLearner | MetaOptimizer | None) -> set[str]:
    """Return the import paths that a file with these components names, or what they call where none can be written."""
    tensors = Tensors()
    try:
        for component in components:
            encode_parameter(component, "component", tensors)
    except InvalidParameter:
        return set().union(*map(named_code, components))
    return tensors.code


def bundled() -> dict[str, Path]:
    """Return the files of the estimators that come with autometa, by name."""
    folder = files("autometa") / "pretrained"
    if not folder.is_dir():
        return {}
    return {Path(f.name).stem: Path(str(f)) for f in folder.iterdir() if f.name.endswith(SUFFIX)}


def _find(path: str | os.PathLike[str]) -> Path:
    given = Path(os.path.expanduser(path))
    if given.exists() and not given.is_dir():
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


def _decode(document: dict[str, Any], by_name: dict[str, Tensor], trusted: Collection[str]) -> FewShotEstimator:
    tensors = Tensors(by_name)
    params = {name: decode_parameter(code, tensors, trusted) for name, code in document["params"].items()}
    estimator: FewShotEstimator = pkgutil.resolve_name(ESTIMATORS[document["estimator"]])(**params)
    for record in (document["meta"], document["fitted"]):
        if record is not None and record["info"]["problem"] != estimator.problem:  # before a network is built for it
            raise InvalidFile(f"the file holds a {document['estimator']} for {record['info']['problem']}.")
    meta = None if document["meta"] is None else decode_meta(document["meta"], tensors, trusted)
    if meta is not None:
        estimator._become(meta)
    if document["fitted"] is not None:
        estimator._hold(decode_fitted(document["fitted"], meta, tensors, trusted))
    estimator.n_features_in_ = document["n_features"]
    if document["feature_names"] is not None:
        estimator.feature_names_in_ = decode_array(document["feature_names"])
    if document.get("numbered") is not None:  # files of earlier versions do not tell
        estimator._numbered = document["numbered"]
    if document["classes"] is not None:
        estimator.classes_ = decode_array(document["classes"])
    return estimator
