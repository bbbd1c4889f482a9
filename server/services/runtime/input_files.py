"""Reading files written by people in bounded time and memory; refused files get a one-line reason.

The TOML parser of the standard library has no bounds: it takes minutes for a key of many thousand parts, and
fails with errors of the interpreter if values are nested deeply or numbers are long.
"""

import codecs
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final

from server import printing

_MIB: Final = 1024 * 1024
_MOST_KEY_PARTS: Final = 100
_SHOWN: Final = 80
_NUL: Final = "\0"
_QUOTED: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_NO_KEY: Final = re.compile(r"[^\w.\- \t]+")


class InputFileError(Exception):
    """A file that can't be used; the message is the reason, in one line, without the file's name."""


def read_text(path: Path, *, most_bytes: int = _MIB) -> str:
    """Return the text of a regular file or a pipe, without a byte order mark.

    Raises:
        InputFileError: It can't be read, is another kind of file, is larger, or is neither UTF-8 nor UTF-16.
    """
    return decode(read_bytes(path, most_bytes=most_bytes), most_bytes=most_bytes)


def read_bytes(path: Path, *, most_bytes: int = _MIB, may_be_pipe: bool = True) -> bytes:
    """Return the content of a file, at most `most_bytes` + 1 bytes of it.

    Args:
        path: The file.
        most_bytes: A larger file is not read to its end.
        may_be_pipe: As for `opened`.

    Raises:
        InputFileError: As for `opened`.
    """
    with opened(path, may_be_pipe=may_be_pipe) as file:
        return file.read(most_bytes + 1)


@contextmanager
def opened(path: Path, *, may_be_pipe: bool) -> Iterator[BufferedReader]:
    """Open a file to read.

    Args:
        path: The file.
        may_be_pipe: Whether to accept a pipe and wait for its writer, which a server must not do.

    Raises:
        InputFileError: It can't be opened or read, or is neither a regular file nor an accepted pipe.
    """
    extra = 0 if may_be_pipe else os.O_NONBLOCK
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | extra)) as file:
            if not may_be_pipe and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputFileError("is not a regular file")
            yield file
    except OSError as error:
        raise InputFileError((error.strerror or "cannot be read").lower()) from error


def decode(data: bytes, *, most_bytes: int = _MIB) -> str:
    """Return the text in `data`: UTF-8, or UTF-16 behind a byte order mark, as Windows PowerShell writes it.

    Raises:
        InputFileError: It is larger than `most_bytes`, or neither of them.
    """
    if len(data) > most_bytes:
        raise InputFileError(f"is larger than {most_bytes // _MIB} MiB")
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"{error.reason} at byte {error.start:,}, in line {line:,}: save it as UTF-8"
        raise InputFileError(f"not UTF-16: {where}" if is_wide else f"not UTF-8: {where}") from None
    if _NUL in text:
        raise InputFileError(f"not text: character {text.index(_NUL) + 1:,} is a zero: save it as UTF-8")
    return text.removeprefix("\ufeff")


def parse_toml(text: str) -> dict[str, object]:
    """Return the table in a TOML text.

    Raises:
        InputFileError: It is not TOML, or its nesting, a key or a number exceeds any reasonable size.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") >= _MOST_KEY_PARTS and _n_key_parts(line) > _MOST_KEY_PARTS:
            raise InputFileError(f"not TOML: line {number:,}: a key has more than {_MOST_KEY_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputFileError("not TOML: values are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise InputFileError(f"not TOML: {printable(str(error))}") from None
    except ValueError:  # Python's limit of 4,300 digits
        raise InputFileError("not TOML: a whole number has thousands of digits") from None


def printable(text: str) -> str:
    """Return the beginning of any text on one line, harmless to a terminal."""
    return printing.printable(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def shown_value(value: object) -> str:
    """Return a file's value as shown in an error, even if Python refuses to print it."""
    try:
        return printable(repr(value))
    except (ValueError, RecursionError):
        return f"a value ({type(value).__name__}) that is too large to show"


def _n_key_parts(line: str) -> int:
    """Return the most parts that a key in a line may have; a string counts as one part."""
    longest = 0
    for piece in _NO_KEY.split(_QUOTED.sub("q", line)):
        length = 0
        for part in piece.split("."):
            is_part = len(part.split()) == 1
            length = length + 1 if is_part else 0
            longest = max(longest, length)
    return longest
