"""Streams that answer each message with one, on grpc.aio.

The server ends a stream with OK when it stops, and before its connection is too old: an idle stream must not
hold up the one, nor be cut off by the other. Messages that have arrived by then are answered.
"""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable
from math import inf
from typing import Final, TypeVar

import grpc

from server.rpc.floods.unsent_requests import UnsentRequests
from server.rpc.grpcio.context import Context, ContextPeer, RpcHandler, fail
from server.rpc.grpcio.lifetimes import lifetime
from server.rpc.guard.gate import Gate
from server.rpc.guard.streams import Conversation, GuardedStream
from server.rpc.messages.status import CANCELED, STOPPING, Failure

_Result = TypeVar("_Result")

_LOOK_SECONDS: Final = 0.05
_READ_LOOKS: Final = 2
"""A message that has arrived is read at once, so at the second look none has."""

_WRITE_LOOKS: Final = 40
"""Two seconds: time for a slow network to take an answer, but not for a peer that does not read."""

_LAST_READS_SECONDS: Final = 1.0
"""How long a peer that goes on sending is answered after the stream should end."""

_CANCEL_SECONDS: Final = 0.02
"""gRPC reads an end of the messages when a caller cancels, too, and cancels the task a moment later."""


class _Stream:
    """A stream in the task that answers it.

    Args:
        conversation: Answers its messages.
        context: The stream of grpc.aio.
    """

    def __init__(self, conversation: Conversation, context: Context) -> None:
        self._conversation = conversation
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._looks_left: float = inf
        self._reads_until = inf
        self._has_given_up = False
        self._timer: asyncio.TimerHandle | None = None

    async def converse(self, data: bytes | None) -> Failure | None:
        """Answer the messages, of which `data` is the first; return how the stream failed."""
        while data is not None:
            outcome = self._conversation.answer(data)
            if not isinstance(outcome, bytes | Failure):
                outcome = await outcome
            if isinstance(outcome, Failure):
                return outcome
            try:
                await self._wait_for_peer(self._context.write(outcome), _WRITE_LOOKS)
            except CancelledError:
                if self._has_given_up:
                    return STOPPING
                raise
            data = await self._read()
        if not self._has_given_up:
            await asyncio.sleep(_CANCEL_SECONDS)
        return None

    def finish(self) -> None:
        """Let the stream end as soon as the messages that have arrived are answered."""
        if self._timer is None:
            self._reads_until = self._loop.time() + _LAST_READS_SECONDS
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Stop looking after the stream, which has ended."""
        if self._timer is not None:
            self._timer.cancel()

    async def _read(self) -> bytes | None:
        """Return the next message; None if there is none, or the stream should end."""
        if self._loop.time() >= self._reads_until:
            return None
        try:
            message: object = await self._wait_for_peer(self._context.read(), _READ_LOOKS)
        except CancelledError:
            if self._has_given_up:
                return None
            raise
        return message if isinstance(message, bytes) else None

    async def _wait_for_peer(self, step: Awaitable[_Result], n_looks: int) -> _Result:
        """Wait for something that depends on the peer: once the stream should end, for that many looks."""
        self._looks_left = n_looks
        try:
            return await step
        finally:
            self._looks_left = inf

    def _look(self) -> None:
        self._looks_left -= 1
        if self._looks_left <= 0 and self._task is not None:
            self._has_given_up = True
            self._task.cancel()
        else:
            self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)


class Streams:
    """The streams of a server.

    Args:
        gate: Ends them when the server stops.
        unsent_requests: Limits those whose first message has not arrived.
        connection_seconds: The age at which clients are asked to reconnect.
    """

    def __init__(self, gate: Gate, unsent_requests: UnsentRequests, *, connection_seconds: float) -> None:
        self._gate = gate
        self._unsent_requests = unsent_requests
        self._connection_seconds = connection_seconds

    def handler(self, method: GuardedStream) -> RpcHandler:
        """Return the handler of a method."""

        async def handle(_requests: object, context: Context) -> None:
            data = await self._unsent_requests.receive_first(context)
            conversation = method.open(ContextPeer(context))
            if isinstance(conversation, Failure):
                await fail(context, conversation)
            failure = await self._converse(conversation, context, data)
            if failure is not None:
                await fail(context, failure)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _converse(
        self, conversation: Conversation, context: Context, data: bytes | None
    ) -> Failure | None:
        """Answer a stream whose first message is `data`; return how it failed."""
        stream = _Stream(conversation, context)
        failure: Failure | None = CANCELED
        try:
            with lifetime(self._gate, self._connection_seconds, stream.finish):
                failure = await stream.converse(data)
        except CancelledError:
            if not self._gate.has_ended():
                raise
            failure = STOPPING
        except grpc.aio.InternalError:  # gRPC has ended the stream: its caller left
            raise CancelledError from None
        finally:
            stream.close()
            conversation.end(failure)
        return failure
