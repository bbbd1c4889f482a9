"""A writer of TOML, which the standard library only reads.

Scalars of a table come before its sub-tables, as TOML requires; otherwise the given order is kept.
"""

import json
import re
from collections.abc import Iterator

TomlValue = str | bool | int | float | None | list["TomlValue"] | dict[str, "TomlValue"]
TomlTable = dict[str, TomlValue]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_THOUGH_UNPRINTABLE = frozenset("\u200c\u200d\u3000")
"""Joiners, without which Persian, Hindi and emoji can't be read, and the space of Japanese."""

_EXACT_INTEGER = 2**53
_LARGEST_SHORT_ESCAPE = 0xFFFF
_LONGEST_DECIMAL = 14_000
"""Bits of the largest whole number that is written in decimal: Python refuses from 4,300 digits on."""


def dumps(table: TomlTable) -> str:
    """Return `table` as TOML. None becomes `null`, which TOML readers refuse: the format has no such value.

    >>> print(dumps({"name": "ranker", "arms": [{"id": "a"}], "limits": {"minimum_share": 0.05}}))
    name = "ranker"
    <BLANKLINE>
    [[arms]]
    id = "a"
    <BLANKLINE>
    [limits]
    minimum_share = 0.05
    """
    return "\n".join(_lines(table, ())).removeprefix("\n")


def _lines(table: TomlTable, path: tuple[str, ...]) -> Iterator[str]:
    for key, value in table.items():
        if not isinstance(value, dict) and not _is_array_of_tables(value):
            yield f"{quoted_key(key)} = {inline(value)}"
    for key, value in table.items():
        inner = (*path, key)
        header = ".".join(map(quoted_key, inner))
        if isinstance(value, dict):
            if not _holds_only_tables(value):
                yield from ("", f"[{header}]")
            yield from _lines(value, inner)
        elif isinstance(value, list) and _is_array_of_tables(value):
            for item in value:
                if isinstance(item, dict):
                    yield from ("", f"[[{header}]]", *_lines(item, inner))


def _is_array_of_tables(value: TomlValue) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _holds_only_tables(table: TomlTable) -> bool:
    """True if `table` needs no header of its own, since those of its sub-tables imply it."""
    return bool(table) and all(isinstance(value, dict) for value in table.values())


def quoted_key(key: str) -> str:
    """Return `key` as part of a path, quoted if it is not a bare key."""
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    r"""Quote a text; characters that control a terminal or the direction of its text are escaped.

    >>> _string("Zoë 山田\u3000太郎\x9b\u202e\U000e0001")
    '"Zoë 山田\u3000太郎\\u009b\\u202e\\U000e0001"'
    """
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(letter if _is_plain(letter) else _escaped(letter) for letter in quoted)


def _is_plain(letter: str) -> bool:
    return letter.isprintable() or letter in _PLAIN_THOUGH_UNPRINTABLE


def _escaped(letter: str) -> str:
    number = ord(letter)
    return f"\\u{number:04x}" if number <= _LARGEST_SHORT_ESCAPE else f"\\U{number:08x}"


def inline(value: object) -> str:
    """Return `value` on one line, in the form that follows a key; dates are written as strings."""
    match value:
        case dict():
            return "{" + ", ".join(f"{quoted_key(key)} = {inline(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(inline, value)) + "]"
        case str():
            return _string(value)
        case float():
            return _number(value)
        case int() if value.bit_length() > _LONGEST_DECIMAL:
            return hex(value)
        case _:
            return json.dumps(value, default=str)


def _number(value: float) -> str:
    """Return the shortest text that reads as `value`: `1` for 1.0."""
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT_INTEGER else repr(value)
