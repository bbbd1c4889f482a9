"""A write to the disk that fails in the kernel: nothing is acknowledged, and the process ends."""

import resource
from typing import Final

import grpc

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.ledger import decision_of, integrity, logged_decisions
from tests.support.process import verify
from tests.support.refusals import refusal_of

BROKEN: Final = 70
"""The exit code after a failed write: EX_SOFTWARE of sysexits.h."""


def test_a_failed_write_is_never_acknowledged(start_server: StartServer, connect: Connect) -> None:
    """Once no file of the server may grow, every Reward is UNAVAILABLE and the process ends with 70.

    A limit on file sizes makes write() fail as a dying disk does. Restarted without it, the server has every
    acknowledged reward, and takes the others.
    """
    server = start_server("--epoch-interval-seconds", "60")  # so that a reward fails, and no new epoch
    wire = connect(server)
    name = wire.running()
    results = wire.batch_choose(*[bandit_pb2.ChooseRequest(experiment=name)] * 400)
    ids = [result.choice.decision_id for result in results]
    acked = ids[:100]
    for decision_id in acked:
        assert wire.reward(decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}

    wal = server.database.with_name(server.database.name + "-wal").stat().st_size
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (wal + 8_192, resource.RLIM_INFINITY))
    refusal = None
    for decision_id in ids[100:]:
        try:
            wire.reward(decision_id, {"click": 1})
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            break
        acked.append(decision_id)
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert refusal.retry_seconds
    assert server.wait() == BROKEN
    (event,) = [event for event in server.events() if event["level"] == "critical"]
    assert event["event"] == "store.broken"

    second = start_server()
    wire = connect(second)
    for decision_id in acked:
        assert wire.reward(decision_id, {"click": 1}) == {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}
    for decision_id in ids[len(acked) :]:
        (answer,) = wire.reward(decision_id, {"click": 1}).values()
        assert answer in {bandit_pb2.OUTCOME_RESULT_RECORDED, bandit_pb2.OUTCOME_RESULT_DUPLICATE}
    assert second.terminate() == 0
    assert logged_decisions(second.database) == set(map(decision_of, ids))
    assert integrity(second.database) == ["ok"]
    verify(second.database)
