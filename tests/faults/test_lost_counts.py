"""A kill that loses decision counts: their outcomes are left out with them, and every reward is kept."""

import signal

import pytest

from bandit.v1 import bandit_pb2
from tests.conftest import Connect, StartServer
from tests.support.process import eventually, verify

N_COUNTED = 40
N_LOST = 20
SELDOM = ("--poll-seconds", "60", "--lag-seconds", "300", "--max-staleness-seconds", "3600")
"""Counts are flushed when a report is asked for, and by themselves only after a minute."""

RECORDED = {"click": bandit_pb2.OUTCOME_RESULT_RECORDED}
DUPLICATE = {"click": bandit_pb2.OUTCOME_RESULT_DUPLICATE}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_outcomes_are_left_out_with_their_decisions(
    start_server: StartServer, connect: Connect, end: signal.Signals
) -> None:
    """After a kill between two flushes, the successes per decision are those that there were.

    Every reward is acknowledged, stays in the log, and is a duplicate when repeated before or after the kill.
    One that comes after the kill is taken as well. A server that is stopped in order loses nothing.
    """
    server = start_server(*SELDOM)
    wire = connect(server)
    name = wire.running()
    counted = [wire.choose(name).decision_id for _ in range(N_COUNTED)]
    assert wire.n_decisions(name)["policy"] == N_COUNTED
    lost = [wire.choose(name).decision_id for _ in range(N_LOST)]
    first, late = [*counted[::2], *lost[::2]], [*counted[1::4], *lost[1::4]]
    assert all(wire.reward(each, {"click": 1.0}) == RECORDED for each in first)
    server.signal(end)
    server.wait()

    again = start_server(*SELDOM)
    wire = connect(again)
    n_lost = N_LOST if end is signal.SIGKILL else 0
    expected = N_COUNTED // 2 + (N_LOST - n_lost) // 2
    eventually(lambda: wire.n_outcomes(name) == expected)
    assert all(wire.reward(each, {"click": 1.0}) == DUPLICATE for each in first)
    assert all(wire.reward(each, {"click": 1.0}) == RECORDED for each in late)
    assert wire.n_outcomes(name) == expected + (N_COUNTED + N_LOST - n_lost) // 4
    assert wire.n_decisions(name)["policy"] == N_COUNTED + N_LOST - n_lost
    notes = [note for note in wire.report(name).notes if "are left out" in note]
    assert [note.split()[0] for note in notes] == ([str(3 * N_LOST // 4)] if n_lost else [])
    assert again.terminate() == 0
    verify(again.database)
