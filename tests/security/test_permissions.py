"""Permissions: every method has a row with its roles, and the server enforces it."""

from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from bandit.v1 import admin_pb2, bandit_pb2, event_pb2, evidence_pb2, experiment_pb2, launch_pb2
from server.rpc.handlers.reflection import REFLECTION
from server.rpc.methods import ADMIN, BANDIT, EXPERIMENTS, LAUNCHES
from server.services.access.callers import Role
from tests.security.conftest import Enter, TokensFile
from tests.support.process import ServerProcess
from tests.support.refusals import call_of, refused
from tests.support.wire import METHODS, ON_LISTENERS, Wire

PROTOS = Path(__file__).parents[2] / "protos" / "bandit" / "v1"
FILES = (
    admin_pb2.DESCRIPTOR,
    bandit_pb2.DESCRIPTOR,
    event_pb2.DESCRIPTOR,
    evidence_pb2.DESCRIPTOR,
    experiment_pb2.DESCRIPTOR,
    launch_pb2.DESCRIPTOR,
)
ROLES = {
    **{f"/{BANDIT.name}/{method.name}": method.roles for method in BANDIT.methods},
    **{f"/{EXPERIMENTS.name}/{method.name}": method.roles for method in EXPERIMENTS.methods},
    **{f"/{LAUNCHES.name}/{method.name}": method.roles for method in LAUNCHES.methods},
    **{f"/{ADMIN.name}/{method.name}": method.roles for method in ADMIN.methods},
}
CLOSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def method_names() -> set[str]:
    """Return the full names of all methods of the services in our protos."""
    services = [service for file in FILES for service in file.services_by_name.values()]
    return {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}


def code_of(wire: Wire, method: str) -> grpc.StatusCode:
    """Return the status of a method for an empty message."""
    try:
        wire.call(method, b"")
    except grpc.RpcError as error:
        return call_of(error).code()
    return grpc.StatusCode.OK


def test_every_proto_file_is_covered() -> None:
    """The tests here cover every proto file, also a new one."""
    ours = {f"bandit/v1/{path.name}" for path in PROTOS.glob("*.proto")}
    assert ours <= {file.name for file in FILES}
    assert all(descriptor_pool.Default().FindFileByName(name) for name in ours)


def test_every_method_is_served() -> None:
    """Every method has one row, with its roles, and every row a method."""
    assert ROLES.keys() == method_names()
    services = (BANDIT, EXPERIMENTS, LAUNCHES, ADMIN)
    assert len(ROLES) == sum(len(service.methods) for service in services)
    assert all(ROLES.values())


@pytest.mark.parametrize(("listener", "method"), ON_LISTENERS, indirect=["listener"])
def test_without_credentials_nothing_is_answered(method: str, guarded: ServerProcess, enter: Enter) -> None:
    """Every method returns UNAUTHENTICATED before its request is read."""
    wire = enter(guarded)
    refusal = refused(lambda: wire.call(method, b"\xff no message"))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


@pytest.mark.both_listeners
@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_what_the_table_says(
    role: Role, guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """A method accepts the roles that its row names, and returns PERMISSION_DENIED to others."""
    wire = enter(guarded, tokens.token(role))
    answers = {method: code_of(wire, method) for method in METHODS}
    let_in = {method for method, code in answers.items() if code not in CLOSED}
    assert let_in == {method for method in METHODS if role in ROLES[method]}
    assert set(answers.values()) & CLOSED == {grpc.StatusCode.PERMISSION_DENIED}


@pytest.mark.both_listeners
def test_health_needs_no_credentials(guarded: ServerProcess, enter: Enter) -> None:
    """Health needs no credentials, as load balancers have no token."""
    assert enter(guarded).health_of("") == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("caller", "expected"),
    [("", grpc.StatusCode.UNAUTHENTICATED), ("choose", grpc.StatusCode.PERMISSION_DENIED), ("viewer", None)],
)
def test_reflection_is_for_viewers(
    caller: str,
    expected: grpc.StatusCode | None,
    guarded: ServerProcess,
    tokens: TokensFile,
    enter: Enter,
) -> None:
    """Only viewers can list services and methods."""
    metadata = (("authorization", f"Bearer {tokens.token(caller)}"),) if caller else ()
    ask = enter(guarded).channel.stream_stream(
        REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = ask(iter([question]), metadata=metadata, timeout=20)
    if expected is None:
        (answer,) = list(answers)
        names = {service.name for service in answer.list_services_response.service}
        assert "bandit.v1.AdminService" in names
    else:
        assert refused(lambda: list(answers)).code is expected
