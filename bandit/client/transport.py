"""What differs between asyncio and threads: how a channel is opened, and how a call on it ends.

All else is written once, for asyncio, in `bandit.client.aio`.
"""

from __future__ import annotations  # some types exist in the stubs alone

import asyncio
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from bandit.client.credentials import Metadata
from bandit.client.endpoint import Endpoint
from bandit.client.errors import CallError, call_error, closed_error, malformed_error
from bandit.client.statuses import from_rpc_error

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT")

_MAX_REQUEST_BYTES = 1024 * 1024  # the service's gRPC reads no more of a call


class AsyncTransport:
    """Opens a channel of the running event loop and sends calls on it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._is_closed = False

    def _open_channel(self) -> grpc.aio.Channel:
        target, credentials, options = self._endpoint.channel_arguments()
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)

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
        except grpc.aio.UsageError as error:  # closed by another task since the stub was read
            raise closed_error() from error
        except asyncio.CancelledError as error:
            if self._is_closed and not _is_cancelling():  # the call was cancelled and not its task
                raise closed_error() from error
            raise
        if response is None:  # what grpc.aio makes of bytes that are not a message
            raise malformed_error("the answer can't be read")
        return response


class Transport:
    """Opens a channel for any number of threads and sends calls on it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._is_closed = False

    def _open_channel(self) -> grpc.Channel:
        target, credentials, options = self._endpoint.channel_arguments()
        if credentials is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, credentials, options)

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
        except ValueError as error:  # closed by another thread since the stub was read, or by a fork
            raise closed_error() from error


def _explained(error: CallError, request: Message) -> CallError:
    """Return the error, or that the request is too large where gRPC itself refused it for that.

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


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
