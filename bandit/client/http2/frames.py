"""Frames of HTTP/2: their numbers, and how they are written (RFC 9113 sections 4 and 6)."""

import enum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""

HEAD_BYTES: Final = 9
"""The length of a frame's head: payload length 24 bits, kind 8, flags 8, stream 31."""

LARGEST_PAYLOAD: Final = 16_384
"""The longest payload that each end must accept, and the longest that we send or accept."""

LARGEST_WINDOW: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
LARGEST_STREAM: Final = 2**31 - 1

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

PRIORITY_BYTES: Final = 5
"""The length of a priority (section 6.3), which RFC 9113 deprecates."""


class Setting(enum.IntEnum):
    """Settings of a connection (section 6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class ErrorCode(enum.IntEnum):
    """Why a stream or a connection ended (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class ConnectionFault(Exception):  # noqa: N818 - a fault of the peer, which ends the connection
    """What ends a connection, with the error code of its GOAWAY.

    Attributes:
        code: The error code.
        reason: For people who debug the peer; it goes into the frame and the log.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


_HEAD: Final = Struct(">HBBBI")
_PAIR: Final = Struct(">HI")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame.

    >>> frame(SETTINGS, ACK, 0).hex()
    '000000040100000000'
    """
    n_bytes = len(payload)
    return _HEAD.pack(n_bytes >> 8, n_bytes & 0xFF, kind, flags, stream) + payload


def settings_frame(settings: dict[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_PAIR.pack(*setting) for setting in settings.items()))


def require_other(stream: int, priority: bytes) -> None:
    """Raise ConnectionFault if a priority has a stream depend on itself (RFC 7540 section 5.3.1)."""
    if int.from_bytes(priority[:4]) & LARGEST_STREAM == stream:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
