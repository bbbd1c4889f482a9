"""One server with both listeners and an allocation that stands still, and the calls to compare on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health, health_pb2

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.foreign.calls import Call, encoded, path_of
from tests.security.conftest import TokensFile
from tests.support.process import ServerProcess
from tests.support.wire import Wire, experiment

CALLERS: Final = {
    "everything": 'roles = ["choose", "reward", "operator", "viewer"]',
    "viewer": 'roles = ["viewer"]',
    "slow": 'roles = ["choose"]\ncalls_per_second = 0.001',
    "team-a": 'roles = ["choose", "reward"]\nnamespaces = ["team-a"]',
}

_Code: Final = grpc.StatusCode
_BAD_HEADERS: Final = ("", "Bearer wrong", "Basic eDp5", "Bearer", "wrong")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server that requires tokens, with one running experiment.

    Attributes:
        server: Its process.
        tokens: Its callers.
        experiment: Name of the experiment, whose policy is a static split.
    """

    server: ServerProcess
    tokens: TokensFile
    experiment: str

    @classmethod
    def prepare(cls, server: ServerProcess, tokens: TokensFile) -> "Site":
        """Create and start the experiment."""
        wire = Wire(server.address, token=tokens.token("everything"))
        weights = {"a": 1.0, "b": 2.0, "c": 4.0}
        arms = [
            experiment_pb2.Arm(id=arm, model_uri=f"models/{arm}", payload=_payload(rank, arm))
            for rank, arm in enumerate(weights)
        ]
        policy = experiment_pb2.Policy(static_split=experiment_pb2.StaticSplit(weights=weights))
        declared = experiment(arms=arms, policy=policy)
        draft = experiment(name=f"{declared.name}-draft")
        wire.create(declared)
        wire.create(draft)
        wire.start(declared.name)
        wire.close()
        return cls(server=server, tokens=tokens, experiment=declared.name)

    @property
    def listeners(self) -> tuple[str, str]:
        """The addresses of the default listener and of the fast lane."""
        assert self.server.fast_address is not None
        return self.server.address, self.server.fast_address

    def bearer(self, caller: str = "everything") -> str:
        """Return the value of a caller's header."""
        return f"Bearer {self.tokens.token(caller)}"

    def question(self, unit: str) -> bandit_pb2.ChooseRequest:
        """Return a request for the arm of a unit."""
        return bandit_pb2.ChooseRequest(experiment=self.experiment, unit=unit)

    def choices(self, numbers: range) -> list[Call]:
        """Return a Choose for each number: its own unit and deadline, every fourth compressed."""
        return [
            Call(
                path=path_of("Choose"),
                requests=encoded(self.question(f"unit-{number}")),
                authorization=self.bearer(),
                is_compressed=number % 4 == 0,
                timeout_us=60_000_000 + 977 * number,  # as of deadlines that a caller inherited
            )
            for number in numbers
        ]

    def good_calls(self) -> Iterator[Call]:
        """Make a call of each other kind that writes nothing but decisions."""
        questions = [self.question(f"batch-{number}") for number in range(999)]
        batch = bandit_pb2.BatchChooseRequest(
            requests=[*questions, bandit_pb2.ChooseRequest(experiment="missing")]
        )
        for is_compressed in (False, True):
            yield self._call("BatchChoose", encoded(batch), is_compressed=is_compressed)
            yield self._stream([f"stream-{n}" for n in range(300)], is_compressed=is_compressed)
        yield self._stream([])
        yield self._stream(["one", "u" * 10_000, "another"])
        eligible = bandit_pb2.ChooseRequest(
            experiment=self.experiment, unit="of few", eligible_arms=["a", "b"], attributes={"clé": "ö" * 100}
        )
        yield self._call("Choose", encoded(eligible))
        for name in ("", "bandit.v1.BanditService"):
            request = health_pb2.HealthCheckRequest(service=name)
            yield Call(path=path_of("Check", health.SERVICE_NAME), requests=encoded(request))

    def bad_calls(self) -> Iterator[tuple[grpc.StatusCode, Call]]:
        """Make calls that fail, each with its code."""
        for code, question in self._bad_questions():
            for is_compressed in (False, True):
                yield code, self._call("Choose", encoded(question), is_compressed=is_compressed)
        for malformed in (b"\xff", b"\x0a\x7f", b"\x0a\x02\xff\xff"):
            for method in ("Choose", "BatchChoose", "Reward", "BatchReward"):
                yield _Code.INVALID_ARGUMENT, self._call(method, [malformed])
        yield _Code.INVALID_ARGUMENT, self._call("BatchChoose", [b""])
        reward = bandit_pb2.RewardRequest(decision_id="no id", outcomes={"click": 1.0})
        yield _Code.INVALID_ARGUMENT, self._call("Reward", encoded(reward))
        yield _Code.UNIMPLEMENTED, self._call("Refuse", [b""])
        yield _Code.UNIMPLEMENTED, Call(path=path_of("Choose", "bandit.v2.BanditService"), requests=[b""])
        health_of = health_pb2.HealthCheckRequest(service="missing")
        yield _Code.NOT_FOUND, Call(path=path_of("Check", health.SERVICE_NAME), requests=encoded(health_of))
        yield from self._calls_without_permission()

    def _bad_questions(self) -> Iterator[tuple[grpc.StatusCode, bandit_pb2.ChooseRequest]]:
        attributes = {"": "v", "k" * 999: "v"}
        yield _Code.NOT_FOUND, bandit_pb2.ChooseRequest(experiment="missing")
        yield _Code.INVALID_ARGUMENT, bandit_pb2.ChooseRequest()
        yield _Code.INVALID_ARGUMENT, bandit_pb2.ChooseRequest(experiment="ö 100%\n")
        yield _Code.FAILED_PRECONDITION, bandit_pb2.ChooseRequest(experiment=f"{self.experiment}-draft")
        yield _Code.INVALID_ARGUMENT, self.question("u" * 10_000)
        yield _Code.INVALID_ARGUMENT, self.question("zero \0")
        yield _Code.RESOURCE_EXHAUSTED, self.question("u" * 70_000)
        yield (
            _Code.INVALID_ARGUMENT,
            bandit_pb2.ChooseRequest(experiment=self.experiment, attributes=attributes),
        )

    def _calls_without_permission(self) -> Iterator[tuple[grpc.StatusCode, Call]]:
        headers = [(_Code.UNAUTHENTICATED, header) for header in _BAD_HEADERS]
        headers.append((_Code.UNAUTHENTICATED, self.bearer() + "x"))
        headers.extend((_Code.PERMISSION_DENIED, self.bearer(caller)) for caller in ("viewer", "team-a"))
        for code, header in headers:
            yield (
                code,
                Call(path=path_of("Choose"), requests=encoded(self.question("u")), authorization=header),
            )

    def rewards(self, n: int) -> list[Call]:
        """Return `n` Rewards for new decisions, and a BatchReward for `n` others with an invalid item."""
        wire = Wire(self.server.address, token=self.tokens.token("everything"))
        requests = [
            bandit_pb2.RewardRequest(
                decision_id=wire.choose(self.experiment, unit=f"rewarded-{number}").decision_id,
                outcomes={"click": number % 2},
            )
            for number in range(2 * n)
        ]
        wire.close()
        batch = bandit_pb2.BatchRewardRequest(
            requests=[*requests[n:], bandit_pb2.RewardRequest(decision_id="no id", outcomes={"click": 1.0})]
        )
        return [
            *(self._call("Reward", encoded(request)) for request in requests[:n]),
            self._call("BatchReward", encoded(batch)),
        ]

    def _call(self, method: str, requests: list[bytes], *, is_compressed: bool = False) -> Call:
        return Call(
            path=path_of(method),
            requests=requests,
            authorization=self.bearer(),
            is_compressed=is_compressed,
        )

    def _stream(self, units: list[str], *, is_compressed: bool = False) -> Call:
        return Call(
            path=path_of("ChooseStream"),
            requests=encoded(
                *(bandit_pb2.ChooseStreamRequest(request=self.question(unit)) for unit in units)
            ),
            is_stream=True,
            authorization=self.bearer(),
            is_compressed=is_compressed,
        )


def _payload(rank: int, title: str) -> Struct:
    payload = Struct()
    payload.update({"rank": rank, "titles": [title, "ö"]})
    return payload
