"""The launch calls of `client.experiments`: where challengers are, and the verbs that move one.

They take names and return the messages of `bandit.v1.launch_pb2`. None of them is retried; with a
`request_id` of its own a call may be repeated by hand, and moves nothing twice.
"""

from __future__ import annotations  # some types exist in the stubs alone

from typing import TYPE_CHECKING, TypedDict

from bandit.client.aio.connection import AsyncCalls
from bandit.client.arguments import build
from bandit.v1 import launch_pb2, launch_pb2_grpc

if TYPE_CHECKING:
    from typing import NotRequired

    from typing_extensions import Unpack


class VerbArguments(TypedDict):
    """What every verb takes besides the experiment's name.

    Attributes:
        reason: why, for whoever reads the launch's events.
        arm: the arm; may be left out if there is only one that the verb can be about.
        request_id: names the request, so that it is carried out once.
        entry: the visit of the arm that is meant, from `ArmLaunch.entry`: if the arm has moved on, nothing is
            done. 0: whichever it is in.
        validate_only: change nothing, and return the launch as it would be.
        timeout: seconds.
    """

    reason: str
    arm: NotRequired[str]
    request_id: NotRequired[str]
    entry: NotRequired[int]
    validate_only: NotRequired[bool]
    timeout: NotRequired[float | None]


class AsyncLaunches(AsyncCalls):
    """Launch calls for asyncio. The arguments of the verbs are those of `VerbArguments`."""

    async def launch(self, name: str, *, timeout: float | None = None) -> launch_pb2.Launch:
        """Return where each challenger is, what keeps it from moving, and what comes next."""
        request = build(launch_pb2.GetLaunchRequest, name=name)
        return await self._call(self._launch_stub.GetLaunch, request, timeout)

    async def approve(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Approve that a challenger leaves its step; needs the role `approver`."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.ApproveLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.ApproveLaunch, request, timeout)

    async def advance(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Take a challenger to its next step, whatever the time and numbers of this one."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.AdvanceLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.AdvanceLaunch, request, timeout)

    async def hold(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Keep a challenger where it is until `resume`."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.HoldLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.HoldLaunch, request, timeout)

    async def resume(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """End a person's hold."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.ResumeLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.ResumeLaunch, request, timeout)

    async def rollback(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Take a challenger's traffic away; in its holdback, the former champion comes back."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.RollBackLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.RollBackLaunch, request, timeout)

    async def promote(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Make a challenger of the bandit stage the champion, whatever the evidence."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.PromoteLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.PromoteLaunch, request, timeout)

    async def restart(self, name: str, **arguments: Unpack[VerbArguments]) -> launch_pb2.Launch:
        """Let an arm whose launch has ended wait for the first stage again."""
        verb, timeout = _verb(name, **arguments)
        request = launch_pb2.RestartLaunchRequest(verb=verb)
        return await self._call(self._launch_stub.RestartLaunch, request, timeout)

    @property
    def _launch_stub(self) -> launch_pb2_grpc.LaunchServiceAsyncStub:
        return self._connection.stubs.launches


def _verb(
    name: str, *, timeout: float | None = None, **arguments: object
) -> tuple[launch_pb2.LaunchVerb, float | None]:
    return build(launch_pb2.LaunchVerb, None, name=name, **arguments), timeout
