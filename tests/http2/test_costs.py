"""What hostile input costs, in calls of functions instead of seconds: no more than its length allows."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bandit.client.http2.frames import END_STREAM, Setting
from server.http2.limits import Limits
from server.http2.requests import RequestReader
from tests.http2.bench import Bench, bytes_of, data_frame, get, headers, request, settings, widen


def n_calls(act: Callable[[], object]) -> int:
    """Return how many calls of Python functions and of built-in ones something takes."""
    n_found = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal n_found
        n_found += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return n_found


def waiting(n_streams: int) -> Bench:
    """Return a connection with streams whose own windows have no room."""
    bench = Bench()
    bench.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    bench.send(*(get(2 * number + 1, b"/large/10") for number in range(n_streams)))
    return bench


def test_one_window_update_walks_no_stream_that_it_does_not_help() -> None:
    """A wider window of the connection costs the same beside 1 and 999 streams that wait for their own.

    Such a frame has 13 bytes, and a peer may send a thousand.
    """
    one, many = waiting(1), waiting(999)
    assert n_calls(lambda: many.send(widen(0, 10))) == n_calls(lambda: one.send(widen(0, 10)))
    assert bytes_of(many.send(widen(1, 10)), 1) == b"x" * 10


def test_settings_look_at_the_streams_once() -> None:
    """A SETTINGS frame that changes the window 1,000 times costs four calls a change, beside 999 streams.

    Only the last value counts.
    """
    one, many = waiting(1), waiting(999)
    changes = settings(*((Setting.INITIAL_WINDOW_SIZE, 0),) * 1_000)
    once = settings((Setting.INITIAL_WINDOW_SIZE, 0))
    per_streams = n_calls(lambda: many.send(once)) - n_calls(lambda: one.send(once))
    assert n_calls(lambda: many.send(changes)) < per_streams + 4_000


def test_waiting_streams_share_the_connections_window_in_turn() -> None:
    """A wider window costs in proportion to what it lets us send, however many streams wait for it."""
    bench = Bench()
    bench.send(settings((Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)), get(1, b"/large/65535"))
    bench.send(*(get(2 * number + 1, b"/large/1000") for number in range(1, 999)))
    few = n_calls(lambda: bench.send(widen(0, 1_000)))
    assert n_calls(lambda: bench.send(widen(0, 2_000))) < 2 * few


@pytest.mark.parametrize("path", [b"/echo", b"/pieces"])
def test_a_body_of_single_bytes_costs_the_same_each(path: bytes) -> None:
    """A frame of one byte costs the same at the end of a long body as at its beginning."""
    bench = Bench()
    bench.send(headers(1, path))
    piece = data_frame(1, b"x")
    early = n_calls(lambda: bench.send(piece))
    bench.send(piece * 9_998)
    assert n_calls(lambda: bench.send(piece)) == early
    assert bytes_of(bench.send(data_frame(1, b"x", flags=END_STREAM)), 1)[-1:] == b"x"


def test_a_body_of_single_bytes_takes_the_memory_that_is_counted() -> None:
    """The pieces of a body are kept as one, with a third to spare: a list would take 50 times as much."""
    bench = Bench()
    bench.send(headers(1), data_frame(1, b"xy") * 10_000)
    (stream,) = bench.connection._streams.by_id.values()
    assert bench.totals.n_body_bytes == 20_000
    assert sys.getsizeof(stream.collected) < 27_000


def test_headers_that_differ_each_time_are_not_all_remembered() -> None:
    """What is remembered of valid headers is bounded: 64 KiB of fields."""
    reader = RequestReader()
    for number in range(1_000):
        mark = b"%d" % number
        reader.read(
            [
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", b"/"),
                (b"n" * 5_000 + mark, b"v" * 10_000 + mark),
            ]
        )
        assert sum(len(name) + len(value) for name, value in reader._fields) <= 64 * 1024
        assert sum(len(name) for order in reader._orders for name in order) <= 64 * 1024


def test_lists_of_many_headers_are_not_remembered() -> None:
    """A list of 2,000 fields that are known by themselves is checked anew each time: it takes 16 KiB."""
    reader = RequestReader()
    known = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b"a", b"b")]
    for n_more in (0, 0, 60, 61, 2_000):
        reader.read([*known, *known[3:] * n_more])
    assert sorted(map(len, reader._lists)) == [4, 64]


def test_a_turn_has_few_frames() -> None:
    """One turn deals with 1,000 frames at most, however short they are."""
    bench = Bench()
    bench.send(headers(1))
    bench.connection.receive(data_frame(1, b"x") * 1_001, bench.now)
    assert bench.totals.n_body_bytes == 1_000
    assert bench.connection.has_backlog


def test_a_turn_has_few_requests() -> None:
    """One turn answers 64 requests; the rest wait in order, and `go_on` takes the next 64."""
    bench = Bench()
    bench.connection.receive(b"".join(request(2 * n + 1) for n in range(130)), bench.now)
    ends = []
    while bench.connection.has_backlog:
        ends.append(len(bench.session.bodies))
        bench.connection.go_on()
    assert (ends, len(bench.session.bodies)) == ([64, 128], 130)
    assert list(bench.session.bodies) == sorted(bench.session.bodies)


def test_requests_that_are_refused_at_once_count_in_a_turn() -> None:
    """A stream that is answered at its headers counts as a request of the turn."""
    bench = Bench()
    bench.connection.receive(b"".join(headers(2 * n + 1, b"/refused") for n in range(65)), bench.now)
    assert len(bench.session.begun) == 64


def test_a_turn_has_few_bytes() -> None:
    """One turn reads 64 KiB, and the frame that goes beyond."""
    bench = Bench(Limits(body_bytes=2**20))
    bench.send(headers(1))
    bench.connection.receive(data_frame(1, bytes(16_000)) * 6, bench.now)
    assert bench.totals.n_body_bytes == 5 * 16_000
    assert bench.connection.has_backlog


def test_requests_of_a_backlog_are_dated_by_when_they_were_read() -> None:
    """Time that a request waits for its turn counts against its deadline."""
    bench = Bench(Limits(turn_requests=1))
    bench.connection.receive(request(1) + headers(3), bench.now)
    bench.connection.tick(bench.now + 2.0)
    bench.connection.go_on()
    (stream,) = bench.connection._streams.by_id.values()
    assert stream.arrived_at == bench.now
