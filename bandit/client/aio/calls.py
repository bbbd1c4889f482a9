"""Experiment and admin calls check the timeout that they are given."""

from __future__ import annotations  # some types exist in the stubs alone

import grpc

from bandit.client.aio.connection import AsyncCalls
from bandit.client.arguments import call_seconds
from bandit.client.transport import RequestT, ResponseT


class AsyncCheckedCalls(AsyncCalls):
    """The calls of one service; a timeout that is not a finite number is refused before the call."""

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        timeout: float | None,
    ) -> ResponseT:
        return await super()._call(method, request, None if timeout is None else call_seconds(timeout))
