"""What happens to a connection as time passes: handshake, silence, age, drain."""

from typing import Final

import pytest

from bandit.client.http2.frames import (
    ACK,
    END_STREAM,
    GOAWAY,
    PING,
    PREFACE,
    ErrorCode,
    frame,
)
from server.http2.exchange import RequestFault
from server.http2.limits import Limits
from tests.http2.bench import (
    HELLO,
    Bench,
    Frame,
    bytes_of,
    data_frame,
    get,
    headers,
    of_kind,
    request,
    resets,
)

_ANY_STREAM: Final = 2**31 - 1


def said(frames: list[Frame]) -> list[tuple[int, ErrorCode]]:
    """Return the last streams and codes of the GOAWAY frames."""
    return [(found.last_id, found.code) for found in of_kind(frames, GOAWAY)]


def answer_pings(bench: Bench, frames: list[Frame]) -> list[Frame]:
    """Answer the PING frames of the server, and return what it sends then."""
    return bench.send(*(frame(PING, ACK, 0, found.payload) for found in of_kind(frames, PING)))


@pytest.mark.parametrize("hello", [b"", PREFACE[:10], PREFACE, HELLO[:-1]], ids=len)
def test_a_handshake_takes_five_seconds_at_most(hello: bytes) -> None:
    """A connection whose first SETTINGS are missing after 5 s ends with SETTINGS_TIMEOUT."""
    bench = Bench(hello=b"")
    bench.send(hello)
    bench.tick(5.0)
    assert bench.code() is None
    bench.tick(0.1)
    assert bench.code() is ErrorCode.SETTINGS_TIMEOUT


def test_a_preface_may_arrive_byte_by_byte() -> None:
    """A connection begins with its last byte, however many reads it took."""
    bench = Bench(hello=b"")
    for position in range(len(HELLO)):
        bench.send(HELLO[position : position + 1])
    bench.tick(6.0)
    assert bytes_of(bench.send(request(1)), 1) == b"body"


def test_a_request_takes_five_seconds_at_most() -> None:
    """A request that is missing 5 s after its headers is answered as incomplete, and the others go on."""
    bench = Bench()
    bench.send(headers(1), data_frame(1, b"part"))
    bench.now += 3.0
    bench.send(headers(3))
    assert bench.tick(1.9) == []
    assert resets(bench.tick(0.2)) == {1: ErrorCode.NO_ERROR}
    assert bench.session.faults == {1: RequestFault.INCOMPLETE}
    assert bytes_of(bench.send(data_frame(3, b"whole", flags=END_STREAM)), 3) == b"whole"
    assert bench.send(data_frame(1, b"rest", flags=END_STREAM)) == []
    bench.assert_released()


def test_a_connection_without_streams_is_drained() -> None:
    """A connection that has had no stream for 300 s is asked to leave, and is over once it knows."""
    bench = Bench(Limits(keepalive_seconds=1e9))
    assert bench.tick(300.0) == []
    found = bench.tick(0.1)
    assert said(found) == [(_ANY_STREAM, ErrorCode.NO_ERROR)]
    answer_pings(bench, found)
    assert bench.is_over()


def test_calls_that_are_answered_at_once_keep_a_connection() -> None:
    """A connection is not idle while requests come, though none is ever there when time is looked at."""
    bench = Bench()
    for number in range(10):
        bench.now += 100.0
        bench.send(request(2 * number + 1))
        assert said(bench.tick()) == []


def test_a_long_stream_keeps_a_connection() -> None:
    """A connection is not idle while a stream lasts, as long as the peer answers PING."""
    bench = Bench()
    bench.send(headers(1, b"/pieces"), data_frame(1, b"x"))
    for _ in range(15):
        found = bench.tick(61.0)
        assert said(found) == []
        answer_pings(bench, found)
    assert not bench.is_over()


def test_a_silent_peer_is_asked_then_given_up() -> None:
    """After 60 s of silence the peer gets one PING; 20 s later without any sign the connection is over."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    assert of_kind(bench.tick(59.9), PING) == []
    assert len(of_kind(bench.tick(0.1), PING)) == 1
    assert bench.tick(19.9) == []
    assert not bench.is_over()
    bench.tick(0.2)
    assert bench.is_over()


def test_any_byte_is_a_sign_of_life() -> None:
    """A peer that sends anything at all after the question is asked anew only after another 60 s."""
    bench = Bench()
    bench.tick(60.0)
    bench.send(b"\0")
    bench.tick(0.1)
    assert bench.tick(59.0) == []
    assert not bench.is_over()


def test_an_old_connection_is_drained() -> None:
    """At the age of half an hour, give or take a tenth, the peer is asked to leave, whatever it does."""
    bench = Bench(Limits(idle_seconds=1e9, keepalive_seconds=1e9))
    bench.send(get(1, b"/later"))
    assert bench.tick(1_619.0) == []
    assert said(bench.tick(363.0)) == [(_ANY_STREAM, ErrorCode.NO_ERROR)]


def test_a_drain_lets_streams_on_their_way_be_served() -> None:
    """GOAWAY names any stream first, then the last, once a PING has come back; later streams are refused."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    bench.connection.begin_drain(bench.now)
    found = bench.take()
    assert said(found) == [(_ANY_STREAM, ErrorCode.NO_ERROR)]
    assert bench.session.n_drains == 1
    assert bytes_of(bench.send(request(3, body=b"on its way")), 3) == b"on its way"
    assert said(answer_pings(bench, found)) == [(3, ErrorCode.NO_ERROR)]
    assert resets(bench.send(get(5))) == {5: ErrorCode.REFUSED_STREAM}
    assert not bench.is_over()
    assert bytes_of(bench.end_work(), 1) == b"\0"
    assert bench.is_over()
    assert bench.n_wakes
    bench.assert_released()


def test_a_drain_waits_a_second_for_the_peer() -> None:
    """A peer that does not answer PING hears which stream is the last after 1 s."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    bench.connection.begin_drain(bench.now)
    bench.take()
    assert bench.tick(0.9) == []
    assert said(bench.tick(0.2)) == [(1, ErrorCode.NO_ERROR)]
    assert said(bench.tick(0.2)) == []


def test_a_drain_ends_after_its_grace() -> None:
    """Streams have 30 s to end; then the connection is over with those that have not."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    bench.connection.begin_drain(bench.now)
    bench.tick(29.9)
    assert not bench.is_over()
    bench.tick(0.2)
    assert bench.is_over()
    bench.connection.lost()
    bench.end_work()
    bench.assert_released()


def test_a_drain_begins_once() -> None:
    """Asked twice, a connection says the same only once."""
    bench = Bench()
    bench.connection.begin_drain(bench.now)
    bench.connection.begin_drain(bench.now + 1.0)
    assert len(said(bench.take())) == 1
    assert bench.session.n_drains == 1


def test_a_peer_that_comes_during_a_drain_is_told_so() -> None:
    """A connection that drains before the peer's SETTINGS still reads them, and serves what is on its way."""
    bench = Bench(hello=b"")
    bench.take()
    bench.connection.begin_drain(bench.now)
    found = bench.take()
    assert bytes_of(bench.send(HELLO, request(1)), 1) == b"body"
    assert said(answer_pings(bench, found)) == [(1, ErrorCode.NO_ERROR)]
    assert (bench.code(), bench.is_over()) == (None, True)


def test_the_last_stream_of_a_goaway_never_rises() -> None:
    """A fault after the drain names the same last stream, though others were refused since (section 6.8)."""
    bench = Bench()
    bench.send(get(1, b"/later"))
    bench.connection.begin_drain(bench.now)
    answer_pings(bench, bench.take())
    found = bench.send(get(3), get(2))
    assert said(found) == [(1, ErrorCode.PROTOCOL_ERROR)]


def test_a_lost_peer_ends_everything_but_work() -> None:
    """When the peer is gone, nothing is sent, nothing more is read, and places stay until their work ends."""
    bench = Bench(Limits(turn_requests=1))
    bench.connection.receive(get(1, b"/later") + headers(3, b"/pieces") + get(5), bench.now)
    bench.connection.lost()
    bench.connection.go_on()
    assert bench.session.cancelled == [1]
    assert bench.totals.n_streams == 1
    bench.take()
    assert bench.end_work() == []
    bench.assert_released()
    assert bench.n_wakes == 0
