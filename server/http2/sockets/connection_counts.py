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
class _Network:
    """What is known of one address.

    Attributes:
        seen_at: When its last connection came or went.
        allowance: New connections that it may open; None for no limit.
        n_open: Its open connections.
    """

    seen_at: float
    allowance: Allowance | None
    n_open: int = 0


class ConnectionCounts:
    """Counts connections, and those of each address.

    Args:
        limits: The limits.

    Attributes:
        n_open: Connections that were admitted and have not left.
        n_refused: Connections that were refused, by reason.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._networks: dict[str, _Network] = {}
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
        known = self._networks.get(network)
        if known is not None:
            known.n_open -= 1
            known.seen_at = now

    def forget(self, now: float) -> None:
        """Forget addresses that have no connection, and had none for a second."""
        over = [
            network
            for network, known in self._networks.items()
            if not known.n_open and now - known.seen_at > _FORGET_SECONDS
        ]
        for network in over:
            del self._networks[network]

    def _refusal_of(self, network: str, now: float) -> Refusal | None:
        limits = self._limits
        if self.n_open >= limits.connections:
            return Refusal.CONNECTIONS
        if not network:
            return None
        known = self._networks.get(network)
        if known is None:
            rate = limits.new_by_address
            allowance = Allowance(max(int(rate), 1), rate, now) if rate else None
            known = self._networks[network] = _Network(now, allowance)
        known.seen_at = now
        if limits.connections_by_address and known.n_open >= limits.connections_by_address:
            return Refusal.ADDRESS
        if known.allowance is not None and not known.allowance.take(now):
            return Refusal.RATE
        known.n_open += 1
        return None
