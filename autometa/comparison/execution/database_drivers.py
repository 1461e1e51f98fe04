"""Which package lets Python speak to a database, for those who lack it."""

from __future__ import annotations

import difflib
from importlib.util import find_spec

from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

EXTRAS = {"psycopg": "postgres", "pymysql": "mysql"}
"""Extras of autometa, by the module that they bring."""
PACKAGES = {
    "cx_Oracle": "cx_Oracle",
    "mariadb": "mariadb",
    "mysql": "mysql-connector-python",
    "MySQLdb": "mysqlclient",
    "oracledb": "oracledb",
    "pg8000": "pg8000",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymssql": "pymssql",
    "pymysql": "PyMySQL",
    "pyodbc": "pyodbc",
}
"""Packages by the module that SQLAlchemy imports."""
PREFERRED = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""The driver, and module, that an address without a driver gets if SQLAlchemy's own choice is not installed."""
_MODULES = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql", "mariadbconnector": "mariadb", "cx_oracle": "cx_Oracle"}
"""Modules by what SQLAlchemy calls the driver, where the two differ."""
_MISSPELT = {"postgres": "postgresql", "pg": "postgresql", "postgre": "postgresql", "sqlite3": "sqlite"}


def with_driver(where: str) -> str:
    """Name the driver that is installed in an address that leaves the choice open."""
    url = make_url(where)
    driver = PREFERRED.get(url.drivername)
    if driver is None or find_spec(driver) is None or find_spec(_module_of(url)) is not None:
        return where
    return url.set(drivername=f"{url.drivername}+{driver}").render_as_string(hide_password=False)


def missing_driver(where: str, reason: BaseException) -> str:
    """Say what to install, or to write, for an address that SQLAlchemy cannot use for this reason."""
    url = make_url(where)
    backend, _, driver = url.drivername.partition("+")
    try:
        module = _module_of(url)
    except (NoSuchModuleError, ArgumentError):
        known = ["postgresql", "mysql", "mariadb", "sqlite", "oracle", "mssql"]
        close = [_MISSPELT[backend]] if backend in _MISSPELT else difflib.get_close_matches(backend, known, n=1)
        if backend in known:
            return f"SQLAlchemy knows no driver {driver!r} for {backend}; leave it out: '{backend}://...'."
        hint = f"did you mean '{close[0]}://...'?" if close else f"it may be one of {', '.join(known)}."
        return f"SQLAlchemy knows no database {backend!r}; {hint}"
    if url.get_dialect().is_async:
        return f"the driver {driver!r} is asynchronous, and Optuna's studies are not; write '{backend}://...'."
    wanted = PREFERRED.get(backend, module) if not driver else module
    package = PACKAGES.get(wanted, wanted)
    state = "not installed" if find_spec(wanted) is None else f"installed, but cannot be imported ({reason})"
    text = f"the driver {wanted!r} is {state}; pip install '{package}'"
    if wanted in EXTRAS:
        text += f", or autometa with its extra: pip install 'autometa[{EXTRAS[wanted]}]'"
    return f"{text}."


def _module_of(url: URL) -> str:
    """Return the module that SQLAlchemy imports to speak to a database."""
    driver = str(url.get_dialect().driver)
    return _MODULES.get(driver, driver)
