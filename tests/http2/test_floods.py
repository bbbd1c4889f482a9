"""Frames that cost a peer less than us: each is borne up to its limit, and the next ends the connection."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pytest

from bandit.client.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    ErrorCode,
    frame,
)
from bandit.client.http2.hpack import encode_field
from server.http2.exchange import RequestFault
from server.http2.limits import Limits
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

CALM: Final = ErrorCode.ENHANCE_YOUR_CALM
_PING: Final = frame(PING, 0, 0, bytes(8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """Frames that may come so often.

    Attributes:
        each: Makes the frames of one time, from its number.
        most: How many times are borne at once.
        per_second: How many more a second later.
        before: What the peer sends first.
    """

    each: Callable[[int], bytes]
    most: int
    per_second: int
    before: bytes = b""


FLOODS: Final[dict[str, Flood]] = {
    "rapid resets before the request": Flood(
        each=lambda n: headers(2 * n + 1) + reset_frame(2 * n + 1), most=200, per_second=20
    ),
    "rapid resets after the request": Flood(
        each=lambda n: get(2 * n + 1) + reset_frame(2 * n + 1), most=4_000, per_second=400
    ),
    "resets that we are made to send, by WINDOW_UPDATE": Flood(
        each=lambda n: get(2 * n + 1, b"/large/70000") + widen(2 * n + 1, 0), most=200, per_second=20
    ),
    "resets that we are made to send, by DATA": Flood(
        each=lambda n: request(2 * n + 1) + data_frame(2 * n + 1, b"x"), most=200, per_second=20
    ),
    "resets that we are made to send, by headers": Flood(
        each=lambda n: frame(HEADERS, 5, 2 * n + 1, encode_field(b"A", b"b")), most=200, per_second=20
    ),
    "PING": Flood(each=lambda _: _PING, most=20, per_second=0),
    "answers to PING": Flood(each=lambda _: frame(PING, ACK, 0, bytes(8)), most=100, per_second=10),
    "SETTINGS": Flood(each=lambda _: settings(), most=49, per_second=1),
    "acknowledgements of SETTINGS": Flood(each=lambda _: frame(SETTINGS, ACK, 0), most=49, per_second=1),
    "PRIORITY": Flood(each=lambda n: frame(PRIORITY, 0, n + 1, bytes(5)), most=100, per_second=10),
    "unknown frames": Flood(each=lambda n: frame(0x10 + n % 200, 0, 0), most=100, per_second=10),
    "empty DATA": Flood(each=lambda _: data_frame(1), most=100, per_second=10, before=headers(1)),
    "DATA that is padding only": Flood(
        each=lambda _: frame(DATA, PADDED, 1, b"\xff" + bytes(255)),
        most=100,
        per_second=10,
        before=headers(1),
    ),
    "empty DATA on a stream that ended early": Flood(
        each=lambda _: data_frame(1), most=100, per_second=10, before=headers(1, b"/refused")
    ),
    "WINDOW_UPDATE": Flood(each=lambda _: widen(0, 1), most=1_000, per_second=0),
    "requests beyond those that may be incomplete": Flood(
        each=lambda n: headers(2 * n + 1001),
        most=50,
        per_second=5,
        before=b"".join(headers(2 * n + 1) for n in range(128)),
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection(name: str) -> None:
    """Frames are borne as often as their limit says, and what follows ends the connection."""
    flood = FLOODS[name]
    bench = Bench()
    bench.send(flood.before)
    bench.send(*map(flood.each, range(flood.most)))
    assert bench.code() is None
    bench.send(flood.each(flood.most))
    assert bench.code() is CALM
    bench.assert_released()


@pytest.mark.parametrize("name", [name for name, flood in FLOODS.items() if flood.per_second])
def test_an_allowance_comes_back(name: str) -> None:
    """A second later some more frames are borne: a tenth of most limits."""
    flood = FLOODS[name]
    bench = Bench()
    bench.send(flood.before)
    bench.send(*map(flood.each, range(flood.most)))
    bench.now += 1.001
    numbers = range(flood.most, flood.most + flood.per_second)
    bench.send(*map(flood.each, numbers))
    assert bench.code() is None
    bench.send(flood.each(numbers.stop))
    assert bench.code() is CALM


def test_a_ping_after_a_response_is_free() -> None:
    """A client that measures its bandwidth sends a PING for each burst of responses; 1,000 are borne."""
    bench = Bench()
    for number in range(1_000):
        assert of_kind(bench.send(request(2 * number + 1), _PING), PING)
    assert bench.code() is None


def test_streams_that_begin_allow_window_updates() -> None:
    """A client widens the window of each stream that it begins, and is not answered for a while."""
    bench = Bench()
    for number in range(990):
        bench.send(get(2 * number + 1, b"/later"), widen(2 * number + 1, 1), widen(2 * number + 1, 1))
    assert bench.code() is None
    bench.send(*[widen(0, 1)] * (1_000 + 8 * 990))
    assert bench.code() is None
    bench.send(widen(0, 1))
    assert bench.code() is CALM


def test_frames_that_we_send_allow_window_updates() -> None:
    """A stream that begins, and each frame of its response, allow ten more WINDOW_UPDATE frames."""
    bench = Bench()
    bench.send(request(1))
    bench.send(*[widen(0, 1)] * 1_040)
    assert bench.code() is None
    bench.send(widen(0, 1))
    assert bench.code() is CALM


def test_work_holds_the_place_of_a_stream_that_was_reset() -> None:
    """Resetting streams makes no room for others, until their work ends."""
    bench = Bench(Limits(streams=10))
    for number in range(10):
        bench.send(get(2 * number + 1, b"/later"), reset_frame(2 * number + 1))
    assert resets(bench.send(get(21))) == {21: ErrorCode.REFUSED_STREAM}
    assert len(bench.connection._streams.by_id) == bench.totals.n_streams == 10
    assert bench.end_work() == []
    assert resets(bench.send(get(23))) == {}
    bench.assert_released()


def test_resets_of_the_same_stream_by_us_hold_its_place() -> None:
    """A stream that a peer makes us reset while its work goes on keeps its place, too."""
    bench = Bench(Limits(streams=1))
    bench.send(get(1, b"/later"), widen(1, 0))
    assert resets(bench.send(get(3))) == {3: ErrorCode.REFUSED_STREAM}
    bench.end_work()
    bench.assert_released()


def test_streams_beyond_the_limit_are_refused_then_the_connection_ends() -> None:
    """1,000 streams are served, 1,000 more refused so that clients repeat them; one more is the end."""
    bench = Bench()
    bench.send(*(get(2 * n + 1, b"/later") for n in range(1_000)))
    refused = bench.send(*(get(2 * n + 1, b"/later") for n in range(1_000, 2_000)))
    assert resets(refused) == dict.fromkeys(range(2_001, 4_001, 2), ErrorCode.REFUSED_STREAM)
    assert bench.code() is None
    assert bench.send(get(4_001))[-1].code is CALM


def test_streams_of_all_connections_have_a_limit() -> None:
    """A stream beyond the server's limit is refused on any connection, until others have ended."""
    limits = Limits(streams_in_all=3, streams_reserved=0)
    first = Bench(limits)
    second = Bench(limits, totals=first.totals)
    first.send(*(get(number, b"/later") for number in (1, 3)))
    second.send(get(1, b"/later"))
    assert resets(second.send(get(3))) == {3: ErrorCode.REFUSED_STREAM}
    first.connection.lost()
    assert resets(second.send(get(5))) == {5: ErrorCode.REFUSED_STREAM}
    first.end_work()
    assert resets(second.send(get(7))) == {}


def test_the_default_limits_on_streams_are_as_designed() -> None:
    """A connection has 1,000 streams at most, all together 16,000."""
    assert (Limits().streams, Limits().streams_in_all) == (1_000, 16_000)


def test_a_refused_stream_leaves_the_decoder_in_step() -> None:
    """Headers of a stream that is refused are decoded: later ones refer to what they added to the table."""
    bench = Bench(Limits(streams=1))
    added = b"\x40\x01a\x03foo"
    bench.send(get(1, b"/later"))
    bench.send(frame(HEADERS, 5, 3, block() + added))
    bench.end_work()
    bench.send(frame(HEADERS, 5, 5, block() + b"\xbe"))
    assert bench.code() is None


def test_requests_that_do_not_arrive_are_few() -> None:
    """128 requests may be incomplete; the next is answered as refused, and is forgotten."""
    bench = Bench()
    bench.send(*(headers(2 * n + 1) for n in range(128)))
    assert bench.session.faults == {}
    assert resets(bench.send(headers(257))) == {257: ErrorCode.NO_ERROR}
    assert bench.session.faults == {257: RequestFault.TOO_MANY_INCOMPLETE}
    assert bytes_of(bench.send(data_frame(1, b"whole", flags=END_STREAM)), 1) == b"whole"
    bench.send(headers(259))
    assert 259 not in bench.session.faults


def test_a_stream_of_pieces_is_incomplete_until_the_first() -> None:
    """A stream whose request has no end counts as incomplete only until its first data."""
    bench = Bench()
    bench.send(headers(1, b"/pieces"), headers(3, b"/pieces"), data_frame(1, b"x"))
    bench.tick(6.0)
    assert bench.session.faults == {3: RequestFault.INCOMPLETE}


def test_a_block_has_few_frames() -> None:
    """A header block may have four frames; a fifth ends the connection before anything is decoded."""
    part = block()[:2]
    whole = [frame(HEADERS, END_STREAM, 1, part), *[frame(CONTINUATION, 0, 1, b"")] * 2]
    bench = Bench()
    assert bytes_of(bench.send(*whole, frame(CONTINUATION, END_HEADERS, 1, block()[2:])), 1) == b"\0"
    bench = Bench()
    bench.send(*whole, frame(CONTINUATION, 0, 1))
    assert bench.code() is None
    bench.send(frame(CONTINUATION, 0, 1))
    assert bench.code() is CALM


def test_a_block_is_short() -> None:
    """A header block beyond 20 KiB ends the connection at the frame that goes beyond, not at its end."""
    bench = Bench()
    bench.send(frame(HEADERS, 0, 1, bytes(16_384)), frame(CONTINUATION, 0, 1, bytes(4_096)))
    assert bench.code() is None
    bench.send(frame(CONTINUATION, 0, 1, b"x"))
    assert bench.code() is CALM


def test_a_header_list_that_grows_out_of_little_ends_the_connection() -> None:
    """A block of indexed fields whose list exceeds 64 KiB ends the connection (HPACK bomb)."""
    bench = Bench()
    long = encode_field(b"x" * 100, b"y" * 3_800)
    bench.send(frame(HEADERS, 5, 1, block() + b"\x40" + long[1:]))
    bench.send(frame(HEADERS, 5, 3, block() + b"\xbe" * 10))
    assert bench.code() is None
    bench.send(frame(HEADERS, 5, 5, block() + b"\xbe" * 18))
    assert bench.code() is CALM


@pytest.mark.parametrize(
    "more",
    [
        tuple((b"x%d" % number, b"y") for number in range(62)),
        ((b"x", b"y" * 16_300),),
    ],
    ids=["65 fields", "16 KiB"],
)
def test_a_request_with_too_many_headers_is_refused(more: tuple[tuple[bytes, bytes], ...]) -> None:
    """A request with more than 64 fields or 16 KiB is answered as refused; the connection goes on."""
    bench = Bench()
    bench.send(frame(HEADERS, 5, 1, block(b"/echo", *more[:-1])))
    assert bench.session.faults == {}
    data = block(b"/echo", *more)
    bench.send(frame(HEADERS, 1, 3, data[:9_000]), frame(CONTINUATION, 4, 3, data[9_000:]))
    assert bench.session.faults == {3: RequestFault.HEADERS_TOO_LARGE}
    assert bytes_of(bench.send(request(5, body=b"next")), 5) == b"next"
    bench.assert_released()


def test_a_peer_that_is_over_is_heard_no_more() -> None:
    """What arrives after the end of a connection is not kept."""
    bench = Bench()
    bench.send(get(2))
    bench.connection.receive(get(1) * 1_000, bench.now)
    assert not bench.connection.has_backlog
    assert bench.take() == []
    assert bench.connection._unread == b""


def test_a_goaway_of_the_peer_ends_the_connection_once_it_is_quiet() -> None:
    """After GOAWAY of the peer its streams are answered, new ones refused, and the connection is over."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    found = bench.send(frame(GOAWAY, 0, 0, bytes(8)), get(3))
    assert resets(found) == {3: ErrorCode.REFUSED_STREAM}
    assert not bench.is_over()
    assert bytes_of(bench.end_work(), 1) == b"\0"
    assert bench.is_over()
