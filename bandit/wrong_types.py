"""Wrong types, said where they come in: the argument, its value and type, and what is wanted.

What is wrong here is the program, so the error is a TypeError, and rules about values come after it.
"""

import re
import reprlib
from collections.abc import Mapping
from numbers import Real
from types import UnionType
from typing import Final, TypeAlias

Kinds: TypeAlias = type[object] | UnionType | tuple[type[object], ...]

_MOST_SHOWN: Final = 80
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = _MOST_SHOWN


def shown(value: object) -> str:
    r"""Return a value for a message: in ASCII, escaped, cut after 80 characters; its type if it has no repr.

    >>> print(shown("é\n"), shown(7), len(shown("x" * 1000)))
    '\xe9\n' 7 80
    """
    try:
        text = _repr.repr(value)
    except Exception:  # noqa: BLE001 - a repr of the caller's, which may raise anything
        return type(value).__name__
    text = text.encode("ascii", "backslashreplace").decode()
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module where that is not Python's own."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def wrong_type(path: str, value: object, wanted: str, *, is_secret: bool = False) -> TypeError:
    """Return the error of a value of a wrong type; the value of a secret is left out.

    >>> wrong_type('attributes["age"]', 42, "a str")
    TypeError('attributes["age"] must be a str, got 42 (int)')
    """
    got = type_name(value) if is_secret else f"{shown(value)} ({type_name(value)})"
    return TypeError(f"{path} must be {wanted}, got {got}")


def require(path: str, value: object, kinds: Kinds, wanted: str, *, is_secret: bool = False) -> None:
    """Raise TypeError unless the value is of one of these types."""
    if not isinstance(value, kinds):
        raise wrong_type(path, value, wanted, is_secret=is_secret)


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
