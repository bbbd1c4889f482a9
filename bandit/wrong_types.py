"""Wrong types, said where they come in: the argument, its value and type, and what is wanted.

What is wrong here is the program, so the error is a TypeError, and rules about values come after it.
"""

import reprlib
from collections.abc import Mapping
from numbers import Real
from types import UnionType
from typing import Final, TypeAlias

Kinds: TypeAlias = type[object] | UnionType | tuple[type[object], ...]

_MOST_SHOWN: Final = 80


def wrong_type(path: str, value: object, wanted: str) -> TypeError:
    """Return the error of a value of a wrong type.

    >>> wrong_type("unit", 42, "a str")
    TypeError('unit must be a str, got 42 (int)')
    """
    try:
        text = ascii(reprlib.repr(value))[1:-1][:_MOST_SHOWN]
    except Exception:  # noqa: BLE001 - a repr of the caller's, which may raise anything
        return TypeError(f"{path} must be {wanted}, got {type(value).__qualname__}")
    return TypeError(f"{path} must be {wanted}, got {text} ({type(value).__qualname__})")


def require(path: str, value: object, kinds: Kinds, wanted: str) -> None:
    """Raise TypeError unless the value is of one of these types."""
    if not isinstance(value, kinds):
        raise wrong_type(path, value, wanted)


def require_number(path: str, value: object) -> None:
    """Raise TypeError unless the value is a real number, of Python or numpy."""
    require(path, value, Real, "a number")


def require_numbers(path: str, values: object) -> None:
    """Raise TypeError unless the value is a mapping of str to numbers."""
    require(path, values, Mapping, "a mapping of arm ids to numbers")
    if isinstance(values, Mapping):
        for key, value in values.items():
            require(f"a key of {path}", key, str, "a str")
            require_number(f'{path}["{key}"]', value)
