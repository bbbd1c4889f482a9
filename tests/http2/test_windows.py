"""Flow control both ways: what we hold back for the peer, and what we let it send."""

from typing import Final

from bandit.client.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    RST_STREAM,
    WINDOW_UPDATE,
    ErrorCode,
    Setting,
    frame,
)
from bandit.client.http2.hpack import encode_field
from server.http2.exchange import RequestFault
from server.http2.limits import KIB, Limits
from tests.http2.bench import (
    Bench,
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
from tests.http2.scripted import HEAD

_WINDOW: Final = Setting.INITIAL_WINDOW_SIZE


def test_a_response_waits_for_the_windows_and_its_trailers_for_the_data() -> None:
    """Data goes as far as both windows allow, in frames of 16 KiB, and the end follows the last byte."""
    bench = Bench()
    found = bench.send(get(1, b"/large/100000"))
    assert [len(item.payload) for item in of_kind(found, DATA)] == [16_384, 16_384, 16_384, 16_383]
    assert bench.connection.n_unsent == 34_465
    assert bench.send(widen(1, 100_000)) == []
    found = bench.send(widen(0, 34_464))
    assert len(bytes_of(found, 1)) == 34_464
    assert of_kind(found, HEADERS) == []
    found = bench.send(widen(0, 1))
    assert [item.kind for item in found] == [DATA, HEADERS]
    assert found[-1].flags == END_HEADERS | END_STREAM
    bench.assert_released()


def test_a_window_may_be_below_zero() -> None:
    """A smaller initial window can make a stream's window negative; data goes on once it is positive."""
    bench = Bench()
    bench.send(get(1, b"/large/70000"), settings((_WINDOW, 10)), widen(0, 100_000))
    assert bench.send(widen(1, 65_525)) == []
    assert bytes_of(bench.send(widen(1, 5)), 1) == b"x" * 5
    found = bench.send(settings((_WINDOW, 70_000)))
    assert len(bytes_of(found, 1)) == 70_000 - 65_535 - 5
    bench.assert_released()


def test_a_smaller_window_holds_streams_that_waited_for_the_connection() -> None:
    """A stream that waited for the connection's window waits for its own if that shrinks meanwhile."""
    bench = Bench()
    bench.send(settings((_WINDOW, 100_000)), get(1, b"/large/70000"), settings((_WINDOW, 0)))
    assert bench.send(widen(0, 100_000)) == []
    assert len(bytes_of(bench.send(widen(1, 65_536)), 1)) == 1
    assert len(bytes_of(bench.send(settings((_WINDOW, 100_000))), 1)) == 4_464
    bench.assert_released()


def test_no_stream_starves_another_that_waits() -> None:
    """Streams that wait for the connection's window get a frame each in turn."""
    bench = Bench()
    bench.send(settings((_WINDOW, 2**20)), *(get(number, b"/large/200000") for number in (1, 3, 5)))
    found = bench.send(widen(0, 6 * 16_384))
    assert [item.stream for item in of_kind(found, DATA)][:6] == [1, 3, 5, 1, 3, 5]


def test_data_that_waits_is_dropped_with_its_stream() -> None:
    """A stream that the peer resets leaves nothing behind that waits."""
    bench = Bench()
    bench.send(get(1, b"/large/100000"))
    assert bench.connection.n_unsent
    assert bench.send(reset_frame(1)) == []
    bench.assert_released()
    assert bench.send(widen(0, 100_000)) == []


def test_an_exchange_hears_when_its_data_is_sent() -> None:
    """A response that goes on is told once what waited is sent, and not before."""
    bench = Bench()
    bench.send(settings((_WINDOW, 3)), headers(1, b"/pieces"), data_frame(1, b"hello"))
    assert bench.session.flushed == []
    bench.send(widen(1, 1))
    assert bench.session.flushed == []
    assert bytes_of(bench.send(widen(1, 1)), 1) == b"o"
    assert bench.session.flushed == [1]


def test_a_response_that_is_complete_stays_as_it_is() -> None:
    """Neither a second end nor more data changes a response whose end waits for its data."""
    bench = Bench()
    bench.send(settings((_WINDOW, 3)), headers(1, b"/pieces"), data_frame(1, b"hello"))
    (stream,) = bench.connection._streams.by_id.values()
    first, second = encode_field(b"first", b"1"), encode_field(b"second", b"2")
    stream.end(first)
    stream.end(second)
    stream.send(b"more")
    found = bench.send(widen(1, 100))
    assert bytes_of(found, 1) == b"lo"
    assert [item.payload for item in of_kind(found, HEADERS)] == [first]
    bench.assert_released()


def test_a_long_header_block_is_continued() -> None:
    """A header block beyond 16 KiB goes out in several frames, none longer than a peer must accept."""
    bench = Bench()
    bench.send(headers(1, b"/pieces"))
    (stream,) = bench.connection._streams.by_id.values()
    long = encode_field(b"long", b"y" * 40_000)
    stream.end(long)
    found = [item for item in bench.take() if item.kind != RST_STREAM]
    assert [item.kind for item in found] == [1, 9, 9]
    assert [item.flags for item in found] == [END_STREAM, 0, END_HEADERS]
    assert b"".join(item.payload for item in found) == long


def test_windows_are_renewed_once_half_of_them_is_used() -> None:
    """Half a megabyte of a body widens both windows by what was used, padding included."""
    bench = Bench()
    bench.send(headers(1))
    found = bench.send(*[frame(DATA, PADDED, 1, b"\x63" + bytes(16_383))] * 32)
    assert {(item.stream, int.from_bytes(item.payload)) for item in of_kind(found, WINDOW_UPDATE)} == {
        (0, 32 * 16_384),
        (1, 32 * 16_384),
    }
    assert bench.totals.n_body_bytes == 32 * (16_384 - 100)


def test_data_on_a_stream_that_ended_early_gives_the_window_back() -> None:
    """What is ignored uses the connection's window, too, which is renewed: else it would shrink for good."""
    bench = Bench()
    bench.send(headers(1, b"/refused"))
    found = bench.send(*[data_frame(1, bytes(16_384))] * 32)
    assert [item.stream for item in of_kind(found, WINDOW_UPDATE)] == [0]


def test_data_beyond_the_connections_window_ends_it() -> None:
    """A peer that sends more than 1 MiB that nobody has room for breaks flow control."""
    bench = Bench(Limits(bodies=0))
    bench.send(
        headers(1), headers(3), *[data_frame(1, bytes(16_384))] * 32, *[data_frame(3, bytes(16_384))] * 32
    )
    assert bench.code() is None
    bench.send(data_frame(3, b"x"))
    assert bench.code() is ErrorCode.FLOW_CONTROL_ERROR


def test_data_beyond_a_streams_window_resets_it() -> None:
    """A stream that is held takes what its window of 1 MiB and 16 KiB allows, and not a byte more."""
    bench = Bench()
    bench.send(headers(1, b"/held"), *[data_frame(1, bytes(16_384))] * 65)
    assert resets(bench.take()) == {}
    assert resets(bench.send(data_frame(1, b"x"))) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    bench.session.end_work()
    bench.assert_released()


def test_a_stream_that_is_held_is_renewed_when_it_is_released() -> None:
    """An exchange that can't keep up withholds its window; what it holds counts as kept meanwhile."""
    bench = Bench()
    found = bench.send(headers(1, b"/held"), *[data_frame(1, bytes(16_384))] * 40)
    assert [item.stream for item in of_kind(found, WINDOW_UPDATE)] == [0]
    assert bench.totals.n_body_bytes == 40 * 16_384
    assert [item.stream for item in of_kind(bench.end_work(), WINDOW_UPDATE)] == [1]
    assert bench.totals.n_body_bytes == 0


def test_an_exchange_that_ends_while_it_holds_keeps_nothing() -> None:
    """A piece at which a held stream ends is not counted: nobody would give it back."""
    bench = Bench()
    bench.send(headers(1, b"/early"), data_frame(1, b"piece"))
    bench.assert_released()


def test_a_body_is_as_long_as_allowed() -> None:
    """A body of exactly the limit is served; one byte more is refused, wherever its last frame ends."""
    limits = Limits(body_bytes=40_000)
    parts = [data_frame(1, bytes(16_000)), data_frame(1, bytes(16_000))]
    for n_last, is_served in ((8_000, True), (8_001, False)):
        for last in ([(n_last, END_STREAM)], [(n_last, 0), (0, END_STREAM)]):
            bench = Bench(limits)
            bench.send(settings((_WINDOW, 2**20)), headers(1), *parts)
            found = bench.send(*(data_frame(1, bytes(n_bytes), flags=flags) for n_bytes, flags in last))
            assert (1 in bench.session.bodies) == is_served
            assert bench.session.faults == ({} if is_served else {1: RequestFault.BODY_TOO_LARGE})
            assert HEAD in [item.payload for item in found] or not is_served
            bench.assert_released()


def test_a_window_is_withheld_while_its_connection_keeps_too_much() -> None:
    """A connection's window is not renewed while too much is kept; it is, soon after that has gone.

    The peer may have used its window up, and then sends nothing that would remind us.
    """
    bench = Bench(Limits(bodies=100_000))
    found = bench.send(headers(1), *[data_frame(1, bytes(16_384))] * 63)
    assert [item.stream for item in of_kind(found, WINDOW_UPDATE)] == [1]
    assert bench.tick(4.0) == []
    (update,) = of_kind(bench.tick(1.1), WINDOW_UPDATE)
    assert (update.stream, int.from_bytes(update.payload)) == (0, 63 * 16_384)


def test_windows_are_withheld_while_all_connections_keep_too_much() -> None:
    """No window is renewed while connections keep too much together; it is once another's share has gone."""
    limits = Limits(bodies_in_all=100_000, bodies_reserved=0)
    other = Bench(limits)
    bench = Bench(limits, totals=other.totals)
    other.send(headers(1), *[data_frame(1, bytes(16_384))] * 10)
    found = bench.send(headers(1, b"/pieces"), *[data_frame(1, bytes(16_384))] * 64)
    assert {item.stream for item in of_kind(found, WINDOW_UPDATE)} == {1}
    assert bench.tick() == []
    other.connection.lost()
    (update,) = of_kind(bench.tick(), WINDOW_UPDATE)
    assert (update.stream, int.from_bytes(update.payload)) == (0, 2**20)


def test_output_that_waits_is_counted_as_unsent() -> None:
    """What many streams hold back adds up, so that the listener can cut off a peer that reads nothing."""
    bench = Bench()
    bench.send(settings((_WINDOW, 0)), *(get(2 * n + 1, b"/large/5000") for n in range(900)))
    assert bench.connection.n_unsent == 900 * 5_000 > Limits().unsent_bytes_at_most
    assert Limits().unsent_bytes_at_most == 4 * KIB * KIB
    bench.connection.lost()
    bench.assert_released()


def test_a_request_may_be_padded() -> None:
    """Padding of HEADERS and DATA is taken off, and a priority before the block is skipped."""
    bench = Bench()
    block = headers(1)[9:]
    bench.send(
        frame(HEADERS, END_HEADERS | PADDED | 0x20, 1, b"\x04" + bytes(4) + b"\x10" + block + bytes(4))
    )
    found = bench.send(frame(DATA, PADDED | END_STREAM, 1, b"\x02body\0\0"))
    assert bytes_of(found, 1) == b"body"
    assert bench.send(request(3))
