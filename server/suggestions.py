"""Suggestions for mistyped names."""

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 128
"""Longer names are not typing errors, and comparing takes time quadratic in the length."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a message suffix with the known name closest to an unknown one; empty if none is close.

    >>> did_you_mean("databse", ["database", "listen"])
    '; did you mean database?'
    >>> did_you_mean("LAG-SECONDS", ["lag_seconds"])
    '; did you mean lag_seconds?'
    >>> did_you_mean("xyz", ["database", "listen"])
    ''
    """
    alike = {_plain(each): each for each in known}
    match = difflib.get_close_matches(_plain(name), list(alike), n=1) if len(name) <= _LONGEST else []
    return f"; did you mean {alike[match[0]]}?" if match else ""


def _plain(name: str) -> str:
    """Return a name as environments and flags do not tell it apart: in lower case, with hyphens."""
    return name.lower().replace("_", "-")
