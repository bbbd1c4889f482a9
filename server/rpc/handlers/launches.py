"""LaunchService: launches and their verbs on the wire."""

from typing import TypeVar

from google.protobuf.message import Message

from bandit.v1 import launch_pb2
from server.rpc.guard.admission import Admission
from server.rpc.guard.calls import parse
from server.rpc.messages.launch import to_arguments, to_launch
from server.services.launch.verbs import LaunchAnswer, Launches, Verb

_Request = TypeVar(
    "_Request",
    launch_pb2.ApproveLaunchRequest,
    launch_pb2.AdvanceLaunchRequest,
    launch_pb2.HoldLaunchRequest,
    launch_pb2.ResumeLaunchRequest,
    launch_pb2.RollBackLaunchRequest,
    launch_pb2.PromoteLaunchRequest,
    launch_pb2.RestartLaunchRequest,
)


class LaunchService:
    """Methods from request bytes to response bytes.

    Args:
        launches: Shows launches, and carries out verbs.
    """

    def __init__(self, launches: Launches) -> None:
        self._launches = launches

    async def get_launch(self, data: bytes, admission: Admission) -> bytes:
        """GetLaunch."""
        request = parse(launch_pb2.GetLaunchRequest, data)
        admission.caller.require_experiment(request.name)
        return _to_message(await self._launches.get(request.name)).SerializeToString()

    async def approve(self, data: bytes, admission: Admission) -> bytes:
        """ApproveLaunch."""
        return await self._act(Verb.APPROVE, launch_pb2.ApproveLaunchRequest, data, admission)

    async def advance(self, data: bytes, admission: Admission) -> bytes:
        """AdvanceLaunch."""
        return await self._act(Verb.ADVANCE, launch_pb2.AdvanceLaunchRequest, data, admission)

    async def hold(self, data: bytes, admission: Admission) -> bytes:
        """HoldLaunch."""
        return await self._act(Verb.HOLD, launch_pb2.HoldLaunchRequest, data, admission)

    async def resume(self, data: bytes, admission: Admission) -> bytes:
        """ResumeLaunch."""
        return await self._act(Verb.RESUME, launch_pb2.ResumeLaunchRequest, data, admission)

    async def roll_back(self, data: bytes, admission: Admission) -> bytes:
        """RollBackLaunch."""
        return await self._act(Verb.ROLL_BACK, launch_pb2.RollBackLaunchRequest, data, admission)

    async def promote(self, data: bytes, admission: Admission) -> bytes:
        """PromoteLaunch."""
        return await self._act(Verb.PROMOTE, launch_pb2.PromoteLaunchRequest, data, admission)

    async def restart(self, data: bytes, admission: Admission) -> bytes:
        """RestartLaunch."""
        return await self._act(Verb.RESTART, launch_pb2.RestartLaunchRequest, data, admission)

    async def _act(self, verb: Verb, kind: type[_Request], data: bytes, admission: Admission) -> bytes:
        arguments = to_arguments(parse(kind, data).verb)
        admission.caller.require_experiment(arguments.name)
        answer = await self._launches.act(verb, arguments, admission.caller.name)
        return _to_message(answer).SerializeToString()


def _to_message(answer: LaunchAnswer) -> Message:
    return to_launch(answer.record, answer.view, validated_only=answer.is_validated_only)
