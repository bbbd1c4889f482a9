"""The listener: limits that hold before anything is paid for, and sockets whose peers do not read."""

import asyncio
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from server.http2.limits import Limits
from server.http2.sockets.connection_counts import ConnectionCounts, Refusal
from server.http2.sockets.link import Abort
from server.http2.sockets.listener import SHORT
from tests.http2.sockets.echo import (
    DRAINING,
    END,
    FLOOD,
    FLOOD_BYTES,
    GOODBYE,
    Site,
    echoed,
    listening,
    no_descriptors_left,
    on_loop,
    soon,
)

FEW = Limits(connections=3, connections_by_address=2, new_by_address=0)
SMALL_BUFFERS = Limits(unsent_bytes=64 * 1024, unsent_bytes_low=16 * 1024)


def test_bytes_go_in_and_out() -> None:
    """A connection answers, and is known by the name that gRPC gives its peer."""

    async def body() -> None:
        async with listening() as site:
            reader, writer = await site.connect()
            assert await echoed(reader, writer, b"hello") == b"hello"
            port = writer.get_extra_info("sockname")[1]
            assert site.echoes[0].peer.address == f"ipv4:127.0.0.1:{port}"
            assert site.echoes[0].peer.network == "127.0.0.1"
            writer.close()
            await soon(lambda: site.echoes[0].is_lost)
            assert not site.listener.links

    on_loop(body)


def test_one_address_has_its_share() -> None:
    """A third connection from an address is closed, one from another is served, and a place is given back."""

    async def body() -> None:
        async with listening(FEW) as site:
            assert await site.is_served("127.0.0.2")
            assert await site.is_served("127.0.0.2")
            assert not await site.is_served("127.0.0.2")
            assert site.listener.counts.n_refused[Refusal.ADDRESS] == 1
            assert [reason for reason, _ in site.events] == [Refusal.ADDRESS]
            assert await site.is_served("127.0.0.3")
            site.streams[0].close()
            await soon(lambda: site.listener.counts.n_open == 2)
            assert await site.is_served("127.0.0.2")

    on_loop(body)


def test_all_connections_are_bounded() -> None:
    """The fourth is closed, whatever its address, though the limits by address are off."""

    async def body() -> None:
        async with listening(replace(FEW, connections_by_address=0)) as site:
            assert [await site.is_served() for _ in range(4)] == [True, True, True, False]
            assert site.listener.counts.n_refused[Refusal.CONNECTIONS] == 1

    on_loop(body)


def test_new_connections_are_bounded_by_second() -> None:
    """The third in one second is refused, and admitted a second later; another address does not notice."""
    counts = ConnectionCounts(Limits(new_by_address=2))
    assert [counts.admit("192.0.2.1", 0.0) for _ in range(3)] == [None, None, Refusal.RATE]
    assert counts.admit("192.0.2.2", 0.0) is None
    counts.forget(0.5)
    assert counts.admit("192.0.2.1", 0.4) is Refusal.RATE
    assert counts.admit("192.0.2.1", 1.4) is None


@pytest.mark.parametrize("network", ["", "192.0.2.1"])
def test_zero_is_no_limit(network: str) -> None:
    """Behind a proxy, and for Unix sockets always, one address may have every place."""
    zero = Limits(connections=500, connections_by_address=0, new_by_address=0)
    counts = ConnectionCounts(zero if network else Limits(connections=500))
    assert {counts.admit(network, 0.0) for _ in range(500)} == {None}
    assert counts.admit(network, 0.0) is Refusal.CONNECTIONS


def test_addresses_without_connections_are_forgotten() -> None:
    """A counts remembers those that are in, and those that were a second ago."""
    counts = ConnectionCounts(Limits())
    for number in range(1_000):
        counts.admit(f"2001:db8:0:{number:x}::/64", 0.0)
    for number in range(999):
        counts.leave(f"2001:db8:0:{number:x}::/64", 0.0)
    counts.forget(0.9)
    assert len(counts._networks) == 1_000
    counts.forget(1.1)
    assert len(counts._networks) == counts.n_open == 1


def test_a_lack_of_descriptors_delays_connections() -> None:
    """They wait in the kernel, are served once there are descriptors, and the loop does not spin."""

    async def body() -> None:
        waiting: list[socket.socket] = []

        async def connect(site: Site) -> None:
            assert not isinstance(site.address, str)
            waiting.append(socket.create_connection(site.address))

        async with listening(before=connect) as site:
            with no_descriptors_left():
                await soon(lambda: site.listener.n_short)
                await asyncio.sleep(0.25)
                assert site.listener.n_short <= 5
            await soon(lambda: site.echoes)
            assert (SHORT, "") in site.events
            waiting[0].close()

    on_loop(body)


def test_a_backlog_is_dealt_with_in_order() -> None:
    """Bytes that one turn leaves are answered in the next ones, while others are served."""

    async def body() -> None:
        async with listening(turn_bytes=16) as site:
            reader, writer = await site.connect()
            data = bytes(range(256)) * 256
            assert await echoed(reader, writer, data) == data
            assert site.echoes[0].n_turns >= len(data) / 16

    on_loop(body)


def test_output_of_later_is_written() -> None:
    """A connection that has output outside its turn says so, once for several of them."""

    async def body() -> None:
        async with listening() as site:
            reader, _ = await site.connect()
            await soon(lambda: site.echoes)
            for piece in (b"one", b"two"):
                site.echoes[0].output += piece
                site.echoes[0].wake()
            assert await reader.readexactly(6) == b"onetwo"

    on_loop(body)


def test_a_connection_that_is_over_is_read_to_its_end() -> None:
    """The last output arrives although the peer sends more than is read, and then the stream ends."""

    async def body() -> None:
        async with listening() as site:
            reader, writer = await site.connect()
            writer.write(END + bytes(1 << 20))
            assert await reader.read() == GOODBYE
            writer.close()
            await soon(lambda: not site.listener.links)
            assert not any(site.listener.n_aborted.values())

    on_loop(body)


def test_a_peer_need_not_close() -> None:
    """A second after a connection is over it is closed anyway."""

    async def body() -> None:
        async with listening() as site:
            reader, writer = await site.connect()
            writer.write(END)
            assert await reader.read() == GOODBYE
            assert site.listener.links
            site.clock.ahead += 1.5
            await soon(lambda: not site.listener.links)

    on_loop(body)


def test_nothing_is_read_from_a_peer_that_does_not_read() -> None:
    """Its requests wait in the kernel until it reads; then all are answered."""

    async def body() -> None:
        async with listening(replace(SMALL_BUFFERS, unsent_bytes_at_most=4 * FLOOD_BYTES)) as site:
            reader, writer = await site.connect()
            writer.write(FLOOD)
            await soon(lambda: site.listener.n_unsent > 1 << 20)
            n_turns = site.echoes[0].n_turns
            writer.write(b"after")
            await asyncio.sleep(0.2)
            assert site.echoes[0].n_turns == n_turns
            assert await reader.readexactly(FLOOD_BYTES) == bytes(FLOOD_BYTES)
            assert await reader.readexactly(5) == b"after"

    on_loop(body)


def test_too_much_output_ends_a_connection() -> None:
    """Output that comes while the peer does not read is kept up to a limit."""

    async def body() -> None:
        async with listening(SMALL_BUFFERS) as site:
            _, writer = await site.connect()
            writer.write(FLOOD)
            await soon(lambda: site.listener.n_aborted[Abort.UNSENT])
            await soon(lambda: not site.listener.links)
            assert [reason for reason, _ in site.events] == [Abort.UNSENT]

    on_loop(body)


def test_output_behind_flow_control_counts() -> None:
    """So does what waits for the peer's windows."""

    async def body() -> None:
        async with listening(SMALL_BUFFERS) as site:
            reader, writer = await site.connect()
            await soon(lambda: site.echoes)
            site.echoes[0].n_unsent = SMALL_BUFFERS.unsent_bytes_at_most
            assert await echoed(reader, writer, b"x") == b"x"
            site.echoes[0].n_unsent += 1
            await soon(lambda: site.listener.n_aborted[Abort.UNSENT])

    on_loop(body)


@pytest.mark.parametrize("is_windowed", [True, False])
def test_a_stalled_peer_is_cut_off(*, is_windowed: bool) -> None:
    """After 20 s without progress, in its windows or its socket; a peer that reads a little is not."""

    async def body() -> None:
        async with listening(replace(SMALL_BUFFERS, unsent_bytes_at_most=4 * FLOOD_BYTES)) as site:
            reader, writer = await site.connect()
            await soon(lambda: site.echoes)
            if is_windowed:
                site.echoes[0].n_unsent = 1_000
            else:
                writer.write(FLOOD)
            await soon(lambda: site.listener.n_unsent)
            for _ in range(3):  # some is read every 15 s
                site.clock.ahead += 15.0
                n_unsent = site.listener.n_unsent
                if is_windowed:
                    site.echoes[0].n_unsent -= 1
                else:
                    await reader.readexactly(1 << 22)  # the kernel takes more in steps of a MiB
                await soon(partial(_has_less, site, n_unsent))
            assert not site.listener.n_aborted[Abort.STALLED]
            await asyncio.sleep(0.3)  # for what the kernel still takes
            site.clock.ahead += 20.5
            await soon(lambda: site.listener.n_aborted[Abort.STALLED])

    on_loop(body)


def test_memory_in_all_is_bounded() -> None:
    """The connection with most unsent output is cut off, and the others stay."""

    async def body() -> None:
        async with listening(Limits(unsent_bytes_in_all=1_000)) as site:
            for _ in range(3):
                assert await site.is_served()
            for echo, n_unsent in zip(site.echoes, (300, 600, 400), strict=True):
                echo.n_unsent = n_unsent
            await soon(lambda: site.listener.n_aborted[Abort.MEMORY])
            await soon(lambda: [echo.is_lost for echo in site.echoes] == [False, True, False])
            assert site.listener.n_aborted[Abort.MEMORY] == 1

    on_loop(body)


def test_a_tick_that_fails_ends_one_connection(capfd: pytest.CaptureFixture[str]) -> None:
    """Others are looked after as before."""

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with listening() as site:
            assert await site.is_served()
            reader, writer = await site.connect()
            await soon(lambda: len(site.echoes) == 2)
            site.echoes[0].is_failing = True
            await soon(lambda: site.echoes[0].is_lost)
            assert site.listener.n_aborted[Abort.FAILED] == 1
            assert await echoed(reader, writer, b"x") == b"x"

    on_loop(body)
    assert capfd.readouterr().err == ""


def test_a_drain_reaches_every_connection() -> None:
    """Those that are open, and those that are opened during the drain."""

    async def body() -> None:
        async with listening() as site:
            reader, writer = await site.connect()
            await soon(lambda: site.echoes)
            site.listener.begin_drain()
            assert await reader.readexactly(len(DRAINING)) == DRAINING
            late, _ = await site.connect()
            assert await late.readexactly(len(DRAINING)) == DRAINING
            closing = asyncio.ensure_future(site.listener.close(20.0))
            writer.write(END)
            assert await reader.read() == GOODBYE
            assert not closing.done()
            for stream in site.streams:
                stream.close()
            await closing

    on_loop(body)


def test_the_end_does_not_wait_for_ever() -> None:
    """Connections that do not end in time are cut off, and nobody can connect any more."""

    async def body() -> None:
        async with listening() as site:
            reader, _ = await site.connect()
            await soon(lambda: site.echoes)
            await site.listener.close(0.05)
            assert await reader.read() == b""
            assert site.listener.n_aborted[Abort.CLOSED] == 1
            assert site.events == []

    on_loop(body)


def test_unix_sockets_have_no_address(tmp_path: Path) -> None:
    """Any number of clients may come through one, up to the limit on all."""

    async def body() -> None:
        async with listening(FEW, address=f"unix:{tmp_path}/s") as site:
            assert [await site.is_served() for _ in range(4)] == [True, True, True, False]
            assert site.echoes[0].peer.address == "unix:"

    on_loop(body)


def _has_less(site: Site, n_bytes: int) -> bool:
    """Return whether less than this waits for the peers."""
    return site.listener.n_unsent < n_bytes


def test_connections_tick_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two portions the event loop does other things, and every connection has its tick."""
    monkeypatch.setattr("server.http2.sockets.listener._MOST_A_PORTION", 3)

    async def body() -> None:
        async with listening() as site:
            for _ in range(8):
                assert await site.is_served()
            before = [echo.n_ticks for echo in site.echoes]
            most = n_seen = 0
            async with asyncio.timeout(20):
                while min(after - n for after, n in zip(ticks(site), before, strict=True)) < 2:
                    await asyncio.sleep(0)
                    most, n_seen = max(most, sum(ticks(site)) - n_seen if n_seen else 0), sum(ticks(site))
            assert 0 < most <= 3

    on_loop(body)


def ticks(site: Site) -> list[int]:
    """Return how often each connection has ticked."""
    return [echo.n_ticks for echo in site.echoes]
