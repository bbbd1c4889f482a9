"""The reference: RPCs that do nothing, on the server's own stack of grpc.aio, uvloop and channel options.

`python -m benchmarks.throughput.echo --response-bytes N` answers every call, and every message of a
stream, with the same N bytes until SIGTERM.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import click
import grpc
import uvloop

from server.rpc.grpcio.context import Context
from server.rpc.server import OPTIONS

SERVICE: Final = "benchmarks.Echo"
METHOD: Final = f"/{SERVICE}/Echo"
STREAM_METHOD: Final = f"/{SERVICE}/EchoStream"


async def _serve(response: bytes) -> None:
    async def echo(_request: bytes, _context: Context) -> bytes:
        return response

    async def echo_stream(requests: AsyncIterator[bytes], _context: Context) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield response

    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "EchoStream": grpc.stream_stream_rpc_method_handler(echo_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"echo is serving at 127.0.0.1:{port}\n")
    sys.stdout.flush()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(1.0)


@click.command()
@click.option("--response-bytes", type=click.IntRange(0, 1_000_000), default=150, show_default=True)
def main(response_bytes: int) -> None:
    """Answer every call with the same bytes until SIGTERM."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(b"\n" * response_bytes))  # as the first byte of an answer in a stream


if __name__ == "__main__":
    main()
