"""Logs calls that were refused for who made them: what an intruder tries, and what a new token has wrong."""

from typing import Final

import grpc
import structlog

from server.rpc.guard.peer import Peer
from server.rpc.messages.status import Failure
from server.services.runtime.clock import Clock
from server.services.runtime.log_throttle import LogThrottle

_CODES: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})

log = structlog.get_logger()


class DenialLog:
    """Logs at most one line per caller, method and reason every 10 s.

    Args:
        clock: The time.
    """

    def __init__(self, clock: Clock) -> None:
        self._throttle = LogThrottle(clock)

    def note(self, failure: Failure, method: str, caller: str, peer: Peer) -> None:
        """Log a call that failed, if it failed for who made it.

        Args:
            failure: How it failed.
            method: Which was called.
            caller: Who called; empty if that is not known.
            peer: Where the call came from.
        """
        if failure.code not in _CODES:
            return
        n_left_out = self._throttle.admit((caller, method, failure.message))
        if n_left_out is not None:
            log.warning(
                "access.refused",
                method=method,
                caller=caller or None,
                peer=peer.name,
                why=failure.message,
                n_unsaid=n_left_out,
            )
