"""What a text may hold: units, attributes, model URIs, descriptions, and the names of arms and metrics.

Both rules list code points, so that they are the same in every language and under every version of Unicode;
``text_vectors.json`` holds examples. A text that is accepted is kept as it came: it is neither normalised nor
trimmed, and case matters.

A text may not contain

- control characters: U+0000-U+001F, U+007F-U+009F. A description may contain tab, line feed and carriage
  return all the same;
- unpaired surrogates: U+D800-U+DFFF. They have no UTF-8, so protobuf refuses them first;
- bidirectional controls: U+202A-U+202E, U+2066-U+2069, which reverse what is printed after them.

A unit and the key of an attribute also need a code point that is not white space: U+0009-U+000D, U+0020,
U+0085, U+00A0, U+1680, U+2000-U+200A, U+2028, U+2029, U+202F, U+205F, U+3000. Where a text may be empty, it
may be white space alone, too. Every other code point is accepted, also one that no version of Unicode has
assigned yet. Lengths are in code points.

The id of an arm and the name of a metric have 1 to 128 of ``A-Z``, ``a-z``, ``0-9``, ``-`` and, neither first
nor last, ``.``, ``_``, ``/``, ``:`` and ``@``.
"""

import re
from enum import Enum
from typing import Final

MAX_UNIT: Final = 256
MAX_ATTRIBUTE_KEY: Final = 63
MAX_ATTRIBUTE_VALUE: Final = 256
MAX_ID: Final = 128
ID_RULE: Final = f"a name has 1 to {MAX_ID} ASCII letters and digits, with . _ - / : @ inside"

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
_SURROGATES: Final = r"\ud800-\udfff"
_DIRECTIONS: Final = r"\u202a-\u202e\u2066-\u2069"
_WHITE: Final = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_FAULTS: Final = {
    "a control character": re.compile(f"[{_CONTROLS}]"),
    "an unpaired surrogate": re.compile(f"[{_SURROGATES}]"),
    "a bidirectional control": re.compile(f"[{_DIRECTIONS}]"),
}
_REFUSED: Final = re.compile(f"[{_CONTROLS}{_SURROGATES}{_DIRECTIONS}]")
_REFUSED_IN_LINES: Final = re.compile(rf"(?![\t\n\r])[{_CONTROLS}{_SURROGATES}{_DIRECTIONS}]")
_NOT_WHITE: Final = re.compile(f"[^{_WHITE}]")
_ID: Final = re.compile(r"[A-Za-z0-9-](?:[A-Za-z0-9._/:@-]{0,126}[A-Za-z0-9-])?")
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9._/:@-]")
_SMALLEST_SPELT_OUT: Final = 0x20
_LAST_ASCII: Final = 0x7E


class Kind(Enum):
    """What a text is, as errors say it."""

    UNIT = "a unit"
    ATTRIBUTE_KEY = "an attribute's key"
    ATTRIBUTE_VALUE = "an attribute's value"
    MODEL_URI = "a model URI"
    DIGEST = "a digest"
    DESCRIPTION = "a description"
    CERTIFICATE_NAME = "a certificate's name"


_NEEDED: Final = frozenset({Kind.UNIT, Kind.ATTRIBUTE_KEY, Kind.CERTIFICATE_NAME})
"""The texts that can be neither empty nor white space alone."""


def is_unit(text: str) -> bool:
    """Return whether a text is a unit; see the module's docstring.

    >>> [is_unit(text) for text in ("user-1", "\u06cc\u200c\u0627", "\u3000x", "a\u202eb", " ", "")]
    [True, True, True, False, False, False]
    """
    # What Python calls printable depends on its version of Unicode, but every code point that is refused, and
    # all white space but U+0020, is unprintable in all of them: this decides nothing, it only saves a search.
    if len(text) <= MAX_UNIT and text.isprintable() and text[:1] > " ":
        return True
    return len(text) <= MAX_UNIT and not _REFUSED.search(text) and _NOT_WHITE.search(text) is not None


def text_fault(text: str, kind: Kind, longest: int) -> str:
    r"""Return the rule that a text breaks, with its first wrong code point; empty if it keeps them all.

    Args:
        text: Any text.
        kind: What it is: some texts may be empty, and a description may have lines.
        longest: The most code points.

    >>> text_fault("abc\u202ed", Kind.UNIT, 256)
    'U+202E at position 4 is a bidirectional control, which a unit may not contain'
    >>> text_fault("\u3000", Kind.UNIT, 256)
    'only white space, such as U+3000: a unit needs another character too'
    """
    least = 1 if kind in _NEEDED else 0
    if not least <= len(text) <= longest:
        return f"{len(text)} code points: {kind.value} has {least} to {longest}"
    if text.isprintable() and text[:1] > " ":
        return ""
    pattern = _REFUSED_IN_LINES if kind is Kind.DESCRIPTION else _REFUSED
    if found := pattern.search(text):
        name = next(name for name, letters in _FAULTS.items() if letters.match(found[0]))
        place = f"{_point(found[0])} at position {found.start() + 1}"
        return f"{place} is {name}, which {kind.value} may not contain"
    if least and not _NOT_WHITE.search(text):
        return f"only white space, such as {_point(text[0])}: {kind.value} needs another character too"
    return ""


def id_fault(name: str) -> str:
    """Return the rule that an arm's id or a metric's name breaks; empty if it keeps them all.

    >>> [id_fault(name) for name in ("openai/gpt-4.1", "resnet_50", "Llama-3.1:8b@v2", "-")]
    ['', '', '', '']
    >>> print(id_fault("V 2"))
    ' ' (U+0020) at position 2 is not allowed: a name has 1 to 128 ASCII letters and digits, with . _ - / ...
    """
    if _ID.fullmatch(name):
        return ""
    if not 1 <= len(name) <= MAX_ID:
        return f"{len(name)} characters: {ID_RULE}"
    if found := _NOT_IN_ID.search(name):
        return f"{_letter(found[0])} at position {found.start() + 1} is not allowed: {ID_RULE}"
    position = 1 if not _ID.fullmatch(name[0]) else len(name)
    where = "at the start" if position == 1 else "at the end"
    return f"{_letter(name[position - 1])} {where} is not allowed: {ID_RULE}"


def _point(letter: str) -> str:
    return f"U+{ord(letter):04X}"


def _letter(letter: str) -> str:
    """Return a letter and its code point; the code point alone if it is not ASCII or does not show."""
    if _SMALLEST_SPELT_OUT <= ord(letter) <= _LAST_ASCII:
        return f"{letter!r} ({_point(letter)})"
    return _point(letter)
