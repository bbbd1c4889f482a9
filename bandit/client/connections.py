"""One channel for each client, opened by its first call and used for all.

Opening late is what makes a client that is built before a fork usable after it, as long as nobody has called
it: gRPC channels do not survive a fork.
"""

# ruff: noqa: ASYNC109 - a timeout becomes the deadline of the call, which the service sees as well

from __future__ import annotations  # some types are those of the stubs alone

import asyncio
import threading
import time
from typing import NamedTuple, TypeVar

import grpc
from google.protobuf.message import Message

from bandit.client.credentials import Bearer, Metadata
from bandit.client.endpoint import Endpoint
from bandit.client.errors import AccessError, CallError, call_error, closed_error, malformed_error
from bandit.client.statuses import from_rpc_error
from bandit.v1 import admin_pb2_grpc, bandit_pb2_grpc, experiment_pb2_grpc

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT")

_MAX_REQUEST_BYTES = 1024 * 1024  # the service's gRPC reads no more of a call


class Stubs(NamedTuple):
    """A channel and the calls on it."""

    channel: grpc.Channel
    bandit: bandit_pb2_grpc.BanditServiceStub
    experiments: experiment_pb2_grpc.ExperimentServiceStub
    admin: admin_pb2_grpc.AdminServiceStub


class AsyncStubs(NamedTuple):
    """A channel of asyncio and the calls on it."""

    channel: grpc.aio.Channel
    bandit: bandit_pb2_grpc.BanditServiceAsyncStub
    experiments: experiment_pb2_grpc.ExperimentServiceAsyncStub
    admin: admin_pb2_grpc.AdminServiceAsyncStub


class Connection:
    """A blocking connection; thread-safe."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._bearer = endpoint.bearer
        self._lock = threading.Lock()
        self._stubs: Stubs | None = None
        self._is_closed = False

    @property
    def stubs(self) -> Stubs:
        """The calls. Raises UnavailableError if the connection is closed."""
        return self._stubs or self._open()

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> ResponseT:
        """Returns the answer, which must come within so many seconds; raises only CallError.

        If the service refuses the token and there is another by now, the call is made once more with that.
        """
        deadline = time.monotonic() + timeout
        metadata = self._bearer.metadata
        try:
            return self._send(method, request, timeout, metadata)
        except AccessError as error:
            if not _may_try_again(error, self._bearer, metadata):
                raise
        return self._send(method, request, deadline - time.monotonic(), self._bearer.metadata)

    def _send(
        self,
        method: grpc.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float,
        metadata: Metadata | None,
    ) -> ResponseT:
        try:
            return method(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise _explained(from_rpc_error(error), request) from error
        except ValueError as error:  # closed by another thread since `stubs` was read
            raise closed_error() from error

    def close(self) -> None:
        """Cancels the calls in flight and refuses new ones; closing again does nothing."""
        with self._lock:
            self._is_closed = True
            stubs, self._stubs = self._stubs, None
        if stubs:
            stubs.channel.close()

    def _open(self) -> Stubs:
        with self._lock:
            if self._is_closed:
                raise closed_error()
            if self._stubs is None:
                channel = self._endpoint.open_channel()
                self._stubs = Stubs(
                    channel,
                    bandit_pb2_grpc.BanditServiceStub(channel),
                    experiment_pb2_grpc.ExperimentServiceStub(channel),
                    admin_pb2_grpc.AdminServiceStub(channel),
                )
            return self._stubs


class AsyncConnection:
    """A connection of one event loop: that of its first call."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._bearer = endpoint.bearer
        self._stubs: AsyncStubs | None = None
        self._is_closed = False

    @property
    def stubs(self) -> AsyncStubs:
        """The calls. Raises UnavailableError if the connection is closed."""
        return self._stubs or self._open()

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT, timeout: float
    ) -> ResponseT:
        """As `Connection.call`."""
        deadline = time.monotonic() + timeout
        metadata = self._bearer.metadata
        try:
            return await self._send(method, request, timeout, metadata)
        except AccessError as error:
            if not _may_try_again(error, self._bearer, metadata):
                raise
        return await self._send(method, request, deadline - time.monotonic(), self._bearer.metadata)

    async def _send(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float,
        metadata: Metadata | None,
    ) -> ResponseT:
        try:
            response = await method(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise _explained(from_rpc_error(error), request) from error
        except grpc.aio.UsageError as error:  # closed by another task since `stubs` was read
            raise closed_error() from error
        except asyncio.CancelledError as error:
            if self._is_closed and not _is_cancelling():  # the call was cancelled and not its task
                raise closed_error() from error
            raise
        if response is None:  # what grpc.aio makes of bytes that are no message
            raise malformed_error("the answer can't be read")
        return response

    async def close(self) -> None:
        """Cancels the calls in flight and refuses new ones; closing again does nothing."""
        self._is_closed = True
        stubs, self._stubs = self._stubs, None
        if stubs:
            await stubs.channel.close()

    def _open(self) -> AsyncStubs:
        if self._is_closed:
            raise closed_error()
        channel = self._endpoint.open_aio_channel()
        self._stubs = AsyncStubs(
            channel,
            bandit_pb2_grpc.BanditServiceStub(channel),
            experiment_pb2_grpc.ExperimentServiceStub(channel),
            admin_pb2_grpc.AdminServiceStub(channel),
        )
        return self._stubs


def _explained(error: CallError, request: Message) -> CallError:
    """Returns the error, or that the request is too large where gRPC itself refused it for that.

    gRPC has one status for what is too much now and for what will always be too much.
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and not error.reason:
        n_bytes = request.ByteSize()
        if n_bytes > _MAX_REQUEST_BYTES:
            text = (
                f"the request has {n_bytes:,} bytes; a call holds at most {_MAX_REQUEST_BYTES:,}: send less"
            )
            return call_error(grpc.StatusCode.INVALID_ARGUMENT, text)
    return error


def _may_try_again(error: AccessError, bearer: Bearer, refused: Metadata | None) -> bool:
    return error.code is grpc.StatusCode.UNAUTHENTICATED and bearer.renew(refused)


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
