"""Which texts are accepted: the same under every version of Unicode; the error names the wrong place."""

import json
import re
import unicodedata
from importlib import resources
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.assignment import unit_hash
from bandit.text import MAX_ID, MAX_UNIT, Kind, id_fault, is_unit, text_fault

VECTORS: Final[dict[str, Any]] = json.loads(
    resources.files("bandit").joinpath("text_vectors.json").read_text("utf-8")
)
CONTROLS: Final = {*range(0x20), *range(0x7F, 0xA0)}
SURROGATES: Final = set(range(0xD800, 0xE000))
DIRECTIONS: Final = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
WHITE: Final = {
    *(*range(0x9, 0xE), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)),
    *(0x2028, 0x2029, 0x202F, 0x205F, 0x3000),
}
ID_LETTERS: Final = "ABCXYZabcxyz0123456789-._/:@"
texts = st.text(st.characters(), max_size=300)


def is_unit_by_hand(text: str) -> bool:
    """The documented rule, code point by code point."""
    points = set(map(ord, text))
    return (
        1 <= len(text) <= 256 and not points & (CONTROLS | SURROGATES | DIRECTIONS) and bool(points - WHITE)
    )


def test_shipped_vectors_hold() -> None:
    """Every shipped text is accepted or refused as the file says, and hashed as its UTF-8 bytes."""
    for case in VECTORS["units_accepted"]:
        assert is_unit(case["text"]), case["what"]
        assert unit_hash(bytes(16), case["text"]) == int(case["unit_hash"], 16), case["what"]
    for case in VECTORS["units_refused"]:
        assert not is_unit(case["text"]), case["what"]
    assert [name for name in VECTORS["names_accepted"] if id_fault(name)] == []
    assert [name for name in VECTORS["names_refused"] if not id_fault(name)] == []


def test_every_code_point_is_judged_by_its_number() -> None:
    """A unit of any code point, alone or behind a letter, is accepted by the documented ranges alone."""
    refused = CONTROLS | SURROGATES | DIRECTIONS
    for number in range(0x110000):
        letter = chr(number)
        is_refused = number in refused
        assert is_unit(letter) is not (is_refused or number in WHITE), hex(number)
        assert is_unit("a" + letter) is not is_refused, hex(number)


def test_what_is_refused_is_unprintable_for_good() -> None:
    """The short cut by `str.isprintable` decides nothing.

    Control characters and surrogates keep their category in every version of Unicode. The bidirectional
    controls were unassigned before they became format characters, and neither is printable.
    """
    categories = {number: unicodedata.category(chr(number)) for number in CONTROLS | SURROGATES | DIRECTIONS}
    assert set(categories.values()) == {"Cc", "Cs", "Cf"}
    assert {number for number, category in categories.items() if category == "Cf"} == DIRECTIONS
    assert {number for number in WHITE if chr(number).isprintable()} == {0x20}


@given(text=texts)
def test_any_text_is_a_unit_by_the_documented_rule(text: str) -> None:
    """The rule that is written down and the rule that runs accept the same texts."""
    assert is_unit(text) is is_unit_by_hand(text)
    assert is_unit(text) is (text_fault(text, Kind.UNIT, MAX_UNIT) == "")


@given(before=st.text("ab \u3000\u200d", max_size=5), letter=st.sampled_from(sorted(CONTROLS | DIRECTIONS)))
def test_a_fault_names_the_first_wrong_code_point(before: str, letter: int) -> None:
    """It has the code point and the position, counted from 1, and never the character itself."""
    fault = text_fault(before + chr(letter) + "\x00\u202e", Kind.UNIT, MAX_UNIT)
    assert fault.startswith(f"U+{letter:04X} at position {len(before) + 1} is a ")
    assert fault.endswith(", which a unit may not contain")
    assert fault.isascii()
    assert fault.isprintable()


@pytest.mark.parametrize("kind", Kind)
def test_where_a_text_may_be_empty_it_may_be_blank(kind: Kind) -> None:
    """A value, a URI, a digest and a description may be empty or blank; a unit and a key are needed."""
    is_needed = kind in {Kind.UNIT, Kind.ATTRIBUTE_KEY, Kind.CERTIFICATE_NAME}
    for text in ("", " ", "\u3000\u00a0"):
        assert bool(text_fault(text, kind, 10)) is is_needed


@given(text=st.text(st.sampled_from("\t\n\r\x0b\x00\x85\u202ea "), max_size=8))
def test_only_a_description_has_lines(text: str) -> None:
    """Tab, line feed and carriage return are allowed in a description, and nowhere else."""
    assert (not text_fault(text, Kind.DESCRIPTION, 10)) is (not set(text) & set("\x0b\x00\x85\u202e"))
    assert (not text_fault(text, Kind.MODEL_URI, 10)) is (not set(text) - set("a "))


@given(name=st.text(ID_LETTERS, max_size=140) | st.text(max_size=5))
def test_any_text_is_a_name_by_the_documented_rule(name: str) -> None:
    """Names have 1 to 128 ASCII letters, digits and hyphens; of other letters, five, and only inside."""
    ends = re.compile("[A-Za-z0-9-]", re.ASCII)
    is_name = (
        1 <= len(name) <= MAX_ID
        and all(letter.isascii() and (letter.isalnum() or letter in "-._/:@") for letter in name)
        and all(ends.fullmatch(letter) for letter in (name[0], name[-1]))
    )
    assert (id_fault(name) == "") is is_name
    assert id_fault(name).isprintable()


@given(name=st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True))
def test_names_of_earlier_releases_stay_valid(name: str) -> None:
    """What releases before 0.3.0 accepted is accepted, with a hyphen at an end too."""
    assert id_fault(name) == ""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("V 2", "' ' (U+0020) at position 2 is not allowed: "),
        ("v\n", "U+000A at position 2 is not allowed: "),
        ("caf\u00e9", "U+00E9 at position 4 is not allowed: "),
        ("it's", '"\'" (U+0027) at position 3 is not allowed: '),
        (".hidden", "'.' (U+002E) at the start is not allowed: "),
        ("a/", "'/' (U+002F) at the end is not allowed: "),
        ("_", "'_' (U+005F) at the start is not allowed: "),
        ("", "0 characters: "),
        ("a" * 129, "129 characters: "),
    ],
)
def test_a_refused_name_is_explained(name: str, fault: str) -> None:
    """The error has the wrong character, its code point and its place, and then the rule."""
    rule = "a name has 1 to 128 ASCII letters and digits, with . _ - / : @ inside"
    assert id_fault(name) == fault + rule
