"""Decoded images kept in one file, so that only the first process waits for them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import autometa as am

_LOG = logging.getLogger(__name__)

Facts = dict[str, Any]
"""What is known of the images, such as their names; JSON can hold it."""


def default_cache() -> Path:
    """``autometa`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autometa"


def digest(*stamps: Hashable) -> str:
    """A short text that changes when one of the files stamped does."""
    return hashlib.blake2b(repr(list(stamps)).encode(), digest_size=8).hexdigest()


def kept(stored: Path, decode: Callable[[], tuple[Tensor, Facts]]) -> tuple[Tensor, Facts]:
    """Images and facts from the file ``stored``, or decoded and stored where it is not there or corrupt.

    A file that is written is told once, with its path and size, on standard error or wherever logging is sent.

    Parameters
    ----------
    stored : Path
        Its name must change when what ``decode`` returns would.
    decode : callable
        Returns a uint8 tensor and the facts.
    """
    if stored.exists():
        try:
            return read(stored)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            am.warn_user(f"the cached images {str(stored)!r} are corrupt ({error}) and built anew.")
    images, facts = decode()
    try:
        write(stored, images, facts)
    except OSError as error:
        am.warn_user(f"images cannot be cached in {str(stored.parent)!r}: {error}")
    else:
        # No warning: nothing is wrong. But loggers that nobody has set up show no lower level than this.
        _LOG.warning(
            "decoded images are kept in %s (%.3g MB), so that only this start has to wait for them; it may be removed, "
            "and the parameter 'cache' names another folder",
            stored,
            stored.stat().st_size / 1e6,
        )
    return images, facts


def read(path: Path) -> tuple[Tensor, Facts]:
    """Images and facts as they were written.

    Raises
    ------
    SafetensorError, OSError, ValueError, KeyError
        The file cannot be read, or is not what was written.
    """
    with safe_open(path, framework="pt") as file:
        images, metadata = file.get_tensor("images"), file.metadata()
    if zlib.crc32(images.numpy().data) != int(metadata["crc32"]):
        raise ValueError("checksum does not match")
    return images, json.loads(metadata["facts"])


def write(path: Path, images: Tensor, facts: Facts) -> None:
    """Write images and facts to a temporary file and rename it, so that no reader finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    save_file({"images": images}, part, {"facts": json.dumps(facts), "crc32": str(zlib.crc32(images.numpy().data))})
    part.replace(path)
