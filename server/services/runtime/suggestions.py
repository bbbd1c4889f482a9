"""Suggestions for names that were mistyped."""

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 128
"""Longer names are no typing errors; comparing takes time with the square of the length."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name nearest to it, or nothing if none is near.

    >>> did_you_mean("databse", ["database", "listen"])
    '; did you mean database?'
    >>> did_you_mean("xyz", ["database", "listen"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1) if len(name) <= _LONGEST else []
    return f"; did you mean {match[0]}?" if match else ""
