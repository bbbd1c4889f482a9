"""Wrong clocks in a soak: of one server, of the database and of all, each right again within seconds.

Two experiments besides the load's show whether a wrong clock did harm. One was concluded two months before,
by every clock: its log must be purged once the clocks are trusted. The other has a window, so that its epochs
go on as long as the service learns.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration

from bandit.client import AsyncBanditClient
from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from bandit.v1 import experiment_pb2 as pb
from benchmarks.harness.faked_clock import FakedClock
from benchmarks.soak.faults import Fault, Scene

LEARNER: Final = "learner"
"""Name of the experiment whose epochs must go on."""

EXPIRED: Final = "bygone"
"""Name of the experiment whose log must be purged."""

_SETTLE_SECONDS: Final = 15.0
FLAGS: Final = (
    *("--clock-settle-seconds", str(_SETTLE_SECONDS), "--trust-clock-after-seconds", "2"),
    *("--purge-interval-seconds", "0.5"),
)
"""Clocks are trusted early, since a soak is short, and yet no wrong clock lasts until it is believed."""

N_EXPIRED: Final = 500
AGO: Final = timedelta(days=60)
_AGE: Final = timedelta(hours=1)
_WRONG: Final = (
    *(timedelta(days=days) for days in (90, 365, 3_650, -30, -20_000)),
    *(timedelta(hours=hours) for hours in (2, -2)),
    timedelta(milliseconds=500),
)
_LONGEST_WRONG: Final = 3.0
_WINDOW: Final = 2
_N_EPOCHS: Final = 2
"""One call may have been under way when the clock was put right."""

_BATCH: Final = 20
_PAUSE_SECONDS: Final = 0.1
_CALL_SECONDS: Final = 5.0


async def make_expired_experiment(address: str) -> None:
    """Create, fill and conclude the experiment of long ago; the clocks must be set back already."""
    arms = [pb.Arm(id=arm) for arm in "ab"]
    metric = pb.Metric(name="click", kind=pb.METRIC_KIND_BINARY)
    age = Duration()
    age.FromTimedelta(_AGE)
    declared = pb.Experiment(
        name=EXPIRED,
        arms=arms,
        champion="a",
        metrics=[metric],
        reward_metric="click",
        max_decision_age=age,
    )
    async with AsyncBanditClient(address) as client:
        await client.experiments.create(declared)
        await client.experiments.start(EXPIRED)
    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: bandit_pb2_grpc.BanditServiceAsyncStub = bandit_pb2_grpc.BanditServiceStub(channel)
        await _choose_and_click(stub, EXPIRED, N_EXPIRED)
    async with AsyncBanditClient(address) as client:
        await client.experiments.conclude(EXPIRED, winner="a")


async def declare_learner(address: str) -> None:
    """Create and start the experiment that learns."""
    metric = pb.Metric(
        name="click", kind=pb.METRIC_KIND_BINARY, window=Duration(seconds=_WINDOW), default_value=0.0
    )
    declared = pb.Experiment(
        name=LEARNER,
        arms=[pb.Arm(id=arm) for arm in "ab"],
        champion="a",
        metrics=[metric],
        reward_metric="click",
    )
    async with AsyncBanditClient(address) as client:
        await client.experiments.create(declared)
        await client.experiments.start(LEARNER)


class Learning:
    """A little traffic on the experiment that learns, and the newest epoch in any server's answers.

    Args:
        addresses: Addresses of the servers, which take turns.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels = [
            grpc.aio.insecure_channel(
                address,
                options=[("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 500)],
            )
            for address in addresses
        ]
        self._stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in self._channels]
        self._epoch = 0
        self._grown = asyncio.Condition()
        self._task = asyncio.create_task(self._work())

    async def until_new_epochs(self, since: float, seconds: float) -> float | None:
        """Wait for epochs that begin from now on.

        Returns:
            Seconds after `since`, on the monotonic clock, until there was one; None if not within `seconds`.
        """
        awaited = self._epoch + _N_EPOCHS
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: self._epoch >= awaited)
        except TimeoutError:
            return None
        return time.monotonic() - since

    async def close(self) -> None:
        """End at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _work(self) -> None:
        turn = 0
        while True:
            with suppress(grpc.aio.AioRpcError):  # errors are the load's to report
                epoch = await _choose_and_click(self._stubs[turn % len(self._stubs)], LEARNER, _BATCH)
                async with self._grown:
                    self._epoch = max(self._epoch, epoch)
                    self._grown.notify_all()
            turn += 1
            await asyncio.sleep(_PAUSE_SECONDS)


async def _choose_and_click(
    stub: "bandit_pb2_grpc.BanditServiceAsyncStub", experiment: str, n_decisions: int
) -> int:
    """Post a click for each decision; return the newest epoch that one was made in."""
    asked = bandit_pb2.BatchChooseRequest(
        requests=[bandit_pb2.ChooseRequest(experiment=experiment)] * n_decisions
    )
    choices = [each.choice for each in (await stub.BatchChoose(asked, timeout=_CALL_SECONDS)).results]
    posted = bandit_pb2.BatchRewardRequest(
        requests=[
            bandit_pb2.RewardRequest(decision_id=choice.decision_id, outcomes={"click": choice.arm == "b"})
            for choice in choices
        ]
    )
    await stub.BatchReward(posted, timeout=_CALL_SECONDS)
    return max(choice.epoch for choice in choices)


async def set_server_clock(scene: Scene) -> int:
    """Set the wall clock of one server while it runs."""
    number = scene.generator.randrange(len(scene.replicas))
    await _be_wrong(scene, [_clock_of_server(scene, number)])
    return number


async def start_under_wrong_clock(scene: Scene) -> int:
    """Kill a server, start it under a wrong clock, kill it, and start it under the right one."""
    number = scene.hit()
    clock = _clock_of_server(scene, number)
    clock.set_off(scene.generator.choice(_WRONG))
    over_at = time.monotonic() + _SETTLE_SECONDS / 2
    await asyncio.to_thread(scene.replicas[number].restart)
    pause = scene.generator.uniform(0.5, _LONGEST_WRONG)
    await asyncio.sleep(max(min(pause, over_at - time.monotonic()), 0.0))
    clock.set_right()
    await asyncio.to_thread(scene.replicas[number].restart)
    return number


async def set_database_clock(scene: Scene) -> None:
    """Set the wall clock of PostgreSQL, while those of the servers are right."""
    await _be_wrong(scene, [_clock_of_database(scene)])


async def set_every_clock(scene: Scene) -> None:
    """Set every wall clock to the same wrong time."""
    servers = [_clock_of_server(scene, number) for number in range(len(scene.replicas))]
    await _be_wrong(scene, [*servers, _clock_of_database(scene)])


ON_SERVER_CLOCKS: Final[dict[str, Fault]] = {
    "clock: of a server": set_server_clock,
    "clock: of a starting server": start_under_wrong_clock,
}
ON_DATABASE_CLOCKS: Final[dict[str, Fault]] = {
    "clock: of the database": set_database_clock,
    "clock: of all": set_every_clock,
}


async def _be_wrong(scene: Scene, clocks: list[FakedClock]) -> None:
    by = scene.generator.choice(_WRONG)
    for clock in clocks:
        clock.set_off(by)
    try:
        await asyncio.sleep(scene.generator.uniform(0.5, _LONGEST_WRONG))
    finally:
        for clock in clocks:
            clock.set_right()


def _clock_of_server(scene: Scene, number: int) -> FakedClock:
    clock = scene.replicas[number].clock
    assert clock is not None  # noqa: S101 - for the type checker
    return clock


def _clock_of_database(scene: Scene) -> FakedClock:
    assert scene.postgresql is not None  # noqa: S101 - for the type checker
    assert scene.postgresql.clock is not None  # noqa: S101 - for the type checker
    return scene.postgresql.clock
