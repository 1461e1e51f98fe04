"""What is defined in a session: other processes cannot import it."""

from __future__ import annotations

import itertools
import pickletools

from autometa.engine.program import has_file


def why_not_imported(pickled: bytes | memoryview) -> str | None:
    """Say what a pickle names that is defined in a session, a notebook or a script on standard input; else None.

    Other processes import the file of a program again, and such a program has none.
    """
    if has_file():
        return None
    texts = (given for _, given, _ in pickletools.genops(bytes(pickled)) if isinstance(given, str))
    named = next((name for module, name in itertools.pairwise(texts) if module == "__main__"), None)
    return None if named is None else f"{named!r} is defined in this session, which they cannot import"
