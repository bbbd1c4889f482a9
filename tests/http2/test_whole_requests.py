"""Requests that are read whole, since their header block is known, beside the same byte by byte."""

from typing import Final

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit.client.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from server.http2.limits import Limits
from server.http2.open_streams import RENEW
from tests.http2.bench import Bench, Frame, bytes_of, of_kind, reset_frame, resets

PATHS: Final = ("/echo", "/later", "/pieces", "/held", "/early")
TABLES: Final = (0, 64, 4096)
LENGTHS: Final = (None, None, "1", "3")
LIMITS: Final = Limits(streams=8, body_bytes=40)
"""Few, so that requests beyond them are among the examples."""


class Client:
    """A client whose header blocks refer to the table that its earlier ones have filled."""

    def __init__(self) -> None:
        self._encoder = Encoder()
        self.next_id = 1

    def request(
        self, path: str = "/echo", body: bytes = b"abc", *, more: tuple[str, str] | None = None
    ) -> bytes:
        """Return the next request."""
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers")]
        block = self._encoder.encode([*fields, more] if more else fields)
        stream, self.next_id = self.next_id, self.next_id + 2
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)

    def resize(self, n_bytes: int) -> None:
        """Announce another size of the table in the next request."""
        self._encoder.header_table_size = n_bytes


def sent_slowly(bench: Bench, data: bytes) -> list[Frame]:
    """Send them one by one, so that no request is read whole."""
    return [found for byte in data for found in bench.send(bytes((byte,)))]


def n_whole(bench: Bench, data: bytes) -> int:
    """Send bytes at once, and return how many requests in them were read whole."""
    receiver = bench.connection._receiver
    taken: list[bool] = []
    take = receiver.take_whole

    def count(stream_id: int, block: bytes, body: bytes) -> bool:
        taken.append(take(stream_id, block, body))
        return taken[-1]

    receiver.take_whole = count  # type: ignore[method-assign]
    bench.send(data)
    receiver.take_whole = take  # type: ignore[method-assign]
    return sum(taken)


def test_requests_with_known_blocks_are_read_whole() -> None:
    """The first fills the table, and the second refers to it; its block is known from the third on."""
    client, bench = Client(), Bench()
    assert [n_whole(bench, client.request()) for _ in range(4)] == [0, 0, 1, 1]
    assert n_whole(bench, client.request() + client.request(body=b"") + client.request()) == 3
    assert len(bench.session.bodies) == 7


def test_a_block_is_read_anew_after_the_table_changed() -> None:
    """The same bytes stand for another path then: what they stood for before is forgotten."""
    client, bench = Client(), Bench()
    for path in ("/echo", "/echo", "/echo", "/later"):
        bench.send(client.request(path))
    assert len(bench.session.working) == 1
    found = bench.send(client.request("/later"))
    assert found == []
    assert len(bench.session.working) == 2
    client.resize(0)
    assert bytes_of(bench.send(client.request("/echo", b"new")), 11) == b"new"


def test_a_block_that_became_invalid_ends_the_connection() -> None:
    """A block that refers to entries which the peer has dropped is an error, whatever it stood for before."""
    client, bench = Client(), Bench()
    for _ in range(3):
        bench.send(client.request())
    known = client.request()
    bench.send(frame(HEADERS, END_HEADERS | END_STREAM, 9, b"\x20\x83\x86\x04\x05/echo"))
    bench.send(known.replace(b"\0\0\0\x07", b"\0\0\0\x0b"))
    assert bench.code() is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("step", [1, -2, -3, -4])
def test_an_id_that_may_not_begin_ends_the_connection(step: int) -> None:
    """A known block on a stream that has ended, or on one that only a server begins, is no request."""
    client, bench = Client(), Bench()
    for _ in range(3):
        bench.send(client.request())
    client.next_id += step
    assert n_whole(bench, client.request()) == 0
    assert bench.code() in {ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR}


def test_a_stream_beyond_the_limit_is_refused() -> None:
    """Also if its block is known."""
    client, bench = Client(), Bench(LIMITS)
    for _ in range(LIMITS.streams):
        bench.send(client.request("/later"))
    assert resets(bench.send(client.request("/later"))) == {client.next_id - 2: ErrorCode.REFUSED_STREAM}
    assert len(bench.session.working) == LIMITS.streams


def test_windows_are_renewed_for_requests_that_are_read_whole() -> None:
    """A client may go on for ever: the connection's window is renewed as for others."""
    client, bench = Client(), Bench()
    found = [frame for _ in range(200) for frame in bench.send(client.request(body=bytes(16_000)))]
    widened = sum(int.from_bytes(each.payload) for each in of_kind(found, WINDOW_UPDATE))
    assert 200 * 16_000 - RENEW < widened <= 200 * 16_000


requests = st.tuples(
    st.just("requests"),
    st.sampled_from(PATHS),
    st.integers(0, 60),
    st.sampled_from(LENGTHS),
    st.integers(1, 6),
)
others = st.one_of(
    st.tuples(st.just("resize"), st.sampled_from(TABLES)),
    st.tuples(st.just("token"), st.text("ab", min_size=1, max_size=40)),
    st.tuples(st.just("reset"), st.integers(0, 8)),
    st.tuples(st.just("skip"), st.sampled_from([-2, 1, 2, 4])),
    st.tuples(st.just("end"), st.none()),
)


@settings(max_examples=300)
@given(st.lists(st.one_of(requests, requests, others), max_size=40))
def test_a_request_read_whole_is_dealt_with_as_byte_by_byte(steps: list[tuple[object, ...]]) -> None:
    """Whatever came before, both connections send the same, hand over the same bodies and end alike."""
    client = Client()
    whole, slow = Bench(LIMITS), Bench(LIMITS)
    for step in steps:
        if step[0] == "end":
            assert whole.end_work() == slow.end_work()
            continue
        data = written(client, step)
        assert whole.send(data) == sent_slowly(slow, data)
        assert whole.code() == slow.code()
        assert whole.session.bodies == slow.session.bodies
        assert whole.totals == slow.totals


def written(client: Client, step: tuple[object, ...]) -> bytes:
    """Return what a client sends in a step."""
    match step:
        case ("requests", str(path), int(n_bytes), length, int(times)):
            more = ("content-length", str(length)) if length else None
            return b"".join(client.request(path, bytes(n_bytes), more=more) for _ in range(times))
        case ("token", str(token)):
            return client.request(more=("authorization", token))
        case ("reset", int(back)):
            return reset_frame(max(client.next_id - 2 - 2 * back, 1))
        case ("resize", int(n_bytes)):
            client.resize(n_bytes)
        case ("skip", int(n)):
            client.next_id = max(client.next_id + n, 1)
    return b""
