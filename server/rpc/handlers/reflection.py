"""gRPC reflection, for callers with permission."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from server.rpc.grpcio.context import ContextPeer, fail
from server.rpc.guard.admission import Admission
from server.rpc.guard.authentication import RefusedCallError
from server.rpc.guard.peer import Peer
from server.rpc.messages.status import Failure
from server.services.errors import ServiceError

REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class _GuardedReflection:
    """gRPC's own servicer, behind the same checks as every other method."""

    def __init__(self, services: Sequence[str], admit: Callable[[Peer], Admission]) -> None:
        self._servicer: Any = reflection.aio.ReflectionServicer(services)
        self._admit = admit

    async def answer(
        self, requests: AsyncIterable[Any], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[Any]:
        """Answer a stream of reflection requests."""
        try:
            self._admit(ContextPeer(context))
        except RefusedCallError as error:
            await fail(context, error.failure)
        except ServiceError as error:
            await fail(context, Failure.of(error))
        async for response in self._servicer.ServerReflectionInfo(requests, context):
            yield response


def serve_reflection(
    server: grpc.aio.Server, services: Sequence[str], admit: Callable[[Peer], Admission]
) -> None:
    """Serve which methods and messages the services have, to callers whom `admit` lets in."""
    reflected = _GuardedReflection((*services, reflection.SERVICE_NAME), admit)
    _, method = REFLECTION.lstrip("/").split("/")
    handler: Any = grpc.stream_stream_rpc_method_handler(
        reflected.answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {method: handler})
    server.add_generic_rpc_handlers((generic,))
