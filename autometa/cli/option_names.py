"""Errors about arguments of Python name the options that were typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from autometa.errors import AutometaError

_OF_COMPONENT = re.compile(r"\w+=.* of (task sampler|learner|meta-optimizer|backbone) ")


@contextmanager
def option_names(options: Mapping[str, str]) -> Iterator[None]:
    """Let errors that leave a block name options.

    Parameters
    ----------
    options : mapping of str to str
        From arguments to options, such as ``{"n_trials": "--trials"}``.
    """
    try:
        yield
    except AutometaError as error:
        if error.args and isinstance(error.args[0], str):
            error.args = (with_options(error.args[0], options), *error.args[1:])
        raise


def with_options(text: str, options: Mapping[str, str]) -> str:
    """Replace arguments by options: ``n_trials=0 must be`` is ``--trials=0 must be``.

    A component's parameter of the same name stays as it is: that was typed behind the component's name.
    """
    if _OF_COMPONENT.match(text):
        return text
    known = "|".join(map(re.escape, options))
    return re.sub(rf"(?<![\w.-])({known})=", lambda found: f"{options[found[1]]}=", text)
