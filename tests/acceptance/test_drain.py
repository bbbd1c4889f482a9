"""SIGTERM: clients are notified, calls in flight finish, no acknowledged reward is lost, exit code 0."""

import signal
import threading
import time
from typing import Final

import grpc
import pytest
from grpc_health.v1 import health_pb2

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import decision_of, logged_decisions, query
from tests.support.process import eventually, verify
from tests.support.refusals import call_of
from tests.support.wire import Wire, metric

pytestmark = pytest.mark.both_listeners
NAMES: Final = ("", "bandit.v1.BanditService", "bandit.v1.ExperimentService")
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
LABELS: Final = {
    "grpc_type": "unary",
    "grpc_service": "bandit.v1.BanditService",
    "grpc_method": "BatchReward",
}


def batches(wire: Wire, name: str, n: int) -> list[bandit_pb2.BatchRewardRequest]:
    """Return `n` batches of a thousand rewards."""
    made = []
    for _ in range(n):
        results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 1_000)
        rewards = [
            bandit_pb2.RewardRequest(decision_id=result.choice.decision_id, outcomes={"click": 1, "buy": 0})
            for result in results
        ]
        made.append(bandit_pb2.BatchRewardRequest(requests=rewards))
    return made


def test_calls_in_flight_finish_and_nothing_acknowledged_is_lost(
    start_server: StartServer, connect: Connect
) -> None:
    """Calls that the server had begun when the signal came are answered OK; all others get UNAVAILABLE."""
    server = start_server("--metrics-listen", "127.0.0.1:0")
    wire = connect(server)
    name = wire.running(metrics=[metric("click"), metric("buy")])
    requests = batches(wire, name, 20)
    calls = [wire.bandit.BatchReward.future(request, timeout=60) for request in requests]
    eventually(lambda: server.sample("grpc_server_in_flight", **LABELS) >= 3)
    n_begun = server.sample("grpc_server_started_total", **LABELS)
    server.signal(signal.SIGTERM)
    n_before = sum(call.done() for call in calls)

    errors = {call: call.exception() for call in calls}
    acked = [i for i, call in enumerate(calls) if errors[call] is None]
    assert len(acked) >= n_begun > n_before  # some were in flight, and were finished
    for error in errors.values():
        assert error is None or call_of(error).code() is grpc.StatusCode.UNAVAILABLE
    assert server.wait() == 0
    logged = logged_decisions(server.database)
    for i in acked:
        results = calls[i].result().results
        assert {result for each in results for result in each.reward.results.values()} == {
            bandit_pb2.OUTCOME_RESULT_RECORDED
        }
        assert {decision_of(request.decision_id) for request in requests[i].requests} <= logged
    sent = {decision_of(request.decision_id) for batch in requests for request in batch.requests}
    assert logged <= sent
    verify(server.database)
    events = [event["event"] for event in server.events()]
    assert events[-3:] == ["server.draining", "lease.released", "server.stopped"]


def test_health_is_not_serving_before_calls_are_refused(start_server: StartServer, connect: Connect) -> None:
    """During --drain-delay-seconds every call is answered; later ones get UNAVAILABLE; the exit code is 0."""
    server = start_server("--drain-delay-seconds", "1.5")
    wire = connect(server)
    name = wire.running()
    decision_id = wire.choose(name).decision_id
    server.signal(signal.SIGTERM)
    signalled_at = time.monotonic()
    eventually(
        lambda: {wire.health_of(service) for service in NAMES},
        until=lambda statuses: statuses == {NOT_SERVING},
    )
    assert wire.choose(name).arm
    assert wire.reward(decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
    assert time.monotonic() - signalled_at < 1.5

    def refusal() -> grpc.StatusCode | None:
        try:
            wire.choose(name)
        except grpc.RpcError as error:
            return call_of(error).code()
        return None

    assert eventually(refusal) is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - signalled_at > 1.4
    assert server.wait() == 0
    assert logged_decisions(server.database) == {decision_of(decision_id)}


def test_a_watch_of_health_does_not_delay_the_stop(start_server: StartServer, connect: Connect) -> None:
    """A client that watches health, as gRPC's balancers do, gets NOT_SERVING and does not delay the stop."""
    server = start_server("--drain-seconds", "60")
    watch = connect(server).channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    answers = watch(health_pb2.HealthCheckRequest(service="bandit.v1.BanditService"))
    assert next(answers).status == health_pb2.HealthCheckResponse.SERVING
    server.signal(signal.SIGTERM)
    assert next(answers).status == NOT_SERVING
    assert server.wait(20) == 0


def test_a_stop_under_load_refuses_calls_for_now_and_loses_none(
    start_server: StartServer, connect: Connect
) -> None:
    """Calls that come too late get UNAVAILABLE; every reward that was acknowledged is in the ledger."""
    server = start_server()
    wire = connect(server)
    name = wire.running()
    acked: list[str] = []
    errors: list[grpc.RpcError] = []

    def work(caller: Wire) -> None:
        while True:
            try:
                decision_id = caller.choose(name).decision_id
                caller.reward(decision_id, {"click": 1})
            except grpc.RpcError as error:
                errors.append(error)
                return
            acked.append(decision_id)

    threads = [threading.Thread(target=work, args=(connect(server),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(acked) > 200)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    for thread in threads:
        thread.join()
    assert [call_of(error).code() for error in errors] == [grpc.StatusCode.UNAVAILABLE] * len(threads)
    assert {decision_of(decision_id) for decision_id in acked} <= logged_decisions(server.database)
    verify(server.database)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(start_server: StartServer, connect: Connect, number: int) -> None:
    """It exits with 0 although a client is connected; the newest counts of decisions are flushed."""
    server = start_server("--poll-seconds", "60", "--lag-seconds", "61", "--max-staleness-seconds", "90")
    wire = connect(server)
    name = wire.running()
    wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 77)
    server.signal(number)
    assert server.wait(10) == 0
    assert query(server.database, "SELECT SUM(decisions) FROM decision_facts") == [(77,)]
