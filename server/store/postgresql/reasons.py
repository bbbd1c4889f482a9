"""Reasons that the driver gives, as an operator may read them: on one line, and without secrets.

The driver names hosts, users, files and options. A password is never meant to be among them, and still may
be: as a part of something that could not be parsed, or in what a server answers.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from psycopg import pq

from server.printing import printable

_LONGEST: Final = 400
_HIDDEN: Final = "***"


def secrets_of(params: Mapping[str, object]) -> frozenset[str]:
    """Return the values of parameters that the driver marks as secret, in every form that they may have."""
    found: set[str] = set()
    for option in pq.Conninfo.get_defaults():
        if b"*" in option.dispchar:
            given = params.get(option.keyword.decode(), option.val or b"")
            found.add(given.decode("utf-8", "replace") if isinstance(given, bytes) else str(given))
    forms = {form for each in found for form in (each, quote(each), quote(each, safe=""), quote_plus(each))}
    return frozenset(forms | {repr(form)[1:-1] for form in forms}) - {""}


def reason_of(text: str, secrets: Iterable[str]) -> str:
    r"""Return a driver's text on one line, printable, bounded, and without these secrets.

    >>> reason_of("failed:\n\tno host 'hunter2'", ["hunter2"])
    "failed: no host '***'"
    """
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, _HIDDEN)
    line = " ".join(text.split())
    return printable(line if len(line) <= _LONGEST else line[:_LONGEST] + "…")
