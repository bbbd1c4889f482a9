"""Limits of the process: raised as far as the system allows, and an error where that is too little."""

import resource
from typing import Final

from server.app.errors import StartupError
from server.settings import MIB

RESERVED: Final = 96
"""Open files beside clients' connections: libraries, databases, logs, scrapes, files that are reloaded."""

FEWEST_CONNECTIONS: Final = 32
LEAST_ADDRESS_SPACE: Final = 1024 * MIB
"""Stacks of threads and arenas of the C library count, of which little is ever used."""

_MOST: Final = 1 << 20
"""Asking for more is refused by some systems, whatever their limit says."""


def room_for_connections(requested: int) -> int:
    """Return how many connections of clients fit, at most `requested`; raise the soft limit for them.

    Raises:
        StartupError: The limit leaves room for too few.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    needed = requested + RESERVED
    if soft != resource.RLIM_INFINITY and soft < min(needed, most):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, most), hard))
        except (ValueError, OSError):
            most = soft
    room = min(requested, most - RESERVED)
    if room < min(requested, FEWEST_CONNECTIONS):
        fewest = RESERVED + min(requested, FEWEST_CONNECTIONS)
        raise StartupError(
            f"the system allows this process {most} open files, and bandit-server needs {fewest} or more: "
            "raise the limit (ulimit -n, or LimitNOFILE of systemd)"
        )
    return room


def require_address_space() -> None:
    """Raises StartupError if the limit on address space is so low that memory would fail in service."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < LEAST_ADDRESS_SPACE:
        raise StartupError(
            f"the system allows this process {soft // MIB} MiB of address space (ulimit -v), and "
            f"bandit-server needs {LEAST_ADDRESS_SPACE // MIB} or more, most of it never used: limit the "
            "memory of its cgroup instead (MemoryMax of systemd)"
        )
