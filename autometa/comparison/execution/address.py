"""Addresses of databases without what is secret in them, for messages and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError

from autometa.errors import StorageError

HIDDEN = "***"
"""What stands in the place of a secret, as SQLAlchemy writes it."""
SHORTEST = 4
"""Characters of a secret that is hidden inside of an error's text; a shorter one may be part of any word."""
_ADDRESS = re.compile(r"[\w+.-]*://.*", re.DOTALL)
_SECRET = re.compile(r"pass(?!file|ive)|pwd|secret|token|credential|(api|access|private|account)_?key", re.IGNORECASE)
"""Names of parameters of an address whose values are secret, and of parts of such a value."""


def without_password(where: str) -> str:
    """Hide the password of an address, and what its parameters hold that is secret.

    A path, and an address without secrets, stay as they are.
    """
    if "://" not in where:
        return where
    url = _parsed(where)
    if url is None:
        scheme, _, rest = where.partition("://")
        user, at, host = rest.rpartition("@")
        return (
            f"{scheme}://{user.partition(':')[0]}:{HIDDEN}@{host.partition('?')[0]}" if at else f"{scheme}://{HIDDEN}"
        )
    if not any(_secrets_in(url)):
        return where
    shown = "&".join(
        f"{name}={HIDDEN if _is_secret(name, value) else quote_plus(value)}"
        for name, values in url.query.items()
        for value in _several(values)
    )
    bare = url.set(query={}).render_as_string(hide_password=True)
    return f"{bare}?{shown}" if shown else bare


def without_passwords(words: Sequence[str]) -> list[str]:
    """Hide passwords in what was typed: an address may stand alone or behind ``--storage=``."""
    return [_ADDRESS.sub(lambda found: without_password(found[0]), word) for word in words]


def hide_secrets(text: str, where: str) -> str:
    """Hide in a text, such as a driver's error, what is secret in an address."""
    text = text.replace(where, without_password(where))
    url = _parsed(where) if "://" in where else None
    for secret in _secrets_in(url) if url is not None else ():
        for written in {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}:
            text = text.replace(written, HIDDEN) if len(secret) >= SHORTEST else text
    return text


def check_address(where: str) -> None:
    """Refuse an address that does not tell where its password ends: a part of it would count as a machine's name.

    Raises
    ------
    StorageError
    """
    if "://" in where and _parsed(where) is None:
        raise StorageError(
            f"storage={without_password(where)!r} cannot be read as a database URL, such as "
            "'postgresql://user:password@host/db'; in a password write %40 for '@', %2F for '/' and %3A for ':'."
        )


def _parsed(where: str) -> URL | None:
    """Return the parts of an address; None where it is none, or where a password may end in more than one place."""
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        return None
    # SQLAlchemy ends a password at the first '@', and takes what follows a '/' in a user's name for a database.
    rest = where.partition("://")[2]
    behind = rest.partition("@")[2] if url.password is not None else rest
    unclear = "@" in behind.partition("?")[0] and (url.password is not None or ":" in rest.partition("@")[0])
    return None if unclear and url.get_backend_name() != "sqlite" else url


def _secrets_in(url: URL) -> Iterator[str]:
    if url.password:
        yield str(url.password)
    for name, values in url.query.items():
        yield from (value for value in _several(values) if _is_secret(name, value))


def _is_secret(name: str, value: str) -> bool:
    """Tell whether a parameter is secret: by its name, or because it holds others, as ``odbc_connect`` does."""
    return bool(_SECRET.search(name)) or any(
        "=" in part and _SECRET.search(part.partition("=")[0]) for part in value.split(";")
    )


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
