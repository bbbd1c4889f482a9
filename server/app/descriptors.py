"""File descriptors: as many as the system allows, and one clear line where those are too few."""

import resource
from typing import Final

from server.app.errors import StartupError

RESERVED: Final = 96
"""What everything but clients' connections takes: libraries, databases, logs, scrapes, files read again."""

FEWEST_CONNECTIONS: Final = 32
_MOST: Final = 1 << 20
"""Asking for more is refused by some systems, whatever their limit says."""


def room_for_connections(wanted: int) -> int:
    """How many connections of clients fit, at most `wanted`; raises the soft limit to what they take.

    Raises:
        StartupError: The limit leaves room for too few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    needed = wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < min(needed, most):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, most), hard))
        except (ValueError, OSError):
            most = soft
    room = min(wanted, most - RESERVED)
    if room < min(wanted, FEWEST_CONNECTIONS):
        fewest = RESERVED + min(wanted, FEWEST_CONNECTIONS)
        raise StartupError(
            f"the system allows this process {most} open files, and bandit-server needs {fewest} or more: "
            "raise the limit (ulimit -n, or LimitNOFILE of systemd)"
        )
    return room
