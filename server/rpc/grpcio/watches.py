"""Streams of responses to one request, on grpc.aio.

As other streams, they end with OK when the server stops, and before their connection is too old. The next
response is made when gRPC has taken the one before, so a peer that does not read makes the server hold one.
"""

import asyncio
from asyncio import CancelledError
from typing import Final

import grpc

from server.rpc.floods.unsent_requests import UnsentRequests
from server.rpc.grpcio.context import Context, ContextPeer, RpcHandler, fail
from server.rpc.grpcio.lifetimes import lifetime
from server.rpc.guard.gate import Gate
from server.rpc.guard.watches import GuardedWatch, Watch
from server.rpc.messages.status import CANCELED, STOPPING, Failure

_WRITE_SECONDS: Final = 2.0
"""Time for a slow network to take a response at the end, but not for a peer that does not read."""


class _Stream:
    """A stream in the task that answers it.

    Args:
        watch: Has the responses.
        context: The stream of grpc.aio.
    """

    def __init__(self, watch: Watch, context: Context) -> None:
        self._watch = watch
        self._context = context
        self._task = asyncio.current_task()
        self._is_waiting = False
        self._is_ending = False
        self._has_given_up = False
        self._timer: asyncio.TimerHandle | None = None

    async def respond(self) -> Failure | None:
        """Send the responses; return how the stream failed."""
        while not self._is_ending:
            try:
                outcome = await self._next()
                if not isinstance(outcome, bytes):
                    return outcome
                await self._context.write(outcome)
            except CancelledError:
                if not self._has_given_up:
                    raise
                return None if self._is_waiting else STOPPING
        return None

    def finish(self) -> None:
        """Let the stream end: at once if it waits for something to send."""
        if self._is_ending:
            return
        self._is_ending = True
        if self._is_waiting:
            self._give_up()
        else:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_SECONDS, self._give_up)

    def close(self) -> None:
        """Give up no more: the stream has ended."""
        if self._timer is not None:
            self._timer.cancel()

    async def _next(self) -> bytes | Failure | None:
        self._is_waiting = True
        outcome = await self._watch.next()
        self._is_waiting = False
        return outcome

    def _give_up(self) -> None:
        if self._task is not None:
            self._has_given_up = True
            self._task.cancel()


class Watches:
    """The streams of responses of a server.

    Args:
        gate: Ends them when the server stops.
        unsent_requests: Limits those whose request has not arrived.
        connection_seconds: The age at which clients are asked to reconnect.
    """

    def __init__(self, gate: Gate, unsent_requests: UnsentRequests, *, connection_seconds: float) -> None:
        self._gate = gate
        self._unsent_requests = unsent_requests
        self._connection_seconds = connection_seconds

    def handler(self, method: GuardedWatch) -> RpcHandler:
        """Return the handler of a method."""

        async def handle(_requests: object, context: Context) -> None:
            data = await self._unsent_requests.receive(context)
            watch = method.open(data, ContextPeer(context))
            if isinstance(watch, Failure):
                await fail(context, watch)
            failure = await self._respond(watch, context)
            if failure is not None:
                await fail(context, failure)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _respond(self, watch: Watch, context: Context) -> Failure | None:
        """Send the responses; return how the stream failed."""
        stream = _Stream(watch, context)
        failure: Failure | None = CANCELED
        try:
            with lifetime(self._gate, self._connection_seconds, stream.finish):
                failure = await stream.respond()
        except CancelledError:
            if not self._gate.has_ended():
                raise
            failure = STOPPING
        except grpc.aio.InternalError:  # gRPC has ended the stream: its caller left
            raise CancelledError from None
        finally:
            stream.close()
            await watch.end(failure)
        return failure
