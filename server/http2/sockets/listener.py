"""The listener: accepts connections within limits, and keeps them until they end."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from server.http2.limits import Limits
from server.http2.peer import PeerInfo
from server.http2.sockets.connection_counts import ConnectionCounts
from server.http2.sockets.link import Abort, Link, MakeConnection
from server.listening.peers import address_of, peer_name

_MOST_A_TURN: Final = 64
"""Connections that are accepted before open ones get their turn."""

_TICK_SECONDS: Final = 0.1
"""How often each connection does what is due, while there are few."""

_MOST_A_PORTION: Final = 128
"""Connections that do what is due before the event loop does other things: each takes some 7 us."""

_PORTION_SECONDS: Final = 0.005
"""The least time between two portions: 4,096 connections at each tick would take a quarter of a core."""

_PAUSE_SECONDS: Final = 0.1
"""How long nothing is accepted after the system has run out of descriptors."""

_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_GONE: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""The connection that was to be accepted is no more."""

SHORT: Final = "descriptors"
"""The word under which `on_event` is told of a lack of descriptors."""


class Listener:
    """Accepts connections and runs them. Belongs to the event loop's thread.

    Args:
        make: Makes the connection of each socket.
        limits: The limits.
        now: The monotonic clock.
        context: Returns the TLS that is in force; None for plain text. It is asked at each connection.
        on_event: Called with a reason, a peer and the rule that it broke, or an empty one, whenever a
            connection is refused or cut off.

    Attributes:
        links: Open connections; those in a handshake are not among them.
        n_accepted: Connections that were accepted, among them those that were refused at once.
        n_short: How often the system lacked descriptors or memory for a connection.
        n_aborted: Connections that were cut off, by reason.
        counts: Counts connections, and those that were refused.
        n_unsent: Bytes that connections had not sent when each last did what was due.
    """

    def __init__(
        self,
        make: MakeConnection,
        limits: Limits,
        now: Callable[[], float],
        *,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
        on_event: Callable[[str, str, str], None] = lambda _reason, _peer, _rule: None,
    ) -> None:
        self._make = make
        self._limits = limits
        self._now = now
        self._context = context
        self._on_event = on_event
        self._sockets: Sequence[socket.socket] = ()
        self._beginning: dict[asyncio.Task[None], socket.socket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unticked: list[Link] = []
        self._pause_seconds = _TICK_SECONDS
        self._unsent: dict[Link, int] = {}
        self._is_draining = False
        self._empty = asyncio.Event()
        self.links: set[Link] = set()
        self.counts = ConnectionCounts(limits)
        self.n_accepted = 0
        self.n_short = 0
        self.n_aborted = dict.fromkeys(Abort, 0)
        self.n_unsent = 0

    def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept connections at sockets that listen and do not block; whoever opened them closes them."""
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets
        self._resume()
        self._timer = self._loop.call_later(_TICK_SECONDS, self._tick)

    def stop_accepting(self) -> None:
        """Accept no more connections; the sockets can be closed."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._sockets = ()

    def begin_drain(self) -> None:
        """Let every peer go elsewhere, and those that connect from now on, too."""
        self._is_draining = True
        now = self._now()
        for link in list(self.links):
            link.begin_drain(now)

    async def close(self, seconds: float) -> None:
        """Accept no more; wait at most `seconds` for the connections to end, then cut them off."""
        self.stop_accepting()
        for accepted in self._beginning.values():
            with suppress(OSError):
                # A task that is cancelled would leave uvloop's transport closed without `connection_lost`.
                accepted.shutdown(socket.SHUT_RDWR)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait_until_empty()
        for link in list(self.links):
            link.abort(Abort.CLOSED)
        await self._wait_until_empty()
        if self._timer is not None:
            self._timer.cancel()

    async def _wait_until_empty(self) -> None:
        while self._beginning:
            await asyncio.wait(tuple(self._beginning))
        while self.links:
            self._empty.clear()
            await self._empty.wait()

    def _resume(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Accept what waits at a socket, up to a turn of it."""
        for _ in range(_MOST_A_TURN):
            try:
                accepted, name = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    self._pause()
                    return
                if error.errno not in _GONE:
                    raise
                continue
            self.n_accepted += 1
            self._let_in(accepted, peer_name(name))

    def _pause(self) -> None:
        """Accept nothing for a moment: the loop would spin, since the connection goes on waiting."""
        self.n_short += 1
        self._on_event(SHORT, "", "")
        for listening in self._sockets:
            self._loop.remove_reader(listening)
        self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _let_in(self, accepted: socket.socket, address: str) -> None:
        network = address_of(address)
        refusal = self.counts.admit(network, self._now())
        if refusal is not None:
            accepted.close()
            self._on_event(refusal, address, "")
            return
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            with suppress(OSError):  # the peer may be gone
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = PeerInfo(address=address, network=network)
        task = self._loop.create_task(self._begin(accepted, peer))
        self._beginning[task] = accepted
        task.add_done_callback(self._beginning.pop)

    async def _begin(self, accepted: socket.socket, peer: PeerInfo) -> None:
        """Shake hands, if TLS is in force, and hand the socket over to its link."""
        link = Link(
            self._make,
            self._limits,
            peer,
            self._now,
            on_made=self._note_made,
            on_aborted=self._note_aborted,
            on_lost=self._note_lost,
        )
        context = self._context()
        try:
            await self._loop.connect_accepted_socket(
                partial(_same, link),
                accepted,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._limits.handshake_seconds,
            )
        except OSError:  # among them ssl.SSLError and TimeoutError
            accepted.close()
            if not link.is_made:
                self.counts.leave(peer.network, self._now())
                self._note_aborted(link, Abort.HANDSHAKE)

    def _note_made(self, link: Link) -> None:
        self.links.add(link)
        if self._is_draining:
            self._loop.call_soon(self._drain_late, link)

    def _drain_late(self, link: Link) -> None:
        if link in self.links:
            link.begin_drain(self._now())

    def _note_aborted(self, link: Link, reason: Abort) -> None:
        self.n_aborted[reason] += 1
        if reason is not Abort.CLOSED:
            self._on_event(reason, link.peer.address, link.broken_rule)

    def _note_lost(self, link: Link) -> None:
        self.links.discard(link)
        self.counts.leave(link.peer.network, self._now())
        if not self.links:
            self._empty.set()

    def _tick(self) -> None:
        """Let a portion of the connections do what is due; after the last, bound what all have not sent."""
        now = self._now()
        if not self._unticked:
            self._unticked, self._unsent = list(self.links), {}
            n_portions = max(-(-len(self.links) // _MOST_A_PORTION), 1)
            self._pause_seconds = max(_TICK_SECONDS / n_portions, _PORTION_SECONDS)
        self._timer = self._loop.call_later(self._pause_seconds, self._tick)
        for link in self._unticked[-_MOST_A_PORTION:]:
            if link in self.links:
                self._tick_one(link, now)
        del self._unticked[-_MOST_A_PORTION:]
        if not self._unticked:
            self._bound_unsent()
            self.counts.forget(now)

    def _tick_one(self, link: Link, now: float) -> None:
        try:
            link.tick(now)
        except Exception as error:  # noqa: BLE001 - one connection's failure is no other's
            context = {"message": "a connection's tick failed", "exception": error}
            self._loop.call_exception_handler(context)
            link.abort(Abort.FAILED)
        if size := link.n_unsent:
            self._unsent[link] = size

    def _bound_unsent(self) -> None:
        """Cut off the connections with most unsent output while all have too much together."""
        self.n_unsent = sum(self._unsent.values())
        if self.n_unsent <= self._limits.unsent_bytes_in_all:
            return
        sizes = {link: link.n_unsent for link in self._unsent if link in self.links}
        excess = sum(sizes.values()) - self._limits.unsent_bytes_in_all
        for link in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if excess <= 0:
                return
            excess -= sizes[link]
            link.abort(Abort.MEMORY)


def _same(link: Link) -> Link:
    return link
