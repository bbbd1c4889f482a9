"""Says in the log who was not let in: what an intruder tries, and what a new token has wrong."""

from typing import Final

import grpc
import structlog

from server.rpc.messages.status import Failure
from server.services.runtime.clock import Clock

_CODES: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
_SILENT_SECONDS: Final = 10.0
_MOST_KEYS: Final = 1_000

log = structlog.get_logger()


class Refusals:
    """One line for a caller, method and status, then silence for a while: a flood of calls is none of lines.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._silent_until: dict[tuple[str, str, str], float] = {}
        self._n_unsaid = 0

    def heed(self, failure: Failure, method: str, caller: str, peer: str) -> None:
        """Takes a call that failed; only one that was refused to who made it is told.

        Args:
            failure: How it failed.
            method: Which was called.
            caller: Who called; empty if that is not known.
            peer: The address that the call came from.
        """
        if failure.code not in _CODES:
            return
        key = (caller, method, failure.message)
        if self._now() < self._silent_until.get(key, float("-inf")):
            self._n_unsaid += 1
            return
        if len(self._silent_until) >= _MOST_KEYS:
            self._silent_until.clear()
        self._silent_until[key] = self._now() + _SILENT_SECONDS
        n_unsaid, self._n_unsaid = self._n_unsaid, 0
        log.warning(
            "access.refused",
            method=method,
            caller=caller or None,
            peer=peer,
            why=failure.message,
            n_unsaid=n_unsaid,
        )
