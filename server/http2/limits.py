"""Limits of the HTTP/2 server, with the attack or the client that each is for, and allowances by time."""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a server and of each of its connections. Times are in seconds, sizes in bytes.

    Attributes:
        streams: Streams of a connection whose work has not ended; more are refused, and clients repeat them.
            One commit of rewards answers that many at once.
        streams_in_all: Streams of all connections whose work has not ended.
        streams_reserved: Streams that each connection may have whatever the others hold: streams that wait,
            such as watches of health, cost their owner nothing, and would keep everybody else out.
        refusals: Streams beyond these limits that a connection may begin at once, before it is closed. A
            tenth of it comes back a second.
        resets: Streams that may be reset at once before their requests have arrived, or by us for a fault of
            the peer, before the connection is closed (CVE-2023-44487, CVE-2025-8671). A tenth of it comes
            back a second.
        cancels: Streams that the peer may reset at once after their requests have arrived, as it does when
            its deadlines pass. A tenth of it comes back a second.
        incomplete: Streams of a connection whose request has not arrived; more are answered as refused.
        incomplete_refusals: Streams that may be refused for that, before the connection is closed. A tenth of
            it comes back a second.
        request_seconds: Time for a request to arrive after its headers.
        block_bytes: Compressed headers of a request, with their continuations.
        block_frames: Frames of one block of headers (CONTINUATION flood).
        header_bytes: Decoded headers of a request, 32 bytes more a field; beyond it the request is refused.
        header_fields: Fields of a request.
        header_bytes_at_most: Decoded headers beyond which the connection is closed (HPACK bomb).
        body_bytes: The body of a request that is collected as a whole; no less than one frame has.
        bodies: Bytes of the incomplete bodies of a connection; beyond it, its window is not renewed.
        bodies_in_all: The same for all connections.
        bodies_reserved: Bytes of incomplete bodies with which a connection's window is renewed whatever the
            others keep.
        turn_requests: Requests of a connection that are answered in one turn of the event loop.
        turn_bytes: Bytes of a connection that are read in one turn. uvloop hands over 256,000 at once.
        turn_frames: Frames of a connection that are read in one turn: those of 10 bytes cost as much as
            others.
        idle_frames: Frames that may do nothing, of each kind: empty DATA, PRIORITY, unknown, answers to PING.
            A tenth of it comes back a second.
        pings: PING frames without a response between them; one more every ten seconds. grpc-go sends one a
            burst.
        settings: SETTINGS frames; one more a second.
        window_updates: WINDOW_UPDATE frames, and ten more for each stream that was begun and each frame that
            we sent. gRPC's clients widen the window of each stream when they begin it.
        handshake_seconds: Time for TLS, the preface and the first SETTINGS.
        idle_seconds: Time without streams after which a connection is closed.
        age_seconds: Age at which clients are asked to reconnect, give or take a tenth.
        grace_seconds: Time for streams to end after that.
        keepalive_seconds: Silence of the peer after which it is asked with a PING.
        keepalive_timeout_seconds: Time to answer it.
        unsent_bytes: Output that waits for the peer, beyond which nothing more is read from it.
        unsent_bytes_low: Output at which reading goes on.
        unsent_bytes_at_most: Output at which the connection is closed (CVE-2019-9511, CVE-2019-9517).
        unsent_bytes_in_all: Output of all connections, at which the connection with most of it is closed.
        stalled_seconds: Time without progress of the output, after which the connection is closed.
        connections: Open connections.
        connections_by_address: Open connections of an IPv4 address, or a /64 of IPv6; 0 for no limit.
        new_by_address: New connections of an address a second; 0 for no limit.
    """

    streams: int = 1_000
    streams_in_all: int = 16_000
    streams_reserved: int = 32
    refusals: int = 1_000
    resets: int = 200
    cancels: int = 4_000
    incomplete: int = 128
    incomplete_refusals: int = 50
    request_seconds: float = 5.0
    block_bytes: int = 20 * KIB
    block_frames: int = 4
    header_bytes: int = 16 * KIB
    header_fields: int = 64
    header_bytes_at_most: int = 64 * KIB
    body_bytes: int = MIB + KIB
    bodies: int = 64 * MIB
    bodies_in_all: int = 128 * MIB
    bodies_reserved: int = 64 * KIB
    turn_requests: int = 64
    turn_bytes: int = 64 * KIB
    turn_frames: int = 1_000
    idle_frames: int = 100
    pings: int = 20
    settings: int = 50
    window_updates: int = 1_000
    handshake_seconds: float = 5.0
    idle_seconds: float = 300.0
    age_seconds: float = 1_800.0
    grace_seconds: float = 30.0
    keepalive_seconds: float = 60.0
    keepalive_timeout_seconds: float = 20.0
    unsent_bytes: int = 256 * KIB
    unsent_bytes_low: int = 64 * KIB
    unsent_bytes_at_most: int = 4 * MIB
    unsent_bytes_in_all: int = 64 * MIB
    stalled_seconds: float = 20.0
    connections: int = 4_096
    connections_by_address: int = 100
    new_by_address: float = 50.0


@dataclass(slots=True)
class Totals:
    """What all connections of a server hold together.

    Attributes:
        n_streams: Streams whose work has not ended.
        n_body_bytes: Bytes of incomplete bodies.
    """

    n_streams: int = 0
    n_body_bytes: int = 0


class Allowance:
    """Events that may happen: `most` at once, and `per_second` more as time passes.

    >>> pings = Allowance(2, 0.1, now=0.0)
    >>> [pings.take(now) for now in (0.0, 0.0, 0.0, 10.0)]
    [True, True, False, True]
    """

    __slots__ = ("_at", "_left", "_most", "_per_second")

    def __init__(self, most: int, per_second: float, now: float) -> None:
        self._most = most
        self._per_second = per_second
        self._left = float(most)
        self._at = now

    def take(self, now: float) -> bool:
        """Count an event; return False if it is one too many."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
