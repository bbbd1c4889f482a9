"""A hostile address: connections that each begin nearly a thousand calls, and send no requests."""

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

CONNECTIONS_A_SECOND: Final = 12
CALLS_A_CONNECTION: Final = 990

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS: Final = 1
_SETTINGS: Final = 4
_ACK: Final = 1
_END_HEADERS: Final = 4
_POST_OVER_HTTP: Final = b"\x83\x86"
_ALL_KNOWN: Final = _POST_OVER_HTTP + b"\xc1\xc0\xbf\xbe"
"""The same four headers again, by their indexes in the table of RFC 7541: six bytes for a call."""


@dataclass(slots=True)
class FloodTotals:
    """The result of a flood.

    Attributes:
        n_tried: Connections that were begun.
        n_made: Connections that the server took.
        n_closed: Connections that it closed.
    """

    n_tried: int = 0
    n_made: int = 0
    n_closed: int = 0


async def flood(
    port: int,
    method: str,
    seconds: float,
    is_enough: Callable[[], bool] = lambda: False,
    *,
    source: str = "127.0.0.1",
) -> FloodTotals:
    """Open twelve connections a second, each at its own time, and hold those that are taken.

    Args:
        port: Where the server listens.
        method: The method called.
        seconds: The duration.
        is_enough: Asked after each connection; ends the flood early.
        source: The address that they come from; on Linux any that begins with 127 will do.
    """
    totals = FloodTotals()
    data = opening(method)
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    held: list[asyncio.Task[None]] = []
    while loop.time() < began_at + seconds and not is_enough():
        totals.n_tried += 1
        held.append(asyncio.create_task(_hold(port, source, data, totals)))
        await asyncio.sleep(max(0.0, began_at + len(held) / CONNECTIONS_A_SECOND - loop.time()))
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    return totals


async def _hold(port: int, source: str, data: bytes, totals: FloodTotals) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    except ConnectionError:
        return
    totals.n_made += 1
    with suppress(ConnectionError):
        try:
            writer.write(data)
            while await reader.read(65_536):
                pass
        finally:
            writer.close()
    totals.n_closed += 1


def opening(method: str) -> bytes:
    """Return all that a hostile connection sends: its SETTINGS, and its calls' headers, 15 bytes each."""
    first = _POST_OVER_HTTP + b"".join(
        b"\x40" + _text(key) + _text(value)
        for key, value in (
            (":path", method),
            (":authority", "test"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
    )
    calls = (
        _frame(_HEADERS, _END_HEADERS, 2 * number + 1, _ALL_KNOWN if number else first)
        for number in range(CALLS_A_CONNECTION)
    )
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_SETTINGS, _ACK, 0, b"") + b"".join(calls)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
