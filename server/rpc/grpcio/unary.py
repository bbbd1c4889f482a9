"""Calls with one request and one response, on grpc.aio."""

from server.rpc.floods.unsent_requests import Handler
from server.rpc.grpcio.context import Context, ContextPeer, fail
from server.rpc.guard.calls import GuardedMethod
from server.rpc.messages.status import Failure


def unary_handler(method: GuardedMethod) -> Handler:
    """Return the handler of a method, which raises what grpc.aio expects of a call that failed."""

    async def handle(data: bytes, context: Context) -> bytes:
        outcome = method.call(data, ContextPeer(context))
        if not isinstance(outcome, bytes | Failure):
            outcome = await outcome
        if isinstance(outcome, Failure):
            await fail(context, outcome)
        return outcome

    return handle
