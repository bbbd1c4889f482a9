"""Files of people: any encoding that an editor or a shell of Windows leaves is read, or named."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.services.runtime.input_files import InputFileError, decode, parse_toml

TEXT = 'name = "rânker"\nshares = [0.5,\n 0.5] # ½\n[limits]\nminimum_share = 0.1\n'
TABLE = {"name": "rânker", "shares": [0.5, 0.5], "limits": {"minimum_share": 0.1}}


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_windows_files_are_read(encoding: str, ending: str) -> None:
    """A byte order mark, UTF-16 behind one, and CRLF make no difference."""
    assert parse_toml(decode(TEXT.replace("\n", ending).encode(encoding))) == TABLE


def test_big_endian_is_read() -> None:
    """The mark says the order of the bytes."""
    assert parse_toml(decode(codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"))) == TABLE


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
def test_a_mark_is_not_part_of_the_text(text: str) -> None:
    """Any text is the same with and without a mark, in both encodings."""
    assert decode(text.encode()) == text
    assert decode(codecs.BOM_UTF8 + text.encode()) == text
    assert decode(text.encode("utf-16")) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\r\nb = 'caf\xe9'\r\n", "not UTF-8: .* at byte 15, in line 2: save it as UTF-8"),
        ("a = 1".encode("utf-16-le"), "not text: character 2 is a zero: save it as UTF-8"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8", "not UTF-16: .* save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(data: bytes, message: str) -> None:
    """Windows-1252, UTF-16 without a mark and broken text are refused in one line that says what to do."""
    with pytest.raises(InputFileError, match=message):
        decode(data)
