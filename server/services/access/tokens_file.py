"""The tokens file: a TOML file of callers.

    [[callers]]
    name = "ranker-backend"
    roles = ["choose", "reward"]
    namespaces = ["team-a"]                # left out: every experiment
    token_hashes = ["sha256:9f86d0…"]      # at most two, so that a token can be replaced
    certificate_names = ["ranker.prod"]    # known by a client certificate instead, with --tls-client-ca
    calls_per_second = 500                 # left out: --calls-per-second

Unknown keys are refused, since a misspelt `namespaces` would open every experiment.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from bandit.text import Kind, text_fault
from bandit.validation import NAME_RULE
from server.services.access.callers import ANYONE, MAX_TOKENS, Caller, Directory, Role, parse_hash
from server.services.runtime.input_files import (
    InputFileError,
    decode,
    parse_toml,
    printable,
    read_bytes,
    shown_value,
)

TOKENS_BYTES: Final = 16 * 1024 * 1024
"""The size limit of a tokens file: some sixty thousand callers."""

_MOST_PROBLEMS: Final = 50
CALLER_RULE: Final = "[A-Za-z0-9._@-]{1,127}"
_KEYS: Final = frozenset(
    {"name", "roles", "namespaces", "token_hashes", "certificate_names", "calls_per_second"}
)
_Table: TypeAlias = Mapping[str, object]
_Problem: TypeAlias = tuple[str, str]
"""The path of a key, and the rule that it breaks."""


class TokensFileError(Exception):
    """A tokens file that can't be used; `problems` has one line for each rule that it breaks."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load_tokens(path: Path) -> Directory:
    """Return the callers of a tokens file.

    Raises:
        TokensFileError: It can't be read, or breaks a rule; names file, key and rule, and contains no hash.
    """
    try:
        data = read_bytes(path, most_bytes=TOKENS_BYTES, may_be_pipe=False)
        text = decode(data, most_bytes=TOKENS_BYTES)
    except InputFileError as error:
        raise TokensFileError(f"{path}: {error}") from None
    return parse_tokens(text, str(path))


def parse_tokens(text: str, label: str) -> Directory:
    """Return the callers in the text of a tokens file; each problem begins with `label`."""
    try:
        body = parse_toml(text)
    except InputFileError as error:
        raise TokensFileError(f"{label}: {error}") from None
    problems = list(_check(body))
    if problems:
        lines = [f"{label}: {printable(path)}: {rule}" for path, rule in problems[:_MOST_PROBLEMS]]
        n_more = len(problems) - len(lines)
        raise TokensFileError(*lines, *([f"{label}: and {n_more:,} more problems"] if n_more else []))
    return Directory([_to_caller(table) for table in _tables(body)])


def _tables(body: _Table) -> list[_Table]:
    tables = body.get("callers", [])
    is_list = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    return tables if is_list else []  # type: ignore[return-value]  # just checked


def _check(body: _Table) -> Iterator[_Problem]:
    """Yield the problems of a file."""
    for key in body.keys() - {"callers"}:
        yield key, "no such key; a tokens file has [[callers]] only"
    tables = _tables(body)
    if not tables:
        yield "callers", "must be one or more [[callers]] tables: otherwise no one can call"
    for index, table in enumerate(tables):
        yield from ((f"callers[{index}].{key}", rule) for key, rule in _check_caller(table))
    for key in ("name", "token_hashes", "certificate_names"):
        found = [_texts(value) if isinstance(value := table.get(key), list) else [value] for table in tables]
        counts = Counter(item for items in found for item in items if isinstance(item, str))
        for index, items in enumerate(found):
            if any(isinstance(item, str) and counts[item] > 1 for item in items):
                yield f"callers[{index}].{key}", "appears in the file twice"


def _check_caller(table: _Table) -> Iterator[_Problem]:
    for key in sorted(table.keys() - _KEYS):
        yield key, f"no such key; there are {', '.join(sorted(_KEYS))}"
    name = table.get("name")
    if not isinstance(name, str) or not re.fullmatch(CALLER_RULE, name) or name == ANYONE.name:
        yield "name", f"must match {CALLER_RULE} and not be {ANYONE.name!r}"
    yield from _check_list(table, "roles", _is_role, f"one or more of {', '.join(Role)}", least=1)
    yield from _check_list(table, "namespaces", _is_namespace, f"names that match {NAME_RULE}", least=1)
    hashes = f"at most {MAX_TOKENS} texts such as sha256:9f86d0… of 64 hexadecimal digits"
    yield from _check_list(table, "token_hashes", _is_hash, hashes, most=MAX_TOKENS)
    rule = "names without control characters, none of them empty or blank"
    yield from _check_list(table, "certificate_names", _is_certificate_name, rule)
    if not table.get("token_hashes") and not table.get("certificate_names"):
        yield "token_hashes", "must not be empty without certificate_names: no one could be this caller"
    rate = table.get("calls_per_second", 1)
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    if not (is_number and 0 < rate <= sys.float_info.max):  # type: ignore[operator]  # a number by now
        yield "calls_per_second", f"must be a number above 0, got {shown_value(rate)}"


def _check_list(
    table: _Table, key: str, is_good: Callable[[str], bool], rule: str, *, least: int = 0, most: int = 1_000
) -> Iterator[_Problem]:
    if key not in table and key != "roles":
        return
    value = table.get(key)
    is_list = isinstance(value, list) and all(isinstance(item, str) and is_good(item) for item in value)
    if not is_list or not least <= len(value) <= most:  # type: ignore[arg-type]  # a list by now
        yield key, f"must be a list of {rule}"


def _is_role(text: str) -> bool:
    return text in set(Role)


def _is_namespace(text: str) -> bool:
    return re.fullmatch(NAME_RULE, text, re.ASCII) is not None


def _is_certificate_name(text: str) -> bool:
    return not text_fault(text, Kind.CERTIFICATE_NAME, TOKENS_BYTES)


def _is_hash(text: str) -> bool:
    try:
        parse_hash(text)
    except ValueError:
        return False
    return True


def _to_caller(table: _Table) -> Caller:
    """Return the caller of a valid table."""
    namespaces = table.get("namespaces")
    rate = table.get("calls_per_second")
    return Caller(
        name=str(table["name"]),
        roles=frozenset(Role(role) for role in _texts(table["roles"])),
        namespaces=None if namespaces is None else frozenset(_texts(namespaces)),
        token_hashes=tuple(parse_hash(text) for text in _texts(table.get("token_hashes"))),
        certificate_names=frozenset(_texts(table.get("certificate_names"))),
        calls_per_second=None if rate is None else float(str(rate)),
    )


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
