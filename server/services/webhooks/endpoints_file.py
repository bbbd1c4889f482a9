"""The webhooks file: a TOML file of endpoints to which events are posted.

    [[endpoints]]
    name = "chat"
    url = "https://hooks.example.com/bandit"
    secrets = ["whsec_…"]                  # at most two, so that a secret can be replaced
    namespaces = ["team-a"]                # left out: every experiment

It holds secrets. Unknown keys are refused, since a misspelt `namespaces` would send all events.
"""

import base64
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from bandit.validation import NAME_RULE
from server.addresses import is_loopback, join_address
from server.services.runtime.input_files import (
    InputFileError,
    decode,
    parse_toml,
    printable,
    read_bytes,
)

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the part that is not secret
MOST_ENDPOINTS: Final = 32
_MOST_SECRETS: Final = 2
_SECRET_BYTES: Final = range(24, 65)
_KEYS: Final = frozenset({"name", "url", "secrets", "namespaces"})
_Table: TypeAlias = Mapping[str, object]
_Problem: TypeAlias = tuple[str, str]
"""The path of a key, and the rule that it breaks."""


class WebhooksFileError(Exception):
    """A webhooks file that can't be used; the text has one line for each rule that it breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where events are posted.

    Attributes:
        name: In the database and in the log.
        url: The parts of its URL: of `https`, or of `http` on this machine.
        secrets: What posts are signed with, each with all of them.
        namespaces: The namespaces whose events it gets; None for all, and for experiments without one.
    """

    name: str
    url: SplitResult
    secrets: tuple[bytes, ...]
    namespaces: frozenset[str] | None = None


def load_endpoints(path: Path) -> tuple[Endpoint, ...]:
    """Return the endpoints of a webhooks file.

    Raises:
        WebhooksFileError: It can't be read, or breaks a rule; names file, key and rule, and has no secret.
    """
    try:
        body = parse_toml(decode(read_bytes(path, may_be_pipe=False)))
    except InputFileError as error:
        raise WebhooksFileError(f"{path}: {error}") from None
    problems = [f"{path}: {printable(key)}: {rule}" for key, rule in _check(body)]
    if problems:
        raise WebhooksFileError("\n".join(problems))
    return tuple(map(_to_endpoint, _tables(body)))


def _tables(body: _Table) -> list[_Table]:
    tables = body.get("endpoints")
    return [table for table in tables if isinstance(table, dict)] if isinstance(tables, list) else []


def _check(body: _Table) -> Iterator[_Problem]:
    """Yield the problems of a file."""
    for key in body.keys() - {"endpoints"}:
        yield key, "no such key; a webhooks file has [[endpoints]] only"
    tables = _tables(body)
    if not 0 < len(tables) <= MOST_ENDPOINTS:
        yield "endpoints", f"must be 1 to {MOST_ENDPOINTS} [[endpoints]] tables"
    counts = Counter(str(table.get("name")) for table in tables)
    for index, table in enumerate(tables):
        yield from ((f"endpoints[{index}].{key}", rule) for key, rule in _check_endpoint(table))
        if counts[str(table.get("name"))] > 1:
            yield f"endpoints[{index}].name", "appears in the file twice"


def _check_endpoint(table: _Table) -> Iterator[_Problem]:
    for key in sorted(table.keys() - _KEYS):
        yield key, f"no such key; there are {', '.join(sorted(_KEYS))}"
    if not _is_name(table.get("name")):
        yield "name", f"must match {NAME_RULE}"
    rule = _url_rule(table.get("url"))
    if rule:
        yield "url", rule
    secrets = table.get("secrets")
    if (
        not isinstance(secrets, list)
        or not 0 < len(secrets) <= _MOST_SECRETS
        or None in map(_secret, secrets)
    ):
        yield "secrets", f"must be one or two texts: {SECRET_PREFIX} and 24 to 64 bytes in Base64"
    namespaces = table.get("namespaces", ["all"])
    if not isinstance(namespaces, list) or not namespaces or not all(map(_is_name, namespaces)):
        yield "namespaces", f"must be a list of one or more names that match {NAME_RULE}"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(NAME_RULE, value, re.ASCII) is not None


def _url_rule(value: object) -> str | None:
    """Return the rule that a URL breaks, if any; not the URL, which may hold a token."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        return "must be a URL of printable ASCII characters, without spaces"
    try:
        url = urlsplit(value)
        host, _port = url.hostname, url.port
    except ValueError:
        return "must be a URL whose host and port can be read"
    if url.scheme not in {"https", "http"} or not host:
        return "must begin with https:// and a host"
    if url.username is not None or url.password is not None or url.fragment:
        return "must have no user, password or fragment"
    if url.scheme == "http" and not is_loopback(join_address(host, 1)):
        return "must begin with https://: http:// is for this machine only, such as http://127.0.0.1:8080/"
    return None


def _secret(value: object) -> bytes | None:
    """Return the bytes of a secret; None if it is none."""
    if not isinstance(value, str) or not value.startswith(SECRET_PREFIX):
        return None
    try:
        secret = base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return None
    return secret if len(secret) in _SECRET_BYTES else None


def _to_endpoint(table: _Table) -> Endpoint:
    """Return the endpoint of a valid table."""
    secrets, namespaces = table["secrets"], table.get("namespaces")
    return Endpoint(
        name=str(table["name"]),
        url=urlsplit(str(table["url"])),
        secrets=tuple(filter(None, map(_secret, secrets if isinstance(secrets, list) else ()))),
        namespaces=frozenset(map(str, namespaces)) if isinstance(namespaces, list) else None,
    )
