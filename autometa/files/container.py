"""The one file format: tensors and a JSON document in a safetensors file, checked whole before it is used."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from autometa._version import __version__
from autometa.errors import InvalidFile
from autometa.schema import Row, Schema, misfit, read_json, whole

FORMAT = 1
LARGEST_HEADER = 100_000_000
"""Bytes; no reader of safetensors takes a larger one."""
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Bits of a number of each type."""
_HEADER: Schema = {"__metadata__?": {str: str}}
_TENSOR: Schema = {"dtype": tuple(_BITS), "shape": [whole()], "data_offsets": Row([whole(), whole()])}


def pack(document: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Return the bytes of a file that holds a JSON document and tensors by name."""
    text = json.dumps({"format": FORMAT, "version": __version__} | document)
    metadata = {"autometa": text, "sha256": _digest(text, tensors)}
    return safetensors.torch.save(tensors, metadata=metadata)


def read(path: Path) -> bytes:
    """Read a file once its header agrees with its size: a file of another kind is not read, however large it is.

    Raises
    ------
    OSError
        It cannot be read.
    InvalidFile
        It is no regular file, or no file of this format.
    """
    if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe waits for whoever writes to it
        raise InvalidFile(f"{path} is no regular file; give the file that was saved.")
    with path.open("rb") as file:
        actual = os.fstat(file.fileno()).st_size
        try:
            told = _told_size(file, actual)
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidFile(f"{path} is truncated or not a file of autometa ({error}).") from error
        if told != actual:
            raise InvalidFile(
                f"{path} is truncated or not a file of autometa (its header tells {told} bytes and it has {actual})."
            )
        file.seek(0)
        try:
            return file.read(told)
        except MemoryError as error:
            raise InvalidFile(f"{path} has {told} bytes, which do not fit into memory.") from error


def _told_size(file: BinaryIO, actual: int) -> int:
    """Return the size that the header of a file tells."""
    length = int.from_bytes(file.read(8), "little")
    if length > min(LARGEST_HEADER, actual - 8):
        raise ValueError(f"its header would have {length} bytes")
    header = read_json(file.read(length))
    wrong = misfit(header, _HEADER)
    end = 0
    for name, tensor in header.items() if wrong is None else ():
        if name == "__metadata__":
            continue
        wrong = misfit(tensor, _TENSOR, name)
        if wrong:
            break
        first, last = tensor["data_offsets"]
        if 8 * (last - first) != _BITS[tensor["dtype"]] * math.prod(tensor["shape"]):
            wrong = f"the shape of {name!r:.40} does not fit its bytes"
            break
        end = max(end, last)
    if wrong:
        raise ValueError(f"its header: {wrong}")
    return 8 + length + end


def unpack(data: bytes, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check a file (container, origin, format, checksum, in this order) and return its document and tensors.

    The checksum finds damage. It is no signature: whoever writes a file can make its checksum fit.

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
        header = read_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InvalidFile(f"{path} is truncated or not a file of autometa ({error}).") from error
    metadata = header.get("__metadata__") or {}
    if "autometa" not in metadata:
        raise InvalidFile(f"{path} is a safetensors file that autometa did not write.")
    text = metadata["autometa"]
    try:
        document = read_json(text)
        version = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidFile(
            f"{path} was changed after it was saved: its description is no longer readable ({error})."
        ) from error
    if version != FORMAT:
        raise InvalidFile(
            f"{path} has format {version!r}, saved by autometa {document.get('version')}; autometa "
            f"{__version__} reads format {FORMAT}. Install the version that saved it, or a later one."
        )
    if metadata.get("sha256") != _digest(text, tensors):
        raise InvalidFile(f"{path} was changed or damaged after it was saved: its checksum does not match.")
    return document, tensors


def check_document(document: dict[str, Any], schema: Schema, path: Path) -> None:
    """Refuse a document that is not what this version of autometa writes.

    Raises
    ------
    InvalidFile
        Names the place.
    """
    wrong = misfit(document, schema)
    if wrong:
        raise InvalidFile(
            f"{path}, saved by autometa {document.get('version')}, does not fit the components installed here: {wrong}."
        )


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\x1f{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
