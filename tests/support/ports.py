"""Ports for programs that can't take one by themselves and say which."""

import socket
from contextlib import closing


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])
