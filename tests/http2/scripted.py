"""A session whose exchanges do as the path of their request says, for connections without any I/O."""

from collections.abc import Callable
from typing import ClassVar, Final

from bandit.client.http2.hpack import encode_field
from server.http2.exchange import Exchange, Headers, RequestFault
from server.http2.streams import Stream

HEAD: Final = encode_field(b":status", b"200")
TRAILERS: Final = encode_field(b"end", b"yes")
REFUSAL: Final = encode_field(b":status", b"503")


class Echo(Exchange):
    """Sends the whole body back, as soon as it is there; one zero byte for none."""

    def __init__(self, session: "Script", stream: Stream) -> None:
        self.session = session
        self.stream = stream

    def finish(self, body: bytes) -> None:
        """Answer."""
        self.session.bodies[self.stream.id] = body
        self.stream.respond(HEAD, body or b"\0", TRAILERS)

    def fail(self, fault: RequestFault) -> None:
        """Refuse."""
        self.session.faults[self.stream.id] = fault
        self.stream.end(REFUSAL)

    def cancel(self) -> None:
        """Note it."""
        self.session.cancelled.append(self.stream.id)


class Later(Echo):
    """Sends the body back when the test says so. The work goes on if nobody waits for it any more."""

    def finish(self, body: bytes) -> None:
        """Begin the work."""
        self.stream.begin_work()
        self.session.working.append(lambda: self._answer(body))

    def _answer(self, body: bytes) -> None:
        self.stream.respond(HEAD, body or b"\0", TRAILERS)
        self.stream.end_work()


class Pieces(Echo):
    """Sends each piece back as it arrives, in a response that begins at once."""

    takes_pieces: ClassVar[bool] = True

    def __init__(self, session: "Script", stream: Stream) -> None:
        super().__init__(session, stream)
        stream.begin(HEAD)

    def receive(self, piece: bytes) -> None:
        """Send it back."""
        self.stream.send(piece)

    def fail(self, fault: RequestFault) -> None:
        """End, since the response has begun."""
        self.session.faults[self.stream.id] = fault
        self.stream.end(TRAILERS)

    def finish(self, body: bytes) -> None:
        """End."""
        assert not body
        self.stream.end(TRAILERS)

    def flushed(self) -> None:
        """Note it."""
        self.session.flushed.append(self.stream.id)


class Held(Pieces):
    """As `Pieces`, but receives no more until the test says so."""

    def receive(self, piece: bytes) -> None:
        """Send it back, and wait."""
        super().receive(piece)
        if not self.stream.is_held:
            self.stream.hold()
            self.session.working.append(self.stream.release)


class Early(Pieces):
    """Ends at the first piece, whatever follows."""

    def receive(self, piece: bytes) -> None:
        """Send it back, and end."""
        self.stream.hold()
        self.stream.send(piece)
        self.stream.end(TRAILERS)


class Refused(Echo):
    """Ends at the beginning."""

    def __init__(self, session: "Script", stream: Stream) -> None:
        super().__init__(session, stream)
        stream.end(REFUSAL)

    def finish(self, body: bytes) -> None:
        """Fail the test."""
        raise AssertionError(body)


class Large(Echo):
    """Answers with as many bytes as the path says after its last slash."""

    def __init__(self, session: "Script", stream: Stream, n_bytes: int) -> None:
        super().__init__(session, stream)
        self.n_bytes = n_bytes

    def finish(self, body: bytes) -> None:
        """Answer."""
        del body
        self.stream.respond(HEAD, b"x" * self.n_bytes, TRAILERS)


_KINDS: Final[dict[bytes, Callable[["Script", Stream], Echo]]] = {
    b"/echo": Echo,
    b"/later": Later,
    b"/pieces": Pieces,
    b"/held": Held,
    b"/early": Early,
    b"/refused": Refused,
}


class Script:
    """Answers the requests of one connection.

    Attributes:
        begun: The path of each stream, in order.
        bodies: What `/echo` received, by stream, in order.
        faults: Why requests were not served, by stream.
        cancelled: Streams whose answers nobody waits for.
        flushed: Streams of `/pieces` whose data no longer waits.
        working: Calls that let work end, in order.
        n_drains: How often it was told that the connection is to be closed.
    """

    def __init__(self) -> None:
        self.begun: dict[int, bytes] = {}
        self.bodies: dict[int, bytes] = {}
        self.faults: dict[int, RequestFault] = {}
        self.cancelled: list[int] = []
        self.flushed: list[int] = []
        self.working: list[Callable[[], None]] = []
        self.n_drains = 0

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Return what the path asks for."""
        path = self.begun[stream.id] = headers[b":path"]
        kind, _, number = path.rpartition(b"/")
        if kind == b"/large":
            return Large(self, stream, int(number))
        return _KINDS.get(path, Echo)(self, stream)

    def drain(self) -> None:
        """Note it."""
        self.n_drains += 1

    def end_work(self) -> None:
        """Let all work end."""
        working, self.working = self.working, []
        for end in working:
            end()
