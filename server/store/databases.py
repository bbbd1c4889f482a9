"""Which dialect serves which URL."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.store.dialect import Dialect
from server.store.errors import StoreUnavailableError
from server.store.sqlite import SqliteDialect


def open_dialect(url: str, *, is_owner: bool) -> Dialect:
    """Opens the database of a URL.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://…`.
        is_owner: Whether this process is to write, alone where a database serves one process only.

    Raises:
        StoreInUseError: Another process owns the database.
        StoreUnavailableError: It can't be opened, or is of a kind that this version does not know.
    """
    parsed = _parse(url)
    match parsed.drivername:
        case "sqlite":
            return SqliteDialect(parsed, is_owner=is_owner)
        case "postgresql+psycopg":
            from server.store.postgresql import PostgresqlDialect  # noqa: PLC0415 - its driver loads slowly

            return PostgresqlDialect(parsed)
        case other:
            raise StoreUnavailableError(
                f"this version keeps its state in sqlite:///FILE or postgresql+psycopg://…, not in {other}"
            )


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        text = (
            "the database's URL can't be read: it is like postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME"
        )
        raise StoreUnavailableError(text) from None  # the error's own text holds the password
