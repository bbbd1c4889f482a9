"""Clients that begin calls without sending requests: closing connections and slowing down addresses."""

from dataclasses import dataclass
from typing import Final

import structlog

from server.listening.peers import address_of
from server.rpc.floods.packet_filter import IS_SUPPORTED, MOST_ADDRESSES
from server.rpc.floods.sockets import limit_connections, shut_down
from server.services.runtime.clock import Clock
from server.services.runtime.log_throttle import LogThrottle

LET_THROUGH: Final = 0.25
"""The share of an address's connection attempts that is let through after a connection was closed."""

OFFENCES: Final = 2
"""This many further closed connections multiply that share by `LET_THROUGH` again, down to `LEAST`."""

LEAST: Final = LET_THROUGH**3

_PAUSE: Final = 20
"""A scan of all descriptors for a connection is followed by a pause this many times as long."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Offender:
    """An address whose connections were closed.

    Attributes:
        last_at: When the last one was closed.
        n_closed: How many were closed since `share` was last lowered.
        share: The share of its connection attempts that is let through.
    """

    last_at: float
    n_closed: int = 0
    share: float = 1.0

    def slow_down(self, now: float) -> bool:
        """Count a closed connection; return whether `share` was lowered."""
        self.last_at = now
        self.n_closed += 1
        if self.share == LEAST or (self.share < 1.0 and self.n_closed < OFFENCES):
            return False
        self.n_closed = 0
        self.share *= LET_THROUGH
        return True


class Offenders:
    """Closed connections, and their addresses, from which the kernel drops most new ones.

    Other open connections from such an address are served as before. Not thread-safe: use it from the event
    loop's thread only.

    Args:
        clock: The time.
        seconds: How long an address is slowed down after the last of its connections was closed; 0 to never
            slow one down.

    Attributes:
        n_closed: Number of closed connections.
        n_slowed: Number of times that an address was slowed down.
    """

    def __init__(self, clock: Clock, *, seconds: float) -> None:
        self._now = clock.monotonic
        self._seconds = seconds
        self._port = 0
        self._to_close: set[str] = set()
        self._offenders: dict[str, _Offender] = {}
        self._may_look_at = 0.0
        self._throttle = LogThrottle(clock)
        self.n_closed = 0
        self.n_slowed = 0

    def listen(self, port: int) -> None:
        """Set the port that the server listens at."""
        self._port = port

    def has_offended(self, address: str) -> bool:
        """True if a connection from the address was closed in the last `seconds`."""
        return address in self._offenders

    def close(self, peer: str) -> None:
        """Close a connection, now or in one of the next calls of `look`.

        Args:
            peer: As gRPC writes it.
        """
        self._to_close.add(peer)
        self.look()

    def look(self) -> None:
        """Close pending connections, and forget addresses after `seconds` without an offence."""
        began_at = self._now()
        self._forget(began_at)
        if not self._to_close or began_at < self._may_look_at:
            return
        peers, self._to_close = self._to_close, set()
        try:
            n_closed = shut_down(peers, self._port)
        except OSError as error:
            log.warning("connection.not_closed", why=error.strerror)
            return
        self.n_closed += n_closed
        self._slow_down(peers, began_at)
        ended_at = self._now()
        self._may_look_at = ended_at + _PAUSE * (ended_at - began_at)
        if n_closed and self._throttle.admit() is not None:
            log.warning(
                "connection.closed",
                peers=sorted(peers)[:10],
                why="too many of its calls wait for their requests",
                n_closed=self.n_closed,
            )

    def _slow_down(self, peers: set[str], now: float) -> None:
        slower = []
        for address in map(address_of, peers):
            if address not in self._offenders and len(self._offenders) < MOST_ADDRESSES:
                self._offenders[address] = _Offender(now)
            offender = self._offenders.get(address)
            if offender is not None and offender.slow_down(now):
                slower.append(address)
        if slower and self._seconds:
            self.n_slowed += len(slower)
            self._apply()
            log.warning(
                "address.slowed",
                let_through={address: self._offenders[address].share for address in slower},
                why="its connections hold too many calls that wait for their requests",
                seconds=self._seconds,
            )

    def _forget(self, now: float) -> None:
        over = [name for name, known in self._offenders.items() if now - known.last_at > self._seconds]
        for name in over:
            del self._offenders[name]
        if over:
            self._apply()

    def _apply(self) -> None:
        if not IS_SUPPORTED:
            return
        shares = {name: known.share for name, known in self._offenders.items()} if self._seconds else {}
        try:
            limit_connections(shares, self._port)
        except OSError as error:
            log.warning("address.not_slowed", why=error.strerror)
