"""Approvals: whoever moves a launch can't also wave it through."""

import grpc
import pytest

from bandit.v1 import launch_pb2, launch_pb2_grpc
from server.services.access.callers import Role
from tests.security.conftest import Enter, TokensFile
from tests.support.process import ServerProcess
from tests.support.refusals import refused
from tests.support.wire import CALL_SECONDS

APPROVE = launch_pb2.ApproveLaunchRequest(verb=launch_pb2.LaunchVerb(name="no-such", reason="it is good"))
ADVANCE = launch_pb2.AdvanceLaunchRequest(verb=launch_pb2.LaunchVerb(name="no-such", reason="it is good"))


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.APPROVER}))
def test_an_approval_needs_its_own_role(
    role: Role, guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """Neither operators nor admins may approve."""
    launches = launch_pb2_grpc.LaunchServiceStub(enter(guarded, tokens.token(role)).channel)
    refusal = refused(lambda: launches.ApproveLaunch(APPROVE, timeout=CALL_SECONDS))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED


def test_an_approver_may_approve_and_move_nothing(
    guarded: ServerProcess, tokens: TokensFile, enter: Enter
) -> None:
    """An approval is let in, here to an experiment that does not exist; another verb is not."""
    launches = launch_pb2_grpc.LaunchServiceStub(enter(guarded, tokens.token(Role.APPROVER)).channel)
    approval = refused(lambda: launches.ApproveLaunch(APPROVE, timeout=CALL_SECONDS))
    assert approval.code is grpc.StatusCode.NOT_FOUND
    step = refused(lambda: launches.AdvanceLaunch(ADVANCE, timeout=CALL_SECONDS))
    assert step.code is grpc.StatusCode.PERMISSION_DENIED
