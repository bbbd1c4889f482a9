"""Health and reflection, as load balancers and tools ask for them."""

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.conftest import Connect, StartServer
from tests.support.wire import SERVICES, Wire

NAMES = ["", *(service.full_name for service in SERVICES)]


@pytest.mark.parametrize("service", NAMES)
def test_services_are_serving(wire: Wire, service: str) -> None:
    """The server as a whole, and each of its services."""
    assert wire.health_of(service) == health_pb2.HealthCheckResponse.SERVING


def test_an_unknown_service_is_not_found(wire: Wire) -> None:
    """As the health protocol has it."""
    with pytest.raises(grpc.RpcError) as caught:
        wire.health_of("bandit.v1.NoSuchService")
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def listed(wire: Wire) -> set[str]:
    """The services that reflection tells of."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
    return {service.name for service in answer.list_services_response.service}


def test_reflection_is_off_by_default(wire: Wire) -> None:
    """UNIMPLEMENTED: whoever reaches the port is told nothing."""
    with pytest.raises(grpc.RpcError) as caught:
        listed(wire)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_tells_of_every_service(start_server: StartServer, connect: Connect) -> None:
    """With --reflection: both services, health and itself, with their descriptors."""
    wire = connect(start_server("--reflection"))
    assert listed(wire) == {
        *(name for name in NAMES if name),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    stub = reflection_pb2_grpc.ServerReflectionStub(wire.channel)
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="bandit.v1.BanditService")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
    files = [
        FileDescriptorProto.FromString(data) for data in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert "bandit/v1/bandit.proto" in {file.name for file in files}
