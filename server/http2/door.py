"""Which connections are let in: limits that hold before a handshake or a request is paid for."""

import enum
from dataclasses import dataclass
from typing import Final

from server.http2.limits import Allowance, Limits

_FORGET_SECONDS: Final = 1.0
"""An allowance is whole again after this long, since it is that of one second."""


class Refusal(enum.StrEnum):
    """Why a connection was closed as soon as it was accepted."""

    CONNECTIONS = "connections"
    """Too many are open."""

    ADDRESS = "address"
    """Too many from its address are open."""

    RATE = "rate"
    """Too many from its address have come within a second."""


@dataclass(slots=True)
class _Guest:
    """An address.

    Attributes:
        seen_at: When its last connection came or went.
        allowance: New connections that it may open; None for no limit.
        n_open: Its open connections.
    """

    seen_at: float
    allowance: Allowance | None
    n_open: int = 0


class Door:
    """Counts connections, and those of each address.

    Args:
        limits: The limits.

    Attributes:
        n_open: Connections that were admitted and have not left.
        n_refused: Connections that were refused, by reason.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._guests: dict[str, _Guest] = {}
        self.n_open = 0
        self.n_refused = dict.fromkeys(Refusal, 0)

    def admit(self, network: str, now: float) -> Refusal | None:
        """Admit a connection, which must `leave` later; or return why it is refused.

        Args:
            network: An address that counts as one; empty for a Unix socket, whose clients have none.
            now: On the monotonic clock, in seconds.
        """
        refusal = self._refusal_of(network, now)
        if refusal is None:
            self.n_open += 1
        else:
            self.n_refused[refusal] += 1
        return refusal

    def leave(self, network: str, now: float) -> None:
        """Note that an admitted connection has ended."""
        self.n_open -= 1
        guest = self._guests.get(network)
        if guest is not None:
            guest.n_open -= 1
            guest.seen_at = now

    def forget(self, now: float) -> None:
        """Forget addresses that have no connection, and had none for a second."""
        over = [
            network
            for network, guest in self._guests.items()
            if not guest.n_open and now - guest.seen_at > _FORGET_SECONDS
        ]
        for network in over:
            del self._guests[network]

    def _refusal_of(self, network: str, now: float) -> Refusal | None:
        limits = self._limits
        if self.n_open >= limits.connections:
            return Refusal.CONNECTIONS
        if not network:
            return None
        guest = self._guests.get(network)
        if guest is None:
            rate = limits.new_by_address
            allowance = Allowance(max(int(rate), 1), rate, now) if rate else None
            guest = self._guests[network] = _Guest(now, allowance)
        guest.seen_at = now
        if limits.connections_by_address and guest.n_open >= limits.connections_by_address:
            return Refusal.ADDRESS
        if guest.allowance is not None and not guest.allowance.take(now):
            return Refusal.RATE
        guest.n_open += 1
        return None
