"""Hostile files: each is refused in a few seconds with a few harmless lines."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from click.testing import Result
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.cli.experiment_file.file import ExperimentFileError, parse_experiment
from server.services.access.tokens_file import TokensFileError, parse_tokens
from server.services.runtime.input_files import InputFileError, decode, parse_toml
from server.services.signing_keys.file import KeysFileError, read_keys
from server.services.snapshot.file import SnapshotFileError, read_snapshot
from server.store.records import KeyRing

Run = Callable[..., Result]
MIB: Final = 1024 * 1024
CPU_SECONDS: Final = 10.0
"""Time limit for a file of a mebibyte: a few times what the slowest takes on an idle machine."""

MOST_LINES: Final = 61
COMMANDS: Final = {
    "apply": ("experiment", "apply", "--server", "127.0.0.1:1", "hostile.toml"),
    "serve": ("serve", "--config", "hostile.toml"),
    "verify": ("verify", "--config", "hostile.toml"),
    "plan": ("plan", "hostile.toml", "--decisions-per-day", "1000", "--base-rate", "0.1"),
    "token": ("token", "new", "--caller", "a", "--role", "choose", "--append", "hostile.toml"),
}


def nested(depth: int) -> bytes:
    """Return a file whose payload has `depth` nested tables."""
    return b'name = "x"\n[[arms]]\nid = "a"\npayload = ' + b"{a = " * depth + b"1" + b"}" * depth


HOSTILE: Final = {
    "empty": b"",
    "mark": b"\xef\xbb\xbf",
    "no-utf-8": b'name = "\xff\xfe"',
    "cut-utf-8": b'name = "\xc3',
    "utf-16": 'name = "x"'.encode("utf-16"),
    "nul": b'name = "a\x00b"',
    "escape-in-key": b'"\\u001b[31mred" = 1\n[callers]\n"\\u001b[2J" = 2',
    "long-integer": b"name = " + b"1" * 5_000,
    "long-hexadecimal": b"champion = 0x" + b"f" * 5_000 + b"\nlag_seconds = 0x" + b"f" * 5_000,
    "long-integer-in-payload": b"[[arms]]\npayload = {a = 0x" + b"f" * 5_000 + b"}",
    "long-rate": b'[[callers]]\nname = "b"\ncalls_per_second = 1' + b"0" * 400,
    "hexadecimal-name": b"[[callers]]\nname = 0x" + b"f" * 5_000 + b"\nroles = [[1], {a = 1}]",
    "dotted-key": b".".join([b"a"] * 100_000) + b" = 1",
    "dotted-and-quoted-key": b" . ".join([b'"a.b"'] * 100_000) + b" = 1",
    "dotted-header": b"[" + b".".join([b"a"] * 100_000) + b"]",
    "dotted-keys": b"".join(b".".join([b"a"] * 99) + b".b%d = 1\n" % n for n in range(MIB // 210)),
    "deep-payload": nested(34),
    "deepest-payload": nested(33),
    "deep-arrays": b"[[arms]]\npayload = {a = " + b"[" * 200 + b"]" * 200 + b"}",
    "deep-tables": b"name = " + b"{a = " * 50_000,
    "deep-everything": b"name = " + b"[" * 100_000,
    "nan": b"[[metrics]]\nmaximum = nan\nminimum = -inf\n[[arms]]\npayload = {a = nan}",
    "dates": b"name = 2026-11-29\nchampion = 10:00:00\n[[arms]]\npayload = {at = 2026-11-29T10:00:00Z}",
    "no-date": b"name = 2026-02-30",
    "same-key": b"name = 1\nname = 2",
    "many-keys": b"".join(b"k%d = 1\n" % number for number in range(50_000)),
    "many-arms": b"[[arms]]\n" * (MIB // 10),
    "long-key": b"k" * (MIB - 10) + b" = 1",
    "long-array": b"name = [" + b"1," * (MIB // 3) + b"]",
    "too-large": b"#" * (MIB + 1),
    "much-too-large": b"#" * (17 * MIB),
    "text": b"\x7fELF\x02\x01\x01",
    "quotes": b'a = "' * 100_000,
    "callers": b"callers = 1",
    "tables": b"listen = {a = 1}\ndatabase = [[[]]]\npolicy = {}\n[metrics]\n[limits.minimum_shares]\na = {}",
}


GOOD: Final = {
    *((command, kind) for command in ("serve", "verify", "token") for kind in ("empty", "mark")),
    ("token", "too-large"),  # a tokens file may be larger
}
"""Commands and files that are accepted."""


def check(result: Result, began_at: float) -> None:
    """Check that a command failed in time, with a few printable lines of errors."""
    assert time.process_time() - began_at < CPU_SECONDS
    assert result.exit_code in {1, 2}
    lines = result.stderr.splitlines()
    assert 0 < len(lines) <= MOST_LINES
    assert all(line.startswith("error: ") and line.isprintable() and len(line) < 1_000 for line in lines)
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("command", "kind"), [(c, k) for c in COMMANDS for k in HOSTILE if (c, k) not in GOOD]
)
def test_a_hostile_file_is_refused_in_lines(run: Run, command: str, kind: str) -> None:
    """Every command that reads a file reports the error in printable lines, and ends soon."""
    Path("hostile.toml").write_bytes(HOSTILE[kind])
    began_at = time.process_time()
    check(run(*COMMANDS[command]), began_at)


@pytest.mark.parametrize("command", ["apply", "serve", "plan", "token"])
def test_directories_and_pipes_are_refused_in_lines(run: Run, command: str) -> None:
    """A directory is named as one, and a command that does not allow pipes does not wait for one."""
    Path("hostile.toml").mkdir()
    check(run(*COMMANDS[command]), time.process_time())
    Path("hostile.toml").rmdir()
    os.mkfifo("hostile.toml")
    if command != "token":  # the others wait for a writer, as any program does
        threading.Thread(target=Path("hostile.toml").write_bytes, args=(b"no = toml",)).start()
    check(run(*COMMANDS[command]), time.process_time())


@pytest.mark.parametrize("kind", ["no-utf-8", "deep-payload", "dotted-key", "too-large", "escape-in-key"])
def test_standard_input_is_read_like_a_file(run: Run, kind: str) -> None:
    """`-` has the same limits as a file, and errors call it standard input."""
    result = run("experiment", "apply", "-", text=HOSTILE[kind])
    check(result, time.process_time())
    assert result.stderr.startswith("error: standard input: ")


@pytest.mark.parametrize(("depth", "is_refused"), [(32, False), (33, True), (34, True)])
def test_a_deep_payload_is_refused_by_its_path(depth: int, *, is_refused: bool) -> None:
    """A payload too deep for the service is refused with its path, and one that it accepts is read."""
    text = nested(depth).decode()
    if not is_refused:
        assert parse_experiment(text).arms[0].HasField("payload")
        return
    with pytest.raises(ExperimentFileError, match=r"arms\[0\]\.payload(\.a)*: is nested too deeply"):
        parse_experiment(text)


def test_a_byte_order_mark_is_ignored() -> None:
    """A byte order mark, which some editors write, is ignored."""
    assert parse_toml(decode(b'\xef\xbb\xbfname = "x"')) == {"name": "x"}


def test_sentences_and_numbers_are_not_keys() -> None:
    """Many dots on a line are refused only if they could be in one key."""
    sentences = "It was so. " * 300
    numbers = ", ".join(["1.5"] * 300)
    versions = ".".join(["1"] * 300)
    text = f'a = """\n{sentences}"""\nb = [{numbers}]\nc = "{versions}"\nd = \'{versions}\'\n'
    assert parse_toml(text)["c"] == versions


words = st.sampled_from(
    [
        *("name", "arms", "metrics", "callers", "payload", "roles", "limits", "policy", "weights", "1h"),
        *("=", ".", "[", "]", "[[", "]]", "{", "}", '"', "'", '"""', ",", "\n", " ", "#", "1", "-", "_", "e"),
        *("0x", "inf", "nan", "true", "2026-11-29", "\\u0000", "\\", "\x00", "\x1b", "\u202e", "ä"),
    ]
)
texts = st.one_of(st.lists(words, max_size=60).map("".join), st.text(max_size=80))


@settings(max_examples=300)
@given(texts)
@example("a = 1" + "0" * 5_000)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any file of experiments or callers is either read or refused with its own error."""
    errors = ""
    try:
        parse_experiment(text)
    except ExperimentFileError as error:
        errors += str(error)
    try:
        parse_tokens(text, "file")
    except TokensFileError as error:
        errors += str(error)
    assert all(line.isprintable() for line in errors.split("\n"))


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.sampled_from(
                [
                    *('"bandit-server keys"', '"bandit-server snapshot"', "1", "1e999", "-1", "null", "NaN"),
                    *('"\\ud800"', '"00112233445566778899aabbccddeeff"', "9" * 5_000, '"2026-11-29"'),
                ]
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
                st.dictionaries(
                    st.sampled_from(
                        [
                            *("format", "version", "key", "keys", "signing_key", "signs_at", "1"),
                            *("sha256", "hmac", "confirmed_ms"),
                        ]
                    ),
                    inner,
                    max_size=8,
                ).map(lambda table: "{" + ",".join(f'"{key}":{item}' for key, item in table.items()) + "}"),
            ),
            max_leaves=12,
        ).map(str.encode),
    )
)
@example(b"[" * 100_000)
@example(
    b'{"format":"bandit-server snapshot","version":1,"key":1,"confirmed_ms":1,"hmac":"\\ud800",'
    b'"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}\n'
)
@example(b'{"format":"bandit-server snapshot","version":1,"key":1e999,"confirmed_ms":1}')
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    """Any keys or snapshot file is either read or refused with its own error."""
    file = tmp_path / "file"
    file.write_bytes(data)
    with suppress(KeysFileError):
        read_keys(file)
    with pytest.raises(SnapshotFileError):
        read_snapshot(file, KeyRing({1: b"k" * 32}, 1))


def test_a_server_does_not_wait_for_pipes(tmp_path: Path) -> None:
    """Files that a server reads while it serves must be regular files."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeysFileError, match="not a regular file"):
        read_keys(tmp_path / "pipe")
    with pytest.raises(SnapshotFileError, match="not a regular file"):
        read_snapshot(tmp_path / "pipe", KeyRing({1: b"k" * 32}, 1))


def test_a_long_line_of_dots_takes_linear_time() -> None:
    """The search for long keys takes time proportional to the length of the text."""
    began_at = time.process_time()
    for text in ("a." * (MIB // 2), "." * MIB, '".' * (MIB // 2), "a . " * (MIB // 4), "'." * (MIB // 2)):
        with pytest.raises(InputFileError):
            parse_toml(text)
    assert time.process_time() - began_at < CPU_SECONDS
