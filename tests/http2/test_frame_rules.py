"""Each rule of RFC 9113 on frames: what breaks it, and what becomes of the stream or the connection."""

from typing import Final

import pytest

from bandit.client.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    Setting,
    frame,
)
from bandit.client.http2.hpack import encode_field
from tests.http2.bench import (
    Bench,
    block,
    bytes_of,
    data_frame,
    get,
    headers,
    of_kind,
    request,
    reset_frame,
    resets,
    settings,
    widen,
)

PROTOCOL: Final = ErrorCode.PROTOCOL_ERROR
SIZE: Final = ErrorCode.FRAME_SIZE_ERROR
FLOW: Final = ErrorCode.FLOW_CONTROL_ERROR
CLOSED: Final = ErrorCode.STREAM_CLOSED

_OPEN: Final = headers(1)
_DONE: Final = request(1)
_WORKING: Final = request(1, b"/later")
_BLOCK: Final = block()
_CUT: Final = frame(HEADERS, END_STREAM, 1, _BLOCK[:5])
_ON_ITSELF: Final = (1).to_bytes(4) + b"\x10"

ENDS_CONNECTION: Final[dict[str, tuple[bytes, ErrorCode]]] = {
    # sections 4.2 and 4.3
    "a frame is too long": (frame(DATA, 0, 1, bytes(16_385)), SIZE),
    "a header block refers to nothing": (frame(HEADERS, 5, 1, b"\xff\xff\x01"), ErrorCode.COMPRESSION_ERROR),
    "trailers refer to nothing": (_OPEN + frame(HEADERS, 5, 1, b"\xfe"), ErrorCode.COMPRESSION_ERROR),
    # section 5.1
    "DATA is on an idle stream": (data_frame(1), PROTOCOL),
    "RST_STREAM is on an idle stream": (reset_frame(1), PROTOCOL),
    "WINDOW_UPDATE is on an idle stream": (widen(1, 1), PROTOCOL),
    "WINDOW_UPDATE is on a stream of ours": (get(3) + widen(2, 1), PROTOCOL),
    "DATA is on a stream of ours": (get(3) + data_frame(2), PROTOCOL),
    "RST_STREAM is on a stream of ours": (get(3) + reset_frame(2), PROTOCOL),
    "HEADERS are on a closed stream": (_DONE + get(1), CLOSED),
    "HEADERS are on a stream that is being answered": (_WORKING + get(1), CLOSED),
    "HEADERS are on a stream that the peer has reset": (_OPEN + reset_frame(1) + get(1), CLOSED),
    # section 5.1.1
    "a stream has an even number": (get(2), PROTOCOL),
    "a stream has a lower number than others": (get(5) + get(3), PROTOCOL),
    # section 6.1
    "DATA is on the connection": (data_frame(0), PROTOCOL),
    "the padding of DATA is too long": (_OPEN + frame(DATA, PADDED, 1, b"\x04abc"), PROTOCOL),
    "padded DATA is empty": (_OPEN + frame(DATA, PADDED, 1), PROTOCOL),
    # section 6.2
    "HEADERS are on the connection": (frame(HEADERS, END_HEADERS, 0, _BLOCK), PROTOCOL),
    "the padding of HEADERS is too long": (
        frame(HEADERS, END_HEADERS | PADDED, 1, b"\x0a" + _BLOCK[:9]),
        PROTOCOL,
    ),
    "HEADERS are too short for a priority": (frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"abcd"), SIZE),
    "HEADERS depend on their own stream": (
        frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, _ON_ITSELF + _BLOCK),
        PROTOCOL,
    ),
    # section 6.3
    "PRIORITY is on the connection": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "PRIORITY has another length": (frame(PRIORITY, 0, 1, bytes(4)), SIZE),
    "PRIORITY depends on its own stream": (frame(PRIORITY, 0, 1, _ON_ITSELF), PROTOCOL),
    # section 6.4
    "RST_STREAM is on the connection": (reset_frame(0), PROTOCOL),
    "RST_STREAM has another length": (_OPEN + frame(RST_STREAM, 0, 1, bytes(3)), SIZE),
    # section 6.5
    "SETTINGS are on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "SETTINGS have another length": (frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    "an acknowledgement has settings": (frame(SETTINGS, ACK, 0, bytes(6)), SIZE),
    "ENABLE_PUSH is neither 0 nor 1": (settings((Setting.ENABLE_PUSH, 2)), PROTOCOL),
    "INITIAL_WINDOW_SIZE is too wide": (settings((Setting.INITIAL_WINDOW_SIZE, 2**31)), FLOW),
    "INITIAL_WINDOW_SIZE is too wide, and corrected": (
        settings((Setting.INITIAL_WINDOW_SIZE, 2**31), (Setting.INITIAL_WINDOW_SIZE, 1)),
        FLOW,
    ),
    "MAX_FRAME_SIZE is too low": (settings((Setting.MAX_FRAME_SIZE, 16_383)), PROTOCOL),
    "MAX_FRAME_SIZE is too high": (settings((Setting.MAX_FRAME_SIZE, 2**24)), PROTOCOL),
    # sections 6.6 to 6.8
    "PUSH_PROMISE is sent": (_OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), PROTOCOL),
    "PING is on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "PING has another length": (frame(PING, 0, 0, bytes(7)), SIZE),
    "GOAWAY is on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "GOAWAY is too short": (frame(GOAWAY, 0, 0, bytes(7)), SIZE),
    # section 6.9
    "WINDOW_UPDATE has another length": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "WINDOW_UPDATE on a stream has another length": (_WORKING + frame(WINDOW_UPDATE, 0, 1, bytes(5)), SIZE),
    "the connection's window widens by nothing": (widen(0, 0), PROTOCOL),
    "the connection's window is too wide": (widen(0, 2**31 - 65_535), FLOW),
    "a stream's window is too wide by SETTINGS": (
        _WORKING + widen(1, 2**31 - 65_536) + settings((Setting.INITIAL_WINDOW_SIZE, 65_537)),
        FLOW,
    ),
    # section 6.10
    "CONTINUATION continues nothing": (frame(CONTINUATION, END_HEADERS, 1, _BLOCK), PROTOCOL),
    "CONTINUATION follows the end of a block": (_OPEN + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
    "CONTINUATION is on another stream": (_CUT + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL),
    "a block is interrupted by PING": (_CUT + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "a block is interrupted by an unknown frame": (_CUT + frame(0xFA, 0, 1), PROTOCOL),
    "a block is interrupted by other HEADERS": (_CUT + get(3), PROTOCOL),
}
"""What ends the connection, behind the preface and SETTINGS."""

RESETS_STREAM: Final[dict[str, tuple[bytes, ErrorCode]]] = {
    "DATA follows the end of the request": (_WORKING + data_frame(1, b"more"), CLOSED),
    "DATA is on a closed stream": (_DONE + data_frame(1, b"more"), CLOSED),
    "DATA is on a stream that the peer has reset": (_OPEN + reset_frame(1) + data_frame(1, b"x"), CLOSED),
    "a stream's window widens by nothing": (_WORKING + widen(1, 0), PROTOCOL),
    "a stream's window is too wide": (_WORKING + widen(1, 2**31 - 65_535), FLOW),
    "trailers do not end the stream": (
        _OPEN + frame(HEADERS, END_HEADERS, 1, encode_field(b"a", b"b")),
        PROTOCOL,
    ),
    "trailers have a pseudo-header field": (
        _OPEN + frame(HEADERS, 5, 1, encode_field(b":path", b"/")),
        PROTOCOL,
    ),
    "trailers have capitals": (_OPEN + frame(HEADERS, 5, 1, encode_field(b"Abc", b"/")), PROTOCOL),
    "trailers concern the connection": (
        _OPEN + frame(HEADERS, 5, 1, encode_field(b"upgrade", b"x")),
        PROTOCOL,
    ),
    "the body is shorter than announced": (
        headers(1, b"/echo", (b"content-length", b"4")) + data_frame(1, b"abc", flags=END_STREAM),
        PROTOCOL,
    ),
    "the body is longer than announced": (
        headers(1, b"/echo", (b"content-length", b"2")) + data_frame(1, b"abc", flags=END_STREAM),
        PROTOCOL,
    ),
    "the body is missing that was announced": (
        headers(1, b"/echo", (b"content-length", b"2"), flags=END_STREAM),
        PROTOCOL,
    ),
    "there are no headers": (frame(HEADERS, 5, 1), PROTOCOL),
}
"""What resets stream 1, and leaves the others alone."""

IS_FINE: Final[dict[str, bytes]] = {
    "an unknown frame": frame(0xFA, 0xFF, 77, b"anything"),
    "an unknown setting": settings((0xFFFF, 77)),
    "an acknowledgement of settings": frame(SETTINGS, ACK, 0),
    "PRIORITY on an idle stream": frame(PRIORITY, 0, 9, bytes(5)),
    "PRIORITY on a closed stream": _DONE + frame(PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE on a closed stream": _DONE + widen(1, 1),
    "RST_STREAM on a closed stream": _DONE + reset_frame(1),
    "unknown flags": frame(PING, 0xFE, 0, bytes(8)),
    "a reserved bit": frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\1") + frame(PING, 0, 2**31, bytes(8)),
    "an error code that nobody knows": _OPEN + frame(RST_STREAM, 0, 1, b"\xff" * 4),
    "the largest windows": widen(0, 2**31 - 1 - 65_535) + settings((Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)),
    "numbers that are left out": get(5),
    "DATA after a response that did not wait": headers(1, b"/refused") + data_frame(1, b"more"),
    "trailers after a response that did not wait": headers(1, b"/refused") + frame(HEADERS, 5, 1, b""),
}
"""What a server must bear."""


@pytest.mark.parametrize("name", ENDS_CONNECTION)
def test_a_fault_of_the_connection_ends_it(name: str) -> None:
    """A frame that breaks such a rule is answered by GOAWAY with its code, and nothing more is read."""
    data, code = ENDS_CONNECTION[name]
    bench = Bench()
    found = bench.send(data)
    assert (found[-1].kind, found[-1].code, bench.code()) == (GOAWAY, code, code)
    assert bench.is_over()
    assert bench.send(get(101)) == []
    bench.end_work()
    bench.assert_released()


@pytest.mark.parametrize("name", RESETS_STREAM)
def test_a_fault_of_a_stream_resets_it_alone(name: str) -> None:
    """A frame that breaks such a rule is answered by RST_STREAM with the rule's code; other streams go on."""
    data, code = RESETS_STREAM[name]
    bench = Bench()
    assert resets(bench.send(data)) == {1: code}
    assert bytes_of(bench.send(request(101, body=b"next")), 101) == b"next"
    bench.end_work()
    bench.assert_released()


@pytest.mark.parametrize("name", IS_FINE)
def test_what_breaks_no_rule_is_borne(name: str) -> None:
    """Frames that a server must ignore or accept do not disturb the requests after them."""
    bench = Bench()
    bench.send(IS_FINE[name])
    assert bench.code() is None
    assert bytes_of(bench.send(request(101, body=b"next")), 101) == b"next"


@pytest.mark.parametrize("kind", [DATA, HEADERS, PRIORITY, RST_STREAM, PING, GOAWAY, WINDOW_UPDATE, 0xFA])
def test_settings_come_first(kind: int) -> None:
    """The first frame of a client is SETTINGS (section 3.4)."""
    bench = Bench(hello=PREFACE)
    bench.send(frame(kind, 0, 0, bytes(8)))
    assert bench.code() is PROTOCOL


def test_the_first_settings_acknowledge_nothing() -> None:
    """An acknowledgement can't be a client's first frame, also while the server drains."""
    for is_draining in (False, True):
        bench = Bench(hello=PREFACE)
        if is_draining:
            bench.connection.begin_drain(bench.now)
        bench.send(frame(SETTINGS, ACK, 0))
        assert bench.code() is PROTOCOL


def test_settings_are_acknowledged_and_pings_answered() -> None:
    """Each SETTINGS frame and each PING gets its answer, a PING with the same 8 bytes."""
    found = Bench().send(settings((Setting.ENABLE_PUSH, 0)), frame(PING, 0, 0, b"12345678"))
    assert [(item.kind, item.flags, item.payload) for item in found] == [
        (SETTINGS, ACK, b""),
        (PING, ACK, b"12345678"),
    ]


def test_the_greeting_tells_the_limits() -> None:
    """The server's first frame is SETTINGS, with the streams, the window and the headers that it allows."""
    first = Bench().greeting[0]
    pairs = {
        int.from_bytes(first.payload[at : at + 2]): int.from_bytes(first.payload[at + 2 : at + 6])
        for at in range(0, len(first.payload), 6)
    }
    assert (first.kind, first.flags) == (SETTINGS, 0)
    assert pairs == {
        Setting.MAX_CONCURRENT_STREAMS: 1_000,
        Setting.INITIAL_WINDOW_SIZE: 1024 * 1024 + 16_384,
        Setting.MAX_HEADER_LIST_SIZE: 16_384,
    }


def test_a_response_that_does_not_wait_asks_for_no_more() -> None:
    """A response before the end of its request is followed by RST_STREAM with NO_ERROR (section 8.1)."""
    assert resets(Bench().send(headers(1, b"/refused"))) == {1: ErrorCode.NO_ERROR}


def test_a_response_to_a_whole_request_resets_nothing() -> None:
    """A stream that both sides have ended is closed: nothing is sent on it any more."""
    assert of_kind(Bench().send(get(1, b"/refused"), request(3)), RST_STREAM) == []


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"x", b"\x16\x03\x01", b"P?"])
def test_other_protocols_are_turned_away_at_once(start: bytes) -> None:
    """Bytes that do not begin the preface end the connection, even if they are fewer."""
    bench = Bench(hello=b"")
    bench.send(start)
    assert bench.code() is PROTOCOL


def test_a_table_that_the_peer_shrinks_is_given_up() -> None:
    """Of the header blocks after a smaller HEADER_TABLE_SIZE the first begins with an update of the size.

    nghttp2 and hpack refuse a block without it.
    """
    bench = Bench()
    bench.send(settings((Setting.HEADER_TABLE_SIZE, 0)))
    blocks = [item.payload for item in of_kind(bench.send(request(1), request(3)), HEADERS)]
    assert [payload[:1] == b"\x20" for payload in blocks] == [True, False, False, False]
