"""A port shared by the processes of one server, and by no other server."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from server.addresses import split_address
from server.rpc.server import ListenError


@contextmanager
def reserved_port(address: str) -> Iterator[int]:
    """Hold the port of `address` without listening, so that it stays taken while workers come and go.

    Any process of the same user may join a shared port, and the kernel would give a second server half of the
    traffic. So the port is first bound exclusively, which fails if any process has it, shared or not.

    Yields:
        The port; a free one if `address` names port 0.

    Raises:
        ListenError: The port is taken, or the address is not this machine's.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe, socket.socket(family) as holder:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            place = probe.getsockname()
            probe.close()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(place)
        except OSError:
            raise ListenError(address) from None
        yield int(place[1])
