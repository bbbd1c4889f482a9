"""Who is at the other end of a connection."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """The other end of a connection, as far as the transport knows it.

    Attributes:
        address: Address and port in the form `ipv4:192.0.2.1:50000`, `ipv6:%5B2001:db8::1%5D:50000` or
            `unix:`.
        network: What limits by address count as one: an IPv4 address, or the /64 of an IPv6 address; empty
            for a Unix socket.
        certificate_names: The names in its verified certificate; empty without one.
    """

    address: str = "unix:"
    network: str = ""
    certificate_names: tuple[str, ...] = ()
