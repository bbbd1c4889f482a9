"""Who begins calls and does not send their requests: connections are closed, and addresses slowed down."""

from dataclasses import dataclass
from typing import Final

import structlog

from server.rpc.floods.packet_filter import IS_SUPPORTED, MOST_ADDRESSES
from server.rpc.floods.sockets import address_of, let_through, shut_down
from server.services.runtime.clock import Clock
from server.services.runtime.log_throttle import LogThrottle

LET_THROUGH: Final = 0.25
"""The share of an address's attempts to connect that are let through once a connection was closed."""

OFFENCES: Final = 2
"""After so many more it is this share of those, down to `LEAST`."""

LEAST: Final = LET_THROUGH**3

_PAUSE: Final = 20
"""A look through all descriptors for a connection is followed by a pause so many times as long."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Offender:
    """An address whose connections were closed.

    Attributes:
        last_at: When the last one was.
        n_closed: How many since less was let through.
        share: What share of its attempts to connect is let through.
    """

    last_at: float
    n_closed: int = 0
    share: float = 1.0

    def slow_down(self, now: float) -> bool:
        """Notes that a connection was closed; whether less is to be let through from now on."""
        self.last_at = now
        self.n_closed += 1
        if self.share == LEAST or (self.share < 1.0 and self.n_closed < OFFENCES):
            return False
        self.n_closed = 0
        self.share *= LET_THROUGH
        return True


class Flooders:
    """Closes connections, and has the kernel drop most new ones of the addresses that they came from.

    Connections of such an address that stand and behave are served as before. Belongs to the event loop's
    thread.

    Args:
        clock: The time.
        seconds: How long an address is slowed down after the last of its connections was closed; 0 for not at
            all.

    Attributes:
        n_closed: Connections that were closed.
        n_slowed: How often an address was slowed down.
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
        """Says where the server listens."""
        self._port = port

    def has_offended(self, address: str) -> bool:
        """Whether a connection of the address was closed a while ago."""
        return address in self._offenders

    def close(self, peer: str) -> None:
        """Closes a connection, now or at one of the next looks.

        Args:
            peer: As gRPC writes it.
        """
        self._to_close.add(peer)
        self.look()

    def look(self) -> None:
        """Closes what is to be closed, and forgets addresses that have behaved for long enough."""
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
            let_through(shares, self._port)
        except OSError as error:
            log.warning("address.not_slowed", why=error.strerror)
