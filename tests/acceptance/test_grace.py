"""Graceful stops and renewed connections, as clients see them."""

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import psycopg
import pytest

from bandit.v1 import bandit_pb2, bandit_pb2_grpc
from tests.conftest import Connect, StartServer
from tests.replicas.conftest import running_replicas
from tests.support.faults.proxy import Proxy
from tests.support.ledger import decision_of
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import WITH_FAST_LANE, ServerProcess, eventually
from tests.support.refusals import call_of
from tests.support.wire import CALL_SECONDS, Wire

pytestmark = pytest.mark.both_listeners
RECORDED = bandit_pb2.OUTCOME_RESULT_RECORDED
GRACE = 3.0

OF_A_REWARD = """
    INSERT INTO rewards (decision, metric, experiment, epoch, segment, arm, basis,
                         quanta, revision, is_late, is_apart, received_ms)
    VALUES (%s, 0, 1, 1, 0, 0, 1, 1, 0, false, false, 0)
"""


@contextmanager
def held_up(url: str, decision_id: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Open a transaction that blocks the reward of this decision until it is rolled back."""
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
        connection.execute(OF_A_REWARD.encode(), (decision_of(decision_id),))
        yield connection


def n_waiting(url: str) -> int:
    """Return the number of connections that wait for a lock."""
    activity = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    ((count,),) = query(url, f"{activity} AND datname = current_database()")
    return int(count)


def test_calls_in_flight_get_the_grace_and_no_more(
    postgresql: PostgresqlProcess, tmp_path: Path, connect: Connect
) -> None:
    """With a grace of 3 s, a call that takes 1 s more is answered; one that hangs gets UNAVAILABLE after 3 s.

    The first is recorded, the second was never acknowledged, and the server exits with 0.
    """
    url = postgresql.create_database()
    flags = ("--drain-seconds", f"{GRACE}", "--metrics-listen", "127.0.0.1:0", *WITH_FAST_LANE)
    with running_replicas(url, tmp_path, *flags) as start:
        (server,) = start(1)
        wire = connect(server)
        name = wire.running()
        ids = [wire.choose(name).decision_id for _ in range(2)]
        requests = [bandit_pb2.RewardRequest(decision_id=each, outcomes={"click": 1}) for each in ids]
        with held_up(url, ids[0]) as first, held_up(url, ids[1]):
            short = wire.bandit.Reward.future(requests[0], timeout=CALL_SECONDS)
            eventually(lambda: n_waiting(url) == 1)
            long = wire.bandit.Reward.future(requests[1], timeout=CALL_SECONDS)
            eventually(lambda: in_flight(server) == 2)
            server.signal(signal.SIGTERM)
            signalled_at = time.monotonic()
            time.sleep(1.0)  # the duration of the short call; nothing is awaited
            assert not short.done()
            first.rollback()
            assert dict(short.result().results) == {"click": RECORDED}
            assert not long.done()
            error = call_of(long.exception())
            assert GRACE - 0.1 < time.monotonic() - signalled_at < GRACE + 2
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert dict(error.trailing_metadata())["bandit-reason"] == "STOPPING"
            assert server.wait() == 0
    assert query(url, "SELECT decision FROM rewards") == [(decision_of(ids[0]),)]


def in_flight(server: ServerProcess) -> float:
    """Return the number of Reward calls in flight."""
    labels = {"grpc_type": "unary", "grpc_service": "bandit.v1.BanditService", "grpc_method": "Reward"}
    return server.sample("grpc_server_in_flight", **labels)


class Callers:
    """Threads that choose and reward on one channel, and keep the errors."""

    def __init__(self, channel: grpc.Channel, name: str) -> None:
        self._stub = bandit_pb2_grpc.BanditServiceStub(channel)
        self._name = name
        self._has_ended = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(4)]
        self.failures: list[str] = []
        self.n_calls: Counter[int] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make calls during the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            for thread in self._threads:
                thread.join()

    @property
    def n_done(self) -> int:
        """Return the number of calls made."""
        return self.n_calls.total()

    def _work(self) -> None:
        while not self._has_ended.is_set():
            try:
                request = bandit_pb2.ChooseRequest(experiment=self._name)
                decision_id = self._stub.Choose(request, timeout=CALL_SECONDS).decision_id
                reward = bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1})
                self._stub.Reward(reward, timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                self.failures.append(str(error))
            self.n_calls[threading.get_ident()] += 1


def test_a_client_that_honours_health_sees_no_failure_of_a_drain(
    postgresql: PostgresqlProcess, tmp_path: Path, listener: str
) -> None:
    """During SIGTERM, NOT_SERVING, delay, grace and flush, gRPC's health-checking balancer loses no call."""
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": "bandit.v1.BanditService"},
    }
    options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    flags = ("--drain-delay-seconds", "1", *WITH_FAST_LANE)
    with running_replicas(postgresql.create_database(), tmp_path, *flags) as start:
        servers = start(2)
        wire = Wire(servers[1].address)
        name = wire.running()
        target = "ipv4:" + ",".join(server.address_of(listener) for server in servers)
        with grpc.insecure_channel(target, options) as channel:
            callers = Callers(channel, name)
            with callers.running():
                eventually(lambda: callers.n_done > 100)
                servers[0].signal(signal.SIGTERM)
                assert servers[0].wait() == 0
                n_done = callers.n_done
                eventually(lambda: callers.n_done > n_done + 100)
        assert wire.n_outcomes(name) == callers.n_done
        wire.close()
    assert callers.failures == []


def test_an_old_connection_is_renewed_without_an_error(
    start_server: StartServer, connect: Connect, listener: str
) -> None:
    """Under load, the client is made to reconnect about every second, and no call fails."""
    server = start_server("--connection-seconds", "1")
    name = connect(server).running()
    with Proxy(server.port_of(listener)) as proxy:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{proxy.port}", options) as channel:
            callers = Callers(channel, name)
            with callers.running():
                eventually(lambda: proxy.n_connections >= 4)
    assert callers.failures == []
    assert callers.n_done > 100
