"""Ending a run while transactions that began before are open, or while a reader holds locks for long."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bandit.decision_id import Basis, IdBits, new_id, run_of
from bandit.facts import OutcomeKey, Tally
from server.store.errors import StoreUnavailableError
from server.store.sql_store import SqlStore
from server.store.tables import reward_batch
from tests.bandit.builders import START
from tests.store.builders import RECORDED, facts_of, one, reward, run
from tests.support.postgresql import query
from tests.support.process import eventually

DEAD = b"dead" + bytes(12)
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ended_runs'::regclass"


def lost_id(lot: int) -> bytes:
    """The id of a decision that the dead run never counted."""
    return new_id(int(START.timestamp() * 1000), IdBits(run_of(DEAD), 1, lot, 0).pack())


def end(store: SqlStore) -> None:
    """End the dead run."""
    (dead,) = [each for each in store.read_writers() if each.incarnation == DEAD]
    assert store.end_runs([dead], START) == [DEAD]


def test_a_transaction_that_looked_before_the_end_is_waited_for(stores: Sequence[SqlStore], url: str) -> None:
    """A reward whose transaction saw the run alive is committed before the run ends, and moved."""
    number = run(stores[0]).number
    stores[0].claim_slot(DEAD, START)
    early = reward(lost_id(1), experiment=number)
    with ThreadPoolExecutor(1) as pool:
        with stores[1]._dialect.writing() as connection:
            bounds = stores[1]._dialect.read_bounds(connection, [number], [run_of(DEAD)])
            assert bounds.ended == {}
            ending = pool.submit(end, stores[0])
            eventually(lambda: query(url, WAITING) == [(1,)])
            _, increments = reward_batch.record(connection, stores[1]._dialect, [early])
            assert set(increments) == {(OutcomeKey(number, 1, 0, 0, Basis.POLICY, 0), 0)}
            connection.exec_driver_sql(
                "INSERT INTO outcome_facts (experiment, epoch, segment, arm, basis, metric, slot, n, total, "
                "squares, late_n, late_total, late_squares) VALUES (%s, 1, 0, 0, 1, 0, 5, 1, 1, 1, 0, 0, 0)",
                (number,),
            )
        ending.result()
    assert one(stores[2], reward(lost_id(2), experiment=number)) == RECORDED
    step = stores[3].move_uncounted(0, 100)
    assert step is not None
    assert step.n_rows == 1
    assert facts_of(stores[0]) == {OutcomeKey(number, 1, 0, 0, Basis.UNCOUNTED, 0): Tally(2, 2, 2)}


def test_rewards_do_not_wait_for_a_long_reader(stores: Sequence[SqlStore]) -> None:
    """While a long reader such as a dump holds what would have to be locked, the run is not ended."""
    number = run(stores[0]).number
    stores[0].claim_slot(DEAD, START)
    with stores[1]._dialect.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM ended_runs").all()
        with pytest.raises(StoreUnavailableError):
            end(stores[0])
        assert one(stores[2], reward(lost_id(1), experiment=number)) == RECORDED
    end(stores[0])
    step = stores[0].move_uncounted(0, 100)
    assert step is not None
    assert step.n_rows == 1


def test_several_servers_may_move_at_once(stores: Sequence[SqlStore]) -> None:
    """Servers that end the same run and move its outcomes at once move each outcome once."""
    number = run(stores[0]).number
    stores[0].claim_slot(DEAD, START)
    n_rows = 60
    stores[0].record_rewards([reward(lost_id(lot), experiment=number) for lot in range(n_rows)], 0)
    end(stores[0])

    def move(store: SqlStore) -> int:
        moved = 0
        while (step := store.move_uncounted(0, 5)) is not None:
            moved += step.n_rows
        return moved

    with ThreadPoolExecutor(len(stores)) as pool:
        assert sum(pool.map(move, stores)) + move(stores[0]) == n_rows
    assert {key.basis for key in facts_of(stores[0])} == {Basis.UNCOUNTED}
