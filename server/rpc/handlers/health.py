"""gRPC's health protocol, behind the limits for requests that do not arrive, like every method."""

from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2

from server.rpc.floods.unsent_requests import UnsentRequests
from server.rpc.grpcio.context import Context, fail
from server.rpc.messages.status import MALFORMED

_RESPONSE_BYTES: Final = health_pb2.HealthCheckResponse.SerializeToString


def health_handler(
    servicer: health.aio.HealthServicer, unsent_requests: UnsentRequests
) -> grpc.GenericRpcHandler:
    """Return the handlers of gRPC's own servicer, behind `unsent_requests`."""
    answering: Any = servicer

    async def receive(context: Context) -> health_pb2.HealthCheckRequest:
        try:
            return health_pb2.HealthCheckRequest.FromString(await unsent_requests.receive(context))
        except DecodeError:
            await fail(context, MALFORMED)

    async def check(_requests: object, context: Context) -> health_pb2.HealthCheckResponse:
        found: health_pb2.HealthCheckResponse = await answering.Check(await receive(context), context)
        return found

    async def watch(_requests: object, context: Context) -> None:
        await answering.Watch(await receive(context), context)

    handlers: dict[str, Any] = {
        "Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=_RESPONSE_BYTES),
        "Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=_RESPONSE_BYTES),
    }
    return grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers)
