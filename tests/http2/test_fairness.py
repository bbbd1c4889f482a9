"""What one connection takes does not keep another from being served."""

from bandit.client.http2.frames import WINDOW_UPDATE, ErrorCode
from server.http2.limits import KIB, Limits
from tests.http2.bench import Bench, Frame, data_frame, get, headers, of_kind, resets


def test_each_connection_has_some_streams_whatever_others_hold() -> None:
    """Up to its reserve a connection may begin streams although there are too many in all."""
    limits = Limits(streams_in_all=3, streams_reserved=2)
    hog = Bench(limits)
    good = Bench(limits, totals=hog.totals)
    assert resets(hog.send(*(get(number, b"/later") for number in (1, 3, 5, 7)))) == {
        7: ErrorCode.REFUSED_STREAM
    }
    assert resets(good.send(get(1, b"/later"), get(3, b"/later"))) == {}
    assert resets(good.send(get(5, b"/later"))) == {5: ErrorCode.REFUSED_STREAM}


def test_a_window_is_renewed_whatever_others_keep() -> None:
    """A connection that keeps hardly anything may send on, although bodies take too much in all."""
    limits = Limits(bodies_in_all=100 * KIB, bodies_reserved=64 * KIB)
    hog = Bench(limits)
    good = Bench(limits, totals=hog.totals)
    pieces = [data_frame(1, bytes(16 * KIB))] * 40
    assert 0 not in widened(hog.send(headers(1), *pieces))
    assert 0 in widened(good.send(headers(1, b"/pieces"), *pieces))


def widened(found: list[Frame]) -> set[int]:
    """Return the streams whose windows were renewed; 0 is the connection."""
    return {update.stream for update in of_kind(found, WINDOW_UPDATE)}


def test_pieces_of_a_stream_are_taken_some_in_a_turn() -> None:
    """After 64 pieces that an exchange took as they came, the rest waits for another turn."""
    bench = Bench()
    bench.connection.receive(headers(1, b"/pieces") + data_frame(1, b"x") * 65, bench.now)
    assert bench.connection.has_backlog
    bench.connection.go_on()
    assert not bench.connection.has_backlog
