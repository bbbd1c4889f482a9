"""gRPC's length-prefixed messages: a flag for compression, four bytes of length, and the message."""

import zlib
from typing import Final

import grpc

from server.rpc.messages.status import Failure, too_large

PREFIX_BYTES: Final = 5
MOST_BYTES: Final = 1024 * 1024
"""The largest message that any method takes, as on the other listener."""

IDENTITY: Final = b"identity"
_COMPRESSED: Final = 1
_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}
"""What zlib takes for each encoding (RFC 1952, RFC 1950)."""


class FramingError(Exception):
    """A message that can't be read, and how its call fails."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


def framed(message: bytes) -> bytes:
    """Return a message with its prefix.

    >>> framed(b"abc").hex()
    '0000000003616263'
    """
    return b"\0" + len(message).to_bytes(4) + message


def first_message(body: bytes, encoding: bytes) -> bytes | None:
    """Return the first message of a body; None if there is none, or not the whole of it.

    Raises:
        FramingError: It can't be read.
    """
    n_bytes = len(body) - PREFIX_BYTES
    if body[:1] == b"\0" and n_bytes == int.from_bytes(body[1:PREFIX_BYTES]) <= MOST_BYTES:
        return body[PREFIX_BYTES:]
    messages = Messages(encoding)
    messages.add(body)
    return messages.next()


class Messages:
    """The messages of a call, cut out of the pieces in which they arrive.

    Args:
        encoding: How those that are flagged are compressed.
    """

    __slots__ = ("_encoding", "_position", "_unread")

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._unread = bytearray()
        self._position = 0

    @property
    def n_unread(self) -> int:
        """Bytes after the last message that was returned."""
        return len(self._unread) - self._position

    def add(self, piece: bytes) -> None:
        """Add a piece."""
        if self._position:
            del self._unread[: self._position]
            self._position = 0
        self._unread += piece  # in place, since the pieces of a long message may have one byte each

    def has_next(self) -> bool:
        """Return whether the whole of the next message has arrived, or it is known that it can't be read."""
        unread, start = self._unread, self._position + PREFIX_BYTES
        if len(unread) < start:
            return False
        n_bytes = int.from_bytes(unread[start - PREFIX_BYTES + 1 : start])
        return n_bytes > MOST_BYTES or len(unread) >= start + n_bytes

    def next(self) -> bytes | None:
        """Remove and return the next message; None unless the whole of it has arrived.

        Raises:
            FramingError: It can't be read, and neither can any after it.
        """
        unread, start = self._unread, self._position + PREFIX_BYTES
        if len(unread) < start:
            return None
        n_bytes = int.from_bytes(unread[start - PREFIX_BYTES + 1 : start])
        if n_bytes > MOST_BYTES:
            raise FramingError(too_large(n_bytes, MOST_BYTES))
        if len(unread) < start + n_bytes:
            return None
        self._position = start + n_bytes
        message, flag = bytes(unread[start : self._position]), unread[start - PREFIX_BYTES]
        return message if not flag else _unpacked(flag, message, self._encoding)


def _unpacked(flag: int, message: bytes, encoding: bytes) -> bytes:
    """Return a compressed message, at most as long as any message may be."""
    bits = _WINDOW_BITS.get(encoding)
    if flag != _COMPRESSED or (bits is None and encoding == IDENTITY):
        raise FramingError(_bad("the flag of the message's compression is invalid"))
    if bits is None:
        raise FramingError(_unknown(encoding))
    unpacker = zlib.decompressobj(bits)
    try:
        found = unpacker.decompress(message, MOST_BYTES + 1)
    except zlib.error:
        raise FramingError(_bad("the message can't be decompressed")) from None
    if len(found) > MOST_BYTES:
        raise FramingError(too_large(len(found), MOST_BYTES))
    if not unpacker.eof:
        raise FramingError(_bad("the compressed message is cut short"))
    return found


def _bad(text: str) -> Failure:
    return Failure(grpc.StatusCode.INTERNAL, text, "MALFORMED_MESSAGE")


def _unknown(encoding: bytes) -> Failure:
    text = f"the encoding {encoding.decode('ascii', 'replace')} is not known: use gzip, deflate or identity"
    return Failure(grpc.StatusCode.UNIMPLEMENTED, text, "UNKNOWN_ENCODING")
