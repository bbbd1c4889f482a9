"""A connection's socket: bytes from the network in, and output back, as far as the peer reads it."""

import asyncio
import enum
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, cast

from server.http2.limits import Limits
from server.http2.peer import PeerInfo
from server.http2.sockets.tls import PROTOCOL, certificate_names

_LAST_SECONDS: Final = 1.0
"""How long the peer may take to read the last output of a connection that is over."""


class Abort(enum.StrEnum):
    """Why a connection was cut off."""

    HANDSHAKE = "handshake"
    """TLS failed, or took too long."""

    NOT_HTTP2 = "not_http2"
    """TLS was agreed on for another protocol, or for none."""

    UNSENT = "unsent"
    """The peer does not read, and too much output waits for it."""

    STALLED = "stalled"
    """The peer has read nothing for too long, though output waits for it."""

    MEMORY = "memory"
    """The output of all connections takes too much memory, and this one's takes the most."""

    FAULT = "fault"
    """The peer broke a rule or a limit; a GOAWAY told it which."""

    UNREAD_END = "unread_end"
    """The connection was over, and the peer did not read that in time."""

    FAILED = "failed"
    """This server failed."""

    CLOSED = "closed"
    """The server ends."""


class Duplex(Protocol):
    """A connection without its I/O, such as `server.http2.connection.Connection`."""

    @property
    def has_backlog(self) -> bool:
        """True if `go_on` is due: bytes were received that another turn has to deal with."""

    @property
    def is_over(self) -> bool:
        """True if it is to be closed once its output is written."""

    @property
    def broken_rule(self) -> str:
        """The rule or limit that the peer broke, so that it is over; empty if it broke none."""

    @property
    def n_unsent(self) -> int:
        """Bytes that wait for the peer's windows, and are no output yet."""

    def receive(self, data: bytes, now: float) -> None:
        """Deal with bytes from the peer, at most a turn of them."""

    def go_on(self) -> None:
        """Deal with bytes that an earlier turn left."""

    def take_output(self) -> bytes:
        """Return what is to be written, and forget it."""

    def tick(self, now: float) -> None:
        """Do what is due."""

    def begin_drain(self, now: float) -> None:
        """Let the peer go elsewhere."""

    def lost(self) -> None:
        """Note that the peer is gone."""


MakeConnection: TypeAlias = Callable[[PeerInfo, float, Callable[[], None]], Duplex]
"""From the peer, the time, and what to call when there is output that nobody waits for."""


class Link(asyncio.Protocol):
    """The socket of one connection. Belongs to the event loop's thread.

    Args:
        make: Makes the connection.
        limits: The limits.
        peer: Who is at the other end; names in a certificate are added.
        now: The monotonic clock.
        on_made: Called when the connection begins, after a handshake.
        on_aborted: Called with the reason before the connection is cut off.
        on_lost: Called when it has ended, if it had begun.

    Attributes:
        peer: As above.
        is_made: Whether it has begun.
        broken_rule: The rule or limit that the peer broke; empty if it broke none.
    """

    __slots__ = (
        "_connection",
        "_flushing",
        "_going_on",
        "_is_reading",
        "_is_writing",
        "_limits",
        "_loop",
        "_make",
        "_n_pending",
        "_n_sent",
        "_n_written",
        "_now",
        "_on_aborted",
        "_on_lost",
        "_on_made",
        "_over_at",
        "_progress_at",
        "_transport",
        "broken_rule",
        "is_made",
        "peer",
    )

    _transport: asyncio.Transport
    _connection: Duplex

    def __init__(
        self,
        make: MakeConnection,
        limits: Limits,
        peer: PeerInfo,
        now: Callable[[], float],
        *,
        on_made: "Callable[[Link], None]",
        on_aborted: "Callable[[Link, Abort], None]",
        on_lost: "Callable[[Link], None]",
    ) -> None:
        self.peer = peer
        self.is_made = False
        self.broken_rule = ""
        self._make = make
        self._limits = limits
        self._now = now
        self._on_made = on_made
        self._on_aborted = on_aborted
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._is_reading = self._is_writing = True
        self._flushing = self._going_on = False
        self._n_written = self._n_sent = self._n_pending = 0
        self._progress_at = now()
        self._over_at: float | None = None

    @property
    def n_unsent(self) -> int:
        """Bytes that were not sent, for the peer's windows or because it does not read."""
        return self._transport.get_write_buffer_size() + self._connection.n_unsent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; TLS is ready, if there is any."""
        self._transport = transport = cast("asyncio.Transport", transport)
        self.is_made = True
        transport.set_write_buffer_limits(self._limits.unsent_bytes, self._limits.unsent_bytes_low)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            names = certificate_names(tls.getpeercert())
            self.peer = PeerInfo(
                address=self.peer.address, network=self.peer.network, certificate_names=names
            )
        self._connection = self._make(self.peer, self._now(), self._wake)
        self._on_made(self)
        if tls is not None and tls.selected_alpn_protocol() != PROTOCOL:
            self.abort(Abort.NOT_HTTP2)
        else:
            self._flush()

    def data_received(self, data: bytes) -> None:
        """Deal with bytes from the peer."""
        if self._over_at is None:
            self._connection.receive(data, self._now())
            self._flush()

    def pause_writing(self) -> None:
        """Read nothing more from a peer that does not read."""
        self._is_writing = False
        self._set_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_writing = True
        self._set_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed."""
        del exc
        self._over_at = self._over_at or self._now()
        self._connection.lost()
        self._on_lost(self)
        del self._connection  # which refers back, to wake this

    def begin_drain(self, now: float) -> None:
        """Let the peer go elsewhere."""
        self._connection.begin_drain(now)
        self._flush()

    def tick(self, now: float) -> None:
        """Do what is due, and cut off a peer that does not read."""
        if self._over_at is not None:
            if now - self._over_at > _LAST_SECONDS:
                self._give_up()
            return
        self._connection.tick(now)
        if self._is_stalled(now):
            self.abort(Abort.STALLED)
        else:
            self._flush()

    def abort(self, reason: Abort) -> None:
        """Cut the connection off; nothing more is sent."""
        self._over_at = self._over_at or self._now()
        self._on_aborted(self, reason)
        self._transport.abort()

    def _give_up(self) -> None:
        if self._transport.get_write_buffer_size():
            self.abort(Abort.UNREAD_END)
        else:  # the peer has it all, and does not close its side
            self._transport.abort()

    def _wake(self) -> None:
        """Flush soon, once for all that becomes ready in this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_woken)

    def _flush_woken(self) -> None:
        self._flushing = False
        if self._over_at is None:
            self._flush()

    def _go_on(self) -> None:
        self._going_on = False
        if self._over_at is None and self._is_writing:
            self._connection.go_on()
            self._flush()

    def _flush(self) -> None:
        """Write what there is, all at once; then read on, later or not at all."""
        connection = self._connection
        output = connection.take_output()
        if output:
            self._n_written += len(output)
            self._transport.write(output)
        if connection.is_over:
            self._finish()
            return
        if connection.n_unsent or not self._is_writing:
            # What was written in this turn leaves with its end: it counts only once the peer does not read.
            n_unsent = connection.n_unsent if self._is_writing else self.n_unsent
            if n_unsent > self._limits.unsent_bytes_at_most:
                self.abort(Abort.UNSENT)
                return
        if connection.has_backlog or not self._is_reading:
            self._set_reading()

    def _set_reading(self) -> None:
        """Read, unless bytes wait to be dealt with, or output to be read by the peer."""
        if self._over_at is not None:
            return
        has_backlog = self._connection.has_backlog
        if has_backlog and self._is_writing and not self._going_on:
            self._going_on = True
            self._loop.call_soon(self._go_on)
        wanted = self._is_writing and not has_backlog
        if wanted != self._is_reading:
            self._is_reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _finish(self) -> None:
        """Close after the last output. What the peer still sends is ignored, until it closes, too.

        Closing a socket with bytes unread resets the connection, and the peer might never read why.
        """
        self._over_at = self._now()
        self.broken_rule = self._connection.broken_rule
        if self.broken_rule:
            self._on_aborted(self, Abort.FAULT)
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()

    def _is_stalled(self, now: float) -> bool:
        """True if output has waited for the peer, without any progress, for too long."""
        n_buffered = self._transport.get_write_buffer_size()
        n_pending, n_sent = self._connection.n_unsent, self._n_written - n_buffered
        is_moving = n_pending < self._n_pending or (n_buffered > 0 and n_sent > self._n_sent)
        self._n_pending, self._n_sent = n_pending, n_sent
        if is_moving or not (n_buffered or n_pending):
            self._progress_at = now
        return now - self._progress_at > self._limits.stalled_seconds
