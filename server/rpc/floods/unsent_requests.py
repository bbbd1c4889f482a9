"""Calls whose request has not arrived: limits on their number, by connection and address, and on their time.

The headers of a call cost a few bytes to send, and hold server memory until the request follows. Every method
begins here, before its handler counts the call, because gRPC hands over calls at their headers.
"""

import asyncio
from asyncio import CancelledError, Task
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

import grpc

from server.listening.peers import address_of
from server.rpc.floods.freed_memory import return_freed_memory
from server.rpc.floods.offenders import Offenders
from server.rpc.grpcio.context import Context, RpcHandler, fail
from server.rpc.messages.status import NO_REQUEST, Failure, incomplete, too_many_incomplete
from server.services.runtime.clock import Clock

Handler: TypeAlias = Callable[[bytes, Context], Awaitable[bytes]]
"""The handler of a call whose request has arrived."""

MOST_BY_CONNECTION: Final = 200
"""When an honest client begins 900 calls at once on a connection, some 50 to 100 wait at a time."""

MOST_BY_ADDRESS: Final = 2_000
MOST_IN_ALL: Final = 4_000
FEWEST_BY_CONNECTION: Final = 10
"""Allowed for every connection, whatever others do; enough for a client that sends whole requests."""

MOST_REFUSED: Final = 50
"""The connection is closed once this many further calls were refused."""

_LOOK_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 5.0
"""Seconds after the last closed connection at which the memory of a flood is returned to the system."""


@dataclass(slots=True)
class _Address:
    """An address with connections, of whose calls `n_waiting` wait for their requests."""

    name: str
    n_waiting: int = 0


@dataclass(slots=True)
class _Connection:
    """A connection with calls that wait for their requests; `n_refused` calls were beyond its limit."""

    address: _Address
    n_waiting: int = 0
    n_refused: int = 0
    is_closing: bool = False


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits for its request, unless it was ended, for a reason."""

    task: Task[Any] | None
    began_at: float
    ended_for: Failure | None = field(default=None, init=False)

    def end(self, failure: Failure) -> bool:
        """End the call; return False if it was ended before."""
        if self.task is None or self.ended_for is not None:
            return False
        self.ended_for = failure
        self.task.cancel()
        return True


class UnsentRequests:
    """The calls that wait for their requests. Not thread-safe: use it from the event loop's thread only.

    A connection that keeps sending calls beyond its limit is closed, with all its calls.

    Args:
        clock: Times the calls.
        offenders: Closes connections.
        seconds: How long a request may take to arrive after the headers of its call.

    Attributes:
        n_waiting: Calls that wait for their requests.
        n_late: Calls that were ended because their request took too long.
        n_refused: Calls that were refused because too many waited.
    """

    def __init__(self, clock: Clock, offenders: Offenders, *, seconds: float) -> None:
        self._offenders = offenders
        self._now = clock.monotonic
        self._seconds = seconds
        self._connections: dict[str, _Connection] = {}
        self._addresses: dict[str, _Address] = {}
        self._calls: dict[_Call, None] = {}
        self.n_waiting = 0
        self.n_late = 0
        self.n_refused = 0

    def before(self, handler: Handler) -> RpcHandler:
        """Return the handler of a call, from bytes to bytes, so that we answer malformed requests, not gRPC.

        On the wire a call with one request is the same whether or not gRPC treats it as a stream of requests;
        for a stream, gRPC calls the handler at once.
        """

        async def handle(_requests: object, context: Context) -> bytes:
            return await handler(await self.receive(context), context)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def receive(self, context: Context) -> bytes:
        """Return the request of a call; abort a call without one."""
        request = await self.receive_first(context)
        if request is None:
            await self._end(context, NO_REQUEST)
        return request

    async def receive_first(self, context: Context) -> bytes | None:
        """Return the first message of a stream, None if it ends without one; abort one that sends none."""
        peer = context.peer()
        connection = self._connections.get(peer) or self._connection_of(peer)
        failure = self._refusal(peer, connection)
        if failure is None:
            call = _Call(asyncio.current_task(), self._now())
            self._calls[call] = None
            connection.n_waiting += 1
            connection.address.n_waiting += 1
            self.n_waiting += 1
            try:
                message: object = await context.read()
            except CancelledError:
                if call.ended_for is None:
                    raise
                failure = call.ended_for
            else:
                return message if isinstance(message, bytes) else None
            finally:
                self._calls.pop(call, None)
                self._release(peer, connection)
        return await self._end(context, failure)

    async def _end(self, context: Context, failure: Failure) -> NoReturn:
        try:
            await fail(context, failure)
        except grpc.aio.InternalError:
            # gRPC has ended the call: its message was too large, or its caller left.
            raise CancelledError from None

    async def watch(self) -> None:
        """End calls whose requests take too long, until cancelled."""
        n_seen = n_trimmed = 0
        quiet_since = self._now()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            overdue_since = self._now() - self._seconds
            for call in self._calls:
                if call.began_at > overdue_since:
                    break
                self.n_late += call.end(incomplete(self._seconds))
            self._offenders.look()
            if self._offenders.n_closed != n_seen:
                n_seen, quiet_since = self._offenders.n_closed, self._now()
            elif n_seen != n_trimmed and self._now() - quiet_since > _QUIET_SECONDS:
                n_trimmed = n_seen
                await asyncio.to_thread(return_freed_memory)

    def _connection_of(self, peer: str) -> _Connection:
        name = address_of(peer)
        address = self._addresses.get(name)
        if address is None:
            address = self._addresses[name] = _Address(name)
        connection = self._connections[peer] = _Connection(address)
        return connection

    def _release(self, peer: str, connection: _Connection) -> None:
        address = connection.address
        self.n_waiting -= 1
        connection.n_waiting -= 1
        address.n_waiting -= 1
        if not connection.n_waiting:
            del self._connections[peer]
            if not address.n_waiting:
                del self._addresses[address.name]

    def _refusal(self, peer: str, connection: _Connection) -> Failure | None:
        """Return why another call of a connection may not wait for its request; None if it may."""
        n_waiting = connection.n_waiting
        if n_waiting < FEWEST_BY_CONNECTION:
            return None
        address = connection.address
        if not address.name:
            return self._refusal_among_all(n_waiting)
        is_crowded = (
            address.n_waiting >= MOST_BY_ADDRESS
            or self.n_waiting >= MOST_IN_ALL
            or self._offenders.has_offended(address.name)
        )
        n_allowed = FEWEST_BY_CONNECTION if is_crowded else MOST_BY_CONNECTION
        if n_waiting < n_allowed:
            return None
        self.n_refused += 1
        connection.n_refused += 1
        if connection.n_refused >= min(n_allowed, MOST_REFUSED) and not connection.is_closing:
            connection.is_closing = True
            self._offenders.close(peer)
        return too_many_incomplete(n_waiting)

    def _refusal_among_all(self, n_waiting: int) -> Failure | None:
        """As `_refusal`, for the clients of a Unix socket, which all look like one connection.

        The calls of an honest client wait for a moment, those of a flood for long. So the call that has
        waited longest makes room, and the connection is never closed.
        """
        if n_waiting < MOST_BY_ADDRESS:
            return None
        self.n_refused += 1
        failure = too_many_incomplete(n_waiting)
        oldest = next(iter(self._calls), None)
        if oldest is None or self.n_waiting >= MOST_IN_ALL:
            return failure
        del self._calls[oldest]
        oldest.end(failure)
        return None
