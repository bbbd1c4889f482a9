"""The guard around a stream of responses to one request: the caller is checked with each response."""

from collections.abc import AsyncGenerator, Callable
from typing import Final, TypeAlias

from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import Guard
from server.rpc.guard.metrics import WatchMeasurements
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import Failure
from server.services.access.callers import Role

_OK: Final = 0

WatchAnswer: TypeAlias = Callable[[bytes, Admission], AsyncGenerator[bytes]]
"""From a request and its caller to responses; what it raises at once is how the call fails."""


class GuardedWatch:
    """A method that answers one request with a stream, behind the guard. Belongs to the event loop's thread.

    Args:
        guard: What all methods share.
        answer: The handler.
        measurements: Those of this method.
        roles: A caller needs at least one of them.
        max_bytes: Larger requests are refused.
    """

    def __init__(
        self,
        guard: Guard,
        answer: WatchAnswer,
        measurements: WatchMeasurements,
        *,
        roles: frozenset[Role],
        max_bytes: int,
    ) -> None:
        self.measurements = measurements
        self._guard = guard
        self._answer = answer
        self._roles = roles
        self._max_bytes = max_bytes

    def open(self, data: bytes, peer: Peer) -> "Watch | Failure":
        """Begin to answer a request of this peer, or return why not. The caller is charged one call."""
        began_at = self._guard.clock.monotonic()
        self.measurements.n_started += 1
        admission = None
        try:
            self._guard.check(self.measurements.n_in_flight, len(data), self._max_bytes)
            admission = self._guard.authenticator.admit(peer, self._roles)
            responses = self._answer(data, admission)
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            failure = self.failure_of(error, peer, admission)
            self.observe(failure, began_at)
            return failure
        self.measurements.n_in_flight += 1
        return Watch(self, responses, peer, admission, began_at)

    def identify(self, peer: Peer) -> Admission:
        """Return the caller as it is now, not charged; raise as `Authenticator.identify`."""
        return self._guard.authenticator.identify(peer, self._roles)

    def failure_of(self, error: Exception, peer: Peer, admission: Admission | None) -> Failure:
        """Return the failure for an error, logged as for a call."""
        return self._guard.failure_of(error, self.measurements.method, peer, admission)

    def observe(self, failure: Failure | None, began_at: float) -> None:
        """Measure a stream that has ended, or did not begin."""
        code = _OK if failure is None else failure.code.value[0]
        self.measurements.observe(code, self._guard.clock.monotonic() - began_at)


class Watch:
    """A stream of responses that was admitted.

    Args:
        method: The method.
        responses: What it answers.
        peer: The other end.
        admission: Who that was at the beginning.
        began_at: When it began, on the monotonic clock.
    """

    def __init__(
        self,
        method: GuardedWatch,
        responses: AsyncGenerator[bytes],
        peer: Peer,
        admission: Admission,
        began_at: float,
    ) -> None:
        self._method = method
        self._responses = responses
        self._peer = peer
        self._admission = admission
        self._began_at = began_at

    async def next(self) -> bytes | Failure | None:
        """Return the next response once there is one; None at the end, and a failure if there can't be one.

        The stream ends, too, once the caller's permissions are others than at its beginning: a caller that
        may still watch begins again, with those that it has now.
        """
        try:
            response = await anext(self._responses)
            if self._method.identify(self._peer).caller != self._admission.caller:
                return None
        except StopAsyncIteration:
            return None
        except Exception as error:  # noqa: BLE001 - unexpected errors are logged
            return self._method.failure_of(error, self._peer, self._admission)
        self._method.measurements.n_messages_sent += 1
        return response

    async def end(self, failure: Failure | None) -> None:
        """Measure the stream, which has ended, and let go of what it held; call this exactly once."""
        self._method.measurements.n_in_flight -= 1
        self._method.observe(failure, self._began_at)
        await self._responses.aclose()
