"""Load for servers under faults: backends that choose, reward, repeat themselves, revise and send bad input.

Every reward is posted until it is answered with OK, to any replica, so that at the end the database can be
compared with what was sent, to the last outcome.
"""

import asyncio
import base64
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import grpc

from bandit.v1 import bandit_pb2, bandit_pb2_grpc

REPLAYED: Final = 0.1
REVISED: Final = 0.05
NONSENSE: Final = 0.05
UNITS: Final = 0.5
"""The share of decisions that are for a unit."""
_PAUSE_SECONDS: Final = 0.05
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)
RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
RECORDED: Final = frozenset({bandit_pb2.OUTCOME_RESULT_RECORDED})
DUPLICATE: Final = frozenset({bandit_pb2.OUTCOME_RESULT_DUPLICATE})
CHANGED: Final = frozenset({bandit_pb2.OUTCOME_RESULT_REVISED})
Stub: TypeAlias = "bandit_pb2_grpc.BanditServiceAsyncStub"
Results: TypeAlias = frozenset[int]


@dataclass(slots=True)
class Books:
    """The record that the clients keep.

    Attributes:
        sent: Decision mapped to the values posted, in order of revision: a click each.
        acked: Decision mapped to how many of those were acknowledged.
        in_doubt: Rewards whose first OK came on a retry, as a duplicate: the failed call had been committed.
        n_replays: Rewards posted again after their OK.
        n_nonsense: Bad inputs that were sent and refused, as they must be.
        wrong: Impossible answers.
        refusals: Status codes of calls of Reward that failed and were retried.
        failovers: Calls of Choose that failed while their server was down or frozen, and were repeated
            elsewhere.
        failed_chooses: Calls of Choose that failed although their server had no fault.
        choose_seconds: Waits for Choose, of one call in ten.
        n_chosen: Decisions.
    """

    sent: dict[bytes, list[int]] = field(default_factory=dict)
    acked: Counter[bytes] = field(default_factory=Counter)
    in_doubt: int = 0
    n_replays: int = 0
    n_nonsense: int = 0
    wrong: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    failovers: int = 0
    failed_chooses: list[str] = field(default_factory=list)
    choose_seconds: list[float] = field(default_factory=list)
    n_chosen: int = 0

    @property
    def n_acked(self) -> int:
        """Acknowledged rewards and revisions."""
        return self.acked.total()


def decision_key(decision_id: str) -> bytes:
    """Return the unique id in a decision id, as the reward log stores it."""
    return base64.urlsafe_b64decode(decision_id)[2:18]


class Load:
    """Workers that call every replica.

    Args:
        addresses: Addresses of the replicas.
        experiment: Name of the experiment, whose metric is `click`.
        n_workers: The number of workers.
        seed: Seed of their random choices.
        call_seconds: The deadline of each call.

    Attributes:
        books: Their record.
        ailing: Replicas that a fault has down or frozen: a Choose may fail there.
    """

    def __init__(
        self,
        addresses: list[str],
        experiment: str,
        n_workers: int,
        seed: int,
        call_seconds: float = 8.0,
    ) -> None:
        self.books = Books()
        self.ailing: set[int] = set()
        self._experiment = experiment
        self._call_seconds = call_seconds
        self._channels = [grpc.aio.insecure_channel(address, options=_OPTIONS) for address in addresses]
        self._stubs = [bandit_pb2_grpc.BanditServiceStub(channel) for channel in self._channels]
        self._is_over = asyncio.Event()
        self._acks = asyncio.Condition()
        self._last_acked = [0.0] * len(addresses)
        seeds = random.Random(seed)
        generators = [random.Random(seeds.getrandbits(64)) for _ in range(n_workers)]
        self._tasks = [asyncio.create_task(self._work(generator)) for generator in generators]

    async def until_acked(self, replica: int | None, since: float, seconds: float) -> float | None:
        """Wait for a reward that was sent after `since` and acknowledged by a replica, or by any.

        Returns:
            The seconds from `since` to then; None if there is none within `seconds`.
        """

        def last() -> float:
            return max(self._last_acked) if replica is None else self._last_acked[replica]

        try:
            async with asyncio.timeout(seconds), self._acks:
                await self._acks.wait_for(lambda: last() > since)
        except TimeoutError:
            return None
        return time.monotonic() - since

    @asynccontextmanager
    async def settled(self, seconds: float) -> AsyncIterator[None]:
        """End with the block: finished within `seconds`, or abandoned if the block fails."""
        try:
            yield
            await self.finish(seconds)
        finally:
            await self.abandon()

    async def finish(self, seconds: float) -> None:
        """End once each worker's last reward is acknowledged; TimeoutError if one is not in time."""
        self._is_over.set()
        await asyncio.wait_for(asyncio.gather(*self._tasks), seconds)
        await self._close()

    async def abandon(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def _work(self, generator: random.Random) -> None:
        while not self._is_over.is_set():
            choice = await self._choose(generator)
            if choice is None:
                continue
            if generator.random() < NONSENSE:
                await self._send_bad_input(generator, choice.decision_id)
            await self._report(generator, choice.decision_id)

    async def _choose(self, generator: random.Random) -> bandit_pb2.ChooseResponse | None:
        replica = generator.randrange(len(self._stubs))
        unit = f"user-{generator.randrange(10_000)}" if generator.random() < UNITS else ""
        request = bandit_pb2.ChooseRequest(experiment=self._experiment, unit=unit)
        began = time.monotonic()
        was_ailing = replica in self.ailing
        try:
            choice = await self._stubs[replica].Choose(request, timeout=self._call_seconds)
        except grpc.aio.AioRpcError as error:
            if was_ailing or replica in self.ailing:
                self.books.failovers += 1
            else:
                self.books.failed_chooses.append(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(_PAUSE_SECONDS)
            return None
        self.books.n_chosen += 1
        if self.books.n_chosen % 10 == 0 and not self.ailing:
            self.books.choose_seconds.append(time.monotonic() - began)
        return choice

    async def _report(self, generator: random.Random, decision_id: str) -> None:
        key = decision_key(decision_id)
        click = generator.randrange(2)
        self.books.sent[key] = [click]
        await self._settle(generator, decision_id, click, 0, RECORDED)
        while generator.random() < REPLAYED:
            self.books.n_replays += 1
            await self._replay(generator, decision_id, click)
        if generator.random() < REVISED:
            self.books.sent[key].append(1 - click)
            await self._settle(generator, decision_id, 1 - click, 1, CHANGED)

    async def _settle(
        self, generator: random.Random, decision_id: str, click: int, revision: int, first: Results
    ) -> None:
        """Post until OK; the answer must be `first`, or duplicate on a retry."""
        results, is_retry = await self._post(generator, decision_id, click, revision)
        self.books.acked[decision_key(decision_id)] += 1
        if results == DUPLICATE and is_retry:
            self.books.in_doubt += 1
        elif results != first:
            self.books.wrong.append(f"the first OK of revision {revision} returned {sorted(results)}")

    async def _replay(self, generator: random.Random, decision_id: str, click: int) -> None:
        results, _ = await self._post(generator, decision_id, click, 0)
        if results != DUPLICATE:
            self.books.wrong.append(f"a replay returned {sorted(results)}")

    async def _post(
        self, generator: random.Random, decision_id: str, click: int, revision: int
    ) -> tuple[Results, bool]:
        request = bandit_pb2.RewardRequest(
            decision_id=decision_id, outcomes={"click": click}, revision=revision
        )
        is_retry = False
        while True:
            replica = generator.randrange(len(self._stubs))
            sent_at = time.monotonic()
            try:
                answer = await self._stubs[replica].Reward(request, timeout=self._call_seconds)
            except grpc.aio.AioRpcError as error:
                self.books.refusals[error.code().name] += 1
                if error.code() not in RETRYABLE:
                    self.books.wrong.append(f"Reward: {error.code().name}: {error.details()}")
                is_retry = True
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            async with self._acks:
                self._last_acked[replica] = max(self._last_acked[replica], sent_at)
                self._acks.notify_all()
            return frozenset(answer.results.values()), is_retry

    async def _send_bad_input(self, generator: random.Random, decision_id: str) -> None:
        """Send bad input to some replica: it must be rejected for its fault, or for now."""
        what, request, code = generator.choice(_NONSENSE)(generator, decision_id, self._experiment)
        stub = generator.choice(self._stubs)
        try:
            if isinstance(request, bandit_pb2.RewardRequest):
                await stub.Reward(request, timeout=self._call_seconds)
            else:
                await stub.Choose(request, timeout=self._call_seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is code:
                self.books.n_nonsense += 1
            elif error.code() not in RETRYABLE:
                self.books.wrong.append(f"{what}: {error.code().name}")
        else:
            self.books.wrong.append(f"{what}: OK")


Request: TypeAlias = bandit_pb2.RewardRequest | bandit_pb2.ChooseRequest
Nonsense: TypeAlias = tuple[str, Request, grpc.StatusCode]
_BAD: Final = grpc.StatusCode.INVALID_ARGUMENT


def _forged(generator: random.Random, decision_id: str, _: str) -> Nonsense:
    at = generator.randrange(len(decision_id) - 1)
    other = "A" if decision_id[at] != "A" else "B"
    forged = decision_id[:at] + other + decision_id[at + 1 :]
    return (
        "a forged decision id",
        bandit_pb2.RewardRequest(decision_id=forged, outcomes={"click": 1}),
        _BAD,
    )


def _bad_value(generator: random.Random, decision_id: str, _: str) -> Nonsense:
    value = generator.choice([float("nan"), float("inf"), -1.0, 0.5, 1e308])
    request = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": value})
    return f"a reward of {value}", request, _BAD


def _unknown_metric(_: random.Random, decision_id: str, __: str) -> Nonsense:
    request = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"'; DROP TABLE rewards": 1})
    return "an unknown metric", request, _BAD


def _bad_unit(generator: random.Random, _: str, experiment: str) -> Nonsense:
    unit = generator.choice(["\0", "a\r\nb", "\x1b[31m", "u" * 300, "\u202e"])
    return "a bad unit", bandit_pb2.ChooseRequest(experiment=experiment, unit=unit), _BAD


def _unknown_experiment(_: random.Random, __: str, ___: str) -> Nonsense:
    request = bandit_pb2.ChooseRequest(experiment="no-such-experiment")
    return "an unknown experiment", request, grpc.StatusCode.NOT_FOUND


_NONSENSE: Final[tuple[Callable[[random.Random, str, str], Nonsense], ...]] = (
    _forged,
    _bad_value,
    _unknown_metric,
    _bad_unit,
    _unknown_experiment,
)
