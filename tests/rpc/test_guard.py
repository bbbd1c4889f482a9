"""The guard around calls and streams, without a transport."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import grpc
import pytest

from server.rpc.guard.admission import Admission, Identity
from server.rpc.guard.authentication import Authenticator
from server.rpc.guard.calls import AnswerEach, Guard, GuardedMethod, PendingAnswer
from server.rpc.guard.denial_log import DenialLog
from server.rpc.guard.gate import Gate
from server.rpc.guard.metrics import MethodMeasurements
from server.rpc.messages.status import STOPPING, Failure
from server.services.access.callers import Caller, Directory, Role, digest_of
from server.services.errors import ExperimentNotFoundError
from server.services.runtime.clock import Clock
from server.services.runtime.reloading_file import ReloadingFile

Answer = Callable[[bytes, Admission], bytes | Awaitable[bytes]]


class CountingPeer:
    """A peer with a token that counts how often it is asked for it."""

    name = "ipv4:127.0.0.1:5000"

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.n_asked = 0

    @property
    def authorization(self) -> str | None:
        """The header."""
        self.n_asked += 1
        return "Bearer secret"

    def certificate_names(self) -> Iterable[str]:
        """Return no names."""
        return ()


def guarded(
    answer: Answer,
    gate: Gate | None = None,
    tokens: ReloadingFile[Directory] | None = None,
    answer_each: AnswerEach | None = None,
) -> GuardedMethod:
    """Guard a handler, for at most two calls at a time."""
    clock = Clock()
    guard = Guard(
        gate=gate or Gate(),
        authenticator=Authenticator(tokens, clock, calls_per_second=None),
        clock=clock,
        denials=DenialLog(clock),
        max_calls=2,
    )
    measurements = MethodMeasurements("a.Service", "Method")
    roles = frozenset({Role.CHOOSE})
    return GuardedMethod(guard, answer, measurements, roles=roles, max_bytes=10, answer_each=answer_each)


async def forever(_data: bytes, _admission: Admission) -> bytes:
    """Wait until cancelled."""
    await asyncio.Event().wait()
    return b""


def pending(outcome: bytes | Failure | PendingAnswer) -> PendingAnswer:
    """Return an outcome that must still be open."""
    assert isinstance(outcome, PendingAnswer)
    return outcome


def test_an_answer_from_memory_needs_no_loop() -> None:
    """It is returned as such, and counted, though no event loop runs."""
    method = guarded(lambda data, _: data.upper())
    assert method.call(b"abc", CountingPeer()) == b"ABC"
    assert method.measurements.codes == [("OK", 1)]
    assert method.measurements.n_in_flight == 0


def test_an_error_is_a_value() -> None:
    """What a handler raises is returned as a failure: at once, or by the future, which has no exception."""

    def at_once(_data: bytes, _admission: Admission) -> bytes:
        raise ExperimentNotFoundError("x")

    async def later(data: bytes, admission: Admission) -> bytes:
        await asyncio.sleep(0)
        return at_once(data, admission)

    async def outcome_of(answer: Answer) -> bytes | Failure:
        outcome = guarded(answer).call(b"", CountingPeer())
        return await outcome if isinstance(outcome, PendingAnswer) else outcome

    for answer in (at_once, later):
        failure = asyncio.run(outcome_of(answer))
        assert isinstance(failure, Failure)
        assert failure.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_cancelled_call_frees_its_place(*, has_begun: bool) -> None:
    """Also if its work had not begun, it is no longer in flight, and was measured as cancelled."""

    async def cancel() -> MethodMeasurements:
        gate = Gate()
        method = guarded(forever, gate)
        outcome = pending(method.call(b"", CountingPeer()))
        if has_begun:
            await asyncio.sleep(0)
        assert method.measurements.n_in_flight == 1
        outcome.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outcome
        assert gate.in_flight == set()
        return method.measurements

    measurements = asyncio.run(cancel())
    assert (measurements.n_in_flight, measurements.codes) == (0, [("Canceled", 1)])


def test_a_place_is_held_until_the_work_ends() -> None:
    """Work that takes its time to be cancelled is in flight until then, whatever its caller sees."""

    async def cancel() -> None:
        may_end = asyncio.Event()

        async def stubborn(_data: bytes, _admission: Admission) -> bytes:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await may_end.wait()
                raise
            return b""

        method = guarded(stubborn)
        outcome = pending(method.call(b"", CountingPeer()))
        await asyncio.sleep(0)
        outcome.cancel()
        await asyncio.sleep(0)
        assert (method.measurements.n_in_flight, outcome.done()) == (1, False)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await outcome
        assert method.measurements.n_in_flight == 0

    asyncio.run(cancel())


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_server_that_ends_its_calls_answers_them(*, has_begun: bool) -> None:
    """Calls that the gate ends get UNAVAILABLE, and are not cancelled."""

    async def end() -> bytes | Failure:
        gate = Gate()
        outcome = pending(guarded(forever, gate).call(b"", CountingPeer()))
        if has_begun:
            await asyncio.sleep(0)
        gate.end_calls()
        return await outcome

    assert asyncio.run(end()) is STOPPING


def test_too_many_calls_are_refused() -> None:
    """A call beyond the limit is refused, though none of the others has begun its work."""

    async def call_thrice() -> list[bytes | Failure | PendingAnswer]:
        method = guarded(forever)
        return [method.call(b"", CountingPeer()) for _ in range(3)]

    *admitted, refused = asyncio.run(call_thrice())
    assert all(isinstance(outcome, PendingAnswer) for outcome in admitted)
    assert isinstance(refused, Failure)
    assert refused.reason == "OVERLOADED"


def upper_case(data: bytes, _admission: Admission) -> bytes:
    """Answer; fail at what has no letters."""
    if not data.isalpha():
        raise ExperimentNotFoundError(data.decode())
    return data.upper()


def upper_case_each(asked: Sequence[tuple[bytes, Admission]]) -> list[bytes | None]:
    """Answer words in capitals, which says that they were answered together, and nothing else."""
    return [b"<" + data.upper() + b">" if data.isalpha() else None for data, _ in asked]


def test_calls_that_come_together_are_answered_in_order() -> None:
    """Those that share no work are answered alone, and each that fails fails by itself."""
    method, peer = guarded(upper_case, answer_each=upper_case_each), CountingPeer()
    asked = [b"one", b"2", b"three", b"much too long", b"five"]
    first, unknown, third, large, fifth = method.call_each([(data, peer) for data in asked])
    assert (first, third, fifth) == (b"<ONE>", b"<THREE>", b"<FIVE>")
    assert isinstance(unknown, Failure)
    assert isinstance(large, Failure)
    assert (unknown.reason, large.reason) == ("EXPERIMENT_NOT_FOUND", "MESSAGE_TOO_LARGE")
    assert method.measurements.codes == [("OK", 3), ("NotFound", 1), ("ResourceExhausted", 1)]
    assert method.measurements.n_received == 5
    assert sum(method.measurements.durations.counts) == 5


def test_an_unexpected_error_of_calls_that_come_together_fails_one_call_at_most() -> None:
    """If the shared work raises, each call is answered alone."""

    def broken(_asked: Sequence[tuple[bytes, Admission]]) -> list[bytes | None]:
        raise RuntimeError

    method = guarded(upper_case, answer_each=broken)
    assert method.call_each([(b"one", CountingPeer()), (b"two", CountingPeer())]) == [b"ONE", b"TWO"]
    assert method.measurements.codes == [("OK", 2)]


def test_calls_that_come_together_and_wait_are_limited() -> None:
    """Also among them no more than the limit may be in flight."""

    async def call() -> list[bytes | Failure | PendingAnswer]:
        method = guarded(forever, answer_each=upper_case_each)
        return method.call_each([(data, CountingPeer()) for data in (b"1", b"2", b"3", b"four")])

    *admitted, refused, last = asyncio.run(call())
    assert all(isinstance(outcome, PendingAnswer) for outcome in admitted)
    assert isinstance(refused, Failure)
    assert refused.reason == "OVERLOADED"
    assert last == b"<FOUR>"


def test_calls_that_come_together_are_charged_once_each() -> None:
    """A caller's rate counts every call, and none twice if it has to be answered alone."""
    caller = Caller(
        name="c", roles=frozenset({Role.CHOOSE}), token_hashes=(digest_of("secret"),), calls_per_second=4.0
    )
    tokens = ReloadingFile("tokens", [], lambda: Directory([caller]), ValueError)
    method = guarded(upper_case, tokens=tokens, answer_each=upper_case_each)
    outcomes = method.call_each([(data, CountingPeer()) for data in (b"a", b"1", b"b", b"c", b"d", b"e")])
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
    assert reasons == ["EXPERIMENT_NOT_FOUND", "RATE_LIMITED", "RATE_LIMITED"]


def test_a_peer_is_identified_once_for_each_state_of_the_file() -> None:
    """It is asked for its token at its first call, and again only when the callers were loaded again."""
    caller = Caller(name="c", roles=frozenset({Role.CHOOSE}), token_hashes=(digest_of("secret"),))
    tokens = ReloadingFile("tokens", [], lambda: Directory([caller]), ValueError)
    method, peer = guarded(lambda data, _: data, tokens=tokens), CountingPeer()
    assert [method.call(b"x", peer) for _ in range(3)] == [b"x"] * 3
    assert peer.n_asked == 1
    tokens.value = Directory([])
    refused = method.call(b"x", peer)
    assert isinstance(refused, Failure)
    assert refused.code is grpc.StatusCode.UNAUTHENTICATED
    assert peer.n_asked == 2
