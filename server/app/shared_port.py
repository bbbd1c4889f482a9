"""Places shared by the processes of one server, and by no other server."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from server.listening.places import Place, claim


@contextmanager
def reserved_places(address: str) -> Iterator[tuple[Place, ...]]:
    """Hold every place of `address` without listening, so that they stay taken while workers come and go.

    Any process of the same user may join a shared port, and the kernel would give a second server half of the
    traffic. So each place is bound exclusively, which fails if any process has it, shared or not, and opened
    to the workers afterwards. A second server finds it taken from then on, also before a worker listens: a
    socket with SO_REUSEADDR could join another that has it, too, and does not listen.

    Yields:
        The places; with a free port if `address` names port 0.

    Raises:
        ListenError: A place is taken, or is not this machine's.
    """
    with ExitStack() as stack:
        claimed = claim(address)
        for bound in claimed.values():
            stack.enter_context(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        yield tuple(claimed)
