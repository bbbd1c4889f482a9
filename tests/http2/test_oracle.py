"""Histories of a connection that the `h2` package takes part in: what we send, it must accept."""

from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from bandit.client.http2.frames import SETTINGS, ErrorCode, Setting, frame
from server.http2.limits import Limits, Totals
from tests.http2.bench import Bench
from tests.http2.client import GENEROUS, Client, Response, Style

PATHS: Final = (
    b"/echo",
    b"/later",
    b"/pieces",
    b"/held",
    b"/early",
    b"/refused",
    b"/large/0",
    b"/large/70000",
)
AT_ONCE: Final = (b"/echo", b"/pieces", b"/early", b"/refused", b"/large/70000")
NO_FIELDS: Final[dict[bytes, bytes]] = {}
WINDOWS: Final = (0, 1, 100, 16_384, 65_535, 100_000)

_picks: Final = st.integers(0, 1_000)
_sizes: Final = st.sampled_from((0, 1, 5, 1_000, 16_384))


class Conversation(RuleBasedStateMachine):
    """A client of `h2` that does anything it may, in any order, while bytes arrive in any pieces."""

    paths: tuple[bytes, ...] = PATHS

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.path_of: dict[int, bytes] = {}

    def pick(self, number: int) -> int:
        """Return one of the streams on which the client may send."""
        streams = self.client.open_streams
        return streams[number % len(streams)]

    @rule(number=_picks, ends=st.booleans(), style=st.integers(0, 7), extra=st.binary(max_size=3))
    def open(self, number: int, ends: bool, style: int, extra: bytes) -> None:  # noqa: FBT001
        """Begin a request."""
        path = self.paths[number % len(self.paths)]
        stream = self.client.open(path, ends=ends, style=Style(style), extra=extra.hex().encode())
        self.path_of[stream] = path

    @precondition(lambda self: self.client.open_streams)
    @rule(
        number=_picks,
        n_bytes=_sizes,
        ends=st.booleans(),
        padding=st.sampled_from((None, 0, 9, 255)),
    )
    def send(self, number: int, n_bytes: int, ends: bool, padding: int | None) -> None:  # noqa: FBT001
        """Send a piece of a body."""
        stream = self.pick(number)
        self.client.send(stream, bytes((stream % 251,)) * n_bytes, ends=ends, padding=padding)

    @precondition(lambda self: self.client.open_streams)
    @rule(number=_picks)
    def end(self, number: int) -> None:
        """End a request with trailers."""
        self.client.end(self.pick(number))

    @precondition(lambda self: self.client.open_streams)
    @rule(number=_picks)
    def reset(self, number: int) -> None:
        """Give a request up."""
        self.client.reset(self.pick(number))

    @rule(number=_picks, n_bytes=st.sampled_from((1, 100, 20_000)))
    def widen(self, number: int, n_bytes: int) -> None:
        """Widen the window of the connection or of a stream."""
        streams = [None, *self.client.sent]
        self.client.widen(streams[number % len(streams)], n_bytes)

    @rule(n_bytes=st.sampled_from(WINDOWS))
    def set_window(self, n_bytes: int) -> None:
        """Change the window with which streams begin, also of those that are open."""
        self.client.set(INITIAL_WINDOW_SIZE=n_bytes)

    @rule(n_bytes=st.sampled_from((0, 100, 4_096, 10_000)))
    def set_table(self, n_bytes: int) -> None:
        """Change the largest table of headers."""
        self.client.set(HEADER_TABLE_SIZE=n_bytes, MAX_FRAME_SIZE=20_000 + n_bytes)

    @rule()
    def ping(self) -> None:
        """Send a PING."""
        self.client.ping()

    @rule(n_bytes=st.sampled_from((1, 8, 9, 10, 30, 300, 100_000)))
    def deliver(self, n_bytes: int) -> None:
        """Let some bytes reach the connection."""
        self.client.deliver(n_bytes)

    @rule(n_bytes=st.sampled_from((7, 1_000, 1_000_000)))
    def listen(self, n_bytes: int) -> None:
        """Let the client read what the connection has sent, in pieces."""
        self.client.listen(n_bytes)

    @rule()
    def work(self) -> None:
        """Let all work end."""
        self.client.bench.session.end_work()

    @rule(seconds=st.sampled_from((0.1, 1.0)))
    def look(self, seconds: float) -> None:
        """Let time pass."""
        self.client.bench.now += seconds
        self.client.bench.connection.tick(self.client.bench.now)

    def teardown(self) -> None:
        """Expect the response of each request that was not given up, and that nothing is left."""
        client = self.client
        client.finish()
        for stream, response in client.responses.items():
            if stream not in client.dropped and stream not in client.bench.session.faults:
                check(self.path_of[stream], bytes(client.sent[stream]), response)
        assert client.bench.connection.fault is None
        client.bench.assert_released()


def check(path: bytes, sent: bytes, response: Response) -> None:
    """Fail unless a response is whole, and what the path asks for."""
    assert response.has_ended
    assert response.code in {None, ErrorCode.NO_ERROR}
    status = response.fields[b":status"]
    if path == b"/refused":
        assert (status, bytes(response.body), response.trailers) == (b"503", b"", NO_FIELDS)
        return
    assert (status, response.trailers) == (b"200", {b"end": b"yes"})
    match path:
        case b"/echo" | b"/later":
            assert response.body == (sent or b"\0")
        case b"/pieces" | b"/held":
            assert response.body == sent
        case b"/early":
            assert sent.startswith(response.body)
        case _:
            assert response.body == b"x" * int(path.rpartition(b"/")[2])


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=150, stateful_step_count=40)


def output_of(data: bytes, cuts: list[int], limits: Limits = GENEROUS) -> bytes:
    """Return what a connection sends when bytes arrive cut at such positions."""
    bench = Bench(limits, hello=b"")
    output = b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        bench.connection.receive(data[start:end], bench.now)
        while bench.connection.has_backlog:
            bench.connection.go_on()
        output += bench.connection.take_output()
    return output


def windows_of(n_bytes: int) -> bytes:
    """Return a SETTINGS frame with a window."""
    return frame(SETTINGS, 0, 0, Setting.INITIAL_WINDOW_SIZE.to_bytes(2) + n_bytes.to_bytes(4))


def a_history() -> bytes:
    """Return the bytes of a client that uses what there is: small, so that it can be cut anywhere."""
    client = Client()
    client.settle()
    for number, path in enumerate(AT_ONCE * 2):
        stream = client.open(path, ends=False, style=Style(number % 8), extra=b"%d" % number)
        client.send(stream, b"first", ends=False, padding=3)
        client.ping()
        client.unsent += windows_of(number * 10)
        client.send(stream, b"", ends=False)
        if number % 3:
            client.end(stream)
        else:
            client.send(stream, b"last", ends=True)
        client.widen(None, 100_000)
        client.widen(stream, 1 + number)
    client.deliver()
    return bytes(client.record)


def test_bytes_may_be_cut_anywhere() -> None:
    """The output is the same however a client's bytes arrive: as one, in two at any place, or one by one."""
    data = a_history()
    whole = output_of(data, [])
    assert b"first" in whole
    assert output_of(data, list(range(1, len(data)))) == whole
    for position in range(1, len(data)):
        assert output_of(data, [position]) == whole


@given(st.lists(st.integers(0, len(a_history())), max_size=20), st.sampled_from((1, 2, 64)))
def test_bytes_may_be_cut_at_random_and_turns_may_be_short(cuts: list[int], n_requests: int) -> None:
    """Neither where bytes are cut nor how much a turn deals with changes the output."""
    data = a_history()
    limits = Limits(turn_requests=n_requests, turn_frames=n_requests + 1)
    assert output_of(data, sorted(cuts), limits) == output_of(data, [], Limits())


def test_many_streams_are_answered() -> None:
    """1,000 streams at once, answered in another order than they came, all arrive whole."""
    client = Client()
    client.settle()
    for number in range(1_000):
        stream = client.open(b"/later", ends=False)
        client.send(stream, b"%d" % number, ends=True)
    client.deliver()
    assert client.bench.totals.n_streams == 1_000
    client.bench.session.working.reverse()
    client.finish()
    assert [response.body for response in client.responses.values()] == [b"%d" % n for n in range(1_000)]
    assert client.bench.totals == Totals()


def test_bodies_larger_than_all_windows_arrive() -> None:
    """A megabyte each way passes windows of a few bytes, in frames that the peer accepts."""
    client = Client()
    client.set(INITIAL_WINDOW_SIZE=10)
    client.settle()
    stream = client.open(b"/echo", ends=False)
    body = bytes(range(256)) * 4_096
    while len(client.sent[stream]) < len(body):
        client.send(stream, body[len(client.sent[stream]) :][:16_384], ends=False)
        client.settle()
    client.finish()
    assert client.responses[stream].body == body
