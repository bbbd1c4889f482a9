"""The channel of a client, opened by its first call and used for all.

Opening late is what makes a client that is built before a fork, or outside an event loop, usable after it.
"""

from __future__ import annotations  # some types exist in the stubs alone

import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import grpc

from bandit.client.arguments import call_seconds
from bandit.client.endpoint import Endpoint
from bandit.client.errors import AccessError
from bandit.client.messages import choose_response
from bandit.client.streams.questions import AsyncQuestion
from bandit.client.streams.stream import MOST_STREAMS, ChooseStream
from bandit.client.transport import AsyncTransport, RequestT, ResponseT
from bandit.v1 import admin_pb2_grpc, bandit_pb2, bandit_pb2_grpc, experiment_pb2_grpc, launch_pb2_grpc


class AsyncStubs(NamedTuple):
    """A channel and the calls on it."""

    channel: grpc.aio.Channel
    bandit: bandit_pb2_grpc.BanditServiceAsyncStub
    experiments: experiment_pb2_grpc.ExperimentServiceAsyncStub
    launches: launch_pb2_grpc.LaunchServiceAsyncStub
    admin: admin_pb2_grpc.AdminServiceAsyncStub


class AsyncConnection(AsyncTransport[AsyncStubs]):
    """A connection with a channel for each event loop that calls."""

    def __init__(self, endpoint: Endpoint, *, has_stream: bool = False) -> None:
        super().__init__(endpoint)
        self._bearer = endpoint.bearer
        self._stream = ChooseStream(endpoint) if has_stream else None

    async def choose(self, request: bandit_pb2.ChooseRequest, timeout: float) -> bandit_pb2.ChooseResponse:
        """Return the answer to one choice, which must come within `timeout` seconds; raises only CallError.

        It comes over the stream of the client if it has one, and by a call where the stream has no answer:
        there is none yet, too much is in flight, it has ended, or the service refuses the token.
        """
        if self._stream is None:
            return await self.call(self.stubs.bandit.Choose, request, timeout)
        deadline = time.monotonic() + timeout
        answer = await self._ask(self._stream, request, deadline) if timeout > 0.0 else None
        if answer is not None:
            return choose_response(answer)
        return await self.call(self.stubs.bandit.Choose, request, deadline - time.monotonic())

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> ResponseT:
        """Return the answer, which must come within `timeout` seconds; raises only CallError.

        If the service refuses the token and its file holds another by now, the call is made once more.
        """
        deadline = time.monotonic() + timeout
        metadata = self._bearer.metadata
        try:
            return await self._send(method, request, timeout, metadata)
        except AccessError as error:
            if error.code is not grpc.StatusCode.UNAUTHENTICATED or not self._bearer.renew(metadata):
                raise
        return await self._send(method, request, deadline - time.monotonic(), self._bearer.metadata)

    async def receive(
        self, method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT], request: RequestT
    ) -> AsyncIterator[ResponseT]:
        """Yield the answers of one stream until it ends; raises only CallError.

        If the service refuses the token and its file holds another by now, the stream ends: with the next
        one the other is sent.
        """
        metadata = self._bearer.metadata
        try:
            async for response in self._receive(method, request, metadata):
                yield response
        except AccessError as error:
            if error.code is not grpc.StatusCode.UNAUTHENTICATED or not self._bearer.renew(metadata):
                raise

    async def close(self) -> None:
        """Cancel what is in flight and refuse more; closing again does nothing."""
        await super().close()  # first: a question that the stream leaves is a call
        if self._stream is not None:
            self._stream.close()

    async def _ask(
        self, stream: ChooseStream, request: bandit_pb2.ChooseRequest, deadline: float
    ) -> bandit_pb2.ChooseStreamResponse | None:
        """Return the answer of the stream, or None if the request has to be a call; choosing may be repeated.

        Raises:
            UnavailableError: neither is known at the deadline, in monotonic seconds.
        """
        message = bandit_pb2.ChooseStreamRequest(request=request)
        for _ in range(MOST_STREAMS):
            question = AsyncQuestion(message)
            exchange = stream.put(question)
            if exchange is None:
                return None
            answer = await question.wait(deadline - time.monotonic())
            if answer is not None or not stream.may_ask_again(exchange):
                return answer
        return None

    def _open_stubs(self) -> AsyncStubs:
        channel = self._open_channel()
        return AsyncStubs(
            channel,
            bandit_pb2_grpc.BanditServiceStub(channel),
            experiment_pb2_grpc.ExperimentServiceStub(channel),
            launch_pb2_grpc.LaunchServiceStub(channel),
            admin_pb2_grpc.AdminServiceStub(channel),
        )


class AsyncCalls:
    """The calls of one service, each with the same default timeout in seconds."""

    def __init__(self, connection: AsyncConnection, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        seconds = self._timeout if timeout is None else call_seconds(timeout)
        return await self._connection.call(method, request, seconds)
