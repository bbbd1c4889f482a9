"""A key is revoked while a server is frozen or a transaction is open: what it signed is refused."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psycopg

from bandit.v1 import admin_pb2, bandit_pb2
from tests.replicas.conftest import running_replicas
from tests.support.ledger import decision_of
from tests.support.postgresql import PostgresqlProcess, query
from tests.support.process import eventually
from tests.support.refusals import call_of, refused
from tests.support.wire import CALL_SECONDS, Wire

N_DECISIONS = 50
N_RESTARTS = 3


def rotate(wire: Wire) -> None:
    """Let key 2 sign."""
    wire.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=CALL_SECONDS)


def revoke(wire: Wire) -> None:
    """Revoke key 1."""
    wire.admin.RevokeDecisionKey(admin_pb2.RevokeDecisionKeyRequest(id=1), timeout=CALL_SECONDS)


def test_a_frozen_server_records_nothing_that_a_revoked_key_signed(url: str, tmp_path: Path) -> None:
    """Rewards that arrive before the server knows of the revocation are refused in their transaction.

    Rewards of the key that signs now are recorded by the same server, in the same commits.
    """
    with running_replicas(url, tmp_path) as start:
        one, other = start(2)
        wire, frozen = Wire(one.address), Wire(other.address)
        name = wire.running()
        question = bandit_pb2.ChooseRequest(experiment=name)
        leaked = [each.choice.decision_id for each in wire.batch_choose(*[question] * N_DECISIONS)]
        rotate(wire)
        good = [each.choice.decision_id for each in wire.batch_choose(*[question] * N_DECISIONS)]
        # Looked up beforehand, so that the rewards posted when the server wakes need no look at the database.
        assert eventually(lambda: frozen.choose(name).decision_id)
        other.signal(signal.SIGSTOP)
        reward = frozen.bandit.Reward.future
        calls = {
            decision_id: reward(
                bandit_pb2.RewardRequest(decision_id=decision_id, outcomes={"click": 1}), timeout=CALL_SECONDS
            )
            for pair in zip(leaked, good, strict=True)
            for decision_id in pair
        }
        revoke(wire)
        other.signal(signal.SIGCONT)
        codes = {decision_id: call.code() for decision_id, call in calls.items()}
        wire.close()
        frozen.close()
    logged = {bytes(decision) for (decision,) in query(url, "SELECT decision FROM rewards")}
    assert logged == set(map(decision_of, good))
    assert {codes[decision_id] for decision_id in leaked} == {grpc.StatusCode.INVALID_ARGUMENT}
    assert {codes[decision_id] for decision_id in good} == {grpc.StatusCode.OK}


def test_a_revocation_waits_for_what_may_still_record(url: str, tmp_path: Path) -> None:
    """While a transaction that began before it is open, `revoke` does not return as done."""
    with running_replicas(url, tmp_path) as start, ThreadPoolExecutor(2) as pool:
        (server,) = start(1)
        wire = Wire(server.address)
        rotate(wire)
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("SELECT pg_current_xact_id()")
            is_revoked = threading.Event()
            revoking = pool.submit(revoke, wire)
            revoking.add_done_callback(lambda _: is_revoked.set())
            eventually(lambda: query(url, "SELECT count(*) FROM signing_keys") == [(1,)])
            assert not is_revoked.wait(2.0)  # more than twice the time after which it returns otherwise
            again = pool.submit(revoke, wire)
            assert not is_revoked.wait(2.0)
            assert not again.done()
            connection.rollback()
        assert is_revoked.wait(CALL_SECONDS)
        assert revoking.exception() is None
        refusal = again.exception()
        assert refusal is not None
        assert "there is no key 1" in call_of(refusal).details()
        wire.close()


def test_a_revocation_under_restarts_of_the_database(
    own_postgresql: PostgresqlProcess, tmp_path: Path
) -> None:
    """Repeated through restarts of the database until the key is gone, it is done, and audited once."""
    url = own_postgresql.create_database()
    with running_replicas(url, tmp_path) as start, ThreadPoolExecutor(1) as pool:
        wires = [Wire(server.address) for server in start(2)]
        name = wires[0].running()
        leaked = wires[0].choose(name).decision_id
        rotate(wires[0])
        kept = wires[0].choose(name).decision_id
        revoking = pool.submit(revoke_until_gone, wires[0])
        for _ in range(N_RESTARTS):
            own_postgresql.kill()
            own_postgresql.start()
        assert "there is no key 1" in revoking.result(CALL_SECONDS)
        for wire in wires:
            eventually(lambda wire=wire: is_unknown(wire, leaked))  # type: ignore[misc]
            assert wire.reward(kept, {"click": 1})
            wire.close()
    assert query(url, "SELECT id FROM signing_keys") == [(2,)]
    assert query(url, "SELECT count(*) FROM audit WHERE action = 'revoke_key'") == [(1,)]


def is_unknown(wire: Wire, decision_id: str) -> bool:
    """True if a reward is refused for a decision id that was never issued; it must be refused."""
    return refused(lambda: wire.reward(decision_id, {"click": 1})).code is grpc.StatusCode.INVALID_ARGUMENT


def revoke_until_gone(wire: Wire) -> str:
    """Repeat after every answer except that there is no such key; return that one."""

    def ask() -> str:
        try:
            revoke(wire)
        except grpc.RpcError as error:
            return call_of(error).details() or ""
        return ""

    return eventually(ask, until=lambda text: "there is no key" in text)
