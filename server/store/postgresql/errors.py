"""Translation of PostgreSQL's errors by SQLSTATE into the store's, whose texts hold no SQL and no secret.

Why a connection did not come about is added in the driver's words: they are for logs and commands, since no
caller of the service is shown an error of the store.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from server.store.errors import (
    RowRefusedError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnavailableError,
    StoreUnreachableError,
)
from server.store.postgresql.reasons import reason_of

_LOST_RACES: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, a lock not waited for: the transaction was undone, and may do better at
once."""

_LOST_SERVERS: Final = frozenset({"57P01", "57P02", "57P03"})
"""The server is going down, has crashed, or is not up yet."""

_REFUSED_CLASSES: Final = frozenset({"22", "23"})
"""Data exceptions, violated constraints."""

_MISTAKES: Final = (
    "password authentication failed",
    "no password supplied",
    "authentication failed for user",
    "no pg_hba.conf entry",
    " does not exist",
    "is not permitted to log in",
    "permission denied for database",
)
"""What a server answers to a wrong name or password. A connection that is refused has no SQLSTATE in libpq,
and its text is in the server's language: of another one, the mistake looks like a server that is away."""

_BAD_OPTIONS: Final = (
    "unrecognized configuration parameter",
    "invalid value for parameter",
    "permission denied to set parameter",
    "cannot be changed",
    "invalid command-line argument",
    "requires a value",
    "unsupported startup parameter",
)
"""What a server, or PgBouncer before it, answers to `options` and others that the URL hands on to it."""

_REFUSALS: Final = {
    "the database refuses an option of its URL: ": _BAD_OPTIONS,
    "the database refuses the connection: check user, password and its name: ": _MISTAKES,
}

_KINDS: Final[Mapping[str, tuple[type[StoreError], str]]] = {
    "53100": (StoreFullError, "no room left for the database"),
    "25006": (StoreReadOnlyError, "the database takes no writes"),
    "3F000": (StoreUnavailableError, "the database has no schema to create tables in: check the search_path"),
    "42501": (StoreReadOnlyError, "the database does not let this user create or write its tables"),
}


@contextmanager
def translated_errors(secrets: Collection[str] = ()) -> Iterator[None]:
    """Turn the driver's errors into the store's, whose texts hold none of these secrets."""
    try:
        yield
    except PoolTimeoutError as error:
        raise StoreUnavailableError("every connection to the database is in use") from error
    except DBAPIError as error:
        raise _translated(error, secrets) from error


def _translated(error: DBAPIError, secrets: Collection[str]) -> StoreError:
    state = _state_of(error)
    if state in _KINDS:
        kind, text = _KINDS[state]
        return kind(text)
    if state[:2] in _REFUSED_CLASSES or isinstance(error.orig, psycopg.DataError):
        return RowRefusedError("the database refused a value")
    reason = reason_of(str(error.orig), secrets)
    for text, reasons in _REFUSALS.items():
        if _is_refused(error, reasons):
            return StoreUnavailableError(f"{text}{reason}")
    if is_lost(error):
        return StoreUnreachableError(f"the database can't be reached: {reason}")
    if state:  # a statement was refused, and the server's text may hold a part of it
        return StoreUnavailableError(f"the database can't be reached, or refuses the connection ({state})")
    return StoreUnavailableError(f"the database can't be reached, or refuses the connection: {reason}")


def is_worth_a_retry(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed at once."""
    state = _state_of(error)
    return state in _LOST_RACES or is_lost(error)


def is_lost(error: DBAPIError) -> bool:
    """Whether the connection was lost, or could not be made."""
    state = _state_of(error)
    is_silent = not state and isinstance(error.orig, psycopg.OperationalError)
    return is_silent or state in _LOST_SERVERS or state.startswith("08")


def _is_refused(error: DBAPIError, reasons: Collection[str]) -> bool:
    """Whether the server is there, and refuses the connection for a reason that time does not mend."""
    text = str(error.orig)
    return "FATAL:" in text and any(reason in text for reason in reasons)


def _state_of(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
