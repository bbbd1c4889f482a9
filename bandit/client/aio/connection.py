"""One channel for each client, opened by its first call and used for all.

Opening late is what makes a client that is built before a fork usable after it, as long as it has made no
call: gRPC channels do not survive a fork.
"""

from __future__ import annotations  # some types exist in the stubs alone

import threading
import time
from typing import NamedTuple

import grpc

from bandit.client.endpoint import Endpoint
from bandit.client.errors import AccessError, closed_error
from bandit.client.transport import AsyncTransport, RequestT, ResponseT
from bandit.v1 import admin_pb2_grpc, bandit_pb2_grpc, experiment_pb2_grpc


class AsyncStubs(NamedTuple):
    """A channel and the calls on it."""

    channel: grpc.aio.Channel
    bandit: bandit_pb2_grpc.BanditServiceAsyncStub
    experiments: experiment_pb2_grpc.ExperimentServiceAsyncStub
    admin: admin_pb2_grpc.AdminServiceAsyncStub


class AsyncConnection(AsyncTransport):
    """A connection of one event loop: that of its first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._bearer = endpoint.bearer
        self._lock = threading.Lock()  # threads may race to open or close; tasks of one event loop can't
        self._stubs: AsyncStubs | None = None

    @property
    def stubs(self) -> AsyncStubs:
        """The calls. Raises UnavailableError if the connection is closed."""
        return self._stubs or self._open()

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

    async def close(self) -> None:
        """Cancel the calls in flight and refuse new ones; closing again does nothing."""
        with self._lock:
            self._is_closed = True
            stubs, self._stubs = self._stubs, None
        if stubs:
            await stubs.channel.close()

    def _open(self) -> AsyncStubs:
        with self._lock:
            if self._is_closed:
                raise closed_error()
            if self._stubs is None:
                channel = self._open_channel()
                self._stubs = AsyncStubs(
                    channel,
                    bandit_pb2_grpc.BanditServiceStub(channel),
                    experiment_pb2_grpc.ExperimentServiceStub(channel),
                    admin_pb2_grpc.AdminServiceStub(channel),
                )
            return self._stubs


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
        return await self._connection.call(method, request, self._timeout if timeout is None else timeout)
