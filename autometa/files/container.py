"""The one file format: tensors and a JSON document in a safetensors file, checked whole before it is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from autometa._version import __version__
from autometa.errors import InvalidFile

FORMAT = 1


def pack(document: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a file that holds a JSON document and tensors by name."""
    text = json.dumps({"format": FORMAT, "version": __version__} | document)
    metadata = {"autometa": text, "sha256": _digest(text, tensors)}
    return safetensors.torch.save(tensors, metadata=metadata)


def unpack(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check a file (container, origin, format, checksum, in this order) and return its document and tensors.

    Parameters
    ----------
    data : bytes
    path : Path
        What to call the file in an error.

    Raises
    ------
    InvalidFile
        It is truncated, changed, not one of autometa, or of another format.
    """
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
            f"{__version__} reads format {FORMAT}. Install the version that saved it, or a later one."
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
