"""Streams of Choose: order, errors of single messages, flow control, and how a stream ends."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from bandit.v1 import bandit_pb2, experiment_pb2
from tests.conftest import Connect, StartServer
from tests.support.observing import MIB
from tests.support.process import WITH_FAST_LANE, ServerProcess, eventually, serving
from tests.support.refusals import refused
from tests.support.talk import Talk, message
from tests.support.wire import Wire, experiment

pytestmark = pytest.mark.both_listeners
Begin = Callable[..., Talk]
LABELS: Final = {
    "grpc_type": "bidi_stream",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "ChooseStream",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server that serves metrics."""
    flags = ("--metrics-listen", "127.0.0.1:0", *WITH_FAST_LANE)
    with serving(tmp_path_factory.mktemp("streams") / "bandit.db", *flags) as server:
        yield server


@pytest.fixture
def wire(server: ServerProcess, connect: Connect) -> Wire:
    """Open a channel to it."""
    return connect(server)


@pytest.fixture
def begin(wire: Wire) -> Iterator[Begin]:
    """Open streams that are closed at the end, on the channel to the server unless another is given."""
    talks: list[Talk] = []

    def open_talk(channel: Wire | None = None, *, timeout: float = 60.0) -> Talk:
        talks.append(Talk(channel or wire, timeout=timeout))
        return talks[-1]

    yield open_talk
    for talk in talks:
        talk.close()


def units_of(name: str, n: int) -> list[bytes]:
    """Encode a message for each of `n` units."""
    return [message(name, unit=f"unit-{number}") for number in range(n)]


def test_thousands_of_messages_are_answered_in_their_order(wire: Wire, begin: Begin) -> None:
    """Each gets the arm that Choose gives its unit, though all were sent before the first answer was read."""
    name = wire.running()
    talk = begin()
    for data in units_of(name, 5_000):
        talk.send_bytes(data)
    talk.half_close()
    answers = talk.rest()
    assert len({answer.choice.decision_id for answer in answers}) == 5_000
    asked = [bandit_pb2.ChooseRequest(experiment=name, unit=f"unit-{number}") for number in range(1_000)]
    assert [answer.choice.arm for answer in answers[:1_000]] == [
        result.choice.arm for result in wire.batch_choose(*asked)
    ]


def test_an_answer_is_that_of_choose(wire: Wire, begin: Begin) -> None:
    """All fields are the same, but for the decision and the time, and its decision can be rewarded."""
    payload = Struct()
    payload.update({"model": "x" * 300, "depth": 3})
    arms = [experiment_pb2.Arm(id="a", payload=payload, model_uri="s3://a"), experiment_pb2.Arm(id="b")]
    name = wire.running(arms=arms)
    talk = begin()
    for request in ({"unit": "u"}, {"eligible_arms": ["a"]}, {"unit": "u", "attributes": {"k": "v"}}):
        streamed, single = talk.ask(name, **request).choice, wire.choose(name, **request)
        assert wire.reward(streamed.decision_id, {"click": 1}) == {
            "click": bandit_pb2.OUTCOME_RESULT_RECORDED
        }
        for choice in (streamed, single):
            choice.ClearField("decision_id")
            choice.ClearField("snapshot_age")
            if "unit" not in request:
                choice.ClearField("arm")
        assert streamed == single
    pinned = talk.ask(name, unit="u").choice.decision_id
    assert talk.ask(name, unit="u", previous_decision_id=pinned).choice.decision_id == pinned


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(lambda _: {"experiment": "nope"}, id="no such experiment, which the store is asked for"),
        pytest.param(lambda _: {"experiment": "No Name"}, id="no name"),
        pytest.param(lambda draft: {"experiment": draft}, id="not started"),
        pytest.param(lambda draft: {"experiment": draft, "unit": "\n"}, id="a draft and a bad unit"),
        pytest.param(lambda _: {"experiment": "nope", "unit": "u" * 65_600}, id="a large message"),
    ],
)
def test_a_bad_message_fails_alone(
    wire: Wire, begin: Begin, request_of: Callable[[str], dict[str, str]]
) -> None:
    """Its answer has the status of a call of its own, and those before and after it are answered in order."""
    draft, name = experiment(), wire.running()
    wire.create(draft)
    request = request_of(draft.name)
    bad = bandit_pb2.ChooseRequest(experiment=request["experiment"], unit=request.get("unit", ""))
    talk = begin()
    talk.send(name, unit="before")
    talk.send_bytes(bandit_pb2.ChooseStreamRequest(request=bad).SerializeToString())
    talk.send(name, unit="after")
    talk.half_close()
    before, failed, after = talk.rest()
    refusal = refused(lambda: wire.bandit.Choose(bad))
    assert failed.error.code == refusal.code.value[0]
    assert failed.error.reason == refusal.reason
    assert {v.field: v.description for v in failed.error.field_violations} == refusal.violations
    assert before.choice.arm == wire.choose(name, unit="before").arm
    assert after.choice.arm == wire.choose(name, unit="after").arm


def test_a_malformed_message_fails_alone(wire: Wire, begin: Begin) -> None:
    """Bytes that are no message are answered with INVALID_ARGUMENT, and the stream goes on."""
    talk = begin()
    talk.send_bytes(b"\x0a\x05abc")
    error = talk.receive().error
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT.value[0], "MALFORMED_MESSAGE")
    talk.send_bytes(b"")
    assert talk.receive().error.reason == "INVALID_INPUT"
    assert talk.ask(wire.running()).choice.arm


@pytest.mark.slow
def test_a_message_beyond_the_rate_fails_alone(
    start_server: StartServer, connect: Connect, begin: Begin
) -> None:
    """Each message is charged as one call: one too many has a delay, after which the stream goes on."""
    wire = connect(start_server("--calls-per-second", "20"))
    name = wire.running()
    talk = begin(wire)
    for _ in range(40):
        talk.send(name)
    answers = [talk.receive() for _ in range(40)]
    refusals = [answer.error for answer in answers if answer.HasField("error")]
    assert 10 < len(refusals) < 40
    assert {error.reason for error in refusals} == {"RATE_LIMITED"}
    assert all(error.retry_delay.ToTimedelta().total_seconds() > 0 for error in refusals)
    eventually(lambda: talk.ask(name), until=lambda answer: answer.choice.arm)


def by_deadline(talk: Talk) -> grpc.StatusCode:
    """Wait for the stream's deadline."""
    with pytest.raises(grpc.RpcError) as caught:
        talk.receive()
    code: grpc.StatusCode = caught.value.code()
    return code


def by_hand(talk: Talk) -> grpc.StatusCode:
    """Cancel the stream."""
    talk.call.cancel()
    code: grpc.StatusCode = talk.call.code()
    return code


@pytest.mark.parametrize(
    ("give_up", "code"),
    [(by_deadline, grpc.StatusCode.DEADLINE_EXCEEDED), (by_hand, grpc.StatusCode.CANCELLED)],
)
def test_a_stream_that_its_caller_ends_holds_nothing(
    server: ServerProcess,
    wire: Wire,
    begin: Begin,
    give_up: Callable[[Talk], grpc.StatusCode],
    code: grpc.StatusCode,
) -> None:
    """At its deadline, or when it is cancelled, an idle stream is no longer in flight, and counts as such."""
    n_before = server.sample("grpc_server_handled_total", **LABELS, grpc_code="Canceled")
    talk = begin(timeout=2)
    assert talk.ask(wire.running()).choice.arm
    assert server.sample("grpc_server_in_flight", **LABELS) == 1
    assert give_up(talk) is code
    eventually(lambda: server.sample("grpc_server_in_flight", **LABELS) == 0)
    assert server.sample("grpc_server_handled_total", **LABELS, grpc_code="Canceled") == n_before + 1


def test_a_stream_without_messages_ends_well(begin: Begin) -> None:
    """A client that ends a stream before its first message gets OK."""
    talk = begin()
    talk.half_close()
    assert talk.rest() == []


def test_messages_and_streams_are_counted(server: ServerProcess, wire: Wire, begin: Begin) -> None:
    """Messages count as received and sent, streams as started and handled."""

    def counts() -> list[float]:
        families = ("started", "msg_received", "msg_sent")
        ok = server.sample("grpc_server_handled_total", **LABELS, grpc_code="OK")
        return [*(server.sample(f"grpc_server_{family}_total", **LABELS) for family in families), ok]

    name, before = wire.running(), counts()
    talk = begin()
    for data in (*units_of(name, 4), b"\x0a\x05abc"):
        talk.send_bytes(data)
    talk.half_close()
    talk.rest()
    after = eventually(counts, until=lambda found: found[-1] == before[-1] + 1)
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 5, 5, 1]
    assert server.sample("grpc_server_handling_seconds_count", **LABELS) == server.sample(
        "grpc_server_started_total", **LABELS
    )


def test_a_peer_that_does_not_read_is_not_read_from(server: ServerProcess, wire: Wire, begin: Begin) -> None:
    """The server stops reading and answering, its memory stays, and in the end every answer arrives."""
    payload = Struct()
    payload.update({"x": "y" * 4_000})
    name = wire.running(arms=[experiment_pb2.Arm(id=arm, payload=payload) for arm in "ab"])
    memory = server.memory()
    n_before = server.sample("grpc_server_msg_received_total", **LABELS)
    talk = begin()
    n_sent = 10_000
    for data in units_of(name, n_sent):
        talk.send_bytes(data)

    def n_read() -> float:
        return server.sample("grpc_server_msg_received_total", **LABELS) - n_before

    seen = [-1.0] * 20
    while len(set(seen[-20:])) > 1:  # twenty scrapes in a row show the same
        seen.append(eventually(n_read))
    assert seen[-1] < n_sent / 2
    assert server.memory() - memory < 32 * MIB
    talk.half_close()
    assert len(talk.rest()) == n_sent


@pytest.mark.slow
def test_a_server_that_stops_answers_what_it_has_received(
    start_server: StartServer, connect: Connect, begin: Begin
) -> None:
    """A stream with messages on their way, and one that is idle, end with OK and every answer, at once."""
    server = start_server("--drain-seconds", "30")
    wire = connect(server)
    name = wire.running()
    busy, idle = begin(wire), begin(wire)
    assert idle.ask(name).choice.arm
    assert busy.ask(name).choice.arm
    for data in units_of(name, 1_000):
        busy.send_bytes(data)
    assert busy.receive().choice.arm
    server.signal(signal.SIGTERM)
    began_at = time.monotonic()
    assert idle.rest() == []
    assert all(answer.choice.arm for answer in busy.rest())
    assert server.wait() == 0
    assert time.monotonic() - began_at < 10


@pytest.mark.slow
def test_a_stream_that_begins_too_late_can_be_begun_elsewhere(
    start_server: StartServer, connect: Connect, begin: Begin
) -> None:
    """Once the server stops, a new stream fails with UNAVAILABLE and a delay."""
    server = start_server("--drain-seconds", "30")
    wire = connect(server)
    name = wire.running()
    late = begin(wire)
    other = begin(wire)
    assert other.ask(name).choice.arm
    server.signal(signal.SIGTERM)
    assert other.rest() == []
    late.send(name)
    with pytest.raises(grpc.RpcError) as caught:
        late.receive()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
def test_streams_are_renewed_before_their_connection_is_too_old(
    start_server: StartServer, connect: Connect, begin: Begin
) -> None:
    """Idle or busy, each ends with OK after less than the age, over several connections."""
    server = start_server("--connection-seconds", "1")
    wire = connect(server)
    name = wire.running()
    for _ in range(4):
        idle, busy = begin(wire), begin(wire)
        began_at = time.monotonic()
        assert idle.ask(name).choice.arm
        n_asked = n_answered = 0
        while True:
            busy.send(name)
            n_asked += 1
            answer = next(busy.call, None)
            if answer is None:
                break
            n_answered += 1
        assert busy.call.code() is grpc.StatusCode.OK
        assert n_answered == n_asked - 1 > 10
        assert idle.rest() == []
        assert time.monotonic() - began_at > 0.7


@pytest.mark.slow
def test_streams_are_limited_like_calls(start_server: StartServer, connect: Connect, begin: Begin) -> None:
    """One stream more than `--max-concurrent-calls` gets RESOURCE_EXHAUSTED, until another has ended."""
    wire = connect(start_server("--max-concurrent-calls", "2"))
    name = wire.running()
    talks = [begin(wire), begin(wire)]
    assert all(talk.ask(name).choice.arm for talk in talks)
    refusal = refused(lambda: begin(wire).ask(name))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    talks[0].half_close()
    assert talks[0].rest() == []
    assert begin(wire).ask(name).choice.arm


@pytest.mark.slow
def test_an_idle_stream_lives(start_server: StartServer, connect: Connect, begin: Begin) -> None:
    """Only the first message has to arrive in time: later ones may take longer than `--request-seconds`."""
    wire = connect(start_server("--request-seconds", "1"))
    name = wire.running()
    idle, silent = begin(wire), begin(wire)
    assert idle.ask(name).choice.arm
    refusal = refused(silent.receive)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE")
    assert idle.ask(name).choice.arm
