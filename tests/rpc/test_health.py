"""Health and reflection, as load balancers and tools use them."""

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.conftest import Connect, StartServer
from tests.support.refusals import call_of
from tests.support.wire import SERVICES, Wire

NAMES = ["", *(service.full_name for service in SERVICES)]


@pytest.mark.both_listeners
@pytest.mark.parametrize("service", NAMES)
def test_services_are_serving(wire: Wire, service: str) -> None:
    """Health reports the server as a whole, and each of its services, as serving."""
    assert wire.health_of(service) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.both_listeners
def test_an_unknown_service_is_not_found(wire: Wire) -> None:
    """An unknown service gets NOT_FOUND, as the health protocol requires."""
    with pytest.raises(grpc.RpcError) as caught:
        wire.health_of("bandit.v1.NoSuchService")
    assert call_of(caught.value).code() is grpc.StatusCode.NOT_FOUND


def ask(wire: Wire, **question: Any) -> reflection_pb2.ServerReflectionResponse:
    """Send one reflection request, and return the answer."""
    method = wire.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = method(iter([reflection_pb2.ServerReflectionRequest(**question)]), timeout=20)
    assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
    return answer


def test_reflection_is_off_by_default(wire: Wire) -> None:
    """Without --reflection, it gets UNIMPLEMENTED, and reveals nothing."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(wire, list_services="")
    assert call_of(caught.value).code() is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_lists_every_service(start_server: StartServer, connect: Connect) -> None:
    """With --reflection, it lists all services, with health and itself, and their descriptors."""
    wire = connect(start_server("--reflection"))
    listed = ask(wire, list_services="").list_services_response
    assert {service.name for service in listed.service} == {
        *(name for name in NAMES if name),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    described = ask(wire, file_containing_symbol="bandit.v1.BanditService").file_descriptor_response
    files = [FileDescriptorProto.FromString(data) for data in described.file_descriptor_proto]
    assert "bandit/v1/bandit.proto" in {file.name for file in files}
