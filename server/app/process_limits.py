"""Process limits: raised as far as the system allows, with an error if that is too low."""

import resource
from typing import Final

from server.app.errors import StartupError
from server.http2.limits import Limits
from server.settings import MIB, Settings

RESERVED: Final = 96
"""Open files besides clients' connections: libraries, databases, logs, scrapes, files that are reloaded."""

FEWEST_CONNECTIONS: Final = 32
LEAST_ADDRESS_SPACE: Final = 1024 * MIB
"""Thread stacks and arenas of the C library count towards it, though little of them is ever used."""

_MOST: Final = 1 << 20
"""Some systems refuse more, whatever their limit is."""


def room_for_connections(requested: int) -> int:
    """Raise the soft limit on open files, and return how many client connections fit, at most `requested`.

    Raises:
        StartupError: The limit leaves room for too few connections.
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
            f"the system allows this process {most} open files, but bandit-server needs {fewest} or more: "
            "raise the limit (ulimit -n, or LimitNOFILE of systemd)"
        )
    return room


def connections_of(settings: Settings) -> tuple[int, int]:
    """Return how many connections fit on the default listener and on the fast lane, 0 without one.

    A lack of room is shared in proportion.

    Raises:
        StartupError: The limit on open files leaves room for too few connections.
    """
    most_fast = 0 if settings.fast_listen is None else min(settings.max_connections, Limits().connections)
    wanted = settings.max_connections + most_fast
    room = room_for_connections(wanted)
    n_fast = most_fast * room // wanted
    return room - n_fast, n_fast


def require_address_space() -> None:
    """Raise StartupError if the limit on address space is so low that allocations would fail in service."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < LEAST_ADDRESS_SPACE:
        raise StartupError(
            f"the system allows this process {soft // MIB} MiB of address space (ulimit -v), but "
            f"bandit-server needs {LEAST_ADDRESS_SPACE // MIB} or more, most of it never used: limit the "
            "memory of its cgroup instead (MemoryMax of systemd)"
        )
