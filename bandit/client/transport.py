"""What differs between asyncio and threads: whose a channel is, how it is opened, and how a call on it ends.

All else is written once, for asyncio, in `bandit.client.aio`.
"""

from __future__ import annotations  # some types exist in the stubs alone

import asyncio
import contextlib
import importlib
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from bandit.client.credentials import Metadata
from bandit.client.endpoint import Endpoint
from bandit.client.errors import (
    CallError,
    call_error,
    closed_error,
    loopless_error,
    malformed_error,
    threadless_error,
    unopened_error,
)
from bandit.client.processes import forks
from bandit.client.statuses import from_rpc_error

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT")

# gRPC would import this with the first channel, where a fork or a signal handler can catch it half imported.
with contextlib.suppress(ImportError):
    importlib.import_module("grpc._channel")

_MAX_REQUEST_BYTES = 1024 * 1024  # the service's gRPC reads no more of a call


class _OnAsyncChannel(Protocol):
    @property
    def channel(self) -> grpc.aio.Channel: ...


class _OnChannel(Protocol):
    @property
    def channel(self) -> grpc.Channel: ...


AsyncStubsT = TypeVar("AsyncStubsT", bound=_OnAsyncChannel)
StubsT = TypeVar("StubsT", bound=_OnChannel)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs here.

    Raises:
        UnavailableError: there is none, or the process was forked.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        forks.check()  # a coroutine that goes on in a forked child has no running loop there, either
        raise loopless_error() from error


class _Opened(NamedTuple, Generic[AsyncStubsT]):
    """The channel of one event loop.

    Attributes:
        stubs: the calls on it.
        closing: suspended for as long as the channel is open; closes it when the event loop shuts down its
            asynchronous generators, or when nobody refers to it any more.
    """

    stubs: AsyncStubsT
    closing: AsyncGenerator[None]


class AsyncTransport(ABC, Generic[AsyncStubsT]):
    """Opens a channel for each running event loop and sends calls on it.

    Channels of grpc.aio work in the loop alone in which they were opened.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._is_closed = False
        self._lock = threading.RLock()  # a signal handler may interrupt the opening, and open
        self._loop_to_opened: dict[asyncio.AbstractEventLoop, _Opened[AsyncStubsT]] = {}
        forks.register(self)

    @property
    def stubs(self) -> AsyncStubsT:
        """The calls in the running event loop.

        Raises:
            UnavailableError: there can't be any: the client is closed, the process was forked, has no event
                loop here, has greenlets for threads, or lacks the means for a channel.
        """
        loop = running_loop()
        opened = self._loop_to_opened.get(loop)
        return opened.stubs if opened else self._open(loop)

    async def close(self) -> None:
        """Cancel the calls in flight and refuse new ones, in all event loops; closing again does nothing.

        Does not wait for the event loops of other threads.
        """
        with self._lock:
            self._is_closed = True
            loop_to_opened, self._loop_to_opened = self._loop_to_opened, {}
        running = asyncio._get_running_loop()  # noqa: SLF001 - in the documentation; None where there is none
        for loop, opened in loop_to_opened.items():
            if loop is running:
                _close(opened)
            else:
                with contextlib.suppress(RuntimeError):  # it is closed, and will not run again
                    loop.call_soon_threadsafe(_close, opened)

    def after_fork(self) -> None:
        """Keep the channels of the parent from ever being used, closed or freed."""
        self._lock = threading.RLock()
        forks.keep(self._loop_to_opened)
        self._loop_to_opened = {}

    def _open(self, loop: asyncio.AbstractEventLoop) -> AsyncStubsT:
        with self._lock:
            if self._is_closed:
                raise closed_error()
            forks.use_grpc()
            for other in tuple(self._loop_to_opened):
                if other.is_closed():  # by one who does not shut down asynchronous generators
                    self._loop_to_opened.pop(other, None)
            try:
                stubs = self._open_stubs()
            except (OSError, RuntimeError) as error:
                raise unopened_error(error) from error
            closing = _close_with_loop(weakref.ref(self), loop, stubs.channel)
            _begin(closing)
            return self._loop_to_opened.setdefault(loop, _Opened(stubs, closing)).stubs

    @abstractmethod
    def _open_stubs(self) -> AsyncStubsT:
        """Open a channel of the running event loop; return the calls on it."""

    def _open_channel(self) -> grpc.aio.Channel:
        require_threads()
        target, credentials, options = self._endpoint.channel_arguments()
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)

    def forget(self, loop: asyncio.AbstractEventLoop, channel: grpc.aio.Channel) -> None:
        """Open another channel if the event loop, which has closed this one, should call again."""
        opened = self._loop_to_opened.get(loop)
        if opened and opened.stubs.channel is channel:
            self._loop_to_opened.pop(loop, None)

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
            await _be_cancelled_again()
            raise
        if response is None:  # what grpc.aio makes of bytes that are not a message
            raise malformed_error("the answer can't be read")
        return response

    async def _receive(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata | None,
    ) -> AsyncIterator[ResponseT]:
        call = method(request, metadata=metadata)
        try:
            async for response in call:
                if response is None:  # as above
                    raise malformed_error("the answer can't be read")
                yield response
        except grpc.RpcError as error:
            raise _explained(from_rpc_error(error), request) from error
        except grpc.aio.UsageError as error:  # as above
            raise closed_error() from error
        except asyncio.CancelledError as error:
            if self._is_closed and not _is_cancelling():  # as above
                raise closed_error() from error
            raise
        finally:
            call.cancel()


class Transport(ABC, Generic[StubsT]):
    """Opens a channel for any number of threads and sends calls on it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._is_closed = False
        # Threads may race to open or close, and a signal handler may interrupt.
        self._lock = threading.RLock()
        self._stubs: StubsT | None = None
        forks.register(self)

    @property
    def stubs(self) -> StubsT:
        """The calls.

        Raises:
            UnavailableError: there can't be any: the client is closed, the process was forked, or lacks the
                means for a channel.
        """
        return self._stubs or self._open()

    def close(self) -> None:
        """Cancel the calls in flight and refuse new ones; closing again does nothing."""
        with self._lock:
            self._is_closed = True
            stubs, self._stubs = self._stubs, None
        if stubs:
            stubs.channel.close()

    def after_fork(self) -> None:
        """Keep the channel of the parent from ever being used, closed or freed."""
        self._lock = threading.RLock()
        forks.keep(self._stubs)
        self._stubs = None

    def _open(self) -> StubsT:
        with self._lock:
            if self._is_closed:
                raise closed_error()
            forks.use_grpc()
            try:
                stubs = self._stubs or self._open_stubs()
            except (OSError, RuntimeError) as error:
                raise unopened_error(error) from error
            self._stubs = self._stubs or stubs  # a signal handler may have opened one meanwhile
            return self._stubs

    @abstractmethod
    def _open_stubs(self) -> StubsT:
        """Open a channel; return the calls on it."""

    def _open_channel(self, *added: tuple[str, str | int]) -> grpc.Channel:
        target, credentials, options = self._endpoint.channel_arguments()
        options += added
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

    def _receive(
        self,
        method: grpc.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        metadata: Metadata | None,
    ) -> Iterator[ResponseT]:
        try:
            call = method(request, metadata=metadata)
        except ValueError as error:  # as above
            raise closed_error() from error
        try:
            yield from call
        except grpc.RpcError as error:
            raise _explained(from_rpc_error(error), request) from error
        finally:
            call.cancel()


async def _close_with_loop(
    transport: weakref.ref[AsyncTransport[AsyncStubsT]],
    loop: asyncio.AbstractEventLoop,
    channel: grpc.aio.Channel,
) -> AsyncGenerator[None]:
    """Close the channel when the generator is closed, which an event loop does at its end."""
    try:
        yield
    finally:
        if (owner := transport()) is not None:
            owner.forget(loop, channel)
        _run(channel)


def require_threads() -> None:
    """Raise RuntimeError if none can be started: at a limit, or at the interpreter's end (Python 3.12).

    grpc.aio needs one, and corrupts the memory of the process if it gets none; a stream needs three. In a
    greenlet they would wait in C, and hold up the whole process: UnavailableError.
    """
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()), daemon=True)
    thread.start()
    thread.join()
    if threading.get_native_id() in ids:
        raise threadless_error()


def _begin(closing: AsyncGenerator[None]) -> None:
    """Run the generator to its `yield`, which makes the running event loop know it.

    It is given no finalizer of the event loop: that would need a turn of the loop, which may never run again.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=None)
    try:
        with contextlib.suppress(StopIteration, ResourceWarning):  # the loop is shutting down already
            closing.asend(None).send(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _close(opened: _Opened[AsyncStubsT]) -> None:
    _run(opened.stubs.channel)


def _run(channel: grpc.aio.Channel) -> None:
    """Close a channel at once: without a grace period, `close` awaits nothing."""
    with contextlib.suppress(StopIteration, RuntimeError):  # calls of a closed event loop can't be told
        channel.close().__await__().send(None)


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


async def _be_cancelled_again() -> None:
    """Let a scope of anyio cancel the task once more, as it does in each turn of the event loop.

    It knows its own CancelledError by a message, which grpc.aio drops; the timeout would reach the caller.
    """
    for _ in range(2):  # the scope's turn may come after that of the task
        await asyncio.sleep(0)


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
