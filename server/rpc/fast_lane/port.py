"""The port of the fast lane: from the address to connections, with log events for those that are refused."""

import asyncio
import ssl
from collections.abc import Callable, Sequence

import structlog

from server.addresses import with_port
from server.http2.connection import Connection
from server.http2.limits import Limits, Totals
from server.http2.peer import PeerInfo
from server.http2.sockets.listener import Listener
from server.listening.open_sockets import OpenSockets
from server.listening.places import Place
from server.rpc.fast_lane.lane import FastLane
from server.rpc.fast_lane.memory import BATCH_BYTES, CONNECTION_BYTES, STREAM_BYTES, FreedMemory
from server.rpc.floods.freed_memory import return_freed_memory
from server.services.runtime.clock import Clock
from server.services.runtime.log_throttle import LogThrottle

log = structlog.get_logger()


class FastPort:
    """The port of the fast lane. It must be created on its event loop.

    Args:
        lane: Answers the requests.
        limits: The limits.
        clock: The time.
        context: Returns the TLS that is in force; None for plain text.

    Attributes:
        lane: As above.
        listener: Accepts the connections.
    """

    def __init__(
        self,
        lane: FastLane,
        limits: Limits,
        clock: Clock,
        *,
        context: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self.lane = lane
        self._limits = limits
        self._totals = Totals()
        self._throttle = LogThrottle(clock)
        self._opened: OpenSockets | None = None
        self._freed_memory = FreedMemory(self._held_bytes, self._return_memory)
        self.listener = Listener(self._make, limits, clock.monotonic, context=context, on_event=self._note)

    def open(self, address: str, places: Sequence[Place] | None = None) -> str:
        """Take an address, whose connections wait until `start`; return it with the port that was free.

        Args:
            address: `HOST:PORT`, `unix:PATH` or `unix-abstract:NAME`.
            places: Those of `address` if the parent holds them; else None.

        Raises:
            ListenError: It can't be taken.
        """
        self._opened = OpenSockets.open(address, places)
        return with_port(address, self._opened.port)

    def start(self) -> None:
        """Serve at the address that was taken."""
        if self._opened is not None:
            self.listener.start(self._opened.sockets)
            self._freed_memory.start()

    def give_up(self) -> None:
        """Give the address back; connections go on."""
        self.listener.stop_accepting()
        if self._opened is not None:
            self._opened.close()

    def begin_drain(self) -> None:
        """Let the clients go elsewhere; their calls are answered as before.

        The address is given back first. A client that connected once more would be told to leave before its
        first call; grpcio 1.85 then tries again without a pause, and hung for over ten seconds at 5 of 30
        drains.
        """
        self.give_up()
        self.listener.begin_drain()

    async def close(self, seconds: float) -> None:
        """Give the address back, and give connections `seconds` to end."""
        self.give_up()
        await self.listener.close(seconds)
        self._freed_memory.stop()

    def _return_memory(self) -> None:
        """Do so in a thread: after a flood it takes 0.1 s."""
        asyncio.get_running_loop().run_in_executor(None, return_freed_memory)

    def _held_bytes(self) -> int:
        """Return about how many bytes connections and their calls hold."""
        totals, listener = self._totals, self.listener
        counted = CONNECTION_BYTES * listener.counts.n_open + STREAM_BYTES * totals.n_streams
        n_batches = sum(method.n_in_flight for method in self.lane.batches)
        return counted + BATCH_BYTES * n_batches + totals.n_body_bytes + listener.n_unsent

    def _make(self, peer: PeerInfo, now: float, wake: Callable[[], None]) -> Connection:
        return Connection(self.lane.session, self._limits, self._totals, now, peer=peer, wake=wake)

    def _note(self, reason: str, peer: str, rule: str) -> None:
        n_left_out = self._throttle.admit(reason)
        if n_left_out is not None:
            facts = {"why": reason, "rule": rule or None, "peer": peer or None}
            log.warning("fast_lane.connection_closed", **facts, n_unsaid=n_left_out)
