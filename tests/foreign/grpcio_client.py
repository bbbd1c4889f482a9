"""Make the calls that stdin lists over one connection, and print their outcomes in order.

Those above an empty line are made before more is read. Run it as
`python -m tests.foreign.grpcio_client ADDRESS CONCURRENCY`. The README beside it has the format of the lines.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Final

import grpc

from tests.foreign.calls import Call, Outcome

_SHOWN: Final = ("bandit-reason", "grpc-retry-pushback-ms", "grpc-status-details-bin")


async def _make(channel: grpc.aio.Channel, call: Call) -> Outcome:
    metadata = (("authorization", call.authorization),) if call.authorization else None
    compression = grpc.Compression.Gzip if call.is_compressed else None
    seconds = call.timeout_us / 1e6
    responses: list[bytes] = []
    made: grpc.aio.Call
    if call.is_stream:
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(call.path)
        made = stream = open_stream(
            iter(call.requests), timeout=seconds, metadata=metadata, compression=compression
        )
        with suppress(grpc.aio.AioRpcError):  # its status is read below
            responses.extend([response async for response in stream])
    else:
        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(call.path)
        (request,) = call.requests
        made = unary = send(request, timeout=seconds, metadata=metadata, compression=compression)
        with suppress(grpc.aio.AioRpcError):
            responses.append(await unary)
    trailing = dict(await made.trailing_metadata() or ())
    values = {name: trailing[name] for name in _SHOWN if name in trailing}
    return Outcome(
        code=(await made.code()).value[0],
        message=await made.details() or "",
        trailers={n: value.encode() if isinstance(value, str) else value for n, value in values.items()},
        responses=responses,
    )


async def _make_all(channel: grpc.aio.Channel, concurrency: int, calls: list[Call]) -> list[Outcome]:
    outcomes: dict[int, Outcome] = {}
    numbered = iter(enumerate(calls))

    async def make_each() -> None:
        for index, call in numbered:
            outcomes[index] = await _make(channel, call)

    await asyncio.gather(*(make_each() for _ in range(concurrency)))
    return [outcomes[index] for index in range(len(calls))]


async def _main(address: str, concurrency: int) -> None:
    calls: list[Call] = []
    async with grpc.aio.insecure_channel(address) as channel:
        for line in sys.stdin:  # blocks the loop, when no call is under way
            if line != "\n":
                calls.append(Call.of_line(line.rstrip("\n")))
                continue
            outcomes = await _make_all(channel, concurrency, calls)
            sys.stdout.writelines(f"{outcome.line}\n" for outcome in outcomes)
            sys.stdout.flush()
            calls.clear()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
