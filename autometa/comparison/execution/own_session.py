"""What is defined in a session: other processes cannot import it."""

from __future__ import annotations

import itertools
import os
import pickletools
import sys


def why_not_imported(pickled: bytes | memoryview) -> str | None:
    """Say what a pickle names that is defined in a session, a notebook or a script on standard input; else None.

    Other processes import the file of a program again, and such a program has none.
    """
    program = sys.modules["__main__"]
    file = getattr(program, "__file__", None)
    if getattr(program, "__spec__", None) is not None or (file is not None and os.path.isfile(file)):
        return None
    texts = (given for _, given, _ in pickletools.genops(bytes(pickled)) if isinstance(given, str))
    named = next((name for module, name in itertools.pairwise(texts) if module == "__main__"), None)
    return None if named is None else f"{named!r} is defined in this session, which they cannot import"
