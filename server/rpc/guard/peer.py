"""The other end of a call, as much of it as the guard needs, whatever the transport."""

from collections.abc import Iterable
from typing import Protocol

from server.rpc.guard.admission import Identity


class Peer(Protocol):
    """The other end of one call, or of all calls of a connection with one `authorization`.

    Attributes:
        identity: What the authenticator found, kept by it for the next call of the same peer; None at first.
    """

    identity: Identity | None

    @property
    def authorization(self) -> str | None:
        """The header of this name; None without one. It never changes."""

    @property
    def name(self) -> str:
        """The address as gRPC writes it, such as `ipv4:127.0.0.1:5000`."""

    def certificate_names(self) -> Iterable[str]:
        """Return the names in a verified client certificate, alternative ones first."""
