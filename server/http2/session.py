"""What answers the requests of a connection: the side of `server.http2` that others implement."""

from typing import Protocol

from server.http2.exchange import Exchange, Headers
from server.http2.streams import Stream


class Session(Protocol):
    """The answering side of one connection."""

    def begin(self, stream: Stream, headers: Headers) -> Exchange:
        """Return what answers a stream whose headers have arrived. It may respond at once."""

    def drain(self) -> None:
        """End the streams that would never end by themselves: the connection is to be closed."""
