"""The clients of an outage: callers that choose at a steady pace, and reporters that retry until answered."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from benchmarks.soak.clients import decision_key

PHASES: Final = ("before", "during", "after")
_N_CHOOSERS: Final = 8
_N_REPORTERS: Final = 4
_CHOOSE_SECONDS: Final = 0.02
"""How often each caller begins a call: about 400 a second in all, which two cores can sustain."""

_REPORT_SECONDS: Final = 0.02
_DEADLINE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.1
_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))


@dataclass(slots=True)
class Phase:
    """Calls of Choose that began in one phase.

    Attributes:
        latencies: Seconds, of those that were answered.
        failures: Status mapped to how many failed with it.
        reasons: Reason mapped to how many were answered with it.
    """

    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class Load:
    """Callers and reporters over all servers.

    Args:
        addresses: Addresses of the servers.
        name: Name of the experiment.

    Attributes:
        phases: Calls of Choose, by phase.
        sent: Decisions for which a reward was sent.
        acked: Decisions whose reward was acknowledged.
        refusals: Status mapped to how many calls of Reward failed with it.
        n_doubtful: Retries that came back as duplicates.
    """

    def __init__(self, addresses: Sequence[str], name: str) -> None:
        self._addresses = addresses
        self._name = name
        self._phase = PHASES[0]
        self._is_over = False
        self._acknowledged: asyncio.Future[float] | None = None
        self._began_at = 0.0
        self.phases = {phase: Phase() for phase in PHASES}
        self.sent: set[bytes] = set()
        self.acked: set[bytes] = set()
        self.refusals: Counter[str] = Counter()
        self.n_doubtful = 0

    def begin(self, phase: str) -> float:
        """Begin a phase; return when, on the monotonic clock."""
        self._phase = phase
        self._began_at = time.monotonic()
        self._acknowledged = asyncio.get_running_loop().create_future()
        return self._began_at

    async def next_acknowledgement(self) -> float:
        """Return when the first reward of this phase was acknowledged."""
        assert self._acknowledged is not None  # noqa: S101 - a phase has begun
        return await self._acknowledged

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call during the block; at its end every reporter has its last reward acknowledged."""
        async with AsyncExitStack() as stack:
            stubs = []
            for address in self._addresses:
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, _OPTIONS))
                stubs.append(bandit_pb2_grpc.BanditServiceStub(channel))
            tasks = [
                *(asyncio.create_task(self._choose_on(stubs[n % len(stubs)])) for n in range(_N_CHOOSERS)),
                *(asyncio.create_task(self._report_on(stubs[n % len(stubs)])) for n in range(_N_REPORTERS)),
            ]
            yield
            self._is_over = True
            await asyncio.gather(*tasks)

    async def _choose_on(self, stub: "bandit_pb2_grpc.BanditServiceAsyncStub") -> None:
        while not self._is_over:
            began_at = time.perf_counter()
            await self._choose(stub)
            await asyncio.sleep(max(_CHOOSE_SECONDS - (time.perf_counter() - began_at), 0.0))

    async def _choose(
        self, stub: "bandit_pb2_grpc.BanditServiceAsyncStub"
    ) -> bandit_pb2.ChooseResponse | None:
        phase = self.phases[self._phase]
        began_at = time.perf_counter()
        try:
            request = bandit_pb2.ChooseRequest(experiment=self._name)
            choice = await stub.Choose(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            phase.failures[error.code().name] += 1
            return None
        phase.latencies.append(time.perf_counter() - began_at)
        phase.reasons[bandit_pb2.Reason.Name(choice.reason)] += 1
        return choice

    async def _report_on(self, stub: "bandit_pb2_grpc.BanditServiceAsyncStub") -> None:
        while not self._is_over:
            choice = await self._choose(stub)
            if choice is not None:
                await self._reward(stub, choice.decision_id)
            await asyncio.sleep(_REPORT_SECONDS)

    async def _reward(self, stub: "bandit_pb2_grpc.BanditServiceAsyncStub", decision_id: str) -> None:
        """Post a reward until it is acknowledged."""
        decision = decision_key(decision_id)
        self.sent.add(decision)
        request = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1.0})
        is_retry = False
        while decision not in self.acked:
            try:
                results = (await stub.Reward(request, timeout=2 * _DEADLINE_SECONDS)).results
            except grpc.aio.AioRpcError as error:
                self.refusals[error.code().name] += 1
                is_retry = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self.acked.add(decision)
            self.n_doubtful += is_retry and results["click"] == bandit_pb2.OUTCOME_RESULT_DUPLICATE
            if self._acknowledged is not None and not self._acknowledged.done():
                self._acknowledged.set_result(time.monotonic())
