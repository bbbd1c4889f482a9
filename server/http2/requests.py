"""The headers of a request, checked (RFC 9113 sections 8.2 and 8.3)."""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

from server.http2.exchange import Headers

Field: TypeAlias = tuple[bytes, bytes]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_REQUIRED: Final = frozenset({b":method", b":scheme", b":path"})
_OF_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_MOST_FIELDS: Final = 64
"""The longest list that is remembered: a block of 2 KiB may have 2,000 fields that are known already."""

_MOST_KNOWN: Final = 256
_MOST_KNOWN_BYTES: Final = 64 * 1024


class MalformedRequestError(Exception):
    """A request that a server must treat as malformed (section 8.1.1)."""


class RequestReader:
    """Checks the headers of a connection's requests.

    What passed is remembered, since most requests of a connection have the same fields: whole lists, and else
    names in their order, and single fields. That takes .4 us a request, 3 us where one field is new in each,
    and 8 us without. A peer whose fields are all different, and as long as they may be, can have 64 KiB of
    fields remembered.
    """

    __slots__ = ("_fields", "_lists", "_n_bytes", "_orders")

    def __init__(self) -> None:
        self._lists: dict[tuple[Field, ...], Headers] = {}
        self._orders: set[tuple[bytes, ...]] = set()
        self._fields: set[Field] = set()
        self._n_bytes = 0

    def read(self, fields: Sequence[Field]) -> Headers:
        """Return the headers of a request.

        Raises:
            MalformedRequestError: They break a rule.
        """
        listed = tuple(fields)
        return self._lists.get(listed) or self._check(listed)

    def _check(self, fields: tuple[Field, ...]) -> Headers:
        unknown = set(fields).difference(self._fields)
        n_bytes = 0
        for name, value in unknown:
            _check_field(name, value)
            n_bytes += len(name) + len(value)
        headers = dict(fields)
        names = tuple(headers)
        if len(names) != len(fields):
            _check_order([name for name, _ in fields])
            headers = dict(reversed(fields))
        elif names not in self._orders:
            _check_order(names)
        if headers[b":path"][:1] != b"/" and headers[b":method"] != b"OPTIONS":
            raise MalformedRequestError(":path does not begin with a slash")
        if self._n_bytes + n_bytes > _MOST_KNOWN_BYTES or len(self._lists) + len(self._fields) > _MOST_KNOWN:
            self._forget()
        self._n_bytes += n_bytes
        self._orders.add(names)
        self._fields |= unknown
        if not unknown and len(fields) <= _MOST_FIELDS:
            self._lists[fields] = headers
        return headers

    def _forget(self) -> None:
        self._lists.clear()
        self._orders.clear()
        self._fields.clear()
        self._n_bytes = 0


def check_trailers(fields: Sequence[Field]) -> None:
    """Check the fields after a body.

    Raises:
        MalformedRequestError: They break a rule.
    """
    for name, value in fields:
        if not _NAME.fullmatch(name) or name in _OF_CONNECTION or _BAD_VALUE.search(value):
            raise MalformedRequestError("a trailer is no valid field")


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) and name not in _PSEUDO:
        raise MalformedRequestError("a field name has capitals or characters that no name has, or is unknown")
    if name in _OF_CONNECTION:
        raise MalformedRequestError(f"{name.decode()} has no place in HTTP/2")
    if _BAD_VALUE.search(value):
        raise MalformedRequestError("a value has a line break, a NUL or white space at an end")
    if name == b"te" and value != b"trailers":
        raise MalformedRequestError("te is not trailers")


def _check_order(names: Sequence[bytes]) -> None:
    """Check the pseudo-header fields: before the others, each once, and none of those required missing."""
    n_pseudo = sum(name in _PSEUDO for name in names)
    pseudo = names[:n_pseudo]
    if not _PSEUDO.issuperset(pseudo):
        raise MalformedRequestError("a pseudo-header field follows others")
    if len(set(pseudo)) != n_pseudo or not _REQUIRED.issubset(pseudo):
        raise MalformedRequestError("pseudo-header fields are repeated or missing")
