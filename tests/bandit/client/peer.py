"""A scripted peer: a real gRPC server that answers each call as its test asks, and records the calls.

Its helpers let one test run on both clients.
"""

from __future__ import annotations  # some types exist in the stubs only

import asyncio
import itertools
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from bandit.client import AsyncBanditClient, BanditClient, RetryPolicy
from bandit.v1 import bandit_pb2

T = TypeVar("T")
AnyClient: TypeAlias = BanditClient | AsyncBanditClient
Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]
StreamBehaviour = Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True)
class Received:
    """A call as it arrived."""

    method: str
    request: bytes
    metadata: dict[str, str | bytes]
    time_remaining: float


@dataclass
class Script:
    """What the peer does with each method: one behaviour per call, the last one repeated for ever.

    Without a behaviour for streams it has none, as an older service. Messages are received as calls are.
    """

    behaviours: dict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    stream_behaviours: deque[StreamBehaviour] = field(default_factory=deque)
    n_streams: int = 0
    received: list[Received] = field(default_factory=list)
    has_come: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def on(self, method: str, *behaviours: Behaviour) -> None:
        """Set the behaviour for the next calls of a method."""
        self.behaviours[method] = deque(behaviours)

    def on_stream(self, *behaviours: StreamBehaviour) -> None:
        """Set the behaviour for the next streams."""
        self.stream_behaviours = deque(behaviours)

    def requests(self, method: str) -> list[bytes]:
        """Return the requests of a method, as bytes, in order of arrival."""
        return [each.request for each in self.received if each.method == method]

    def hang(self, _request: bytes, context: grpc.ServicerContext) -> NoReturn:
        """Do not answer; return when the test is over."""
        self.released.wait(60)
        context.abort(grpc.StatusCode.CANCELLED, "the test is over")

    def play(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer one call."""
        self._receive(method, request, context)
        queue = self.behaviours[method]
        behaviour = queue.popleft() if len(queue) > 1 else queue[0]
        return behaviour(request, context)

    def play_stream(
        self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Answer the messages of one stream."""
        self.n_streams += 1
        queue = self.stream_behaviours
        if not queue:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        behaviour = queue.popleft() if len(queue) > 1 else queue[0]
        yield from behaviour(self._receiving(method, requests, context), context)

    def _receiving(
        self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        for request in requests:
            self._receive(method, request, context)
            yield request

    def _receive(self, method: str, request: bytes, context: grpc.ServicerContext) -> None:
        metadata = {key: value for key, value in context.invocation_metadata()}  # noqa: C416 - typed pairs
        self.received.append(
            Received(
                method=method, request=request, metadata=metadata, time_remaining=context.time_remaining()
            )
        )
        self.has_come.set()


def answer(message: Message) -> Behaviour:
    """Answer with a message."""
    return lambda _request, _context: message.SerializeToString()


def answer_bytes(data: bytes) -> Behaviour:
    """Answer with bytes that may not be a message."""
    return lambda _request, _context: data


def fail(
    code: grpc.StatusCode,
    message: str = "scripted",
    *,
    metadata: tuple[tuple[str, str | bytes], ...] = (),
) -> Behaviour:
    """Answer with an error."""

    def behave(_request: bytes, context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata(metadata)
        context.abort(code, message)

    return behave


def choose_each(
    arm: str = "v1", n_messages: int | None = None, code: grpc.StatusCode | None = None
) -> StreamBehaviour:
    """Answer messages with an arm, and their units as decision ids; end after so many, with OK or a code."""

    def behave(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in itertools.islice(requests, n_messages):
            yield chosen(request, arm)
        if code is not None:
            context.abort(code, "scripted")

    return behave


def chosen(request: bytes, arm: str = "v1") -> bytes:
    """Return the answer to a message of a stream: an arm, and the unit as decision id."""
    unit = bandit_pb2.ChooseStreamRequest.FromString(request).request.unit
    choice = bandit_pb2.ChooseResponse(arm=arm, decision_id=unit)
    return bandit_pb2.ChooseStreamResponse(choice=choice).SerializeToString()


class Handler(grpc.GenericRpcHandler):
    """Handles every method, as bytes."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def service(self, call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return the handler of a method."""
        method = call_details.method.rsplit("/", 1)[-1]

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._script.play(method, request, context)

        def handle_stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            return self._script.play_stream(method, requests, context)

        if method in {"ChooseStream", "WatchEvents"}:
            return grpc.stream_stream_rpc_method_handler(handle_stream)
        return grpc.unary_unary_rpc_method_handler(handle)


class Peer:
    """A server that plays a script; it can be stopped and started again on its port."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self._server: grpc.Server | None = None
        self.start()

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port that it had before."""
        pool = futures.ThreadPoolExecutor(64)  # a stream holds a thread for as long as it is open
        self._server = grpc.server(pool, [Handler(self.script)], options=[("grpc.so_reuseport", 0)])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Drop all connections."""
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None


class ClientFactory:
    """Makes clients of one kind."""

    def __init__(self, kind: type[BanditClient | AsyncBanditClient]) -> None:
        self.kind = kind
        self.clients: list[AnyClient] = []

    def __call__(
        self,
        target: str,
        *,
        choose_timeout: float = 0.05,
        batch_choose_timeout: float = 0.5,
        retry: RetryPolicy | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Path | None = None,
        stream: bool = False,
    ) -> AnyClient:
        """Return a client that the fixture will close."""
        client = self.kind(
            target,
            choose_timeout=choose_timeout,
            batch_choose_timeout=batch_choose_timeout,
            retry=retry,
            credentials=credentials,
            token=token,
            stream=stream,
        )
        self.clients.append(client)
        return client


async def settle(result: T | Awaitable[T]) -> T:
    """Return the result of a call of either client."""
    return await result if isinstance(result, Awaitable) else result


async def in_background(call: Callable[[], T | Awaitable[T]]) -> T:
    """Return the result of a call of either client, without blocking the event loop."""
    return await settle(await asyncio.to_thread(call))


async def collect(items: Iterator[T] | AsyncIterator[T]) -> list[T]:
    """Return the items that either client yields."""
    if isinstance(items, AsyncIterator):
        return [item async for item in items]
    return list(items)
