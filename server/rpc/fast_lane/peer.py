"""Who makes the calls of a connection, for the guard."""

from collections.abc import Iterable
from hmac import compare_digest
from typing import TYPE_CHECKING

from server.http2.peer import PeerInfo

if TYPE_CHECKING:
    from server.rpc.guard.admission import Identity


class CallPeer:
    """Who makes the calls of a connection with one `authorization`, as a `server.rpc.guard.peer.Peer`.

    Args:
        info: The other end of the connection.
        header: The value of `authorization`; None without one.

    Attributes:
        identity: Who it was found to be; kept here by the authenticator.
    """

    __slots__ = ("_header", "_info", "identity")

    def __init__(self, info: PeerInfo, header: bytes | None) -> None:
        self._info = info
        self._header = header
        self.identity: Identity | None = None

    def has_sent(self, header: bytes | None) -> bool:
        """Return whether `authorization` is this. Some clients send a token as a new text in each call."""
        known = self._header
        if header is known:
            return True
        return known is not None and header is not None and compare_digest(known, header)

    @property
    def authorization(self) -> str | None:
        """See `Peer`."""
        return None if self._header is None else self._header.decode("utf-8", "replace")

    @property
    def name(self) -> str:
        """See `Peer`."""
        return self._info.address

    def certificate_names(self) -> Iterable[str]:
        """See `Peer`."""
        return self._info.certificate_names
