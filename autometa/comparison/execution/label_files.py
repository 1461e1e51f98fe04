"""Names of files for labels: two labels never share one, on any system."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path

from autometa.comparison.plan.pair import Pair

_PLAIN = re.compile(r"[a-z0-9_-][a-z0-9_.-]*(?<!\.)")
"""Labels that are the names of their files: every system takes these characters, and none confuses two of them."""
_LONGEST = 60
"""Characters of a label that are shown in the name of its file."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
"""Names that Windows keeps for devices, whatever follows behind a dot."""


def file_name(label: str) -> str:
    """Return the name of a file for a label, one to one.

    A plain label (lower case, digits, ``_``, ``.`` and ``-``) is its own name. Of any other the name shows what every
    system takes, and ends in ``=`` and a digest of the whole label: some systems take ``A`` and ``a`` for the same.
    """
    if _PLAIN.fullmatch(label) and len(label) <= _LONGEST and label.partition(".")[0] not in _DEVICES:
        return label
    known = unicodedata.normalize("NFC", label.lower())
    shown = "".join(c if c.isalnum() or c in "-_" else "_" for c in known)[:_LONGEST]
    while len(shown.encode()) > 2 * _LONGEST:  # a system counts bytes
        shown = shown[:-1]
    digest = hashlib.sha256(label.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{shown}={digest}"


def model_file(pair: Pair, number: int) -> Path:
    """Return the name of a saved estimator within the folder of models."""
    return Path(file_name(pair.tasks)) / f"{file_name(pair.learner)}-{number}.autometa"
