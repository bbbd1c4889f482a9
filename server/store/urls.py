"""URLs of databases, taken apart; what would be passed over or misread without a word is refused."""

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.store.errors import StorePlaceError


def parse_url(url: str) -> URL:
    """Return the parts of a database's URL.

    Raises:
        StorePlaceError: It can't be read; the text holds no part of it, since one may be a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StorePlaceError(
            "the database's URL can't be read: it is like postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME, "
            "and ?host=HOST:PORT&host=HOST:PORT in the place of @HOST:PORT names several hosts",
            is_malformed=True,
        ) from None  # the error's own text holds the password
    _, _, query = url.rpartition("@")[2].partition("?")
    if not all("=" in item for item in query.split("&") if item):
        raise StorePlaceError(
            "what follows the question mark in the database's URL is not NAME=VALUE: correct it, or write "
            "%3F for a question mark in a name",
            is_malformed=True,
        )
    return parsed
