"""Workloads: streams of serialised requests, made before the clock runs."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import grpc

from bandit.v1 import bandit_pb2

Stub: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"

CHOOSE: Final = "/bandit.v1.BanditService/Choose"
CHOOSE_STREAM: Final = "/bandit.v1.BanditService/ChooseStream"
BATCH_CHOOSE: Final = "/bandit.v1.BanditService/BatchChoose"
REWARD: Final = "/bandit.v1.BanditService/Reward"
BATCH_REWARD: Final = "/bandit.v1.BanditService/BatchReward"
METRIC: Final = "click"
BATCH_SIZE: Final = 1_000
_N_DISTINCT_CHOOSES: Final = 20_000
_N_DISTINCT_BATCHES: Final = 20


class Workload(Protocol):
    """A method, and requests for it."""

    @property
    def method(self) -> str:
        """The full name of the RPC."""
        ...

    @property
    def items_per_call(self) -> int:
        """Decisions or rewards in one call."""
        ...

    async def requests(self, channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return the requests, all of them made; they may end. First ask the server for what they need."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooses:
    """Choose calls, each naming one of the experiments and, optionally, a unit.

    Attributes:
        experiments: Names, one of which is drawn for each call.
        has_unit: Whether calls name a unit.
        method: Where they go; the echo gets the same bytes.
    """

    experiments: Sequence[str]
    has_unit: bool
    method: str = CHOOSE
    items_per_call: int = 1

    async def requests(self, _channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return a long list, repeated for ever."""
        generator = random.Random(0)
        made = [
            _choose(self.experiments, generator, has_unit=self.has_unit).SerializeToString()
            for _ in range(_N_DISTINCT_CHOOSES)
        ]
        return itertools.cycle(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedChooses:
    """Messages of ChooseStream, each with a unit.

    Attributes:
        experiments: Names, one of which is drawn for each message.
    """

    experiments: Sequence[str]
    method: str = CHOOSE_STREAM
    items_per_call: int = 1

    async def requests(self, _channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return a long list, repeated for ever."""
        generator = random.Random(0)
        made = [
            bandit_pb2.ChooseStreamRequest(
                request=_choose(self.experiments, generator, has_unit=True)
            ).SerializeToString()
            for _ in range(_N_DISTINCT_CHOOSES)
        ]
        return itertools.cycle(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchChooses:
    """BatchChoose calls of 1,000 questions with units."""

    experiments: Sequence[str]
    method: str = BATCH_CHOOSE
    items_per_call: int = BATCH_SIZE

    async def requests(self, _channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return a short list, repeated for ever."""
        generator = random.Random(0)
        return itertools.cycle(
            [
                _batch_choose(self.experiments, generator).SerializeToString()
                for _ in range(_N_DISTINCT_BATCHES)
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """Reward calls, each with one outcome for its own decision, new from BatchChoose.

    Attributes:
        experiments: Names, one of which is drawn for each decision.
        n_calls: The number of calls: each is new to the ledger, so none can be sent twice.
    """

    experiments: Sequence[str]
    n_calls: int
    method: str = REWARD
    items_per_call: int = 1

    async def requests(self, channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return a list, to be sent once."""
        rewards = await _fresh_rewards(channel, self.experiments, self.n_calls)
        return iter([reward.SerializeToString() for reward in rewards])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRewards:
    """BatchReward calls of 1,000 such rewards."""

    experiments: Sequence[str]
    n_calls: int
    method: str = BATCH_REWARD
    items_per_call: int = BATCH_SIZE

    async def requests(self, channel: grpc.aio.Channel) -> Iterator[bytes]:
        """Return a list, to be sent once."""
        rewards = await _fresh_rewards(channel, self.experiments, self.n_calls * BATCH_SIZE)
        batches = (rewards[start : start + BATCH_SIZE] for start in range(0, len(rewards), BATCH_SIZE))
        return iter([bandit_pb2.BatchRewardRequest(requests=batch).SerializeToString() for batch in batches])


def check_response(method: str, response: bytes) -> None:
    """Raise ValueError if an answer is not what a good request gets."""
    if method == CHOOSE and not bandit_pb2.ChooseResponse.FromString(response).decision_id:
        raise ValueError("Choose answered without a decision")
    if method == CHOOSE_STREAM and not bandit_pb2.ChooseStreamResponse.FromString(response).HasField(
        "choice"
    ):
        raise ValueError("ChooseStream answered a message with an error")
    if method == BATCH_CHOOSE:
        _choices(response)
    if method == REWARD:
        _require_recorded(bandit_pb2.RewardResponse.FromString(response))
    if method == BATCH_REWARD:
        for result in bandit_pb2.BatchRewardResponse.FromString(response).results:
            _require_recorded(result.reward)


def _choose(
    experiments: Sequence[str], generator: random.Random, *, has_unit: bool
) -> bandit_pb2.ChooseRequest:
    unit = f"user-{generator.randrange(10**9):09d}" if has_unit else ""
    return bandit_pb2.ChooseRequest(experiment=generator.choice(experiments), unit=unit)


def _batch_choose(experiments: Sequence[str], generator: random.Random) -> bandit_pb2.BatchChooseRequest:
    questions = [_choose(experiments, generator, has_unit=True) for _ in range(BATCH_SIZE)]
    return bandit_pb2.BatchChooseRequest(requests=questions)


async def _fresh_rewards(
    channel: grpc.aio.Channel, experiments: Sequence[str], n_rewards: int
) -> list[bandit_pb2.RewardRequest]:
    """Return rewards of 0 or 1 for new decisions; their number is rounded up to whole batches."""
    generator = random.Random(0)
    ask: Stub = channel.unary_unary(BATCH_CHOOSE)
    rewards: list[bandit_pb2.RewardRequest] = []
    while len(rewards) < n_rewards:
        response: bytes = await ask(_batch_choose(experiments, generator).SerializeToString())
        rewards += [
            bandit_pb2.RewardRequest(
                decision_id=choice.decision_id, outcomes={METRIC: float(generator.getrandbits(1))}
            )
            for choice in _choices(response)
        ]
    return rewards


def _choices(response: bytes) -> list[bandit_pb2.ChooseResponse]:
    results = bandit_pb2.BatchChooseResponse.FromString(response).results
    if not all(result.HasField("choice") for result in results):
        raise ValueError("BatchChoose answered a question with an error")
    return [result.choice for result in results]


def _require_recorded(response: bandit_pb2.RewardResponse) -> None:
    if dict(response.results) != {METRIC: bandit_pb2.OUTCOME_RESULT_RECORDED}:
        raise ValueError("a reward was not recorded")
