"""The form of a database's URL, as far as it is seen without the driver: its kind, and what was meant."""

import re
from difflib import get_close_matches
from typing import Final

_POSTGRESQL: Final = "postgresql+psycopg"
_FORM: Final = "must be sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
_OTHER_NAMES: Final = ("postgres", "postgresql", "psql", "pgsql", "psycopg", "psycopg2", "psycopg3")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_OTHER_DRIVERS: Final = ("postgresql+", "postgres+")


def check_database_url(url: str) -> str:
    """Return a database's URL as it is.

    Raises:
        ValueError: It is of no form that this service knows; the text has the rule, and what was meant.
    """
    kind, colon, rest = url.partition(":")
    if kind == _POSTGRESQL and rest.startswith("//"):
        if _CONTROL.search(url):
            raise ValueError("must not hold line breaks and other control characters")
        return url
    if kind != "sqlite" or not colon:
        raise ValueError(f"{_FORM}{_advice(kind, colon, url)}")
    path = rest.removeprefix("///")
    if rest in {"", "//", "///"} or ":memory:" in path or "mode=memory" in path:
        raise ValueError(
            "must name a file, as in sqlite:///bandit.db: an in-memory database is a separate one in every "
            "thread, and loses acknowledged rewards when the process ends"
        )
    if path == rest:
        raise ValueError("must have three slashes before a relative path and four before an absolute one")
    return url


def _advice(kind: str, colon: str, url: str) -> str:
    """What to write instead of a URL of an unknown kind; empty if nothing is near."""
    name = kind.strip().lower()
    if name in _OTHER_NAMES or name.startswith(_OTHER_DRIVERS):
        return f"; did you mean {_POSTGRESQL}://, its only driver here?"
    if not colon and url.strip():
        return "; did you mean a file? Then write sqlite:/// before its path"
    (nearest,) = get_close_matches(name, ("sqlite", _POSTGRESQL), n=1, cutoff=0.7) or ("",)
    return f"; did you mean {nearest}://{'/' * (nearest == 'sqlite')}?" if nearest else ""
